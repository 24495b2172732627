"""Dataset: tf.data's batches from whole columns, and CSV files taken whole or refused."""

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
        ({"x": [b"\xff"]}, "Feature x holds the bytes .* at entry 0, which are not UTF-8"),
    ],
)
def test_arrays_that_do_not_fit(tensors, text):
    with pytest.raises(ValueError, match=text):
        Dataset.from_tensor_slices(tensors)


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


CSV = 'name,age,fare,n,survived\n"Braund, ""Mr"" Owen",22,7.25,,0\nAllen,35,8,3,1\n'


@pytest.fixture
def write(tmp_path):
    def write(content, encoding="utf-8"):
        path = tmp_path / "rows.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


def test_csv(write):
    data = Dataset.from_csv(write(CSV), label_name="survived", column_defaults={"n": 0.5})
    ((features, labels),) = data.batch(9)
    assert {name: (column.dtype.name, column.tolist()) for name, column in features.items()} == {
        "name": ("object", ['Braund, "Mr" Owen', "Allen"]),
        "age": ("int64", [22, 35]),
        "fare": ("float32", [7.25, 8]),
        "n": ("float32", [0.5, 3]),
    }
    assert (labels.dtype, labels.tolist()) == (np.int64, [0, 1])


@pytest.mark.parametrize(
    ("content", "options", "column", "dtype"),
    [
        ("x\n1\n-2\n", {}, [1, -2], "int64"),
        ("x\n1\n2.5\n", {}, [1, 2.5], "float32"),
        ("x\n1e3\nnan\n", {}, [1000, None], "float32"),
        ("x\n1_000\n", {}, ["1_000"], "object"),
        ("x\n18446744073709551615\n", {}, ["18446744073709551615"], "object"),
        ("x,y\n1,\n2,\n", {"select_columns": ["x"]}, [1, 2], "int64"),
        ("x,y\na,1\n,2\n", {}, ["a", ""], "object"),
        ("x,y\n,1\n,2\n", {}, ["", ""], "object"),
        ("x\n1\n2\n", {"column_defaults": {"x": ""}}, ["1", "2"], "object"),
        ("x,y\n1,1\n,1\n", {"column_defaults": {"x": 9}}, [1, 9], "int64"),
        ("x,y\na,1\n,1\n", {"column_defaults": {"x": "none"}}, ["a", "none"], "object"),
        ("\ufeffx\r\n1\r\n\r\n2\r\n", {}, [1, 2], "int64"),
        ('x,y\n"a\nb",1\n', {}, ["a\nb"], "object"),
        ("x\n1\n2\n", {"column_types": {"x": float}}, [1, 2], "float32"),
        ("x\n1\n2\n", {"column_types": {"x": str}}, ["1", "2"], "object"),
        ("x\n1\n2\n", {"column_types": {"x": "int64"}}, [1, 2], "int64"),
        ("x\n1\nNA\n", {"na_value": "NA", "column_defaults": {"x": 0.5}}, [1, 0.5], "float32"),
        ("x,y\na,1\nNA,1\n", {"na_value": "NA"}, ["a", ""], "object"),
    ],
)
def test_csv_columns(write, content, options, column, dtype):
    (features,) = Dataset.from_csv(write(content), **options).batch(9)
    assert features["x"].dtype.name == dtype
    assert [None if value != value else value for value in features["x"].tolist()] == column


@pytest.mark.parametrize(
    ("content", "options", "text"),
    [
        (CSV, {"label_name": "lived"}, "rows.csv has no column 'lived'; it has: name, age, fare, n, survived."),
        (CSV, {"select_columns": ["age", "sex"]}, "rows.csv has no column 'sex'; it has: name, age"),
        (CSV, {"column_defaults": {"sex": 1}}, "rows.csv has no column 'sex'"),
        (CSV, {}, r"rows.csv, line 2: column 'n' is empty; .* column_defaults=\{'n': 0\}"),
        (
            CSV,
            {"column_defaults": {"n": 0, "fare": 0}},
            "line 2: '7.25' in column 'fare' is not an integer, which its default 0",
        ),
        (CSV, {"column_defaults": {"n": None}}, r"column_defaults\['n'\] is None; give text, an integer or a float"),
        (CSV, {"column_types": {"sex": int}}, "rows.csv has no column 'sex'"),
        (CSV, {"column_types": {"n": int}}, r"line 2: column 'n' is empty"),
        (
            CSV,
            {"column_types": {"fare": int}, "column_defaults": {"n": 0}},
            "line 2: '7.25' in column 'fare' is not an integer, which its type <class 'int'> makes it",
        ),
        ("x,y\n1,2\n1\n", {}, r"rows.csv, line 3: 1 fields where the header has 2 \(x, y\)"),
        ('x,y\n"a\nb",2\n1,2,3\n', {}, "rows.csv, line 4: 3 fields where the header has 2"),
        ("x,x\n1,2\n", {}, "rows.csv has more than one column named 'x'"),
        ("x\n", {}, "rows.csv holds no rows"),
        ("", {}, "rows.csv holds no rows"),
        (b"x\n\xff\n", {}, "rows.csv is not UTF-8"),
        ('x\n"a"b\n', {}, "rows.csv is not a CSV file from line 2 on"),
        ('x\n"a\n', {}, "rows.csv is not a CSV file from line"),
    ],
)
def test_csv_refusals(write, content, options, text):
    with pytest.raises(ValueError, match=text):
        Dataset.from_csv(write(content), **options)


def test_csv_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        Dataset.from_csv(tmp_path / "absent.csv")
