"""Feature columns as values: names, sizes, parse specs.

A column is frozen data, made by column_constructors.py. It does not know how it is computed (column_graph.py turns it
into ONNX nodes, nowhere else), how it is compared with an earlier one (definitions.py), or which variables it owns in a
network (feature_column.py). Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from estimator_serving.training.checkpoints.vocabulary_file import read_vocabulary
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
class VocabularyFileCategoricalColumn(KeyedCategoricalColumn):
    vocabulary_file: str
    vocabulary_size: int
    default_value: int
    num_oov_buckets: int
    file_format: str | None

    @property
    def num_buckets(self) -> int:
        return self.vocabulary_size + self.num_oov_buckets

    @property
    def vocabulary_list(self) -> tuple[str, ...] | tuple[int, ...]:
        """The file's entries. Raises NotFoundError and InvalidArgumentError as read_vocabulary."""
        return read_vocabulary(self.vocabulary_file, self.vocabulary_size, self.file_format, self.dtype.is_string)


VocabularyColumn = VocabularyListCategoricalColumn | VocabularyFileCategoricalColumn


@dataclass(frozen=True)
class IdentityCategoricalColumn(KeyedCategoricalColumn):
    number_buckets: int
    default_value: int | None

    @property
    def num_buckets(self) -> int:
        return self.number_buckets


@dataclass(frozen=True)
class CrossedColumn(CategoricalColumn):
    """Ids by a hash of every combination of its keys' values. A string among the keys is a text feature as it is."""

    keys: tuple[str | CategoricalColumn, ...]
    hash_bucket_size: int
    hash_key: int

    @property
    def name(self) -> str:
        return "_X_".join(sorted(key if isinstance(key, str) else key.name for key in self.leaves))

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size

    @property
    def leaves(self) -> tuple[str | CategoricalColumn, ...]:
        """The keys in the order they are hashed, crosses among them replaced by their own."""
        return tuple(leaf for key in self.keys for leaf in (key.leaves if isinstance(key, CrossedColumn) else (key,)))

    @property
    def parse_example_spec(self) -> ParseSpec:
        spec: ParseSpec = {}
        for key in self.keys:
            spec |= {key: VarLenFeature(dtypes.string)} if isinstance(key, str) else key.parse_example_spec
        return spec


@dataclass(frozen=True)
class WeightedCategoricalColumn(CategoricalColumn):
    """The ids of another column, each with a weight that a second feature gives."""

    categorical_column: CategoricalColumn
    weight_feature_key: str
    dtype: DType

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_weighted_by_{self.weight_feature_key}"

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets

    @property
    def parse_example_spec(self) -> ParseSpec:
        spec = dict(self.categorical_column.parse_example_spec)
        if self.weight_feature_key in spec:
            raise ValueError(
                f"Parse config {spec[self.weight_feature_key]} already exists for {self.weight_feature_key}. "
                "Give the weights a feature of their own."
            )
        return spec | {self.weight_feature_key: VarLenFeature(self.dtype)}


@dataclass(frozen=True)
class SequenceCategoricalColumn(CategoricalColumn):
    """Another column's ids, in which the order within a row counts."""

    categorical_column: KeyedCategoricalColumn

    @property
    def name(self) -> str:
        return self.categorical_column.name

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets

    @property
    def parse_example_spec(self) -> ParseSpec:
        return self.categorical_column.parse_example_spec


@dataclass(frozen=True)
class SequenceNumericColumn(FeatureColumn):
    """A sequence of numbers, or of blocks of numbers, of any length a row."""

    key: str
    shape: tuple[int, ...]
    default_value: float
    dtype: DType
    normalizer_fn: Normalizer | None

    @property
    def name(self) -> str:
        return self.key

    @property
    def parse_example_spec(self) -> ParseSpec:
        return {self.key: VarLenFeature(self.dtype)}


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
    ckpt_to_load_from: str | None
    tensor_name_in_ckpt: str | None
    max_norm: float | None
    trainable: bool
    use_safe_embedding_lookup: bool

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_embedding"

    @property
    def num_elements(self) -> int:
        return self.dimension

    @property
    def parse_example_spec(self) -> ParseSpec:
        return self.categorical_column.parse_example_spec


@dataclass(frozen=True)
class SharedEmbeddingColumn(EmbeddingColumn):
    """An embedding whose table other columns use too.

    `collection_name` names the table. Where `in_scope`, it is `<layer>/<collection_name>/embedding_weights` (TF's
    shared_embedding_columns), else the variable `<collection_name>` of the whole model (TF 2's shared_embeddings).
    """

    collection_name: str
    in_scope: bool

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_shared_embedding"


def leaf_columns(column: Any) -> Iterator[FeatureColumn]:
    """The columns that read features themselves, `column` or those it is made of; texts of a cross are left out."""
    if isinstance(column, CrossedColumn):
        for leaf in column.leaves:
            yield from leaf_columns(leaf)
    elif isinstance(column, BucketizedColumn):
        yield column.source_column
    elif hasattr(column, "categorical_column"):
        yield from leaf_columns(column.categorical_column)
    elif isinstance(column, FeatureColumn):
        yield column


def vocabulary_files(column: FeatureColumn) -> tuple[str, ...]:
    """Paths of the vocabulary files that the column reads."""
    return tuple(
        leaf.vocabulary_file for leaf in leaf_columns(column) if isinstance(leaf, VocabularyFileCategoricalColumn)
    )


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
