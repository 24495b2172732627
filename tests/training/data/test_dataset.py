"""Where rows come from: arrays, generators, DataLoaders; the steps take rows of a generator one by one."""

import numpy as np
import pytest
import torch

from estimator_serving.training.columns.features import TransformRecorder
from estimator_serving.training.data.dataset import Dataset
from estimator_serving.training.data.inputs import prepared_batches


def rows(count):
    def generate():
        for row in range(count):
            yield {"x": float(row), "w": f"w{row}"}, row

    return generate


def values(dataset):
    return [batch.tolist() for batch in dataset]


def count_to(count):
    return Dataset.from_generator(lambda: iter(range(count)))


def test_generator_rows_become_batches():
    first, second = Dataset.from_generator(rows(3)).batch(2)
    assert first[0]["x"].dtype == np.float32
    assert (first[0]["x"].tolist(), first[0]["w"].tolist(), first[1].tolist()) == ([0, 1], ["w0", "w1"], [0, 1])
    assert second[1].tolist() == [2]


@pytest.mark.parametrize(
    ("dataset", "batches"),
    [
        (count_to(5).batch(2), [[0, 1], [2, 3], [4]]),
        (count_to(5).batch(2, drop_remainder=True), [[0, 1], [2, 3]]),
        (count_to(3).repeat(2).batch(4), [[0, 1, 2, 0], [1, 2]]),
        (count_to(0).repeat().batch(4), []),
        (count_to(5).skip(1).take(3).batch(2), [[1, 2], [3]]),
        (count_to(7).shard(3, 1).batch(9), [[1, 4]]),
        (count_to(3).map(lambda x: x * 10).batch(9), [[0, 10, 20]]),
        (count_to(3).batch(2).map(lambda x: x + 1), [[1, 2], [3]]),
        (count_to(3).cache().repeat(2).batch(9), [[0, 1, 2, 0, 1, 2]]),
        (count_to(3).prefetch(2).batch(2).prefetch(1), [[0, 1], [2]]),
    ],
)
def test_generators_take_every_step(dataset, batches):
    assert values(dataset) == batches
    assert values(dataset) == batches


def test_a_generator_is_read_no_further_than_needed():
    taken = []

    def generate():
        for row in range(1000):
            taken.append(row)
            yield {"x": float(row)}

    batches = prepared_batches(Dataset.from_generator(generate).batch(4), "train", TransformRecorder())
    next(batches), next(batches)
    assert len(taken) == 8


def test_generator_shuffles_in_a_buffer():
    shuffled = values(count_to(40).shuffle(10, seed=1).batch(40))[0]
    assert sorted(shuffled) == list(range(40)) != shuffled
    assert values(count_to(40).shuffle(10, seed=1).batch(40))[0] == shuffled


def test_generator_arguments_in_tensorflows_order():
    dataset = Dataset.from_generator(range, "float32", (), (2, 4))
    assert [row.tolist() for row in dataset] == [2, 3]


def test_generator_types():
    dataset = Dataset.from_generator(rows(2), output_types=({"x": "float64", "w": "string"}, "int32"))
    ((features, labels),) = dataset.batch(2)
    assert (features["x"].dtype, labels.dtype) == (np.float64, np.int32)


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda: Dataset.from_generator(iter([1])), TypeError, "`generator` must be callable; got list_iterator"),
        (lambda: Dataset.from_batches(iter([1])), TypeError, "and a list_iterator can be read once"),
        (lambda: count_to(3).shuffle(), ValueError, "give shuffle a buffer_size"),
        (lambda: count_to(3).shard(0, 0), ValueError, "num_shards must be >= 1; got 0"),
        (lambda: count_to(3).shard(2, 2), ValueError, "index must be between 0 and 1; got 2"),
        (lambda: count_to(3).prefetch(-2), ValueError, "buffer_size must be -1 or more; got -2"),
        (
            lambda: list(Dataset.from_generator(lambda: iter([{"a": 1}, {"b": 1}])).batch(2)),
            ValueError,
            r"One row has the parts \{a\}, another \{b\}",
        ),
        (
            lambda: list(Dataset.from_generator(lambda: iter([[1], [1, 2]])).batch(2)),
            ValueError,
            "rows of different lengths",
        ),
        *(
            (lambda row=row: list(Dataset.from_generator(lambda: map(row, (2, 3))).batch(2)), ValueError, text)
            for row, text in (
                (np.zeros, r"Feature rows has rows that make no batch: ndarray \[2\], ndarray \[3\]"),
                (torch.zeros, r"rows that make no batch: Tensor \[2\], Tensor \[3\]"),
            )
        ),
        *(
            (lambda row=row, types=types: list(Dataset.from_generator(lambda: iter([row]), types)), ValueError, text)
            for row, types, text in (
                (
                    {"a": 1.0},
                    {"b": "float32"},
                    "did not match the expected structure. The expected structure was {",
                ),
                ((1.0, 2, 3), ("float32", "int64"), r"but the yielded element was \(1.0, 2, 3\)"),
                ([1.0, 2], ("float32", "int64"), "did not match the expected structure"),
                ("x", "float32", "could not be converted to the expected type. The expected type was float32, but"),
            )
        ),
    ],
)
def test_refusals(use, error, text):
    with pytest.raises(error, match=text):
        use()


