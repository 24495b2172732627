"""Receivers: TensorFlow's checks and texts, and what each kind puts into a graph."""

import numpy as np
import pytest
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
from estimator_serving.training import FixedLenFeature, VarLenFeature
from estimator_serving.wire.features import RaggedFeature, RowSplits

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


PARSED = {"age": FixedLenFeature([2], float), "class": VarLenFeature(str), "n": FixedLenFeature([], int, 3)}


def test_a_parsing_receiver():
    receiver = build_parsing_serving_input_receiver_fn(PARSED)()
    assert set(receiver.graph_inputs) == {"input_example_tensor/values", "input_example_tensor/row_splits"}
    assert receiver.takes_examples
    assert isinstance(receiver.features["class"], Padded)
    assert receiver.features["age"].unwrap_tensor().shape[1:] == (2,)
    assert receiver.receiver_tensors["examples"].info.shape == (-1,)


def test_a_default_batch_size_stands_in_the_signature():
    receiver = build_parsing_serving_input_receiver_fn(PARSED, default_batch_size=8)()
    assert receiver.receiver_tensors["examples"].info.shape == (8,)


def test_an_empty_receiver_is_refused():
    with pytest.raises(ValueError, match="nothing to parse"):
        build_parsing_serving_input_receiver_fn({})
    with pytest.raises(ValueError, match=r"features must be defined\."):
        ServingInputReceiver({}, {})
    receiver = build_parsing_serving_input_receiver_fn(PARSED)()
    with pytest.raises(ValueError, match=r"receiver_tensors must be defined\."):
        ServingInputReceiver(receiver.features, {})


def test_a_ragged_feature_of_several_levels_is_refused():
    examples = placeholder(str, [None], "e")
    spec = {"r": RaggedFeature(np.int64, "v", [RowSplits("s"), RowSplits("t")])}
    with pytest.raises(ValueError, match="The RaggedFeature r has 3 levels, and features of columns have one; declare"):
        parse_example(examples, spec)


def test_two_parts_of_one_example_are_parsed_one_after_the_other():
    examples = placeholder(str, [None], "e")
    features = parse_example(examples, {"a": FixedLenFeature([], float)})
    features |= parse_example(examples, {"b": VarLenFeature(int)})
    receiver = ServingInputReceiver(features, examples)
    assert set(receiver.feature_spec) == {"a", "b"}
    assert receiver.source_of(features["b"], "label") == "b"
    assert receiver.source_of(op.neg(features["a"]), "label") == "label"


def test_examples_beside_a_tensor_feed_no_classify():
    examples, x = placeholder(str, [None], "e"), placeholder(float, [None], "x")
    features = {**parse_example(examples, {"a": FixedLenFeature([], float)}), "x": x}
    receiver = ServingInputReceiver(features, {"examples": examples, "x": x})
    assert not receiver.takes_examples
    assert set(receiver.graph_inputs) == {"e/values", "e/row_splits", "x"}


def test_a_placeholder_of_any_rank_below_the_batch():
    tensor = placeholder("float32", [None, -1, 3], "x").var.unwrap_tensor()
    assert (tensor.dtype, tensor.shape[1:]) == (np.float32, (None, 3))
