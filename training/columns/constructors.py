"""The constructors of feature columns: TF 2.15's arguments, defaults, and what they refuse.

Owns the checks. What a column is, is in columns.py. Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.training.checkpoints.vocabulary_file import TFRECORD_GZIP, TFRECORD_SUFFIX, count_entries
from estimator_serving.training.columns.values import (
    COMBINERS,
    BucketizedColumn,
    CategoricalColumn,
    CrossedColumn,
    EmbeddingColumn,
    HashedCategoricalColumn,
    IdentityCategoricalColumn,
    IndicatorColumn,
    Initializer,
    Normalizer,
    NumericColumn,
    SequenceCategoricalColumn,
    SequenceNumericColumn,
    SharedEmbeddingColumn,
    VocabularyFileCategoricalColumn,
    VocabularyListCategoricalColumn,
    WeightedCategoricalColumn,
    describe,
)
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

HASH_KEY = 0xDECAFCAFFE
"""TensorFlow's default start of a cross's hash."""


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
        default_value: the id of what is not in the list; a negative one drops it, and one behind the list is an error
            when something is not in it.
        num_oov_buckets: what is not in the list is hashed to that many ids behind it instead.

    Raises:
        ValueError: TF 2.15's texts.
    """
    if vocabulary_list is None or len(vocabulary_list) < 1:
        raise ValueError(f"vocabulary_list {vocabulary_list} must be non-empty, column_name: {key}")
    if len(set(vocabulary_list)) != len(vocabulary_list):
        raise ValueError(f"Duplicate keys in vocabulary_list {vocabulary_list}, column_name: {key}")
    if num_oov_buckets and default_value != -1:
        raise ValueError(f"Can't specify both num_oov_buckets and default_value in {key}.")
    if num_oov_buckets < 0:
        raise ValueError(f"Invalid num_oov_buckets {num_oov_buckets} in {key}.")
    vocabulary = np.array(vocabulary_list)
    id_dtype = _id_dtype(vocabulary.dtype, f"column_name: {key} vocabulary")
    if dtype is not None and _id_dtype(dtype, f"column_name: {key}") != id_dtype:
        given = describe(dtypes.as_dtype(dtype))
        raise ValueError(f"dtype {given} and vocabulary dtype {describe(id_dtype)} do not match, column_name: {key}")
    entries = tuple(_text(entry) if id_dtype.is_string else int(entry) for entry in vocabulary_list)
    return VocabularyListCategoricalColumn(_check_key(key), id_dtype, entries, int(default_value), int(num_oov_buckets))  # type: ignore[arg-type]


def categorical_column_with_vocabulary_file(
    key: str,
    vocabulary_file: str,
    vocabulary_size: int | None = None,
    dtype: Any = dtypes.string,
    default_value: int | None = None,
    num_oov_buckets: int = 0,
    file_format: str | None = None,
) -> VocabularyFileCategoricalColumn:
    """Ids by line of a text file. Its entries become part of the model, and an export carries the file along.

    Args:
        key: the feature's name, and the column's.
        vocabulary_file: its path; one entry a line.
        vocabulary_size: how many entries count, from the first; None counts them now.
        dtype: string or an integer type, of the feature and of the entries.
        default_value: the id of what is not in the file; None and negative ones drop it, and one behind the file is an
            error when something is not in it.
        num_oov_buckets: what is not in the file is hashed to that many ids behind it instead.
        file_format: 'tfrecord_gzip' for a gzipped TFRecord file with an entry a record, which is also what a path that
            ends in 'tfrecord.gz' means; None for text.

    Raises:
        ValueError: TF 2.15's texts. What is wrong in the file is found when the column is first used, see
            read_vocabulary.
    """
    if not vocabulary_file:
        raise ValueError(f"Missing vocabulary_file in {key}. Give the path of a file with one entry a line.")
    path = str(vocabulary_file)
    if file_format is None and path.endswith(TFRECORD_SUFFIX):
        file_format = TFRECORD_GZIP
    if file_format not in (None, TFRECORD_GZIP):
        raise ValueError(f"file_format {file_format!r} of {key} is not known; give None for text or {TFRECORD_GZIP!r}.")
    if vocabulary_size is None:
        if not Path(path).is_file():
            raise ValueError(f"vocabulary_file in {key} does not exist. There is no file {path}.")
        vocabulary_size = count_entries(path, file_format)
    if vocabulary_size < 1:
        raise ValueError(f"Invalid vocabulary_size in {key}. It is {vocabulary_size}; it counts the entries of {path}.")
    if num_oov_buckets and default_value is not None:
        raise ValueError(f"Can't specify both num_oov_buckets and default_value in {key}.")
    if num_oov_buckets and num_oov_buckets < 0:
        raise ValueError(f"Invalid num_oov_buckets {num_oov_buckets} in {key}.")
    default = -1 if default_value is None else int(default_value)
    id_dtype = _id_dtype(dtype, f"column_name: {key}")
    return VocabularyFileCategoricalColumn(
        _check_key(key), id_dtype, path, int(vocabulary_size), default, int(num_oov_buckets or 0), file_format
    )


def categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> IdentityCategoricalColumn:
    """Integers that are ids already.

    Args:
        key: the feature's name, and the column's.
        num_buckets: ids are in [0, num_buckets).
        default_value: the id of everything out of that range. Without it a negative id is dropped and one that is too
            large is an error, in training and in serving, whatever reads the column. (TF 2.15 lets an indicator give
            zeros for it.)

    Raises:
        ValueError: TF 2.15's texts.
    """
    if num_buckets < 1:
        raise ValueError(f"num_buckets {num_buckets} < 1, column_name {key}")
    if default_value is not None and not 0 <= default_value < num_buckets:
        raise ValueError(f"default_value {default_value} not in range [0, {num_buckets}), column_name {key}")
    default = None if default_value is None else int(default_value)
    return IdentityCategoricalColumn(_check_key(key), dtypes.int64, int(num_buckets), default)


def crossed_column(
    keys: Sequence[str | CategoricalColumn], hash_bucket_size: int, hash_key: int | None = None
) -> CrossedColumn:
    """Ids of every combination of several features' values, by TensorFlow's hash.

    Args:
        keys: names of features, text or integers (hashed as the number; Examples must then carry int64, not the string
            of make_parse_example_spec), and categorical columns (all but hashed ones). A cross among them counts as
            its own keys. They are hashed in this order, in training and in serving: what a model of TF 2.15 computes
            for Examples. (Fed with dense text in training TF hashes such keys last, so that serving finds other ids.)
        hash_bucket_size: the number of ids.
        hash_key: what the hash starts from; None and 0 mean TensorFlow's own.

    Raises:
        ValueError: TF 2.15's texts. A weighted column among the keys is refused when the column is first used.
    """
    if not hash_bucket_size or hash_bucket_size < 1:
        raise ValueError(f"hash_bucket_size must be > 1. hash_bucket_size: {hash_bucket_size}")
    if not keys or len(keys) < 2:
        raise ValueError(f"keys must be a list with length > 1. Given: {keys}")
    for key in keys:
        if not isinstance(key, str | CategoricalColumn):
            raise ValueError(
                "Unsupported key type. All keys must be either string, or categorical column except "
                f"HashedCategoricalColumn. Given: {key}"
            )
        if isinstance(key, HashedCategoricalColumn):
            raise ValueError(
                "categorical_column_with_hash_bucket is not supported for crossing. Hashing before crossing will "
                f"increase probability of collision. Instead, use the feature name as a string. Given: {key}"
            )
    return CrossedColumn(tuple(keys), int(hash_bucket_size), int(hash_key or HASH_KEY))


def weighted_categorical_column(
    categorical_column: CategoricalColumn, weight_feature_key: str, dtype: Any = dtypes.float32
) -> WeightedCategoricalColumn:
    """A column's ids with weights: embeddings and linear models multiply by them, an indicator adds them up.

    Args:
        categorical_column: where the ids come from.
        weight_feature_key: the feature with one weight for each id. Of a dense array 0.0 is dropped, as '' and -1 are
            of a dense array of ids; a row that then has another number of weights than of ids is an error.
        dtype: float32 or an integer type, of the weights as they are fed.

    Raises:
        ValueError: a dtype that is no number (TF 2.15's text), or a column that is not categorical or has weights.
    """
    number = None if dtype is None else dtypes.as_dtype(dtype)
    if number is None or not (_is_integer(number) or number.numpy.kind == "f"):
        raise ValueError(f"dtype {None if number is None else describe(number)} is not convertible to float.")
    if isinstance(_check_categorical(categorical_column), WeightedCategoricalColumn):
        raise ValueError(
            f"The column {categorical_column.name} has weights already; multiply the two weight features in your "
            "input_fn and give one."
        )
    return WeightedCategoricalColumn(categorical_column, weight_feature_key, number)


