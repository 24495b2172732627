"""Tables between words and ids: tf.lookup's, and tf.contrib.lookup's functions.

    table = lookup.index_table_from_tensor(["no", "yes"])
    labels = table.lookup(labels)                     # text in, int64 out; -1 for a word that the table lacks

A table takes numpy arrays of text, or integers. Inside a model_fn it returns a torch tensor, elsewhere (a Dataset's
`map`, for example) an array. It is no part of an exported graph: text that a network reads goes through a column, such
as categorical_column_with_vocabulary_list.

Owns both directions. The ids, with TensorFlow's hashes of words that are not in the vocabulary, are those of the
vocabulary columns.
"""

# ruff: noqa: ARG001  (`name`: TensorFlow's names of ops change nothing here)

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.checkpoints.vocabulary_file import lines_of, read_vocabulary
from estimator_serving.training.columns.transform import Transform, build_transform
from estimator_serving.training.columns.vocabulary import (
    VocabularyColumn,
    categorical_column_with_vocabulary_file,
    categorical_column_with_vocabulary_list,
)
from estimator_serving.training.model_fn import StringPrediction
from estimator_serving.training.nn.variables import is_in_model_fn
from estimator_serving.wire import dtypes

__all__ = [
    "KeyValueTensorInitializer",
    "StaticHashTable",
    "StaticVocabularyTable",
    "TextFileIndex",
    "TextFileInitializer",
    "index_table_from_file",
    "index_table_from_tensor",
    "index_to_string_table_from_file",
    "index_to_string_table_from_tensor",
]


@dataclass(frozen=True, eq=False)
class IndexTable:
    """Words, or integers, to their places in a vocabulary.

    Attributes:
        transform: of one vocabulary column, KEY.
        default_value: the id of what is not in the vocabulary, without buckets for it.
        size: how many ids there are, with those buckets.
    """

    transform: Transform
    default_value: int
    size: int

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """The ids, int64 in the shape of the keys: an array, or a tensor inside a model_fn.

        Raises ValueError in an export, and for keys of another kind than the vocabulary's.
        """
        given = _given(keys)
        column = given.reshape(-1, 1)
        fed = {f"{_KEY}/values": column, f"{_KEY}/lengths": np.ones(len(column), np.int64)}
        (ids,) = self.transform(fed).values()
        # A batch of no keys has no ids behind the column's padding either.
        ids = np.where(ids < 0, self.default_value, ids).astype(np.int64).reshape(given.shape)
        return _returned(ids)


_KEY = "key"


def index_table_from_tensor(
    vocabulary_list: Sequence[str] | Sequence[int],
    num_oov_buckets: int = 0,
    default_value: int = -1,
    hasher_spec: None = None,
    dtype: Any = None,
    name: str | None = None,
) -> IndexTable:
    """Ids by place in a list. Other words have the id `default_value`, or one of `num_oov_buckets` behind the list.

    Raises ValueError for an empty list, for words that stand in it twice, and for another hasher than TensorFlow's fast
    one.
    """
    _check_hasher(hasher_spec)
    column = categorical_column_with_vocabulary_list(_KEY, vocabulary_list, dtype, num_oov_buckets=num_oov_buckets)
    return _table_of(column, default_value)


def index_table_from_file(
    vocabulary_file: str | os.PathLike[str],
    num_oov_buckets: int = 0,
    vocab_size: int | None = None,
    default_value: int = -1,
    hasher_spec: None = None,
    key_dtype: Any = dtypes.string,
    name: str | None = None,
) -> IndexTable:
    """As index_table_from_tensor, by line of a text file, of which the first `vocab_size` lines count."""
    _check_hasher(hasher_spec)
    column = categorical_column_with_vocabulary_file(
        _KEY,
        os.fspath(vocabulary_file),
        vocab_size,
        key_dtype,
        num_oov_buckets=num_oov_buckets or None,  # type: ignore[arg-type]
    )
    return _table_of(column, default_value)


def _table_of(column: VocabularyColumn, default_value: int) -> IndexTable:
    transform = _transform_of(column.vocabulary_list, column.num_oov_buckets)
    return IndexTable(transform, default_value, column.num_buckets)


@functools.lru_cache(maxsize=64)
def _transform_of(vocabulary: tuple[str, ...] | tuple[int, ...], num_oov_buckets: int) -> Transform:
    """Kept, because a model_fn makes its table anew in every step, and a graph takes ten times as long as a step."""
    return build_transform([categorical_column_with_vocabulary_list(_KEY, vocabulary, num_oov_buckets=num_oov_buckets)])


def _check_hasher(hasher_spec: object) -> None:
    if hasher_spec is not None:
        raise ValueError("The only hasher is TensorFlow's default, FastHashSpec: leave hasher_spec out.")


@dataclass(frozen=True)
class StringTable:
    """Places in a vocabulary to words; `default_value` is the word of an id without one."""

    vocabulary: tuple[str, ...]
    default_value: str = "UNK"

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """Of a tensor a StringPrediction, which may stand among a model_fn's predictions; of an array its words."""
        words = (*self.vocabulary, self.default_value)
        count = len(self.vocabulary)
        if isinstance(keys, Tensor):
            ids = keys.long()
            return StringPrediction(torch.where((ids >= 0) & (ids < count), ids, count), words)
        given = np.asarray(keys, np.int64)
        return np.array(words, object)[np.where((given >= 0) & (given < count), given, count)]


