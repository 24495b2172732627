"""CSV files, taken whole or refused."""

import numpy as np
import pytest

from estimator_serving.training.data.dataset import Dataset

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
