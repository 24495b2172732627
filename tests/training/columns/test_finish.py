"""finish_graph: each point on a model in ONNX's own text."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from estimator_serving.training.columns.finish import IR_VERSION_MAX, finish_graph, serialize
from estimator_serving.training.columns.onnx_export import to_onnx


def parse(body, inputs="float[N, 3] x", outputs="float[N, 3] y", header='ir_version: 8, opset_import: ["": 21]'):
    return onnx.parser.parse_model(f"<{header}> g ({inputs}) => ({outputs}) {{ {body} }}")


def run(model, x):
    return ort.InferenceSession(serialize(model)).run(None, {"x": x})[0]


@pytest.mark.parametrize(
    ("constant", "added"),
    [
        ("value = float[3] {1, 2, 3}", [1, 2, 3]),
        ("value_float = 2.0", 2),
        ("value_floats = [1.0, 2.0, 3.0]", [1, 2, 3]),
    ],
)
def test_constants_become_initializers(constant, added):
    finished = finish_graph(parse(f"c = Constant<{constant}>() y = Add(x, c)"))
    assert [node.op_type for node in finished.graph.node] == ["Add"]
    assert [tensor.name for tensor in finished.graph.initializer] == ["c"]
    np.testing.assert_array_equal(run(finished, np.zeros((1, 3), np.float32))[0], np.broadcast_to(added, 3))


@pytest.mark.parametrize(
    ("constant", "output"),
    [("value_int = 7", "int64"), ("value_ints = [7, 8]", "int64[2]"), ('value_string = "a"', "string")],
)
def test_constants_of_other_kinds(constant, output):
    model = parse(f"c = Constant<{constant}>() z = Identity(c) y = Neg(x)", outputs=f"float[N, 3] y, {output} z")
    before = ort.InferenceSession(serialize(model)).run(["z"], {"x": np.zeros((1, 3), np.float32)})[0]
    after = ort.InferenceSession(serialize(finish_graph(model))).run(["z"], {"x": np.zeros((1, 3), np.float32)})[0]
    np.testing.assert_array_equal(before, after)


def test_constants_inside_branches_too():
    then = "then_branch = a () => (float[N, 3] p) { one = Constant<value_float = 1.0>() p = Add(x, one) }"
    other = "else_branch = b () => (float[N, 3] q) { q = Neg(x) }"
    finished = finish_graph(parse(f"t = Constant<value = bool {{1}}>() y = If (t) <{then}, {other}>"))
    assert "Constant" not in onnx.printer.to_text(finished)
    assert run(finished, np.zeros((1, 3), np.float32)).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_negative_axes_become_positive(op):
    model = parse(f"h = Relu(x) y = {op}<axis = -1, keepdims = 0>(h)", outputs="int64[N] y")
    finished = finish_graph(model)
    assert next(a.i for a in finished.graph.node[1].attribute if a.name == "axis") == 1
    assert run(finished, np.zeros((0, 3), np.float32)).shape == (0,)


def test_traces_of_the_builder_go():
    model = parse("y = Relu(x)")
    node = model.graph.node[0]
    node.doc_string = "/home/someone/model.py:3"
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/model.py:3")
    model.metadata_props.add(key="other", value="x")
    model.producer_name = "pytorch"
    finished = finish_graph(model, metadata={"b": "2", "a": "1"})
    assert b"someone" not in serialize(finished)
    assert [(entry.key, entry.value) for entry in finished.metadata_props] == [("a", "1"), ("b", "2")]
    assert finished.producer_name == "estimator-serving"


@pytest.mark.parametrize(("first", "named"), [("N", "N"), ("?", "batch"), ("s77", "batch"), ("5", None)])
def test_batch_dimension_has_a_name(first, named):
    model = parse("h = Relu(x) y = Neg(h)", inputs=f"float[{first}, 3] x", outputs=f"float[{first}, 3] y")
    finished = finish_graph(model)
    values = [finished.graph.input[0], finished.graph.output[0], finished.graph.value_info[0]]
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in values} == {named or ""}


def test_types_behind_a_custom_op_are_kept():
    body = "f = estimator.ops.Fingerprint64(x) y = Cast<to = 7>(f)"
    model = parse(body, "string[N, 1] x", "int64[N, 1] y", 'ir_version: 8, opset_import: ["": 21, "estimator.ops": 1]')
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.UINT64, ["N", 1]))
    assert [value.name for value in finish_graph(model).graph.value_info] == ["f"]


def test_ir_version_is_bounded_and_the_argument_untouched():
    model = parse("c = Constant<value_float = 1.0>() y = Add(x, c)", header='ir_version: 14, opset_import: ["": 21]')
    before = model.SerializeToString()
    assert finish_graph(model).ir_version == IR_VERSION_MAX
    assert model.SerializeToString() == before


def test_finishing_twice_changes_nothing():
    once = finish_graph(parse("c = Constant<value_float = 1.0>() h = Add(x, c) y = Relu(h)"))
    assert serialize(finish_graph(once)) == serialize(once)


def test_a_network_of_torch():
    program = torch.export.export(
        torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()),
        (torch.ones(4, 3),),
        dynamic_shapes=({0: torch.export.Dim("rows")},),
    )
    finished = finish_graph(to_onnx(program, input_names=["x"], output_names=["y"]))
    assert __file__.encode() not in serialize(finished)
    assert not any(node.metadata_props for node in finished.graph.node)
    assert run(finished, np.zeros((0, 3), np.float32)).shape == (0, 2)
