"""interleave, padded_batch, filter, from_tensors and list_files; the expected values are TensorFlow 2.15's."""

import numpy as np
import pytest

from estimator_serving.training.data.dataset import Dataset


def numbered(count):
    return Dataset.from_generator(lambda: iter([int(count) * 10 + row for row in range(int(count))]))


@pytest.mark.parametrize(
    ("cycle_length", "block_length", "expected"),
    [
        (2, 1, [30, 31, 10, 32, 40, 20, 41, 21, 42, 43]),
        (2, 2, [30, 31, 32, 10, 40, 41, 20, 21, 42, 43]),
        (3, 2, [30, 31, 10, 32, 40, 41, 20, 21, 42, 43]),
        (1, 3, [30, 31, 32, 10, 40, 41, 42, 43, 20, 21]),
    ],
)
def test_interleave(cycle_length, block_length, expected):
    counts = Dataset.from_tensor_slices(np.array([3, 0, 1, 4, 2]))
    assert list(counts.interleave(numbered, cycle_length, block_length)) == expected


def test_flat_map_and_batches_behind_interleave():
    counts = Dataset.from_tensor_slices(np.array([2, 1]))
    assert [batch.tolist() for batch in counts.flat_map(numbered).batch(2)] == [[20, 21], [10]]


def ragged_rows():
    return Dataset.from_generator(lambda: ((list(range(count)), "ab"[:count]) for count in (1, 2, 3)))


def plain(batches):
    return [(numbers.tolist(), texts.tolist()) for numbers, texts in batches]


def test_padded_batch():
    assert plain(ragged_rows().padded_batch(2)) == [([[0, 0], [0, 1]], ["a", "ab"]), ([[0, 1, 2]], ["ab"])]
    assert plain(ragged_rows().padded_batch(2, ([None], []), drop_remainder=True)) == [([[0, 0], [0, 1]], ["a", "ab"])]
    assert plain(ragged_rows().padded_batch(2, ([4], []), (-1, ""))) == [
        ([[0, -1, -1, -1], [0, 1, -1, -1]], ["a", "ab"]),
        ([[0, 1, 2, -1]], ["ab"]),
    ]


def test_padded_batch_of_features():
    rows = Dataset.from_generator(lambda: ({"w": ["a"] * count, "n": count} for count in (1, 2)))
    (batch,) = rows.padded_batch(4, padding_values={"w": "?", "n": 0})
    assert (batch["w"].tolist(), batch["n"].tolist()) == ([["a", "?"], ["a", "a"]], [1, 2])


def test_filter():
    numbers = Dataset.from_tensor_slices(np.arange(10))
    expected = [[0, 3, 6], [9]]
    assert [batch.tolist() for batch in numbers.filter(lambda x: x % 3 == 0).batch(3)] == expected
    rows = Dataset.from_generator(lambda: iter(range(10)))
    assert [batch.tolist() for batch in rows.filter(lambda x: x % 3 == 0).batch(3)] == expected
    batches = numbers.batch(4).filter(lambda batch: batch.sum() > 10)
    assert [batch.tolist() for batch in batches] == [[4, 5, 6, 7], [8, 9]]


def test_filter_that_keeps_nothing_ends():
    assert list(Dataset.from_tensor_slices(np.arange(3)).filter(lambda x: x > 5).repeat().batch(2)) == []


def test_from_tensors_is_one_element():
    assert [element.tolist() for element in Dataset.from_tensors([1, 2]).repeat(2)] == [[1, 2], [1, 2]]
    ((features, labels),) = Dataset.from_tensors(({"x": [1.0, 2.0]}, [0, 1]))
    assert (features["x"].dtype, features["x"].tolist(), labels.tolist()) == (np.float32, [1, 2], [0, 1])


def test_list_files(tmp_path):
    for name in "bcad":
        (tmp_path / f"{name}.csv").touch()
    names = [str(tmp_path / f"{name}.csv") for name in "abcd"]
    assert list(Dataset.list_files(f"{tmp_path}/*.csv", shuffle=False)) == names
    mixed = Dataset.list_files([tmp_path / "[ab].csv", tmp_path / "[cd].csv"], seed=1)
    passes = [tuple(mixed) for _ in range(20)]
    assert {tuple(sorted(one)) for one in passes} == {tuple(names)}
    assert len(set(passes)) > 1


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda data: data.interleave(numbered, 0), ValueError, "`cycle_length` must be >= 1; got 0"),
        (lambda data: data.interleave(numbered, 1, 0), ValueError, "`block_length` must be >= 1; got 0"),
        (lambda data: list(data.interleave(lambda _: [1], 1)), TypeError, "must return a `Dataset` object. Got list"),
        (
            lambda data: list(data.filter(lambda x: x.sum() > 2)),
            ValueError,
            "must return a bool for each of the 3 rows",
        ),
        (
            lambda _: list(ragged_rows().padded_batch(3, ([2], []))),
            ValueError,
            r"shape \[3\] cannot be padded to \[2\]",
        ),
        (
            lambda _: list(Dataset.from_generator(lambda: iter([[1], 2])).padded_batch(3)),
            ValueError,
            "All elements in a batch must have the same rank",
        ),
    ],
)
def test_refusals(use, error, text):
    with pytest.raises(error, match=text):
        use(Dataset.from_tensor_slices(np.arange(3)))
