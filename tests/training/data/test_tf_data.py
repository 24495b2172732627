"""tf.data's functions: what they give is what TensorFlow 2.15 gave for the same files and arguments."""

import gzip
import itertools

import numpy as np
import pytest

from estimator_serving import training
from estimator_serving.training import Dataset
from estimator_serving.training import feature_column as fc
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature, encode_example
from estimator_serving.wire.records import write_records

A = 'n,x,name,big,wide,e\n1,0.5,"a, b",3000000000,1e300,\n,NA,c,4,2,\n-3,nan,"q""q",5,3,\n4,7,,6,4,\n'
B = "n,x,name,big,wide,e\n5,1.5,z,7,5,\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.csv").write_text(A)
    (tmp_path / "b.csv").write_text(B)
    return tmp_path


def make(folder, batch_size, **arguments):
    return training.make_csv_dataset(f"{folder}/*.csv", batch_size, shuffle=False, na_value="NA", **arguments)


def plain(features):
    return {key: (str(values.dtype), values.tolist()) for key, values in features.items()}


def test_types_come_from_the_first_rows(folder):
    (first, labels), (second, others) = make(folder, 3, label_name="n", num_epochs=1)
    assert plain(first) == {
        "x": ("object", ["0.5", "", "nan"]),
        "name": ("object", ["a, b", "c", 'q"q']),
        "big": ("int64", [3000000000, 4, 5]),
        "wide": ("float64", [1e300, 2.0, 3.0]),
        "e": ("object", ["", "", ""]),
    }
    assert (labels.dtype, labels.tolist(), others.tolist()) == (np.int32, [1, 0, -3], [4, 5])
    assert plain(second)["name"] == ("object", ["", "z"])


def test_defaults_stand_in_the_files_order(folder):
    batches = make(folder, 3, select_columns=["name", "n"], column_defaults=[-1, "none"], num_epochs=1)
    assert [plain(batch) for batch in batches] == [
        {"n": ("int32", [1, -1, -3]), "name": ("object", ["a, b", "c", 'q"q'])},
        {"n": ("int32", [4, 5]), "name": ("object", ["none", "z"])},
    ]


def test_types_as_defaults(folder):
    first, second, third = make(folder, 2, select_columns=[1, 3], column_defaults=[0.5, training.int64], num_epochs=1)
    assert plain(first) == {"x": ("float32", [0.5, 0.5]), "big": ("int64", [3000000000, 4])}
    assert np.isnan(second["x"][0])
    assert plain(third) == {"x": ("float32", [1.5]), "big": ("int64", [7])}


def test_the_files_repeat_without_end_and_batches_are_full(folder):
    batches = itertools.islice(make(folder, 2, select_columns=["big"]), 4)
    assert [batch["big"].tolist() for batch in batches] == [[3000000000, 4], [5, 6], [7, 3000000000], [4, 5]]


def test_rows_are_shuffled_by_default(tmp_path):
    (tmp_path / "a.csv").write_text("x\n" + "\n".join(map(str, range(500))))
    first, second, again = (
        [
            value
            for batch in itertools.islice(training.make_csv_dataset(tmp_path / "a.csv", 100, shuffle_seed=seed), 5)
            for value in batch["x"].tolist()
        ]
        for seed in (1, 2, 1)
    )
    assert sorted(first) == sorted(second) == list(range(500))
    assert first == again != second
    assert first != list(range(500))


def test_names_delimiters_and_compression(tmp_path):
    (tmp_path / "h.tsv").write_bytes(gzip.compress(b"1\t2\n3\t4\n"))
    batches = training.make_csv_dataset(
        tmp_path / "h.tsv",
        2,
        column_names=["p", "q"],
        header=False,
        field_delim="\t",
        shuffle=False,
        num_epochs=1,
        compression_type="GZIP",
    )
    assert [plain(batch) for batch in batches] == [{"p": ("int32", [1, 3]), "q": ("int32", [2, 4])}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"select_columns": ["zz"]}, "Column zz specified in `select_columns` must be of one of the columns"),
        ({"select_columns": [9]}, "Column index 9 specified in `select_columns` should be > 0  and <= 6"),
        ({"select_columns": ["n", "n"]}, "The `select_columns` argument contains duplicate columns"),
        ({"label_name": "zz"}, r"`label_name` provided must be one of the columns: \['n', .*Received: zz"),
        ({"header": False}, "Expected `column_names` or `header` arguments. Neither is provided."),
        ({"column_defaults": [0]}, "`column_defaults` has length 1, `select_columns` has length 6"),
        ({"column_names": ["a", "a"]}, "contains duplicate column names"),
        ({"ignore_errors": True}, "rows would be lost silently"),
        ({"compression_type": "ZLIB"}, "give None or 'GZIP'"),
    ],
)
def test_csv_refusals(folder, arguments, text):
    with pytest.raises(ValueError, match=text):
        make(folder, 2, **arguments)


