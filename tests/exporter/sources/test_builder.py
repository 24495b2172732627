"""The ONNX graph that grows: nothing is written twice, and what no output needs is left out."""

import ml_dtypes
import numpy as np
import onnx
import pytest

from estimator_serving import ops
from estimator_serving.exporter.servable.weights import DETACHED_MIN_BYTES
from estimator_serving.exporter.sources.builder import Builder, onnx_type

FLOAT = np.dtype(np.float32)
LARGE = np.ones(DETACHED_MIN_BYTES // 4, np.float32)


@pytest.fixture
def builder():
    made = Builder()
    made.add_input("x", FLOAT, ["batch"])
    return made


def test_a_node_is_written_once(builder):
    assert builder.one("Add", "x", "x") == builder.one("Add", "x", "x")
    assert builder.node("Split", ["x"], outputs=2) == builder.node("Split", ["x"], outputs=2)


def test_other_inputs_attributes_domains_or_counts_are_other_nodes(builder):
    names = [
        builder.one("Op", "x"),
        builder.one("Op", "x", axis=0),
        builder.one("Op", "x", axis=1),
        builder.one("Op", "x", "x"),
        builder.node("Op", ["x"], domain="other")[0],
        builder.node("Op", ["x"], outputs=2)[0],
        builder.node("Op", ["x"], attributes=[onnx.helper.make_attribute("keys", [1])])[0],
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "array",
    [np.array([1, 2]), np.float32(1.5), np.array([b"a", b""], object), np.zeros((0, 2), np.int64)],
    ids=["numbers", "scalar", "strings", "empty"],
)
def test_equal_constants_share_a_name(builder, array):
    assert builder.constant(array) == builder.constant(np.array(array))


def test_constants_that_only_look_alike_have_names_of_their_own(builder):
    arrays = [
        np.array([1], np.int64),
        np.array([[1]], np.int64),
        np.array([1], np.uint64),
        np.array([1.0], np.float64),
        np.array([0.0], np.float32),
        np.array([-0.0], np.float32),
        np.array([1], np.uint8).view(ml_dtypes.float8_e5m2),
        np.array([1], np.uint8).view(ml_dtypes.float8_e4m3fn),
        np.array([b"1"], object),
    ]
    assert len({builder.constant(one) for one in arrays}) == len(arrays)


def test_a_large_constant_is_detached(builder):
    name = builder.constant(LARGE)
    assert name.startswith("weights/")
    assert builder.detached[name].dims == [LARGE.size]
    assert builder.constant(LARGE) == name


def run(builder, outputs, **feeds):
    return ops.session(builder.model(outputs).SerializeToString()).run(None, feeds)


def test_the_model_gives_the_outputs_by_their_names(builder):
    doubled = builder.one("Add", "x", "x")
    model = builder.model({"twice": (doubled, FLOAT, ["batch"]), "same": ("x", FLOAT, ["batch"])})
    assert [one.name for one in model.graph.output] == ["twice", "same"]
    found = run(builder, {"twice": (doubled, FLOAT, ["batch"])}, x=np.array([1.5, -2], np.float32))
    assert found[0].tolist() == [3.0, -4.0]


def test_the_model_leaves_out_what_no_output_needs(builder):
    builder.one("Mul", "x", builder.constant(np.float32(7)))
    builder.one("Mul", "x", builder.constant(LARGE))
    kept = builder.one("Sub", "x", builder.constant(np.float32(3)))
    graph = builder.model({"y": (kept, FLOAT, ["batch"])}).graph
    assert [one.op_type for one in graph.node] == ["Sub", "Identity"]
    assert [onnx.numpy_helper.to_array(one).item() for one in graph.initializer] == [3.0]
    assert [one.name for one in graph.input] == ["x"]
    assert not builder.detached


def test_a_large_constant_is_an_input_until_it_is_attached(builder):
    name = builder.constant(LARGE)
    total = builder.one("ReduceSum", name, keepdims=0)
    found = run(builder, {"sum": (total, FLOAT, [])}, x=np.zeros(0, np.float32), **{name: LARGE})
    assert found[0] == LARGE.size


@pytest.mark.parametrize(
    ("dtype", "number"),
    [(object, onnx.TensorProto.STRING), (np.float32, onnx.TensorProto.FLOAT), (np.bool_, onnx.TensorProto.BOOL)],
)
def test_element_types_by_onnx_numbers(dtype, number):
    assert onnx_type(np.dtype(dtype)) == number


def test_an_element_type_that_onnx_lacks():
    with pytest.raises(ValueError, match=r"ONNX has no tensors of datetime64\[s\]"):
        onnx_type(np.dtype("datetime64[s]"))
