"""Receivers: TensorFlow's checks and texts, and what each kind puts into a graph."""

import numpy as np
import pytest
import spox
import spox.opset.ai.onnx.v21 as op
import torch

from estimator_serving.exporter import (
    Padded,
    ServingInputReceiver,
    SupervisedInputReceiver,
    TensorServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    build_raw_supervised_input_receiver_fn,
    parse_example,
    placeholder,
)
from estimator_serving.exporter.receivers.front import add_empty_defaults, build_front
from estimator_serving.exporter.receivers.samples import graph_feeds, sample_inputs
from estimator_serving.exporter.servable.draft import run_all, session_of
from estimator_serving.training import FixedLenFeature, VarLenFeature
from estimator_serving.training.columns.finish import finish_graph
from estimator_serving.wire.examples import encode_example, join_examples
from estimator_serving.wire.features import FixedLenSequenceFeature, RaggedFeature, SparseFeature

X = placeholder(float, [None], "x")
SPEC = {"age": FixedLenFeature([], float), "words": VarLenFeature(str)}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ServingInputReceiver(None, X), r"features must be defined\."),
        (lambda: ServingInputReceiver(X, None), r"receiver_tensors must be defined\."),
        (lambda: ServingInputReceiver({1.5: X}, X), r"feature keys must be strings or ints: 1\.5\."),
        (lambda: ServingInputReceiver({"a": 3}, X), r"feature a must be a Tensor, SparseTensor, or RaggedTensor\."),
        (lambda: ServingInputReceiver(X, {1: X}), r"receiver_tensor keys must be strings: 1\."),
        (lambda: ServingInputReceiver(X, {"b": 3}), r"receiver_tensor b must be a Tensor, SparseTensor, or RaggedTens"),
        (lambda: ServingInputReceiver(X, X, [X]), r"receiver_tensors_alternatives must be a dict: \["),
        (lambda: ServingInputReceiver(X, X, {"s": 3}), r"receiver_tensors_alternative input must be a Tensor, Spars"),
        (lambda: ServingInputReceiver(X, X, {"s": {1: X}}), r"receiver_tensors_alternative keys must be strings: 1\."),
        (lambda: TensorServingInputReceiver(None, X), r"features must be defined\."),
        (lambda: TensorServingInputReceiver({"a": X}, X), r"feature must be a Tensor, SparseTensor, or RaggedTensor\."),
        (lambda: SupervisedInputReceiver(X, None, X), r"labels must be defined\."),
        (lambda: SupervisedInputReceiver(X, {2.5: X}, X), r"label keys must be strings or ints: 2\.5\."),
        (lambda: SupervisedInputReceiver(X, {"l": 3}, X), r"label l must be a Tensor, SparseTensor, or RaggedTensor\."),
        (
            lambda: build_raw_supervised_input_receiver_fn({"a": np.zeros(1)}, {"a": np.zeros(1)}),
            r"Features and labels must have distinct keys\. Found overlapping keys: \{'a'\}",
        ),
        (lambda: build_raw_serving_input_receiver_fn({}), r"features must be defined\."),
        (lambda: build_raw_serving_input_receiver_fn({"a": np.float32(1)}), "a is a scalar"),
        (lambda: placeholder(float, [], "x"), "x is a scalar"),
        (lambda: build_parsing_serving_input_receiver_fn({}), "nothing to parse"),
        (lambda: parse_example(X, SPEC), r"takes a string tensor \[batch\].*x is float"),
    ],
)
def test_what_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_placeholder_is_text_or_examples_and_not_both():
    text = placeholder(str, [None], "t")
    assert set(text.inputs) == {"t"}
    with pytest.raises(ValueError, match="t is read as serialized Examples and as text"):
        parse_example(text, SPEC)
    examples = placeholder(str, [None], "e")
    parse_example(examples, SPEC)
    assert set(examples.inputs) == {"e/values", "e/row_splits"}
    with pytest.raises(ValueError, match="e is read as serialized Examples and as text"):
        _ = examples.var


def test_single_tensors_get_tensorflows_keys():
    receiver = ServingInputReceiver(X, X)
    assert (list(receiver.features), list(receiver.receiver_tensors)) == (["feature"], ["input"])
    assert not receiver.is_bare
    assert TensorServingInputReceiver(X, X).is_bare
    supervised = build_raw_supervised_input_receiver_fn(np.zeros([1, 2], np.float32), np.zeros([1], np.int64))()
    assert (list(supervised.receiver_tensors), list(supervised.labels)) == (["input", "label"], ["label"])


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (np.zeros([5], np.float64), "double", (-1,)),
        (np.zeros([5, 3], np.int32), "int32", (-1, 3)),
        (np.array([["a", "b"]]), "string", (-1, 2)),
        (torch.zeros(2, 4), "float", (-1, 4)),
        (placeholder(str, [None, None], "any"), "string", (-1, -1)),
    ],
)
def test_a_raw_receiver_keeps_dtype_and_shape(value, dtype, shape):
    receiver = build_raw_serving_input_receiver_fn({"key": value})()
    info = receiver.receiver_tensors["key"].info
    assert (info.name, info.dtype.name, info.shape) == ("key:0", dtype, shape)
    assert not receiver.takes_examples
    fixed = build_raw_serving_input_receiver_fn({"key": value}, default_batch_size=7)()
    assert fixed.receiver_tensors["key"].info.shape == (7, *shape[1:])


def run(receiver, feeds):
    front = build_front(receiver)
    outputs = {}
    for key, one in front.features.items():
        outputs |= {key: one.values, f"{key} lengths": one.lengths} if isinstance(one, Padded) else {key: one}
    model = finish_graph(spox.build(dict(front.inputs), {f"out {k}": op.identity(v) for k, v in outputs.items()}))
    if front.alternatives:
        add_empty_defaults(model)
    got = run_all(session_of(model), feeds)
    return {name.removeprefix("out "): value.tolist() for name, value in got.items()}


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
    assert ([row[:n] for row, n in zip(got["ragged"], got["ragged lengths"], strict=True)]) == [[5], [6, 7]]
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
        ({}, []),
    ],
)
def test_clients_send_one_of_the_alternatives(feeds, age):
    got = run(alternatives(), feeds)
    assert got["age"] == age
    assert [row[:n] for row, n in zip(got["words"], got["words lengths"], strict=True)] == [["x", "y"], []][: len(age)]


def test_an_alternative_that_leaves_a_feature_open_is_dropped(caplog):
    front = build_front(alternatives())
    assert set(front.alternatives) == {"parsed", "ready"}
    assert "alternative 'half' do not give every feature: e/row_splits, e/values" in caplog.text
    info = front.alternatives["ready"]["age"]
    assert (info.name, info.dtype.name, info.shape) == ("ready/age:0", "float", (-1,))
    # One value, one input, whatever it is called.
    assert front.alternatives["ready"]["words"].name == "parsed/words:0"
