"""How a signature's inputs enter the graph, and what is refused before they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import as_strings
from estimator_serving.serving.running.binding import bind, qualified
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import Signature, TensorInfo


def signature(dtype=dtypes.string, shape=None, output="y"):
    outputs = {output: TensorInfo(f"{output}:0", dtypes.float32, shape)}
    return Signature({"s": TensorInfo("s:0", dtype, shape)}, outputs, "")


def bound(*graph_inputs, **more):
    return bind({"s": signature(**more)}, graph_inputs, ["y"], path=Path("m"))["s"]


def test_text_crosses_as_str():
    binding = bound("s")
    checked = binding.check({"s": as_strings(["é".encode(), b""]).reshape(2, 1)})
    assert binding.feeds(checked)["s"].tolist() == [["é"], [""]]


def test_examples_cross_as_ragged_bytes():
    binding = bound("s/values", "s/row_splits")
    feeds = binding.feeds(binding.check({"s": as_strings([b"ab\0", b"", b"\xff"])}))
    assert feeds["s/values"].tobytes() == b"ab\0\xff"
    assert feeds["s/row_splits"].tolist() == [0, 3, 3, 4]
    assert binding.inputs[0].is_ragged


@pytest.mark.parametrize(
    ("graph_inputs", "array", "text"),
    [
        (["s"], np.ones(1, np.float32), r"Expects arg\[0\] to be string but float is provided. Input: s"),
        (["s"], as_strings([b"\xff"]), "Input s holds a string that is not UTF-8"),
        (["s/values", "s/row_splits"], as_strings([b"a"])[None], r"Input s has shape \[1, 1\]; expected a vector"),
    ],
)
def test_inputs_that_do_not_fit(graph_inputs, array, text):
    with pytest.raises(InvalidArgumentError, match=text):
        bound(*graph_inputs).check({"s": array})


@pytest.mark.parametrize(("shape", "has_rows"), [(None, True), ((-1, 3), True), ((2, 3), False), ((), False)])
def test_rows(shape, has_rows):
    assert bound("s", shape=shape).has_rows is has_rows


@pytest.mark.parametrize(
    ("first_dims", "has_rows"),
    [({"s": "batch", "y": "batch"}, True), ({"s": "batch", "y": "time"}, False), ({"s": "batch"}, True), ({}, True)],
)
def test_an_output_whose_first_dimension_is_another_has_no_rows(first_dims, has_rows, caplog):
    signatures = {"s": signature(shape=(-1, -1))}
    assert bind(signatures, ["s"], ["y"], path=Path("m"), first_dims=first_dims)["s"].has_rows is has_rows
    assert ("is never batched: dimension 0 of its inputs and outputs is batch and time" in caplog.text) != has_rows


def test_the_first_dimension_of_ragged_bytes_says_nothing():
    dims = {"s/values": "bytes", "s/row_splits": "batch + 1", "y": "batch"}
    bound_ = bind({"s": signature(shape=(-1,))}, ["s/values", "s/row_splits"], ["y"], path=Path("m"), first_dims=dims)
    assert bound_["s"].has_rows


def test_outputs_of_other_signatures_with_the_same_inputs():
    signatures = {"a": signature(), "b": signature(output="z"), "c": signature(dtypes.int64, output="w")}
    binding = bind(signatures, ["s"], ["y", "z", "w"], path=Path("m"))["a"]
    assert binding.aliases == ("y",)
    assert binding.outputs == {"y": "y", qualified("a", "y"): "y", qualified("b", "z"): "z"}
