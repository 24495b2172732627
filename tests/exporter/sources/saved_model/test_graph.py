"""GraphDefs as nodes: attributes and their defaults, references, functions inlined, tensors; and damaged ones."""

from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
import saved_graphs
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from saved_graphs import FLOAT, INT64, TEXT, add, call, constant, define, function

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError, Unsupported
from estimator_serving.exporter.sources.saved_model.graph import DEPTH_MAX, Graph, Ref, shape_of, tensor_of
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensors import encode_tensor


@pytest.fixture
def meta_graph():
    return saved_graphs.meta_graph()


def node(meta_graph, **attributes):
    """A node with these attributes, as a graph reads it."""
    add(meta_graph, "node", "Op", **attributes)
    return Graph(meta_graph).node("node")


# ---- attributes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reader", "value", "read"),
    [
        ("integer", 3, 3),
        ("number", 0.5, 0.5),
        ("flag", True, True),
        ("text", "grün", "grün"),
        ("texts", ["a", "b"], ["a", "b"]),
        ("dtype", FLOAT, FLOAT),
        ("dtypes", [INT64, TEXT], [INT64, TEXT]),
        ("integers", [1, -2], [1, -2]),
        ("integers", [], []),
        ("numbers", [0.5, -1.0], [0.5, -1.0]),
        ("shape", (-1, 3), (-1, 3)),
        ("shapes", [(2,), ()], [(2,), ()]),
        ("function", call("body"), "body"),
    ],
)
def test_an_attribute_is_read_as_what_it_is(meta_graph, reader, value, read):
    made = node(meta_graph, key=value)
    assert getattr(made, reader)("key") == read
    assert made.has("key")


@pytest.mark.parametrize(
    ("reader", "default"),
    [("integer", 3), ("number", 0.5), ("flag", False), ("text", ""), ("dtype", FLOAT), ("integers", [1])],
)
def test_an_absent_attribute_is_the_callers_default(meta_graph, reader, default):
    made = node(meta_graph)
    assert getattr(made, reader)("key", default) == default
    assert not made.has("key")


@pytest.mark.parametrize("reader", ["integer", "number", "flag", "text", "dtype", "integers", "tensor"])
def test_an_absent_attribute_without_a_default_is_damage(meta_graph, reader):
    with pytest.raises(SavedModelError, match="Op at node has no attribute 'key'; the file is damaged"):
        getattr(node(meta_graph), reader)("key")


@pytest.mark.parametrize(
    ("reader", "empty"), [("texts", []), ("dtypes", []), ("numbers", []), ("shapes", []), ("shape", None)]
)
def test_an_absent_list_is_empty(meta_graph, reader, empty):
    assert getattr(node(meta_graph), reader)("key") == empty


def test_the_ops_definition_fills_in_what_a_node_leaves_out(meta_graph):
    define(meta_graph, "Op", alpha=0.25, beta=2)
    made = node(meta_graph, beta=5)
    assert (made.number("alpha", 0.5), made.integer("beta")) == (0.25, 5)


def test_a_reference_type_is_read_as_its_plain_type(meta_graph):
    made = add(meta_graph, "node", "Op")
    made.attr["key"].type = 101
    assert Graph(meta_graph).node("node").dtype("key") == FLOAT


def test_a_type_without_tensors_is_refused(meta_graph):
    made = add(meta_graph, "node", "Op")
    made.attr["key"].type = 20
    with pytest.raises(Unsupported, match="Op at node: DataType 20 is not converted"):
        Graph(meta_graph).node("node").dtype("key")


def test_an_open_rank_has_no_sizes():
    assert shape_of(saved_graphs.shape(None)) is None
    assert shape_of(saved_graphs.shape(())) == ()


# ---- tensors --------------------------------------------------------------------------------------------------------

