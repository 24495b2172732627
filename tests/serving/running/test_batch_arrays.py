"""Joining requests' arrays and splitting a batch's answers, with TensorFlow Serving's texts."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.serving.errors import FailedPreconditionError, InvalidArgumentError
from estimator_serving.serving.request import as_strings
from estimator_serving.serving.running import batch_arrays


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        ({"x": np.ones(2), "y": np.ones(3)}, "Batching Run() input tensors must have equal 0th-dimension size"),
    ],
)
def test_no_rows(inputs, text):
    with pytest.raises(InvalidArgumentError, match=re.escape(text)):
        batch_arrays.count_rows(inputs)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (np.ones(3), "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes"),
    ],
)
def test_outputs_without_rows(output, text):
    with pytest.raises(FailedPreconditionError, match=re.escape(text)):
        batch_arrays.split({"y": output}, [1, 1], 2)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 4))
def test_what_is_joined_splits_again(sizes, extra):
    parts = [{"x": np.arange(size) + 10 * index} for index, size in enumerate(sizes)]
    extra = extra if sizes[-1] else 0
    joined = batch_arrays.join(parts, sum(sizes) + extra)
    assert len(joined["x"]) == sum(sizes) + extra
    for part, again in zip(parts, batch_arrays.split(joined, sizes, sum(sizes) + extra), strict=True):
        np.testing.assert_array_equal(part["x"], again["x"])


def test_rows_up_to_an_allowed_size_copy_the_last_requests_first():
    joined = batch_arrays.join([{"x": np.array([1, 2])}, {"x": np.array([3, 4])}], 6)
    assert joined["x"].tolist() == [1, 2, 3, 4, 3, 3]


SHORT, LONG = np.array([[1, 2]]), np.array([[7, 8, 9], [4, 5, 6]])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, [[1, 2, 1], [7, 8, 9], [4, 5, 6]]), (-1.0, [[1, 2, -1], [7, 8, 9], [4, 5, 6]])],
)
def test_variable_lengths(value, expected):
    assert batch_arrays.join([{"x": SHORT}, {"x": LONG}], 3, value)["x"].tolist() == expected


def test_variable_lengths_of_text():
    short, long = np.array([["a"]], object), np.array([["b", "c"]], object)
    assert batch_arrays.join([{"x": short}, {"x": long}], 2)["x"].tolist() == [["a", "a"], ["b", "c"]]
    assert batch_arrays.join([{"x": short}, {"x": long}], 2, 0.0)["x"].tolist() == [["a", ""], ["b", "c"]]
    # Bytes among text would reach the model as their repr.
    assert batch_arrays.join([{"x": short[:, :0]}, {"x": long}], 2)["x"].tolist() == [["", ""], ["b", "c"]]


def test_variable_lengths_that_begin_empty():
    joined = batch_arrays.join([{"x": np.ones((1, 0), np.int64)}, {"x": np.full((1, 2), 5)}], 2)
    assert joined["x"].tolist() == [[0, 0], [5, 5]]


def test_examples_stay_bytes():
    joined = batch_arrays.join([{"x": as_strings([b"a\0"])}, {"x": as_strings([b"", b"b"])}], 3)
    assert joined["x"].tolist() == [b"a\0", b"", b"b"]
