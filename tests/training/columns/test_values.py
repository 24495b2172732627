"""Columns as values: names, parse specs, and TF 2.15's texts for what they refuse."""

import copy
import re

import numpy as np
import pytest

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.values import normalize_columns
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature

vocabulary = fc.categorical_column_with_vocabulary_list
hashed = fc.categorical_column_with_hash_bucket
x = fc.numeric_column("x")


@pytest.mark.parametrize(
    ("column", "name", "spec"),
    [
        (x, "x", {"x": FixedLenFeature((1,), dtypes.float32)}),
        (
            fc.numeric_column("x", shape=(2,), default_value=1.5),
            "x",
            {"x": FixedLenFeature((2,), dtypes.float32, (1.5, 1.5))},
        ),
        (
            fc.numeric_column("x", shape=[2], default_value=[1, 2], dtype="int64"),
            "x",
            {"x": FixedLenFeature((2,), dtypes.int64, (1, 2))},
        ),
        (fc.bucketized_column(x, [0, 10]), "x_bucketized", {"x": FixedLenFeature((1,), dtypes.float32)}),
        (hashed("k", 10), "k", {"k": VarLenFeature(dtypes.string)}),
        (hashed("k", 10, dtype=np.int32), "k", {"k": VarLenFeature(dtypes.int64)}),
        (vocabulary("k", ["a"]), "k", {"k": VarLenFeature(dtypes.string)}),
        (vocabulary("k", [3, 4]), "k", {"k": VarLenFeature(dtypes.int64)}),
        (fc.indicator_column(vocabulary("k", ["a"])), "k_indicator", {"k": VarLenFeature(dtypes.string)}),
        (fc.embedding_column(hashed("k", 5), 2), "k_embedding", {"k": VarLenFeature(dtypes.string)}),
    ],
)
def test_name_and_parse_spec(column, name, spec):
    assert column.name == name
    assert fc.make_parse_example_spec([column]) == spec


def test_parse_spec_is_the_union():
    columns = [x, fc.bucketized_column(x, [1]), hashed("k", 3), fc.indicator_column(hashed("k", 3))]
    assert set(fc.make_parse_example_spec(columns)) == {"x", "k"}


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: fc.numeric_column(3), ValueError, "key must be a string. Got: type <class 'int'>. Given key: 3."),
        (lambda: fc.numeric_column("x", shape=("a",)), TypeError,
         "shape dimensions must be integer. shape: ('a',), key: x"),
        (lambda: fc.numeric_column("x", shape=0), ValueError,
         "shape dimensions must be greater than 0. shape: (0,), key: x"),
        (lambda: fc.numeric_column("x", dtype="string"), ValueError,
         "dtype must be convertible to float. dtype: <dtype: 'string'>, key: x"),
        (lambda: fc.numeric_column("x", default_value="a"), TypeError,
         "default_value must be compatible with dtype. default_value: a, dtype: <dtype: 'float32'>, key: x"),
        (lambda: fc.numeric_column("x", shape=2, default_value=[1, 2.5], dtype="int32"), TypeError,
         "default_value must be compatible with dtype. default_value: [1, 2.5], dtype: <dtype: 'int32'>, key: x"),
        (lambda: fc.numeric_column("x", shape=2, default_value=[1]), ValueError,
         "The shape of default_value must be equal to given shape. default_value: [1], shape: (2,), key: x"),
        (lambda: fc.numeric_column("x", normalizer_fn=3), TypeError, "normalizer_fn must be a callable. Given: 3"),
        (lambda: fc.bucketized_column(hashed("k", 3), [1]), ValueError,
         "source_column must be a column generated with numeric_column(). Given: "),
        (lambda: fc.bucketized_column(fc.numeric_column("x", shape=(2, 2)), [1]), ValueError,
         "source_column must be one-dimensional column. Given: "),
        (lambda: fc.bucketized_column(x, []), ValueError, "boundaries must not be empty."),
        (lambda: fc.bucketized_column(x, 3), ValueError, "boundaries must be a sorted list."),
        (lambda: fc.bucketized_column(x, [1, 1]), ValueError, "boundaries must be a sorted list."),
        (lambda: hashed("k", None), ValueError, "hash_bucket_size must be set. key: k"),
        (lambda: hashed("k", 0), ValueError, "hash_bucket_size must be at least 1. hash_bucket_size: 0, key: k"),
        (lambda: hashed("k", 3, dtype="float32"), ValueError,
         "column_name: k dtype must be string or integer. dtype: <dtype: 'float32'>."),
        (lambda: vocabulary("k", []), ValueError, "vocabulary_list [] must be non-empty, column_name: k"),
        (lambda: vocabulary("k", ["a", "a"]), ValueError,
         "Duplicate keys in vocabulary_list ['a', 'a'], column_name: k"),
        (lambda: vocabulary("k", ["a"], default_value=0, num_oov_buckets=2), ValueError,
         "Can't specify both num_oov_buckets and default_value in k."),
        (lambda: vocabulary("k", ["a"], num_oov_buckets=-1), ValueError, "Invalid num_oov_buckets -1 in k."),
        (lambda: vocabulary("k", ["a"], dtype="int64"), ValueError,
         "dtype <dtype: 'int64'> and vocabulary dtype <dtype: 'string'> do not match, column_name: k"),
        (lambda: vocabulary("k", [1.5]), ValueError,
         "column_name: k vocabulary dtype must be string or integer. dtype: <dtype: 'float64'>."),
        (lambda: fc.indicator_column(x), ValueError,
         "Unsupported input type. Input must be a CategoricalColumn. Given: "),
        (lambda: fc.embedding_column(hashed("k", 3), 0), ValueError, "Invalid dimension 0."),
        (lambda: fc.embedding_column(hashed("k", 3), 2, combiner="max"), ValueError,
         "combiner must be one of 'mean', 'sqrtn' or 'sum', got max"),
        (lambda: fc.embedding_column(hashed("k", 3), 2, initializer=3), ValueError,
         "initializer must be callable if specified. Embedding of column_name: k"),
        (lambda: fc.make_parse_example_spec([3]), ValueError,
         "All feature_columns must be FeatureColumn instances. Given: 3"),
        (lambda: fc.make_parse_example_spec([x, hashed("x", 3)]), ValueError,
         "feature_columns contain different parse_spec for key x. Given "),
        (lambda: normalize_columns([]), ValueError, "feature_columns must not be empty."),
        (lambda: normalize_columns({"x": x}), ValueError, "Expected feature_columns to be iterable, found dict."),
        (lambda: normalize_columns(["x"]), ValueError,
         "Items of feature_columns must be a FeatureColumn. Given (type <class 'str'>): x."),
        (lambda: normalize_columns([x, x]), ValueError, "Duplicate feature column name found for columns: "),
    ],
)  # fmt: skip
def test_refusals(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()


def test_columns_are_sorted_by_name_in_byte_order():
    columns = [
        fc.numeric_column("z"),
        fc.indicator_column(hashed("a", 2)),
        fc.numeric_column("B"),
        fc.numeric_column("b"),
    ]
    assert [column.name for column in normalize_columns(columns)] == ["B", "a_indicator", "b", "z"]


def test_columns_are_values():
    column = fc.embedding_column(vocabulary("k", ["a", b"b"]), 2)
    assert copy.deepcopy({"columns": [column]})["columns"][0] is column
    assert column == fc.embedding_column(vocabulary("k", ["a", "b"]), 2)
    assert hash(fc.numeric_column("x", shape=2, default_value=np.array([1, 2]))) is not None