ARRAYS = [
    np.array([[0.5, -1.0]], np.float32),
    np.array(2.5, np.float64),
    np.array([1, -2], np.int32),
    np.array([200, 0], np.uint8),
    np.array([-3], np.int8),
    np.array([-300], np.int16),
    np.array([60000], np.uint16),
    np.array([4_000_000_000], np.uint32),
    np.array([2**63], np.uint64),
    np.array([-(2**63)], np.int64),
    np.array([True, False]),
    np.array([1 + 2j, -1j], np.complex64),
    np.array([0.5 - 2j], np.complex128),
    np.array([0.5, -2.0], np.float16),
    np.array([0.5, -2.0], ml_dtypes.bfloat16),
    np.array([0.5, -2.0], ml_dtypes.float8_e5m2),
    np.array([b"", b"gr\xc3\xbcn", b"\0"], object),
    np.zeros((0, 3), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("as_content", [False, True])
def test_a_tensor_is_what_was_written(array, as_content):
    made = tensor_of(encode_tensor(array, as_content=as_content), "here")
    assert made.dtype == array.dtype
    assert made.shape == array.shape
    assert made.tolist() == array.tolist()


def tensor(sizes, dtype=dtypes.float32, **values):
    return tensorflow_pb.TensorProto(dtype=dtype.number, tensor_shape=saved_graphs.shape(sizes), **values)


@pytest.mark.parametrize(
    ("proto", "array"),
    [
        (tensor((2, 2), float_val=[1.0, 2.0]), [[1.0, 2.0], [2.0, 2.0]]),
        (tensor((3,)), [0.0, 0.0, 0.0]),
        (tensor((2,), dtypes.string), [b"", b""]),
        (tensor((2,), dtypes.string, string_val=[b"x"]), [b"x", b"x"]),
        # As TensorFlow reads them: integers narrow, and surplus values are dropped.
        (tensor((2,), dtypes.uint8, int_val=[300, -1]), [44, 255]),
        (tensor((2,), float_val=[1.0, 2.0, 3.0]), [1.0, 2.0]),
    ],
)
def test_a_tensor_of_fewer_or_other_values(proto, array):
    assert tensor_of(proto, "here").tolist() == array


@pytest.mark.parametrize(
    ("proto", "text"),
    [
        (tensor((-1,)), r"here declares a tensor of shape \(-1,\), which no constant can have"),
        (tensor(None), "here declares a tensor of shape None"),
        (tensor((1 << 29,)), "which no constant can have"),
        (tensor((1 << 40, 1 << 40)), "which no constant can have"),
        (tensor((2,), tensor_content=b"\0" * 7), "here: tensor_content has 7 bytes; 2 values of float take 8"),
        (tensorflow_pb.TensorProto(dtype=20), "here: DataType 20 is not supported"),
    ],
)
def test_a_tensor_that_cannot_be(proto, text):
    with pytest.raises(SavedModelError, match=text):
        tensor_of(proto, "here")


# ---- references -----------------------------------------------------------------------------------------------------


def test_inputs_and_controls_are_apart(meta_graph):
    add(meta_graph, "first", "Op")
    add(meta_graph, "second", "Op", "first:2 first ^first")
    made = Graph(meta_graph).node("second")
    assert made.inputs == [Ref("first", 2), Ref("first", 0)]
    assert made.controls == ["first"]


def test_a_tensors_name_is_a_reference(meta_graph):
    graph = Graph(meta_graph)
    assert graph.parse("scope/x:3") == Ref("scope/x", 3)
    assert graph.parse("x") == Ref("x", 0)


@pytest.mark.parametrize("text", ["x:y", "x:-1", "x:²", "x:1:2", "x:" + "9" * 5000])
def test_a_reference_that_is_none(meta_graph, text):
    add(meta_graph, "node", "Op", text)
    with pytest.raises(SavedModelError, match="which is no output of a node; the file is damaged"):
        Graph(meta_graph)


def test_a_node_that_is_not_there(meta_graph):
    with pytest.raises(SavedModelError, match="refers to the node 'x', which it has not; the file is damaged"):
        Graph(meta_graph).node("x")


def test_two_nodes_of_one_name_are_refused(meta_graph):
    constant(meta_graph, "x", 1.0)
    constant(meta_graph, "x", 2.0)
    with pytest.raises(SavedModelError, match="has two nodes of the name 'x'; the file is damaged"):
        Graph(meta_graph)


# ---- functions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def called(meta_graph):
    """`call` gives (b, a + a) of its arguments a and b."""
    swap = function(meta_graph, "swap", "a b", {"first": "b", "second": "sum:z:0"})
    add(swap, "sum", "AddV2", "a a")
    for name in ("x", "y"):
        add(meta_graph, name, "Placeholder")
    add(meta_graph, "call", "PartitionedCall", "x y", f=call("swap"))
    return meta_graph


def test_a_call_is_its_body(called):
    graph = Graph(called)
    assert graph.resolve(Ref("call", 0)) == Ref("y", 0)
    made = graph.node(graph.resolve(Ref("call", 1)).node)
    assert (made.op, made.inputs, made.scope) == ("AddV2", [Ref("x", 0), Ref("x", 0)], "call")


def test_a_node_may_be_a_function_by_its_op(called):
    add(called, "direct", "swap", "y x")
    assert Graph(called).resolve(Ref("direct", 0)) == Ref("x", 0)


def test_calls_of_calls_are_followed(called):
    twice = function(called, "twice", "a b", {"out": "inner:first:0"})
    add(twice, "inner", "swap", "outer:first:0 a")
    add(twice, "outer", "StatefulPartitionedCall", "a b", f=call("swap"))
    add(called, "nested", "PartitionedCall", "x y", f=call("twice"))
    assert Graph(called).resolve(Ref("nested", 0)) == Ref("x", 0)


def test_a_node_of_a_function_does_not_meet_one_of_the_graph(called):
    constant(called, "call/sum", 7.0)
    graph = Graph(called)
    assert graph.node(graph.resolve(Ref("call", 1)).node).op == "AddV2"
    assert graph.node("call/sum").op == "Const"


def test_outputs_are_counted_as_the_ops_definition_says(meta_graph):
    split = define(meta_graph, "Split", "parts", "rest")
    split.output_arg[0].number_attr = "count"
    body = function(meta_graph, "f", "a", {"last": "split:parts:2", "rest": "split:rest:0"})
    add(body, "split", "Split", "a", count=3)
    add(meta_graph, "x", "Placeholder")
    add(meta_graph, "call", "PartitionedCall", "x", f=call("f"))
    graph = Graph(meta_graph)
    assert [graph.resolve(Ref("call", index)).index for index in (0, 1)] == [2, 3]


def test_outputs_of_several_types_are_counted(meta_graph):
    parse = define(meta_graph, "Parse", "values", "rest")
    parse.output_arg[0].type_list_attr = "types"
    body = function(meta_graph, "f", "", {"rest": "parse:rest:0"})
    add(body, "parse", "Parse", types=[FLOAT, INT64])
    add(meta_graph, "call", "PartitionedCall", f=call("f"))
    assert Graph(meta_graph).resolve(Ref("call", 0)).index == 2


def test_what_runs_with_a_call_is_known(called):
    effect = function(called, "effect", "a", {"out": "a"})
    add(effect, "count", "AssignAddVariableOp", "a a")
    effect.control_ret["count"] = "count"
    outer = function(called, "outer", "a", {"out": "inner:out:0"})
    add(outer, "inner", "effect", "a")
    add(called, "deep", "PartitionedCall", "x", f=call("outer"))
    graph = Graph(called)
    scope = next(one.scope for one in graph.nodes.values() if one.op == "AssignAddVariableOp")
    assert [graph.node(one).op for one in graph.effects_of(scope)] == ["AssignAddVariableOp"]


def test_the_ops_of_a_function_and_of_those_it_calls(called):
    twice = function(called, "twice", "a", {"out": "b:z:0"})
    add(twice, "a2", "Mul", "a a")
    add(twice, "b", "PartitionedCall", "a2 a2", f=call("swap"), _note=call("elsewhere"))
    add(twice, "c", "twice", "a")
    assert list(Graph(called).ops_of("twice")) == ["Mul", "AddV2", "twice"]
    assert list(Graph(called).ops_of("nowhere")) == []


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("nowhere:z:0", "The function 'f' refers to 'nowhere:z:0', which it has not"),
        ("sum:z:0:1", "The function 'f' refers to 'sum:z:0:1', which it has not"),
        ("sum:other:0", "refers to 'sum:other:0', an output that is not there"),
        ("sum:z:one", "refers to 'sum:z:one', an output that is not there"),
        ("sum:z:-1", "refers to 'sum:z:-1', an output that is not there"),
        ("sum:one", "refers to 'sum:one', an output that is not there"),
    ],
)
def test_a_function_that_refers_to_nothing(meta_graph, reference, text):
    define(meta_graph, "AddV2", "z")
    body = function(meta_graph, "f", "a", {"out": reference})
    add(body, "sum", "AddV2", "a a")
    add(meta_graph, "call", "PartitionedCall", "x", f=call("f"))
    with pytest.raises(SavedModelError, match=text):
        Graph(meta_graph)


