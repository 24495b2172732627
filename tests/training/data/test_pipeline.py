"""tf.data's batches from whole columns."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.training.data.dataset import Dataset


def numbers(count):
    return Dataset.from_tensor_slices(np.arange(count))


def lists(dataset):
    return [batch.tolist() for batch in dataset]


@pytest.mark.parametrize(
    ("dataset", "batches"),
    [
        (numbers(5).batch(2), [[0, 1], [2, 3], [4]]),
        (numbers(5).batch(2, drop_remainder=True), [[0, 1], [2, 3]]),
        (numbers(5).repeat(2).batch(3), [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4]]),
        (numbers(5).batch(3).repeat(2), [[0, 1, 2], [3, 4], [0, 1, 2], [3, 4]]),
        (numbers(2).repeat(4).batch(5), [[0, 1, 0, 1, 0], [1, 0, 1]]),
        (numbers(3).repeat(0).batch(2), []),
        (numbers(0).repeat().batch(2), []),
        (numbers(0).batch(2).repeat(), []),
        (numbers(3).map(lambda x: x * 2).batch(2), [[0, 2], [4]]),
        (numbers(3).batch(2).map(lambda x: x[::-1]), [[1, 0], [2]]),
        (numbers(3).batch(2).map(lambda x: torch.from_numpy(x) + 1).repeat(2), [[1, 2], [3], [1, 2], [3]]),
        (numbers(4).batch(2).shuffle(1), [[0, 1], [2, 3]]),
        (numbers(5).take(3).batch(2), [[0, 1], [2]]),
        (numbers(5).skip(3).batch(2), [[3, 4]]),
        (numbers(5).skip(9).batch(2), []),
        (numbers(5).skip(-1).batch(2), []),
        (numbers(3).take(-1).batch(9), [[0, 1, 2]]),
        (numbers(3).repeat().skip(4).take(4).batch(3), [[1, 2, 0], [1]]),
        (numbers(5).batch(2).skip(1).take(1), [[2, 3]]),
        (numbers(3).take(2).repeat(2).batch(4), [[0, 1, 0, 1]]),
    ],
)
def test_batches(dataset, batches):
    assert lists(dataset) == batches
    assert lists(dataset) == batches


@pytest.mark.parametrize("size", [None, 2])
def test_what_map_is_given_is_its_own(size):
    """TensorFlow programs take the label out of the features, and assign in place."""

    def split(features):
        features["a"] /= 2
        return features, features.pop("y")

    dataset = Dataset.from_tensor_slices({"a": np.array([2.0, 4.0]), "y": np.array([0, 1])})
    dataset = dataset.map(split).batch(2) if size is None else dataset.batch(size).cache().map(split)
    for features, labels in dataset.repeat(2):
        assert (features.keys(), features["a"].tolist(), labels.tolist()) == ({"a"}, [1, 2], [0, 1])


@given(rows=st.integers(0, 9), size=st.integers(1, 12), count=st.integers(0, 4), drop=st.booleans())
def test_batches_hold_the_stream_of_rows(rows, size, count, drop):
    stream = list(range(rows)) * count
    whole = len(stream) // size * size
    batches = lists(numbers(rows).repeat(count).batch(size, drop_remainder=drop))
    assert list(itertools.chain.from_iterable(batches)) == (stream[:whole] if drop else stream)
    assert all(len(batch) == size for batch in batches[:-1])


def test_repeat_without_end():
    assert [b.tolist() for b in itertools.islice(numbers(2).repeat().batch(3), 3)] == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_shuffle_mixes_all_rows_anew_in_every_pass():
    first, second = lists(numbers(50).shuffle(seed=3).repeat(2).batch(50))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != list(range(50))
    assert lists(numbers(50).shuffle(buffer_size=2, seed=3).batch(50)) == [first]


def test_shuffle_once():
    first, second = lists(numbers(50).shuffle(seed=3, reshuffle_each_iteration=False).repeat(2).batch(50))
    assert first == second


def test_shuffle_follows_torchs_seed():
    torch.manual_seed(5)
    first = lists(numbers(50).shuffle().batch(50))
    torch.manual_seed(5)
    assert lists(numbers(50).shuffle().batch(50)) == first


def test_shuffle_behind_batch_mixes_batches():
    shuffled = lists(numbers(40).batch(2).shuffle(20, seed=1))
    assert shuffled != lists(numbers(40).batch(2))
    assert sorted(shuffled) == lists(numbers(40).batch(2))


def test_shuffle_behind_an_endless_repeat():
    batches = itertools.islice(numbers(4).repeat().batch(2).shuffle(8, seed=1), 20)
    assert {tuple(batch.tolist()) for batch in batches} == {(0, 1), (2, 3)}


def test_without_batch_rows_come_singly():
    rows = list(Dataset.from_tensor_slices(({"x": [1, 2]}, [3, 4])))
    assert rows == [({"x": 1}, 3), ({"x": 2}, 4)]


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda: numbers(2).batch(0), "batch_size must be greater than zero; got 0"),
        (lambda: numbers(2).batch(1).batch(1), "This data set is batched already"),
        (lambda: numbers(2).shuffle(0), "buffer_size must be greater than zero; got 0"),
        (lambda: numbers(2).batch(1).shuffle(), "shuffle behind batch holds whole batches: give buffer_size"),
        (lambda: list(numbers(3).map(lambda x: x[:2])), "turned 3 rows into 2; it is called with whole columns"),
        (lambda: list(numbers(3).map(print)), "The function given to map returned None"),
    ],
)
def test_refusals(use, text):
    with pytest.raises(ValueError, match=text):
        use()
