"""Where rows come from beside arrays and CSV: generators, DataLoaders, Arrow, TFRecord; and reading them ahead."""

import gzip
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.features import TransformRecorder
from estimator_serving.training.data.dataset import Dataset
from estimator_serving.training.data.inputs import prepared_batches
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature, encode_example
from estimator_serving.wire.records import write_records


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
        (lambda: Dataset.from_batches(iter([1])), TypeError, "which a list_iterator allows once"),
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


def test_prefetch_reads_ahead_in_a_thread():
    made = []

    def generate():
        for row in range(9):
            made.append((row, threading.current_thread().name))
            yield row

    elements = iter(Dataset.from_generator(generate).prefetch(3))
    assert next(elements) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {name for _, name in made} == {"read-ahead"}
    assert 4 <= len(made) <= 6
    elements.close()


def test_an_error_ahead_comes_where_its_element_would():
    def generate():
        yield 1
        raise OSError("the disk went away")

    elements = iter(Dataset.from_generator(generate).prefetch(2))
    assert next(elements) == 1
    with pytest.raises(OSError, match="the disk went away"):
        next(elements)


def test_an_abandoned_prefetch_ends_its_thread():
    before = threading.active_count()
    elements = iter(count_to(10**6).prefetch(2))
    next(elements)
    elements.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.fixture
def parquet_file(tmp_path):
    path = tmp_path / "rows.parquet"
    table = {
        "age": pa.array([22, None], pa.int32()),
        "fare": pa.array([7.25, 8.0], pa.float32()),
        "name": pa.array(["Ann", None]).dictionary_encode(),
        "tags": pa.array([["a", "b"], []]),
        "point": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        "day": pa.array([1, 2], pa.timestamp("s")),
        "y": pa.array([True, False]),
    }
    parquet.write_table(pa.table(table), path)
    return path


COLUMNS = ["age", "fare", "name", "tags", "point"]


def test_parquet(parquet_file):
    dataset = Dataset.from_parquet(parquet_file, "y", COLUMNS, column_defaults={"age": -1})
    ((features, labels),) = dataset.batch(9)
    assert {name: column.tolist() for name, column in features.items()} == {
        "age": [22, -1],
        "fare": [7.25, 8],
        "name": ["Ann", ""],
        "tags": [["a", "b"], ["", ""]],
        "point": [[1, 2], [3, 4]],
    }
    assert (features["age"].dtype, features["point"].dtype, labels.tolist()) == (np.int32, np.float32, [True, False])


@pytest.mark.parametrize(
    ("columns", "defaults", "text"),
    [
        (["age"], {}, r"Column 'age' has 1 nulls; .* column_defaults=\{'age': 0\}"),
        (["day"], {}, r"Column 'day' holds timestamp\[.*\], of which no feature can be made"),
        (["nothing"], {}, "The table has no column 'nothing'"),
        (["age"], {"age": 0.5}, r"column_defaults\['age'\] is 0.5, and the column holds int32"),
        (["age"], {"age": "x"}, r"column_defaults\['age'\] is 'x', and the column holds int32"),
    ],
)
def test_parquet_refusals(parquet_file, columns, defaults, text):
    with pytest.raises(ValueError, match=text):
        Dataset.from_parquet(parquet_file, None, columns, defaults)


def test_files_that_are_not_parquet(tmp_path):
    (tmp_path / "a.parquet").write_text("hello")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read as Parquet"):
        Dataset.from_parquet(tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError, match="There is no Parquet file at"):
        Dataset.from_parquet(tmp_path / "b.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="There is no Parquet file at"):
        Dataset.from_parquet(tmp_path / "empty")


SPEC = {
    "age": FixedLenFeature((1,), "float32", 0.5),
    "words": VarLenFeature("string"),
    "y": FixedLenFeature((), "int64"),
}
EXAMPLES = [
    encode_example({"age": [1.5], "words": ["a", ""], "y": [1]}),
    encode_example({"words": [], "y": [0]}),
    encode_example({"age": [3.0], "words": ["b"], "y": [1]}),
]


@pytest.fixture(params=[None, "GZIP"])
def record_files(request, tmp_path):
    paths = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]
    for path, examples in zip(paths, (EXAMPLES[:2], EXAMPLES[2:]), strict=True):
        write_records(path, examples)
        if request.param:
            path.write_bytes(gzip.compress(path.read_bytes()))
    return paths, request.param


def test_tfrecord(record_files):
    paths, compression = record_files
    ((features, labels),) = Dataset.from_tfrecord(paths, SPEC, "y", compression).batch(9)
    assert labels.tolist() == [1, 0, 1]
    assert features["age"].tolist() == [[1.5], [0.5], [3]]
    assert features["words/values"].tolist() == [["a", ""], ["", ""], ["b", ""]]
    assert features["words/lengths"].tolist() == [2, 0, 1]


def test_tfrecord_rows(record_files):
    paths, compression = record_files
    assert list(Dataset.from_tfrecord(paths, compression_type=compression)) == EXAMPLES
    single = list(Dataset.from_tfrecord(paths, SPEC, "y", compression).skip(2))
    assert [(row["age"].tolist(), label) for row, label in single] == [([3.0], 1)]


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda path: Dataset.from_tfrecord(path, SPEC, "z"), "The label 'z' is not among the features: age, words, y"),
        (lambda path: Dataset.from_tfrecord(path, SPEC, "words"), "has a number of values that varies"),
        (lambda path: Dataset.from_tfrecord(path, compression_type="ZLIB"), "give None or 'GZIP'"),
        (lambda path: Dataset.from_tfrecord(path, SPEC).map(len), "call map behind batch"),
        (
            lambda path: list(Dataset.from_tfrecord(path, {"words": FixedLenFeature((), "int64")}).batch(2)),
            r"Key: words, Index: 0.  Data types don't match. .*; compare the file with the features",
        ),
        (lambda path: list(Dataset.from_tfrecord(path, compression_type="GZIP")), "is not a whole gzip file"),
    ],
)
def test_tfrecord_refusals(tmp_path, use, text):
    path = tmp_path / "a.tfrecord"
    write_records(path, EXAMPLES)
    with pytest.raises(ValueError, match=text):
        use(path)


def test_an_estimator_trains_from_tfrecord_files(tmp_path):
    path = tmp_path / "rows.tfrecord"
    write_records(path, EXAMPLES * 4)
    words = fc.categorical_column_with_vocabulary_list("words", ["a", "b"])
    columns = [fc.numeric_column("age", default_value=0.5), fc.indicator_column(words)]
    estimator = training.DNNClassifier([4], columns, model_dir=tmp_path / "model")
    spec = fc.make_parse_example_spec(columns) | {"y": FixedLenFeature((), "int64")}
    estimator.train(lambda: Dataset.from_tfrecord(path, spec, "y").shuffle(8, seed=1).repeat(2).batch(4).prefetch(1))
    assert estimator.evaluate(lambda: Dataset.from_tfrecord(path, spec, "y").batch(5))["global_step"] == 6
