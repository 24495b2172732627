"""Weights leave a graph and come back: into it, or into a file beside it."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from estimator_serving import ops
from estimator_serving.exporter.servable.weights import (
    DETACHED_MIN_BYTES,
    all_nodes,
    attach,
    detach,
    pin_opset,
    weight_input,
)

LARGE = np.arange(DETACHED_MIN_BYTES // 4, dtype=np.float32).reshape(2, -1)
SMALL = np.float32([[1], [2]])


def info(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def two_products(opset=21):
    """x [batch, 2] times a large and a small matrix."""
    nodes = [helper.make_node("MatMul", ["x", "large"], ["y"]), helper.make_node("MatMul", ["x", "small"], ["z"])]
    weights = [numpy_helper.from_array(LARGE, "large"), numpy_helper.from_array(SMALL, "small")]
    outputs = [info("y", ["batch", LARGE.shape[1]]), info("z", ["batch", 1])]
    graph = helper.make_graph(nodes, "g", [info("x", ["batch", 2])], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(model):
    x = np.float32([[1, 2], [3, 4]])
    return ops.session(model.SerializeToString()).run(None, {"x": x})


def test_large_weights_leave_and_inputs_take_their_places():
    model = two_products()
    detached = detach(model)
    assert list(detached) == ["weights/large"]
    assert [one.name for one in model.graph.initializer] == ["small"]
    assert [one.name for one in model.graph.input] == ["x", "weights/large"]
    assert list(model.graph.node[0].input) == ["x", "weights/large"]
    assert model.ByteSize() < 1000
    np.testing.assert_array_equal(numpy_helper.to_array(detached["weights/large"]), LARGE)


def test_nothing_to_detach_changes_nothing():
    model = two_products()
    del model.graph.initializer[0]
    model.graph.input.append(info("large", list(LARGE.shape)))
    before = model.SerializeToString()
    assert detach(model) == {}
    assert model.SerializeToString() == before


def test_text_stays_however_large():
    words = helper.make_tensor("words", TensorProto.STRING, [1], [b"a" * 2 * DETACHED_MIN_BYTES])
    graph = helper.make_graph([helper.make_node("Identity", ["words"], ["y"])], "g", [], [], [words])
    assert detach(helper.make_model(graph)) == {}


def test_a_detached_weight_carries_no_traces():
    model = two_products()
    model.graph.initializer[0].doc_string = "made in /home/somebody"
    model.graph.initializer[0].metadata_props.add(key="source", value="/home/somebody")
    assert b"somebody" not in detach(model)["weights/large"].SerializeToString()


def in_a_branch():
    """The large weight is read inside an If."""
    branches = {
        name: helper.make_graph([helper.make_node(op, ["x", "large"], [name])], name, [], [info(name, None)])
        for name, op in (("then_branch", "MatMul"), ("else_branch", "MatMul"))
    }
    node = helper.make_node("If", ["condition"], ["y"], **branches)
    weights = [numpy_helper.from_array(LARGE, "large"), numpy_helper.from_array(np.array(True), "condition")]
    graph = helper.make_graph([node], "g", [info("x", ["batch", 2])], [info("y", ["batch", None])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_weights_read_inside_a_branch_are_found():
    model = in_a_branch()
    assert [node.op_type for node in all_nodes(model.graph)] == ["If", "MatMul", "MatMul"]
    expected = run(model)
    detached = detach(model)
    assert [list(node.input) for node in all_nodes(model.graph)][1:] == [["x", "weights/large"]] * 2
    attach(model, detached, 1 << 30, "model.onnx.data")
    np.testing.assert_array_equal(run(model)[0], expected[0])


@pytest.mark.parametrize("opset", [13, 21])
def test_a_round_trip_keeps_the_numbers(opset):
    model = two_products(opset)
    expected = run(model)
    assert attach(model, detach(model), 1 << 30, "model.onnx.data") == ()
    assert [one.name for one in model.graph.input] == ["x"]
    for got, wanted in zip(run(model), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_weights_beside_the_graph_are_what_onnx_reads(tmp_path):
    model = two_products()
    expected = run(model)
    pieces = attach(model, detach(model), 1, "m.data")
    (tmp_path / "m.data").write_bytes(b"".join(pieces))
    onnx.save(model, tmp_path / "m.onnx")
    for got, wanted in zip(run(onnx.load(tmp_path / "m.onnx")), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_weight_that_no_graph_reads_any_more_is_left_out():
    model = two_products()
    detached = detach(model)
    del model.graph.input[1]
    assert attach(model, detached, 1, "m.data") == ()
    assert [one.name for one in model.graph.initializer] == ["small"]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=4), st.integers(0, 20000))
def test_pieces_lie_on_pages_in_the_order_of_names(sizes, least):
    named = {f"w{index}": np.arange(size).astype(np.uint8) for index, size in enumerate(sizes)}
    tensors = {name: numpy_helper.from_array(array, name) for name, array in named.items()}
    inputs = [info(name, [size], TensorProto.UINT8) for name, size in zip(tensors, sizes, strict=True)]
    model = helper.make_model(helper.make_graph([], "g", inputs[::-1], []))
    data = b"".join(attach(model, tensors, least, "d"))
    assert not model.graph.input
    assert bool(data) == (sum(sizes) >= least)
    for tensor in model.graph.initializer if data else ():
        place = {one.key: one.value for one in tensor.external_data}
        offset, length = int(place["offset"]), int(place["length"])
        assert offset % 4096 == 0
        assert data[offset : offset + length] == tensors[tensor.name].raw_data
    assert [one.name for one in model.graph.initializer] == (sorted(tensors) if data else list(tensors)[::-1])


def test_the_input_of_a_weight_has_its_type():
    tensor = weight_input(numpy_helper.from_array(SMALL, "w")).unwrap_tensor()
    assert (tensor.dtype, tensor.shape) == (np.float32, (2, 1))


@pytest.mark.parametrize("imports", [[("", 19)], [("ai.onnx", 19)], [("", 18), ("", 19)], [("", 19), ("other", 1)]])
def test_onnxs_own_domain_is_listed_once(imports):
    model = two_products()
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*one) for one in imports)
    pinned = pin_opset(model, 19)
    others = [one for one in imports if one[0] == "other"]
    assert [(one.domain, one.version) for one in pinned.opset_import] == [*others, ("", 19)]


def test_a_model_without_an_opset_gets_one():
    model = two_products()
    del model.opset_import[:]
    assert [(one.domain, one.version) for one in pin_opset(model, 20).opset_import] == [("", 20)]


@pytest.mark.parametrize("opset", [13, 19, 22])
def test_another_opset_gives_the_same_numbers(opset):
    pinned = pin_opset(two_products(), opset)
    assert {one.domain: one.version for one in pinned.opset_import}[""] == opset
    np.testing.assert_array_equal(run(pinned)[1], run(two_products())[1])


def test_what_an_opset_cannot_say_is_refused():
    node = helper.make_node("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=1)
    one = numpy_helper.from_array(np.float32([1, 1]), "s")
    graph = helper.make_graph([node], "g", [info("x", ["batch", 2, 3])], [info("y", ["batch", 2, 3])], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    with pytest.raises(ValueError, match=r"cannot be written in ONNX opset 11 \(.*; leave opset at 21, or take one"):
        pin_opset(model, 11)
