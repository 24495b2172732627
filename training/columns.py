"""Feature columns as values: names, parse specs, sizes, and what their constructors refuse.

A column is frozen data. It does not know how it is computed (column_graph.py turns it into ONNX nodes, nowhere else),
how it is compared with an earlier one (definitions.py), or which variables it owns in a network (feature_column.py).
Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature

ParseSpec = dict[str, FixedLenFeature | VarLenFeature]
Normalizer = Callable[[torch.Tensor], torch.Tensor]
Initializer = Callable[..., torch.Tensor]
COMBINERS = ("mean", "sqrtn", "sum")


@dataclass(frozen=True)
class FeatureColumn:
    """What every column has: `name` (its place in the input layer and in variable names) and `parse_example_spec`."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def parse_example_spec(self) -> ParseSpec:
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> FeatureColumn:
        # A column never changes, and the Estimator deep-copies params: without this each copy would be a new column.
        return self


@dataclass(frozen=True)
class DenseColumn(FeatureColumn):
    """A column that gives float32 [batch, num_elements] to a network."""

    @property
    def num_elements(self) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class CategoricalColumn(FeatureColumn):
    """A column that gives ids in [0, num_buckets), any number of them a row."""

    @property
    def num_buckets(self) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class NumericColumn(DenseColumn):
    key: str
    shape: tuple[int, ...]
    default_value: Any
    dtype: DType
    normalizer_fn: Normalizer | None

    @property
    def name(self) -> str:
        return self.key

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def parse_example_spec(self) -> ParseSpec:
        return {self.key: FixedLenFeature(self.shape, self.dtype, self.default_value)}


@dataclass(frozen=True)
class BucketizedColumn(DenseColumn, CategoricalColumn):
    """Dense: a one-hot of each dimension's bucket. Categorical: one id a dimension, bucket + (n + 1) * dimension."""

    source_column: NumericColumn
    boundaries: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.source_column.name}_bucketized"

    @property
    def num_buckets(self) -> int:
        return (len(self.boundaries) + 1) * self.source_column.num_elements

    @property
    def num_elements(self) -> int:
        return self.num_buckets

    @property
    def parse_example_spec(self) -> ParseSpec:
        return self.source_column.parse_example_spec


@dataclass(frozen=True)
class KeyedCategoricalColumn(CategoricalColumn):
    """A categorical column read straight from one feature, which also names it."""

    key: str
    dtype: DType

    @property
    def name(self) -> str:
        return self.key

    @property
    def parse_example_spec(self) -> ParseSpec:
        return {self.key: VarLenFeature(self.dtype)}


@dataclass(frozen=True)
class HashedCategoricalColumn(KeyedCategoricalColumn):
    hash_bucket_size: int

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size


@dataclass(frozen=True)
class VocabularyListCategoricalColumn(KeyedCategoricalColumn):
    vocabulary_list: tuple[str, ...] | tuple[int, ...]
    default_value: int
    num_oov_buckets: int

    @property
    def num_buckets(self) -> int:
        return len(self.vocabulary_list) + self.num_oov_buckets


@dataclass(frozen=True)
class IndicatorColumn(DenseColumn):
    categorical_column: CategoricalColumn

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_indicator"

    @property
    def num_elements(self) -> int:
        return self.categorical_column.num_buckets

    @property
    def parse_example_spec(self) -> ParseSpec:
        return self.categorical_column.parse_example_spec


@dataclass(frozen=True)
class EmbeddingColumn(DenseColumn):
    """Rows of a table [num_buckets, dimension], combined over a row's ids. The table belongs to the network."""

    categorical_column: CategoricalColumn
    dimension: int
    combiner: str
    initializer: Initializer | None
    max_norm: float | None
    trainable: bool

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_embedding"

    @property
    def num_elements(self) -> int:
        return self.dimension

    @property
    def parse_example_spec(self) -> ParseSpec:
        return self.categorical_column.parse_example_spec