def test_sparse_matrices_are_refused_with_advice():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match=r"Feature x is a sparse matrix of scipy. Give value.toarray\(\)"):
        Dataset.from_tensor_slices({"x": sparse.csr_matrix(np.eye(3))})


def test_bytes_keep_their_last_zeros():
    (batch,) = Dataset.from_generator(lambda: iter([b"a\0", b"\0\0"])).batch(2)
    assert batch.tolist() == ["a\0", "\0\0"]


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_shards_hold_every_row_once_across_passes(shards):
    dataset = Dataset.from_tensor_slices(np.arange(5)).repeat(2)
    parts = [[row for batch in dataset.shard(shards, index).batch(3) for row in batch] for index in range(shards)]
    stream = list(range(5)) * 2
    assert parts == [stream[index::shards] for index in range(shards)]


def test_cache_runs_what_comes_before_once():
    calls = []
    dataset = (
        Dataset.from_tensor_slices(np.arange(3)).map(lambda x: calls.append(1) or x * 2).cache().repeat(3).batch(9)
    )
    assert values(dataset) == values(dataset) == [[0, 2, 4] * 3]
    assert len(calls) == 1


def test_an_unfinished_pass_is_not_cached():
    dataset = count_to(4).cache()
    assert values(dataset.take(2).batch(9)) == [[0, 1]]
    assert values(dataset.batch(9)) == [[0, 1, 2, 3]]


def test_data_loader():
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(5.0), torch.arange(5)), batch_size=2
    )
    batches = list(Dataset.from_batches(loader).repeat(2).take(4))
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4], [0, 1]]


def test_features_and_labels_keep_their_rows_together():
    data = Dataset.from_tensor_slices(({"x": [1.0, 2.0, 3.0], "w": ["a", b"b", "c"]}, np.arange(3)))
    batches = list(data.shuffle(seed=1).repeat(4).batch(2))
    pairs = {(float(x), w, int(label)) for f, y in batches for x, w, label in zip(f["x"], f["w"], y, strict=True)}
    assert pairs == {(1.0, "a", 0), (2.0, "b", 1), (3.0, "c", 2)}
    assert [len(labels) for _, labels in batches] == [2] * 6


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ([1.5], np.float32),
        ([1], np.int64),
        (np.array([1.5]), np.float64),
        (np.array([1], np.int32), np.int32),
        ([True], np.bool_),
        (["a"], object),
        (np.array([b"a"]), object),
        (torch.ones(1), np.float32),
    ],
)
def test_dtypes(column, dtype):
    (batch,) = Dataset.from_tensor_slices({"x": column}).batch(1)
    assert batch["x"].dtype == dtype


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"x": [1, 2], "y": [1]}, "Columns must have the same number of rows; got {'x': 2, 'y': 1}"),
        (({"x": [1, 2]}, [1]), "Columns must have the same number of rows; got {'x': 2, 'labels': 1}"),
        ({}, "A data set needs at least one column"),
        ({"x": 3}, "Column x is a single value"),
        ({"x": [[1], [1, 2]]}, "Feature x has rows of different lengths"),
        ({"x": torch.eye(2).to_sparse_coo()}, "Feature x is a sparse tensor; pad its rows"),
        ({"x": ["a", None]}, "Feature x holds None .* at entry 1 where text was expected"),
    ],
)
def test_arrays_that_do_not_fit(tensors, text):
    with pytest.raises(ValueError, match=text):
        Dataset.from_tensor_slices(tensors)