@pytest.mark.parametrize(
    ("content", "defaults", "text"),
    [
        ("n,x\n1,2\n3\n", None, r"Expect 2 fields but have 1 in record \(.*bad.csv, row 2\)"),
        ("n,x\n1,2\n,3\n", [int, 0], r"Field 0 is required but missing in record! \(.*row 2, column 'n'\)"),
        ("n,x\n1,b\n", [0, 0], r"Field 1 in record is not a valid int32: b \(.*row 1, column 'x'\)"),
        ("n,x\n1,99999999999\n", [0, 0], "Field 1 in record is not a valid int32: 99999999999"),
        ('n,x\n1,"b\n', [0, ""], "is not a CSV file: unexpected end of data"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, content, defaults, text):
    (tmp_path / "bad.csv").write_text(content)
    dataset = training.make_csv_dataset(
        tmp_path / "bad.csv", 2, column_defaults=defaults or [0, 0], shuffle=False, num_epochs=1
    )
    with pytest.raises(training.InvalidArgumentError, match=text):
        list(dataset)


def test_files_must_agree_on_their_names(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("b,a\n1,2\n")
    with pytest.raises(ValueError, match="All input CSV files must have the same column names"):
        training.make_csv_dataset(f"{tmp_path}/*.csv", 1)


@pytest.mark.parametrize("read", [lambda path: training.make_csv_dataset(path, 1), Dataset.from_csv])
@pytest.mark.parametrize("line", ["5.1,3.5,setosa", "M,0.455", "a,,b"])
def test_a_first_line_of_data_is_not_taken_for_names(tmp_path, read, line):
    (tmp_path / "a.csv").write_text(f"{line}\n{line}\n")
    with pytest.raises(ValueError, match=r"looks like data rather than names .* give column_names=\[…\] with"):
        read(tmp_path / "a.csv")


def test_names_that_are_numbers_are_taken_if_they_are_said_to_be_names(tmp_path):
    (tmp_path / "a.csv").write_text("2019,2020\n1,2\n")
    assert list(Dataset.from_csv(tmp_path / "a.csv", header=True).batch(1)) == [{"2019": [1], "2020": [2]}]
    assert list(training.make_csv_dataset(tmp_path / "a.csv", 1, header=True, num_epochs=1)) == [{"2019": 1, "2020": 2}]


def test_from_csv_without_a_header(tmp_path):
    (tmp_path / "a.csv").write_text("5.1,setosa\n4.9,virginica\n")
    ((features, labels),) = Dataset.from_csv(tmp_path / "a.csv", "kind", column_names=["length", "kind"]).batch(9)
    assert (features["length"].tolist(), labels.tolist()) == (
        [np.float32(5.1), np.float32(4.9)],
        ["setosa", "virginica"],
    )
    with pytest.raises(ValueError, match="is said to have no header; give column_names"):
        Dataset.from_csv(tmp_path / "a.csv", header=False)


SPEC = {"x": FixedLenFeature((1,), "float32"), "w": VarLenFeature("string"), "y": FixedLenFeature((), "int64")}


def example(number):
    return encode_example({"x": [float(number)], "w": [f"w{number}"] * (number % 3), "y": [number % 2]})


@pytest.fixture
def records(tmp_path):
    for file in range(3):
        write_records(tmp_path / f"{file}.tfrecord", [example(10 * file + row) for row in range(10)])
    return f"{tmp_path}/*.tfrecord"


def rows_of(batches):
    return [int(value) for features, _ in batches for value in features["x"].ravel()]


def test_batched_features_shuffle_and_repeat_by_default(records):
    dataset = training.make_batched_features_dataset(records, 4, SPEC, label_key="y", shuffle_seed=3)
    first = list(itertools.islice(dataset, 15))
    assert all(len(labels) == 4 for _, labels in first)
    rows = rows_of(first)
    assert sorted(rows[:30]) == sorted(rows[30:]) == list(range(30))
    assert list(range(30)) != rows[:30] != rows[30:]
    assert all((labels == features["x"].ravel() % 2).all() for features, labels in first)


def test_batched_features_once_and_in_order(records):
    dataset = training.make_batched_features_dataset(records, 8, SPEC, label_key="y", num_epochs=1, shuffle=False)
    assert rows_of(dataset) == list(range(30))
    assert [len(labels) for _, labels in dataset] == [8, 8, 8, 6]


def test_files_are_read_in_turns(records):
    dataset = training.make_batched_features_dataset(
        records, 30, SPEC, label_key="y", num_epochs=1, shuffle=False, reader_num_threads=3
    )
    assert rows_of(dataset) == [10 * file + row for row in range(10) for file in range(3)]


def test_gzip_by_reader_args(tmp_path):
    write_records(tmp_path / "a", [example(3)])
    (tmp_path / "a").write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    dataset = training.make_batched_features_dataset(
        tmp_path / "a", 1, SPEC, training.TFRecordDataset, "y", ["GZIP"], num_epochs=1
    )
    assert rows_of(dataset) == [3]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"label_key": "z"}, ValueError, r"The `label_key` provided \(z\) must be one of the `features` keys: x, w, y"),
        ({"reader": open}, ValueError, "reader must be TFRecordDataset"),
    ],
)
def test_batched_features_refusals(records, arguments, error, text):
    with pytest.raises(error, match=text):
        training.make_batched_features_dataset(records, 1, SPEC, **arguments)