def test_a_function_that_is_not_there(meta_graph):
    add(meta_graph, "call", "PartitionedCall", f=call("f"))
    with pytest.raises(SavedModelError, match="call calls the function 'f', which the graph has not"):
        Graph(meta_graph)


def test_a_call_of_too_few_arguments(called):
    add(called, "short", "PartitionedCall", "x", f=call("swap"))
    with pytest.raises(SavedModelError, match="short calls 'swap' with 1 arguments; it takes 2"):
        Graph(called)


def test_an_output_that_a_function_does_not_return(meta_graph):
    body = function(meta_graph, "f", "a", {"out": "a"})
    del body.ret["out"]
    add(meta_graph, "call", "PartitionedCall", "x", f=call("f"))
    with pytest.raises(SavedModelError, match="The function 'f' refers to '', which it has not"):
        Graph(meta_graph)


def test_functions_nested_too_deep(meta_graph):
    for level in range(DEPTH_MAX + 2):
        body = function(meta_graph, f"level{level}", "a", {"out": "a"})
        add(body, "inner", f"level{level + 1}", "a")
    add(meta_graph, "call", "level0", "x")
    with pytest.raises(SavedModelError, match="call each other without end .*level65"):
        Graph(meta_graph)


def test_outputs_that_are_each_other(meta_graph):
    function(meta_graph, "f", "a", {"out": "a"})
    add(meta_graph, "left", "f", "right")
    add(meta_graph, "right", "f", "left")
    with pytest.raises(SavedModelError, match="refer to each other; the file is damaged"):
        Graph(meta_graph).resolve(Ref("left", 0))


@given(st.data())
def test_a_damaged_graph_is_read_or_refused(data):
    """Any byte may differ, and the end may be missing: nothing but a sentence comes of it."""
    meta_graph = saved_graphs.meta_graph()
    define(meta_graph, "AddV2", "z")
    body = function(meta_graph, "f", "a b", {"first": "b", "second": "sum:z:0"})
    add(body, "sum", "AddV2", "a a", T=FLOAT)
    constant(meta_graph, "x", [1.5, 2.5], np.float32)
    add(meta_graph, "call", "PartitionedCall", "x x:0 ^x", f=call("f"))
    content = bytearray(meta_graph.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(SavedModelError, DecodeError):
        graph = Graph(tensorflow_pb.MetaGraphDef.FromString(bytes(content[: data.draw(st.integers(0, len(content)))])))
        for one in list(graph.nodes.values()):
            for ref in one.inputs:
                graph.resolve(ref)
            with suppress(SavedModelError, Unsupported):
                one.tensor("value")