def numeric_column(
    key: str,
    shape: int | Iterable[int] = (1,),
    default_value: Any = None,
    dtype: Any = dtypes.float32,
    normalizer_fn: Normalizer | None = None,
) -> NumericColumn:
    """A number, or a block of numbers, as it is.

    Args:
        key: the feature's name, and the column's.
        shape: of one row; the layer gets it flattened.
        default_value: for an Example without the feature; a scalar is broadcast to `shape`. For the parse spec alone.
        dtype: of the feature in an Example; the network always gets float32.
        normalizer_fn: a function of a float32 tensor [batch, *shape], written with torch functions; it becomes part of
            the exported graph. (TF 2.15 casts after it, we cast before: float64 arrays are narrowed first.)

    Raises:
        TypeError, ValueError: TF 2.15's texts.
    """
    checked_shape = _check_shape(shape, key)
    number = dtypes.as_dtype(dtype)
    if not (_is_integer(number) or number.numpy.kind == "f"):
        raise ValueError(f"dtype must be convertible to float. dtype: {describe(number)}, key: {key}")
    default = _check_default_value(checked_shape, default_value, number, key)
    if normalizer_fn is not None and not callable(normalizer_fn):
        raise TypeError(f"normalizer_fn must be a callable. Given: {normalizer_fn}")
    return NumericColumn(_check_key(key), checked_shape, default, number, normalizer_fn)


def bucketized_column(source_column: NumericColumn, boundaries: Sequence[float]) -> BucketizedColumn:
    """A number's bucket: bucket i holds [boundaries[i-1], boundaries[i]); NaN and +inf fall into the last.

    Raises:
        ValueError: TF 2.15's texts.
    """
    if not isinstance(source_column, NumericColumn):
        raise ValueError(f"source_column must be a column generated with numeric_column(). Given: {source_column}")
    if len(source_column.shape) > 1:
        raise ValueError(f"source_column must be one-dimensional column. Given: {source_column}")
    if not isinstance(boundaries, list | tuple):
        raise ValueError("boundaries must be a sorted list.")
    if not boundaries:
        raise ValueError("boundaries must not be empty.")
    if any(low >= high for low, high in itertools.pairwise(boundaries)):
        raise ValueError("boundaries must be a sorted list.")
    return BucketizedColumn(source_column, tuple(float(boundary) for boundary in boundaries))


def categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: Any = dtypes.string
) -> HashedCategoricalColumn:
    """Ids by Fingerprint64 of the text (an integer's decimal text) modulo `hash_bucket_size`: TensorFlow's own buckets.

    Raises:
        ValueError: TF 2.15's texts.
    """
    if hash_bucket_size is None:
        raise ValueError(f"hash_bucket_size must be set. key: {key}")
    if hash_bucket_size < 1:
        raise ValueError(f"hash_bucket_size must be at least 1. hash_bucket_size: {hash_bucket_size}, key: {key}")
    checked = _check_key(key)
    return HashedCategoricalColumn(checked, _id_dtype(dtype, f"column_name: {key}"), int(hash_bucket_size))


