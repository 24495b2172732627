"""A receiver as a graph: every kind of feature arrives, and clients may send what lies on the way to one."""

import numpy as np
import onnx
import pytest
import spox
import spox.opset.ai.onnx.v21 as op
from onnx import numpy_helper
from spox import Tensor, argument

from estimator_serving.exporter import Padded, ServingInputReceiver, parse_example, placeholder
from estimator_serving.exporter.receivers.receiver_graph import add_empty_defaults, build_receiver_graph
from estimator_serving.exporter.receivers.samples import graph_feeds, sample_inputs
from estimator_serving.exporter.servable.running import evaluate
from estimator_serving.training import FixedLenFeature, VarLenFeature
from estimator_serving.wire.examples import encode_example, join_examples
from estimator_serving.wire.features import FixedLenSequenceFeature, RaggedFeature, SparseFeature

SPEC = {"age": FixedLenFeature([], float), "words": VarLenFeature(str)}


def run(receiver, feeds):
    graph = build_receiver_graph(receiver)
    outputs = {}
    for key, one in graph.features.items():
        outputs |= {key: one.values, f"{key} lengths": one.lengths} if isinstance(one, Padded) else {key: one}
    return {name: value.tolist() for name, value in evaluate(graph, outputs, feeds).items()}


def rows_of(got, key):
    return [row[:length] for row, length in zip(got[key], got[f"{key} lengths"], strict=True)]


def feeds_of(*examples):
    values, row_splits = join_examples([encode_example(one) for one in examples])
    return {"e/values": values, "e/row_splits": row_splits}


def test_every_kind_of_feature_arrives():
    e = placeholder(str, [None], "e")
    spec = {
        "fixed": FixedLenFeature([2], int),
        "varlen": VarLenFeature(str),
        "steps": FixedLenSequenceFeature([], np.float32, allow_missing=True),
        "sparse": SparseFeature("at", "held", np.float32, 10),
        "ragged": RaggedFeature(np.int64),
    }
    receiver = ServingInputReceiver(parse_example(e, spec), e)
    first = {"fixed": [1, 2], "varlen": ["a", ""], "steps": [1.5], "at": [7, 3], "held": [7.0, 3.0], "ragged": [5]}
    got = run(receiver, feeds_of(first, {"fixed": [3, 4], "ragged": [6, 7]}))
    assert got["fixed"] == [[1, 2], [3, 4]]
    assert (got["varlen"][0], got["varlen lengths"]) == (["a", ""], [2, 0])
    assert got["steps"] == [[1.5], [0.0]]
    assert (sorted(got["sparse"][0]), got["sparse lengths"]) == ([3.0, 7.0], [2, 0])
    assert rows_of(got, "ragged") == [[5], [6, 7]]
    assert all(value == [] for value in run(receiver, feeds_of()).values())
    assert len(run(receiver, graph_feeds(receiver, sample_inputs(receiver, {}, 9)))["fixed"]) == 9


def alternatives():
    """Features computed in the receiver; one alternative before the computation, one behind it."""
    e = placeholder(str, [None], "e")
    parsed = parse_example(e, SPEC)
    features = {"age": op.mul(parsed["age"], op.const(np.float32(10))), "words": parsed["words"]}
    groups = {
        "parsed": {"age": parsed["age"], "words": parsed["words"]},
        "ready": {"age": features["age"], "words": features["words"]},
        "half": {"age": features["age"]},
    }
    return ServingInputReceiver(features, {"examples": e}, groups)


@pytest.mark.parametrize(
    ("feeds", "age"),
    [
        (feeds_of({"age": 2.0, "words": ["x", "y"]}, {"age": 3.0}), [20.0, 30.0]),
        ({"parsed/age": np.float32([2, 3]), "parsed/words": np.array([["x", "y"], ["", ""]], object)}, [20.0, 30.0]),
        ({"ready/age": np.float32([2, 3]), "parsed/words": np.array([["x", "y"], ["", ""]], object)}, [2.0, 3.0]),
        ({"ready/age": np.float32([2]), "parsed/words": np.array([["x", "y"]], object)}, [2.0]),
        ({}, []),
    ],
)
def test_clients_send_one_of_the_alternatives(feeds, age):
    got = run(alternatives(), feeds)
    assert got["age"] == age
    assert rows_of(got, "words") == [["x", "y"], []][: len(age)]


