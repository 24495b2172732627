"""TFRecord files, parsed by the op of the exported graph."""

import gzip

import pytest

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.data.dataset import Dataset
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature, encode_example
from estimator_serving.wire.records import write_records

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