def categorical_column_with_vocabulary_list(
    key: str,
    vocabulary_list: Sequence[str] | Sequence[int],
    dtype: Any = None,
    default_value: int = -1,
    num_oov_buckets: int = 0,
) -> VocabularyListCategoricalColumn:
    """Ids by place in `vocabulary_list`.

    Args:
        key: the feature's name, and the column's.
        vocabulary_list: strings or integers, without repetition.
        dtype: string or an integer type; by default that of the list. Integers are int64 from here on.
        default_value: the id of what is not in the list; -1 drops it.
        num_oov_buckets: what is not in the list is hashed to that many ids behind it instead.

    Raises:
        ValueError: TF 2.15's texts; a default_value that is no id is refused here and not at the lookup.
    """
    if vocabulary_list is None or len(vocabulary_list) < 1:
        raise ValueError(f"vocabulary_list {vocabulary_list} must be non-empty, column_name: {key}")
    if len(set(vocabulary_list)) != len(vocabulary_list):
        raise ValueError(f"Duplicate keys in vocabulary_list {vocabulary_list}, column_name: {key}")
    if num_oov_buckets and default_value != -1:
        raise ValueError(f"Can't specify both num_oov_buckets and default_value in {key}.")
    if num_oov_buckets < 0:
        raise ValueError(f"Invalid num_oov_buckets {num_oov_buckets} in {key}.")
    if not -1 <= default_value < len(vocabulary_list):
        raise ValueError(f"default_value {default_value} not in range [-1, {len(vocabulary_list)}), column_name {key}")
    vocabulary = np.array(vocabulary_list)
    id_dtype = _id_dtype(vocabulary.dtype, f"column_name: {key} vocabulary")
    if dtype is not None and _id_dtype(dtype, f"column_name: {key}") != id_dtype:
        given = describe(dtypes.as_dtype(dtype))
        raise ValueError(f"dtype {given} and vocabulary dtype {describe(id_dtype)} do not match, column_name: {key}")
    entries = tuple(_text(entry) if id_dtype.is_string else int(entry) for entry in vocabulary_list)
    return VocabularyListCategoricalColumn(_check_key(key), id_dtype, entries, int(default_value), int(num_oov_buckets))  # type: ignore[arg-type]


def indicator_column(categorical_column: CategoricalColumn) -> IndicatorColumn:
    """How often each id stands in a row: float32 [batch, num_buckets]. Raises ValueError for another kind of column."""
    return IndicatorColumn(_check_categorical(categorical_column))


def embedding_column(
    categorical_column: CategoricalColumn,
    dimension: int,
    combiner: str = "mean",
    initializer: Initializer | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
) -> EmbeddingColumn:
    """Learned vectors of a row's ids, combined to float32 [batch, dimension]; a row without ids gives zeros.

    Args:
        categorical_column: where the ids come from.
        dimension: length of a vector, at least 1.
        combiner: 'mean', 'sqrtn' (sum / sqrt(count)) or 'sum'.
        initializer: callable (shape, generator) -> tensor; by default a normal truncated at two deviations of
            1/sqrt(dimension).
        max_norm: each vector looked up is scaled down to at most this L2 norm before it is combined.
        trainable: False keeps the initial table.

    Raises:
        ValueError: TF 2.15's texts.
    """
    if dimension is None or dimension < 1:
        raise ValueError(f"Invalid dimension {dimension}.")
    if initializer is not None and not callable(initializer):
        raise ValueError(
            f"initializer must be callable if specified. Embedding of column_name: {categorical_column.name}"
        )
    if combiner not in COMBINERS:
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', got {combiner}")
    checked = _check_categorical(categorical_column)
    return EmbeddingColumn(checked, dimension, combiner, initializer, max_norm, trainable)


def make_parse_example_spec(feature_columns: Iterable[FeatureColumn]) -> ParseSpec:
    """The features an Example must carry for these columns (TF 2.15).

    Raises:
        ValueError: an item that is no column, or two columns that read one key differently.
    """
    spec: ParseSpec = {}
    for column in feature_columns:
        if not isinstance(column, FeatureColumn):
            raise ValueError(f"All feature_columns must be FeatureColumn instances. Given: {column}")
        for key, feature in column.parse_example_spec.items():
            if key in spec and spec[key] != feature:
                raise ValueError(
                    f"feature_columns contain different parse_spec for key {key}. Given {feature} and {spec[key]}"
                )
            spec[key] = feature
    return spec