def test_a_pattern_without_a_file_is_refused(tmp_path):
    for use in (Dataset.list_files, lambda path: training.make_csv_dataset(path, 1)):
        with pytest.raises(FileNotFoundError, match="No files matched pattern: .*/none"):
            use(f"{tmp_path}/none*")


def test_a_program_of_tfs_verbs(records):
    """list_files, interleave, shuffle, batch, and parse_example in a map, as programs write them."""
    dataset = (
        Dataset.list_files(records, shuffle=False)
        .interleave(training.TFRecordDataset, cycle_length=3, num_parallel_calls=-1)
        .apply(training.shuffle_and_repeat(4, 2, seed=1))
        .batch(60)
        .map(lambda serialized: training.parse_example(serialized, SPEC), num_parallel_calls=2)
    )
    (batch,) = dataset
    assert sorted(batch["x"].ravel().tolist()) == sorted([*range(30)] * 2)
    assert [len(set(words) - {""}) for words in batch["w/values"]] == [int(x) % 3 > 0 for x in batch["x"].ravel()]


def test_parsing_before_batch_sees_many_records(records):
    def parse(serialized):
        features = training.parse_single_example(serialized, SPEC)
        return features, features.pop("y")

    dataset = training.TFRecordDataset(records).map(parse).filter(lambda _, labels: labels == 1)
    batches = list(dataset.shuffle(8, seed=0).batch(10))
    assert sorted(rows_of(batches)) == list(range(1, 30, 2))
    assert all((labels == 1).all() for _, labels in batches)


def test_a_single_example():
    row = training.parse_single_example(example(4), SPEC)
    assert (row["x"].tolist(), row["y"], row["w/values"].tolist()) == ([4], 0, ["w4"])
    with pytest.raises(ValueError, match="Key: x, Index: 0.  Number of float values != expected"):
        training.parse_single_example(encode_example({"x": [1.0, 2.0], "y": [1]}), SPEC)


def test_text_lines_and_decode_csv(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\n\ntwo\xff\nthree")
    assert list(training.TextLineDataset(tmp_path / "a.txt")) == ["one", "", "two\udcff", "three"]
    (tmp_path / "b.csv").write_text('1,a,\n2,"b,c",3.5\n')

    def parse(lines):
        number, text, value = training.decode_csv(lines, [[0], [""], [9.5]])
        return {"text": text, "value": value}, number

    ((features, labels),) = training.TextLineDataset(tmp_path / "b.csv").apply(training.map_and_batch(parse, 9))
    assert labels.tolist() == [1, 2]
    assert plain(features) == {"text": ("object", ["a", "b,c"]), "value": ("float32", [9.5, 3.5])}


def test_decode_csv_of_some_columns():
    first, last = training.decode_csv(["1;a;NA", "2;b;3.5"], [[0], [9.5]], ";", na_value="NA", select_cols=[0, 2])
    assert (first.dtype, first.tolist(), last.dtype, last.tolist()) == (np.int32, [1, 2], np.float32, [9.5, 3.5])
    assert training.decode_csv("1,a", [[0], [""]]) == [1, "a"]


def test_an_estimator_trains_from_a_csv_stream(tmp_path):
    (tmp_path / "a.csv").write_text("n,w,y\n" + "1,a,0\n2,b,1\n" * 20)
    columns = [
        fc.numeric_column("n"),
        fc.indicator_column(fc.categorical_column_with_vocabulary_list("w", ["a", "b"])),
        fc.indicator_column(fc.categorical_column_with_identity("n", 4)),
    ]
    estimator = training.DNNClassifier([4], columns, model_dir=tmp_path / "model")
    estimator.train(lambda: training.make_csv_dataset(tmp_path / "a.csv", 8, label_name="y"), steps=5)
    result = estimator.evaluate(lambda: training.make_csv_dataset(tmp_path / "a.csv", 8, label_name="y", num_epochs=1))
    assert result["global_step"] == 5