def test_an_alternative_that_leaves_a_feature_open_is_dropped(caplog):
    graph = build_receiver_graph(alternatives())
    assert set(graph.alternatives) == {"parsed", "ready"}
    assert "alternative 'half' do not give every feature: e/row_splits, e/values" in caplog.text
    info = graph.alternatives["ready"]["age"]
    assert (info.name, info.dtype.name, info.shape) == ("ready/age:0", "float", (-1,))
    # One value, one input, whatever it is called.
    assert graph.alternatives["ready"]["words"].name == "parsed/words:0"


def test_without_alternatives_the_graph_is_the_receivers():
    x = placeholder(float, [None, 2], "x")
    graph = build_receiver_graph(ServingInputReceiver({"x": x}, {"x": x}))
    assert list(graph.inputs) == ["x"]
    assert graph.features["x"] is x.var
    assert graph.alternatives == {}


def of_type(dtype):
    e = placeholder(str, [None], "e")
    parsed = parse_example(e, {"v": VarLenFeature(dtype)})
    return ServingInputReceiver(parsed, {"examples": e}, {"single": parsed})


@pytest.mark.parametrize(
    ("dtype", "sent", "rows"),
    [
        (str, np.array([["", "b", "a"], ["", "", ""]], object), [["b", "a"], []]),
        (int, np.int64([[4, -1], [-1, 0]]), [[4], [0]]),
        (float, np.float32([[np.nan, 0], [2, np.nan]]), [[0], [2]]),
        (int, np.zeros((0, 7), np.int64), []),
        (int, np.zeros((2, 0), np.int64), [[], []]),
    ],
)
def test_rows_of_an_alternative_are_filled_up_with_nothing(dtype, sent, rows):
    assert rows_of(run(of_type(dtype), {"single/v": sent}), "v") == rows


def test_an_alternative_of_a_receivers_own_tensor():
    """It has no cut: the tensor is an input already."""
    x, y = placeholder(float, [None], "x"), placeholder(float, [None], "y")
    total = op.add(x.var, y.var)
    receiver = ServingInputReceiver({"sum": total}, {"x": x, "y": y}, {"again": {"a": x, "b": y}, "ready": total})
    graph = build_receiver_graph(receiver)
    assert list(graph.inputs) == ["x", "y", "ready/input"]
    assert {alias: info.name for alias, info in graph.alternatives["again"].items()} == {"a": "x:0", "b": "y:0"}
    feeds = {"x": np.float32([1, 2]), "y": np.float32([10, 20])}
    assert run(receiver, feeds) == {"sum": [11.0, 22.0]}
    assert run(receiver, {"ready/input": np.float32([5])}) == {"sum": [5.0]}


def test_cuts_one_behind_the_other():
    x = placeholder(float, [None], "x")
    values = [x.var]
    for _ in range(3):
        values.append(op.mul(values[-1], op.const(np.float32(10))))
    groups = {str(index): {"v": value} for index, value in enumerate(values[1:], 1)}
    receiver = ServingInputReceiver({"v": values[-1]}, {"x": x}, groups)
    assert [run(receiver, {name: np.float32([1])})["v"] for name in ("x", "1/v", "2/v", "3/v")] == [
        [1000.0],
        [100.0],
        [10.0],
        [1.0],
    ]


def test_empty_defaults_have_no_row_and_batches_that_may_differ():
    inputs = {
        "e/values": argument(Tensor(np.uint8, ("bytes",))),
        "e/row_splits": argument(Tensor(np.int64, ("batch+1",))),
        "text": argument(Tensor(str, (None, 3))),
    }
    model = spox.build(inputs, {f"{name} out": op.identity(var) for name, var in inputs.items()})
    add_empty_defaults(model)
    defaults = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert {name: (one.shape, one.tolist()) for name, one in defaults.items()} == {
        "e/values": ((0,), []),
        "e/row_splits": ((1,), [0]),
        "text": ((0, 3), []),
    }
    batches = {one.type.tensor_type.shape.dim[0].dim_param for one in model.graph.input}
    assert batches == {"e/values rows", "e/row_splits rows", "text rows"}
    onnx.checker.check_model(model)