def normalize_columns(feature_columns: Any) -> list[FeatureColumn]:
    """The columns of a layer, sorted by name in byte order.

    Raises:
        ValueError: none given, a dict, an item that is no column, or a name twice (TF's texts).
    """
    if isinstance(feature_columns, FeatureColumn):
        feature_columns = [feature_columns]
    if isinstance(feature_columns, dict):
        raise ValueError("Expected feature_columns to be iterable, found dict.")
    columns = list(feature_columns)
    if not columns:
        raise ValueError("feature_columns must not be empty.")
    by_name: dict[str, FeatureColumn] = {}
    for column in columns:
        if not isinstance(column, FeatureColumn):
            raise ValueError(
                f"Items of feature_columns must be a FeatureColumn. Given (type {type(column)}): {column}."
            )
        if column.name in by_name:
            raise ValueError(
                f"Duplicate feature column name found for columns: {column} and {by_name[column.name]}. This usually "
                "means that these columns refer to same base feature. Either one must be discarded or a duplicated but "
                "renamed item must be inserted in features dict."
            )
        by_name[column.name] = column
    return [by_name[name] for name in sorted(by_name, key=str.encode)]


def describe(dtype: DType) -> str:
    """A dtype as TensorFlow prints it: <dtype: 'float32'>."""
    return f"<dtype: '{'string' if dtype.is_string else dtype.numpy}'>"


def _check_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"key must be a string. Got: type {type(key)}. Given key: {key}.")
    return key


def _check_shape(shape: Any, key: str) -> tuple[int, ...]:
    dimensions = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    for dimension in dimensions:
        if not isinstance(dimension, int):
            raise TypeError(f"shape dimensions must be integer. shape: {dimensions}, key: {key}")
        if dimension < 1:
            raise ValueError(f"shape dimensions must be greater than 0. shape: {dimensions}, key: {key}")
    return dimensions


def _check_default_value(shape: tuple[int, ...], value: Any, dtype: DType, key: str) -> Any:
    """The default as nested tuples of `shape`, so that a column stays hashable; None where there is none."""
    if value is None:
        return None
    given = value.tolist() if hasattr(value, "tolist") else value
    nested = isinstance(given, list | tuple)
    if nested and _shape_of(given) != shape:
        raise ValueError(
            "The shape of default_value must be equal to given shape. "
            f"default_value: {given}, shape: {shape}, key: {key}"
        )
    leaves = _leaves(given)
    kinds = (int,) if _is_integer(dtype) else (int, float)
    if not all(isinstance(leaf, kinds) for leaf in leaves):
        raise TypeError(
            f"default_value must be compatible with dtype. default_value: {given}, dtype: {describe(dtype)}, key: {key}"
        )
    return _as_tuple(np.reshape(leaves, shape).tolist() if nested else np.full(shape, given).tolist())


def _shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of nested lists, None where they are ragged."""
    if not isinstance(value, list | tuple):
        return ()
    inner = {_shape_of(entry) for entry in value}
    rest = inner.pop() if len(inner) == 1 else None
    return None if rest is None else (len(value), *rest)


def _leaves(value: Any) -> list[Any]:
    return [leaf for entry in value for leaf in _leaves(entry)] if isinstance(value, list | tuple) else [value]


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(entry) for entry in value) if isinstance(value, list) else value


def _is_integer(dtype: DType) -> bool:
    return dtype.numpy.kind in "iu"


def _id_dtype(dtype: Any, prefix: str) -> DType:
    """string or int64: the two kinds of ids an Example carries."""
    given = dtypes.as_dtype(dtype)
    if not (given.is_string or _is_integer(given)):
        raise ValueError(f"{prefix} dtype must be string or integer. dtype: {describe(given)}.")
    return dtypes.string if given.is_string else dtypes.int64


def _text(entry: Any) -> str:
    return entry.decode() if isinstance(entry, bytes) else str(entry)


def _check_categorical(column: Any) -> CategoricalColumn:
    if not isinstance(column, CategoricalColumn):
        raise ValueError(
            f"Unsupported input type. Input must be a CategoricalColumn. Given: {column}; "
            "make one with categorical_column_with_* or bucketized_column."
        )
    return column
