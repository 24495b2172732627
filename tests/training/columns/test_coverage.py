"""What coverage counts of each kind of column."""

import numpy as np
import pytest

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.coverage import Coverage
from estimator_serving.training.columns.transform import build_transform

WORDS = np.array(["a", "b", "a", "", "zz", "a"], object)
NUMBERS = np.float32([-1, 0.5, np.nan, 3, 20, 0])


def described(columns, *batches):
    coverage = Coverage(build_transform(columns).definitions.values())
    coverage.add(batches)
    return {(one["column"], one["kind"]): one for one in coverage.describe()}


def test_a_vocabulary():
    column = fc.indicator_column(fc.categorical_column_with_vocabulary_list("word", ["a", "b", "c"]))
    found = described([column], {"word": WORDS[:2]}, {"word": WORDS[2:]})["word", "vocabulary_list"]
    assert (found["rows"], found["missing_rows"], found["values"], found["distinct"]) == (6, 1, 5, 3)
    assert (found["out_of_vocabulary"], found["unknown_values"], found["vocabulary_used"]) == (1, [["zz", 1]], 2)


def test_hash_buckets_are_those_of_the_model():
    words = np.array([f"word {i}" for i in range(30)], object)
    column = fc.categorical_column_with_hash_bucket("word", 20)
    found = described([fc.indicator_column(column)], {"word": words})["word", "hash_bucket"]
    ids = build_transform([column])({"word": words})["word/ids"].ravel()
    buckets, counts = np.unique(ids, return_counts=True)
    assert found["buckets_used"] == len(buckets)
    assert found["distinct_sharing"] == counts[counts > 1].sum()


@pytest.mark.parametrize("rows", [np.int64([[0, 9], [-1, -1], [3, -1]]), np.int64([0, 9, -1])])
def test_ids_out_of_range(rows):
    column = fc.indicator_column(fc.categorical_column_with_identity("id", 4, default_value=0))
    found = described([column], {"id": rows})["id", "identity"]
    assert (found["rows"], found["missing_rows"], found["out_of_range"]) == (3, 1, 1)


def test_numbers_and_their_buckets():
    number = fc.numeric_column("x")
    found = described([number, fc.bucketized_column(number, [0, 10])], {"x": NUMBERS})
    assert found["x", "numeric"]["missing_rows"] == 1
    assert (found["x", "numeric"]["min"], found["x", "numeric"]["max"]) == (-1, 20)
    assert found["x", "bucketized"]["rows_by_bucket"] == [1, 3, 1]


def test_a_cross_counts_combinations():
    cross = fc.crossed_column(["word", fc.bucketized_column(fc.numeric_column("x"), [0.0])], 10)
    found = described([fc.indicator_column(cross)], {"word": WORDS, "x": np.nan_to_num(NUMBERS)})["word_X_x", "crossed"]
    assert found["distinct"] == 5
    assert found["expected_sharing"] == pytest.approx(1 - 0.9**4)


def test_padded_features_come_with_lengths():
    column = fc.indicator_column(fc.categorical_column_with_vocabulary_list("word", ["a"]))
    batch = {"word/values": np.array([["a", "b"], ["", ""]], object), "word/lengths": np.int64([2, 0])}
    wider = {"word/values": np.array([["a", "a", ""]], object), "word/lengths": np.int64([3])}
    found = described([column], batch, wider)["word", "vocabulary_list"]
    assert (found["rows"], found["missing_rows"], found["values"], found["out_of_vocabulary"]) == (3, 1, 5, 2)


def test_without_columns_every_feature_is_counted():
    coverage = Coverage([])
    coverage.add([{"word": WORDS, "x": NUMBERS}])
    assert [one["missing_rows"] for one in coverage.describe()] == [1, 1]
