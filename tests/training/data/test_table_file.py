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
