"""Vocabulary files as part of a model: read once, read again when changed, refused when they no longer fit."""

import os

import numpy as np
import pytest

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.definitions import define
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.columns.transform import Transform, build_transform
from estimator_serving.training.errors import FailedPreconditionError

RAW = {"k": np.array(["a", "b", "c"], object)}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("a\nb\n")
    return file


def ids(transform):
    return transform(RAW)["k/ids"].ravel().tolist()


def test_the_entries_are_in_the_transform(path):
    made = build_transform([fc.categorical_column_with_vocabulary_file("k", str(path))])
    path.unlink()
    assert ids(Transform.from_bytes(made.model_bytes)) == [0, 1, -1]


def test_a_copy_elsewhere_is_the_same_column(path, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    columns = [fc.categorical_column_with_vocabulary_file("k", str(one)) for one in (path, copy)]
    assert define(columns[0]) == define(columns[1])


def test_a_changed_file_is_refused_by_name(path):
    column = fc.categorical_column_with_vocabulary_file("k", str(path))
    frozen = TransformRecorder(Transform.from_bytes(build_transform([column]).model_bytes))
    assert Features(RAW, frozen).transformed([column])["k/ids"].ravel().tolist() == [0, 1, -1]
    path.write_text("a\nc\n")
    os.utime(path, ns=(1, 1))  # the same size within one tick of the clock
    again = TransformRecorder(Transform.from_bytes(frozen.transform.model_bytes))
    with pytest.raises(
        ValueError, match=r"The column 'k' differs .*: vocabulary_list was \['a', 'b'\] and is now \['a', 'c'\]"
    ):
        Features(RAW, again).transformed([column])


def test_a_file_that_is_not_utf8_is_refused(path):
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(ValueError, match=r"words.txt is not UTF-8 in line 2 \(b'\\xff'\); save the file as UTF-8"):
        build_transform([fc.categorical_column_with_vocabulary_file("k", str(path))])


def test_an_unknown_format_is_refused(path):
    with pytest.raises(ValueError, match="file_format 'zip' of k is not known; give None for text or 'tfrecord_gzip'"):
        fc.categorical_column_with_vocabulary_file("k", str(path), file_format="zip")


def test_a_repeated_line_is_refused(path):
    path.write_text("a\nb\na\n")
    text = "^HashTable has different value for same key. Key a has 0 and trying to add value 2"
    with pytest.raises(FailedPreconditionError, match=text):
        build_transform([fc.categorical_column_with_vocabulary_file("k", str(path))])


def test_a_recorder_knows_the_files_of_its_columns(path, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("a\n")
    words = fc.categorical_column_with_vocabulary_file("k", str(path))
    cross = fc.crossed_column([fc.categorical_column_with_vocabulary_file("m", str(other)), words], 5)
    recorder = TransformRecorder()
    assert recorder.vocabulary_files == ()
    recorder.require([fc.embedding_column(cross, 2), fc.indicator_column(words), fc.numeric_column("x")])
    assert recorder.vocabulary_files == (str(other), str(path))
