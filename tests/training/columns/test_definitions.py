"""Definitions: equal for columns that compute the same, and the words for a difference."""

import pytest

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.definitions import difference

vocabulary = fc.categorical_column_with_vocabulary_list
hashed = fc.categorical_column_with_hash_bucket


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (fc.bucketized_column(fc.numeric_column("x"), [1, 2]), fc.bucketized_column(fc.numeric_column("x"), [1, 3]),
         "boundaries was [1.0, 2.0] and is now [1.0, 3.0]"),
        (hashed("k", 3), hashed("k", 4), "hash_bucket_size was 3 and is now 4"),
        (fc.indicator_column(vocabulary("k", ["a"])), fc.indicator_column(vocabulary("k", ["b"])),
         "categorical.vocabulary_list was ['a'] and is now ['b']"),
        (fc.numeric_column("x"), fc.numeric_column("x", shape=2), "shape was [1] and is now [2]"),
        (fc.numeric_column("x", normalizer_fn=lambda x: x / 2), fc.numeric_column("x", normalizer_fn=lambda x: x / 3),
         "normalizer.graph was ['div = aten.div.Tensor(x, 2)'] and is now ['div = aten.div.Tensor(x, 3)']"),
        (fc.numeric_column("x", default_value=1), fc.numeric_column("x", default_value=2), ""),
        (vocabulary("k", ["a"]), hashed("k", 3), "kind was 'vocabulary_list' and is now 'hash_bucket'"),
    ],
)  # fmt: skip
def test_difference_names_what_changed(old, new, words):
    assert difference(old.define(), new.define()).startswith(words)
    assert (old.define() == new.define()) == (words == "")
