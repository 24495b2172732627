"""A servable in this process: where it is found, what its signatures take."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from estimator_serving import serving
from estimator_serving.serving.errors import InvalidArgumentError, NotFoundError


def write_model(directory, add):
    """x float32 [batch, 2] and t string [batch] -> y = x + `add`, u = t."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    t = helper.make_tensor_value_info("t", TensorProto.STRING, ["batch"])
    u = helper.make_tensor_value_info("u", TensorProto.STRING, ["batch"])
    nodes = [helper.make_node("Add", ["x", "a"], ["y"]), helper.make_node("Identity", ["t"], ["u"])]
    graph = helper.make_graph(nodes, "g", [x, t], [y, u], [helper.make_tensor("a", TensorProto.FLOAT, [], [add])])
    directory.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), directory / "model.onnx"
    )


@pytest.fixture
def base(tmp_path):
    for version, add in ((2, 20.0), (10, 100.0)):
        write_model(tmp_path / str(version), add)
    return tmp_path


def test_the_newest_version_or_the_one_that_is_named(base):
    newest, older = serving.load(base), serving.load(base / "2")
    assert (newest.version, older.version, newest.path) == (10, 2, base / "10")
    sent = {"x": [[1, 2]], "t": ["é"]}
    assert newest.signatures["serving_default"](**sent)["y"].tolist() == [[101.0, 102.0]]
    assert older.signatures["serving_default"](**sent)["y"].tolist() == [[21.0, 22.0]]
    assert newest.signatures["serving_default"](**sent)["u"].tolist() == ["é"]
    assert "serving_default" in repr(newest.signatures["serving_default"])


@pytest.mark.parametrize("x", [[[1, 2]], np.int64([[1, 2]]), np.float64([[1, 2]]), ((1.0, 2.0),)])
@pytest.mark.parametrize("t", [["a"], [b"a"], np.array(["a"]), ("a",)])
def test_what_inputs_may_be(base, x, t):
    got = serving.load(base / "2").signatures["serving_default"](x=x, t=t)
    assert (got["y"].tolist(), got["u"].tolist()) == ([[21.0, 22.0]], ["a"])


def write_identity(directory, element):
    x, y = (helper.make_tensor_value_info(name, element, ["batch"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, directory / "model.onnx")


@pytest.mark.parametrize(
    ("element", "value"),
    [
        (TensorProto.UINT8, [0, 255]),
        (TensorProto.UINT64, [2**64 - 1]),
        (TensorProto.INT8, np.uint64([0, 127])),
        (TensorProto.INT32, []),
        (TensorProto.BOOL, []),
        (TensorProto.FLOAT16, [1, float("inf")]),
    ],
)
def test_whole_numbers_and_none_fit_every_type(tmp_path, element, value):
    write_identity(tmp_path, element)
    got = serving.load(tmp_path).signatures["serving_default"](x=value)["y"]
    assert (got.tolist(), got.dtype) == (list(value), helper.tensor_dtype_to_np_dtype(element))


@pytest.mark.parametrize(
    ("element", "value", "text"),
    [
        (TensorProto.INT32, [1, 3_000_000_000], "Input x: 3000000000 is out of range for int32"),
        (TensorProto.UINT8, [-1], "Input x: -1 is out of range for uint8"),
        (TensorProto.INT64, [2**63], "Input x: 9223372036854775808 is out of range for int64"),
        (TensorProto.FLOAT, [1e39], r"Input x: 1e\+39 is out of range for float"),
        (TensorProto.INT32, [2.5], "Input x is int32, and what came does not become that without loss"),
    ],
)
def test_no_number_becomes_another_one(tmp_path, element, value, text):
    write_identity(tmp_path, element)
    with pytest.raises(InvalidArgumentError, match=text):
        serving.load(tmp_path).signatures["serving_default"](x=value)


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        ({"x": [[1, 2]]}, TypeError, "takes t, x; got x"),
        ({}, TypeError, "takes t, x; got nothing"),
        ({"x": [["1", "2"]], "t": ["a"]}, InvalidArgumentError, "Input x is float"),
        ({"x": [[1j, 2]], "t": ["a"]}, InvalidArgumentError, "Input x is float"),
        ({"x": [[1, 2], [3]], "t": ["a"]}, InvalidArgumentError, "Input x is float"),
        ({"x": [[1, 2]], "t": [3]}, InvalidArgumentError, "Input t is text; got 3"),
        ({"x": [[1, 2, 3]], "t": ["a"]}, InvalidArgumentError, "x"),
    ],
)
def test_what_is_refused(base, inputs, error, text):
    with pytest.raises(error, match=text):
        serving.load(base).signatures["serving_default"](**inputs)


def test_a_path_without_a_version(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotFoundError, match="No versions of servable found under base path"):
            serving.load(path)


def test_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        _ = serving.loda
