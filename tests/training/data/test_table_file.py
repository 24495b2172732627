"""Parquet files and Arrow tables as columns."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from estimator_serving.training.data.dataset import Dataset


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
        (["day"], {}, r"Column 'day' holds timestamp\[.*\], which cannot become a feature"),
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


@pytest.mark.parametrize("rows_at_a_time", [1, 3, 100])
def test_parquet_as_a_stream_gives_the_same_rows(tmp_path, rows_at_a_time):
    for file, start in (("b", 5), ("a", 0)):
        rows = range(start, start + 5)
        table = pa.table({"x": rows, "w": [["w"] * (row % 3) for row in rows], "y": [row % 2 for row in rows]})
        parquet.write_table(table, tmp_path / f"{file}.parquet", row_group_size=2)
    whole = Dataset.from_parquet(tmp_path, "y").batch(4)
    streamed = Dataset.from_parquet(tmp_path, "y", rows_at_a_time=rows_at_a_time)
    for (features, labels), (same, same_labels) in zip(whole, streamed.batch(4), strict=True):
        assert (features["x"].tolist(), labels.tolist()) == (same["x"].tolist(), same_labels.tolist())
        assert [sum(map(bool, words)) for words in same["w"]] == [x % 3 for x in same["x"]]
    mixed = [row for features, _ in streamed.shuffle(4, seed=1).batch(3) for row in features["x"].tolist()]
    assert sorted(mixed) == list(range(10)) != mixed


def test_parquet_stream_refusals(parquet_file):
    with pytest.raises(ValueError, match="rows_at_a_time must be greater than zero; got 0"):
        Dataset.from_parquet(parquet_file, rows_at_a_time=0)
    with pytest.raises(ValueError, match="give shuffle a buffer_size"):
        Dataset.from_parquet(parquet_file, rows_at_a_time=5).shuffle()
    with pytest.raises(ValueError, match="has no column 'zz'"):
        Dataset.from_parquet(parquet_file, "y", ["zz"], rows_at_a_time=5)