def indicator_column(categorical_column: CategoricalColumn) -> IndicatorColumn:
    """How often each id stands in a row: float32 [batch, num_buckets]. Raises ValueError for another kind of column."""
    return IndicatorColumn(_check_categorical(categorical_column))


def embedding_column(
    categorical_column: CategoricalColumn,
    dimension: int,
    combiner: str = "mean",
    initializer: Initializer | None = None,
    ckpt_to_load_from: str | None = None,
    tensor_name_in_ckpt: str | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
    use_safe_embedding_lookup: bool = True,
) -> EmbeddingColumn:
    """Learned vectors of a row's ids, combined to float32 [batch, dimension]; a row without ids gives zeros.

    Args:
        categorical_column: where the ids come from; weighted, each vector is multiplied by its weight.
        dimension: length of a vector, at least 1.
        combiner: 'mean' (sum of weighted vectors / sum of weights), 'sqrtn' (… / root of the sum of squared weights) or
            'sum'. Ids with a weight that is not positive are left out, but for 'sum'.
        initializer: callable (shape, generator) -> tensor; by default a normal truncated at two deviations of
            1/sqrt(dimension).
        ckpt_to_load_from: prefix of a checkpoint that this package wrote, whose variable `tensor_name_in_ckpt` the
            table starts from.
        tensor_name_in_ckpt: its name there.
        max_norm: each vector looked up is scaled down to at most this L2 norm before it is combined.
        trainable: False keeps the initial table.
        use_safe_embedding_lookup: False keeps ids whose weight is not positive.

    Raises:
        ValueError: TF 2.15's texts.
    """
    _check_embedding(dimension, combiner, initializer, ckpt_to_load_from, tensor_name_in_ckpt, categorical_column)
    checked = _check_categorical(categorical_column)
    return EmbeddingColumn(
        checked,
        dimension,
        combiner,
        initializer,
        ckpt_to_load_from,
        tensor_name_in_ckpt,
        max_norm,
        trainable,
        use_safe_embedding_lookup,
    )


def shared_embeddings(
    categorical_columns: Iterable[CategoricalColumn],
    dimension: int,
    combiner: str = "mean",
    initializer: Initializer | None = None,
    shared_embedding_collection_name: str | None = None,
    ckpt_to_load_from: str | None = None,
    tensor_name_in_ckpt: str | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
    use_safe_embedding_lookup: bool = True,
) -> list[SharedEmbeddingColumn]:
    """Embeddings of several columns by one table: a list in the columns' order. Arguments as embedding_column.

    The table is the variable `shared_embedding_collection_name`, by default the columns' sorted names joined by `_`
    with `_shared_embedding` behind.

    Raises:
        ValueError: columns of different kinds or numbers of buckets, and as embedding_column (TF 2.15's texts).
    """
    columns = list(categorical_columns)
    _check_embedding(dimension, combiner, initializer, ckpt_to_load_from, tensor_name_in_ckpt)
    _check_alike(columns)
    name = shared_embedding_collection_name or "_".join(sorted(column.name for column in columns)) + "_shared_embedding"
    return [
        SharedEmbeddingColumn(
            column,
            dimension,
            combiner,
            initializer,
            ckpt_to_load_from,
            tensor_name_in_ckpt,
            max_norm,
            trainable,
            use_safe_embedding_lookup,
            name,
            in_scope=False,
        )
        for column in columns
    ]


def shared_embedding_columns(
    categorical_columns: Iterable[CategoricalColumn], dimension: int, *arguments: Any, **named: Any
) -> list[SharedEmbeddingColumn]:
    """shared_embeddings under TF 1's name, with the table where TF 1 keeps it: `input_layer/<name>/embedding_weights`.

    Arguments and errors as shared_embeddings.
    """
    made = shared_embeddings(categorical_columns, dimension, *arguments, **named)
    return [dataclasses.replace(column, in_scope=True) for column in made]


