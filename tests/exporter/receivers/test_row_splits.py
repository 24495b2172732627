"""Rows of any number of values become padded matrices, whatever they come as."""

import numpy as np
import pytest
from graphs import compute, graph_of
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.exporter.receivers.row_splits import pad_rows, splits_of_rows

RAGGED = st.lists(st.lists(st.integers(-3, 9), max_size=4), max_size=5)


def padded(values, splits):
    made = pad_rows(values, splits)
    return {"values": made.values, "lengths": made.lengths}


def rows_of(got):
    return [row[:length] for row, length in zip(got["values"].tolist(), got["lengths"].tolist(), strict=True)]


NUMBERS = graph_of(padded, (np.int64, (None,)), (np.int64, (None,)))


def split(rows):
    return np.cumsum([0, *map(len, rows)]).astype(np.int64)


@given(RAGGED)
def test_every_row_keeps_its_values_in_order(rows):
    got = NUMBERS(np.int64([value for row in rows for value in row]), split(rows))
    assert rows_of(got) == rows
    assert got["values"].shape == (len(rows), max(map(len, rows), default=0))


@pytest.mark.parametrize(
    ("rows", "shape"),
    [([], (0, 0)), ([[]], (1, 0)), ([[], []], (2, 0)), ([["é"]], (1, 1)), ([[], ["", "b"], ["c"]], (3, 2))],
)
def test_text_and_the_smallest_batches(rows, shape):
    got = compute(padded, np.array([word for row in rows for word in row], object), split(rows))
    assert rows_of(got) == rows
    assert got["values"].shape == shape


def test_the_dtype_stays():
    got = compute(padded, np.float32([1.5, 2.5]), np.int64([0, 1, 2]))
    assert got["values"].dtype == np.float32
    assert got["lengths"].dtype == np.int64


SPLITS = graph_of(lambda rows, batch: {"splits": splits_of_rows(rows, batch)}, (np.int64, (None,)), (np.int64, (1,)))


@given(st.lists(st.integers(0, 4), max_size=6))
def test_row_numbers_become_row_splits(lengths):
    rows = np.repeat(np.arange(len(lengths)), lengths).astype(np.int64)
    got = SPLITS(rows, np.int64([len(lengths)]))["splits"]
    assert got.tolist() == np.cumsum([0, *lengths]).tolist()


def test_rows_without_a_value_at_the_end_are_counted():
    assert SPLITS(np.int64([1]), np.int64([4]))["splits"].tolist() == [0, 0, 1, 1, 1]
