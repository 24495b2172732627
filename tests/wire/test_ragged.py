"""Rows of bytes against lists of bytes: taking, joining, mixing, interleaving."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire import native
from estimator_serving.wire.ragged import RaggedBytes, interleaved, mixed

ROWS = st.lists(st.binary(max_size=9), max_size=8)


@given(ROWS, st.slices(8))
def test_slices_are_those_of_lists(rows, part):
    ragged = RaggedBytes.of(rows)
    assert list(ragged[part]) == rows[part]
    assert list(ragged[part].packed()) == rows[part]
    assert ragged[part].to_array().tolist() == rows[part]


@given(ROWS, st.randoms(use_true_random=False))
def test_rows_by_number_and_by_mask(rows, random):
    ragged, order = RaggedBytes.of(rows), random.sample(range(len(rows)), len(rows))
    assert list(ragged[np.array(order, np.int64)]) == [ragged[row] for row in order] == [rows[row] for row in order]
    mask = np.array([row % 2 == 0 for row in order], bool)
    assert list(ragged[mask]) == [row for row, is_taken in zip(rows, mask, strict=True) if is_taken]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_parts_join(parts):
    blocks = [RaggedBytes.of([b"front", *part, b"end"])[1:-1] for part in parts]
    assert list(RaggedBytes.joined(blocks)) == list(itertools.chain(*parts))


@given(st.lists(ROWS, max_size=5), st.integers(1, 9), st.integers(0, 2**64 - 1))
def test_mixing_keeps_every_row_within_the_buffer(parts, size, seed):
    numbered = [[b"%d" % (10 * number + row) for row in range(len(part))] for number, part in enumerate(parts)]
    blocks = [RaggedBytes.of(part) for part in numbered]
    given_rows = [row for block in mixed(blocks, size, seed) for row in block]
    rows = list(itertools.chain(*numbered))
    assert sorted(given_rows) == sorted(rows)
    assert all(rows.index(row) < place + size for place, row in enumerate(given_rows))
    assert given_rows == [row for block in mixed(blocks, size, seed) for row in block]


def test_every_order_of_a_small_buffer_comes():
    rows = RaggedBytes.of([b"a", b"b", b"c"])
    orders = {b"".join(row for block in mixed([rows], 3, seed) for row in block) for seed in range(200)}
    assert len(orders) == 6


@given(st.lists(ROWS, max_size=6), st.integers(1, 4), st.integers(1, 3))
def test_streams_take_turns_as_tensorflows(streams, cycle_length, piece):
    """The order of tf.data's interleave, row by row, however the streams are cut into pieces."""
    cut = [iter([RaggedBytes.of(rows[at : at + piece]) for at in range(0, len(rows), piece)]) for rows in streams]
    waiting, places, expected = [iter(rows) for rows in streams], [None] * cycle_length, []
    while waiting or any(places):
        for place, held in enumerate(places):
            if held is None and waiting:
                held = places[place] = waiting.pop(0)
            row = None if held is None else next(held, None)
            if row is None:
                places[place] = None
            else:
                expected.append(row)
    assert [row for block in interleaved(cut, cycle_length) for row in block] == expected


@pytest.mark.parametrize("splits", [[], [0, 2, 1], [-1, 1], [0, 4], [2**62, 2**63 - 1]])
def test_splits_outside_the_bytes_are_refused(splits):
    with pytest.raises(ValueError, match="Row splits are int64"):
        native.take_rows(b"abc", np.array(splits, np.int64), np.array([], np.int64))
    with pytest.raises(ValueError, match="Row splits are int64"):
        native.mix_rows(native.row_mixer(2, 0), b"abc", np.array(splits, np.int64))


@pytest.mark.parametrize("row", [-1, 1, 2**62])
def test_numbers_without_a_row_are_refused(row):
    with pytest.raises(IndexError, match="numbers of rows that are there"):
        native.take_rows(b"abc", np.array([0, 3]), np.array([row]))


def test_an_empty_mixer_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        native.row_mixer(0, 1)