def sequence_numeric_column(
    key: str,
    shape: int | Iterable[int] = (1,),
    default_value: float = 0.0,
    dtype: Any = dtypes.float32,
    normalizer_fn: Normalizer | None = None,
) -> SequenceNumericColumn:
    """Numbers, or blocks of numbers of `shape`, any number of them a row; `default_value` pads short rows.

    Raises:
        TypeError, ValueError: as numeric_column.
    """
    checked = numeric_column(key, shape, None, dtype, normalizer_fn)
    return SequenceNumericColumn(key, checked.shape, float(default_value), checked.dtype, normalizer_fn)


def sequence_categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> SequenceCategoricalColumn:
    """categorical_column_with_identity for a feature in which the order within a row counts."""
    return SequenceCategoricalColumn(categorical_column_with_identity(key, num_buckets, default_value))


def sequence_categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: Any = dtypes.string
) -> SequenceCategoricalColumn:
    """categorical_column_with_hash_bucket for a feature in which the order within a row counts."""
    return SequenceCategoricalColumn(categorical_column_with_hash_bucket(key, hash_bucket_size, dtype))


def sequence_categorical_column_with_vocabulary_list(
    key: str,
    vocabulary_list: Sequence[str] | Sequence[int],
    dtype: Any = None,
    default_value: int = -1,
    num_oov_buckets: int = 0,
) -> SequenceCategoricalColumn:
    """categorical_column_with_vocabulary_list for a feature in which the order within a row counts."""
    column = categorical_column_with_vocabulary_list(key, vocabulary_list, dtype, default_value, num_oov_buckets)
    return SequenceCategoricalColumn(column)


def sequence_categorical_column_with_vocabulary_file(
    key: str,
    vocabulary_file: str,
    vocabulary_size: int | None = None,
    num_oov_buckets: int = 0,
    default_value: int | None = None,
    dtype: Any = dtypes.string,
    file_format: str | None = None,
) -> SequenceCategoricalColumn:
    """categorical_column_with_vocabulary_file for a feature in which the order within a row counts."""
    column = categorical_column_with_vocabulary_file(
        key, vocabulary_file, vocabulary_size, dtype, default_value, num_oov_buckets, file_format
    )
    return SequenceCategoricalColumn(column)


def _check_embedding(
    dimension: int | None,
    combiner: str,
    initializer: Any,
    ckpt_to_load_from: str | None,
    tensor_name_in_ckpt: str | None,
    column: Any = None,
) -> None:
    if dimension is None or dimension < 1:
        raise ValueError(f"Invalid dimension {dimension}.")
    if (ckpt_to_load_from is None) != (tensor_name_in_ckpt is None):
        raise ValueError("Must specify both `ckpt_to_load_from` and `tensor_name_in_ckpt` or none of them.")
    if initializer is not None and not callable(initializer):
        of = f" Embedding of column_name: {column.name}" if column is not None else ""
        raise ValueError(f"initializer must be callable if specified.{of}")
    if combiner not in COMBINERS:
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', got {combiner}")


def _check_alike(columns: Sequence[CategoricalColumn]) -> None:
    """Shared embeddings need columns of one kind with one number of buckets."""
    if not columns:
        raise ValueError("categorical_columns is empty; give the columns that share the table.")
    for column in columns:
        if not isinstance(column, CategoricalColumn):
            raise ValueError(
                "All categorical_columns must be subclasses of CategoricalColumn. "
                f"Given: {column}, of type: {type(column)}"
            )
    first, *others = (_inner(column) for column in sorted(columns, key=lambda column: column.name))
    for other in others:
        if not isinstance(other, type(first)):
            raise ValueError(
                "To use shared_embedding_column, all categorical_columns must have the same type, or be "
                "weighted_categorical_column or sequence column of the same type. Given column: "
                f"{first} of type: {type(first)} does not match given column: {other} of type: {type(other)}"
            )
        if other.num_buckets != first.num_buckets:
            raise ValueError(
                "To use shared_embedding_column, all categorical_columns must have the same number of buckets. "
                f"Given column: {first} with buckets: {first.num_buckets} does  not match column: {other} with "
                f"buckets: {other.num_buckets}"
            )


def _inner(column: CategoricalColumn) -> CategoricalColumn:
    while isinstance(column, WeightedCategoricalColumn | SequenceCategoricalColumn):
        column = column.categorical_column
    return column


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