def index_to_string_table_from_tensor(
    vocabulary_list: Sequence[str], default_value: str = "UNK", name: str | None = None
) -> StringTable:
    """Words by place in a list."""
    return StringTable(tuple(vocabulary_list), default_value)


def index_to_string_table_from_file(
    vocabulary_file: str | os.PathLike[str],
    vocab_size: int | None = None,
    default_value: str = "UNK",
    name: str | None = None,
) -> StringTable:
    """Words by line of a text file."""
    words = read_vocabulary(os.fspath(vocabulary_file), vocab_size, None, True)
    return StringTable(tuple(str(word) for word in words), default_value)


# -- tf.lookup's classes ----------------------------------------------------------------------------------------------


class TextFileIndex:
    """What of a line is a key or a value: all of it, its number from 0, or the field of that number."""

    WHOLE_LINE = -2
    LINE_NUMBER = -1


@dataclass(frozen=True)
class KeyValueTensorInitializer:
    """A table's keys and values, one beside the other. The types are those of the values that are given."""

    keys: Sequence[Any]
    values: Sequence[Any]
    key_dtype: Any = None
    value_dtype: Any = None
    name: str | None = None

    def pairs(self) -> dict[Any, Any]:
        """Key -> value."""
        return dict(zip(_plain(self.keys), _plain(self.values), strict=True))


@dataclass(frozen=True)
class TextFileInitializer:
    """A table's keys and values from the lines of a file, by the kinds of TextFileIndex or the number of a field."""

    filename: str | os.PathLike[str]
    key_dtype: Any
    key_index: int
    value_dtype: Any
    value_index: int
    vocab_size: int | None = None
    delimiter: str = "\t"
    name: str | None = None
    value_index_offset: int = 0

    def pairs(self) -> dict[Any, Any]:
        """Key -> value."""
        lines = lines_of(Path(self.filename).read_bytes())[: self.vocab_size]
        numbered = [(number, line.removesuffix(b"\r").decode()) for number, line in enumerate(lines)]
        return dict(zip(self._column(numbered, "key"), self._column(numbered, "value"), strict=True))

    def _column(self, lines: Sequence[tuple[int, str]], side: str) -> list[Any]:
        index, dtype = getattr(self, f"{side}_index"), dtypes.as_dtype(getattr(self, f"{side}_dtype"))
        if index == TextFileIndex.LINE_NUMBER:
            return [number + self.value_index_offset * (side == "value") for number, _ in lines]
        fields = [line if index == TextFileIndex.WHOLE_LINE else line.split(self.delimiter)[index] for _, line in lines]
        return fields if dtype.is_string else np.array(fields).astype(dtype.numpy).tolist()


@dataclass(frozen=True, eq=False)
class StaticHashTable:
    """Keys to the values of an initializer; `default_value` for a key that it lacks."""

    initializer: Any
    default_value: Any
    name: str | None = None
    _pairs: dict[Any, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pairs", self.initializer.pairs())

    def size(self) -> int:
        """How many keys there are."""
        return len(self._pairs)

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """The values in the shape of the keys: an array (of text if the values are), or a tensor inside a model_fn."""
        given = _given(keys)
        found = [self._pairs.get(key, self.default_value) for key in _plain(given)]
        values = np.array(found, object if any(isinstance(value, str) for value in found) else None)
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        return _returned(values.reshape(given.shape))


def StaticVocabularyTable(  # noqa: N802 (TensorFlow's name)
    initializer: Any, num_oov_buckets: int, lookup_key_dtype: Any = None, name: str | None = None
) -> IndexTable:
    """Words to ids 0, 1, …, with `num_oov_buckets` behind them for all other words.

    Raises ValueError for an initializer whose values are not 0, 1, … in some order.
    """
    pairs = initializer.pairs()
    words = sorted(pairs, key=pairs.__getitem__)
    if [pairs[word] for word in words] != [*range(len(words))]:
        raise ValueError(
            "StaticVocabularyTable takes the ids 0, 1, … as values; use StaticHashTable for others. It was given "
            f"{sorted(pairs.values())[:10]}."
        )
    return index_table_from_tensor(words, num_oov_buckets)


# -- keys in, values out ----------------------------------------------------------------------------------------------


def _given(keys: Any) -> Array:
    if torch.compiler.is_exporting():
        raise ValueError(
            "A table is no part of an exported graph. Let the network read the feature through a column, for example "
            "categorical_column_with_vocabulary_list in an embedding_column."
        )
    return as_array(keys.numpy() if isinstance(keys, Tensor) else keys, "keys")


def _plain(values: Any) -> list[Any]:
    """Python's own values of an array or a sequence; bytes as text."""
    flat = as_array(values.numpy() if isinstance(values, Tensor) else values, "values").reshape(-1).tolist()
    return [each.decode(errors="surrogateescape") if isinstance(each, bytes) else each for each in flat]


def _returned(values: Array) -> Any:
    return torch.from_numpy(values) if is_in_model_fn() and values.dtype != object else values
