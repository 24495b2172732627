"""categorical_column_with_vocabulary_list and _file: ids by an entry's place in a vocabulary.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spox.opset.ai.onnx.ml.v4 as ml
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.training.checkpoints.vocabulary_file import (
    TFRECORD_GZIP,
    TFRECORD_SUFFIX,
    count_entries,
    read_vocabulary,
)
from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.base import Arguments, KeyedCategoricalColumn, check_id_dtype, check_key
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.inputs import dtype_text
from estimator_serving.training.columns.padding import Padded
from estimator_serving.wire import dtypes


@dataclass(frozen=True)
class VocabularyListCategoricalColumn(KeyedCategoricalColumn):
    vocabulary_list: tuple[str, ...] | tuple[int, ...]
    default_value: int
    num_oov_buckets: int

    @property
    def num_buckets(self) -> int:
        return len(self.vocabulary_list) + self.num_oov_buckets

    def define(self) -> Definition:
        return _define(self, "vocabulary_list")

    def rows(self, arguments: Arguments) -> Padded:
        return _rows(self, arguments)

    def ids(self, arguments: Arguments) -> Var:
        return _checked_ids(self, super().ids(arguments))


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

    @property
    def vocabulary_files(self) -> tuple[str, ...]:
        return (self.vocabulary_file,)

    def define(self) -> Definition:
        # What the file holds, not where it lies: a copy of it is the same column.
        return _define(self, "vocabulary_file")

    def rows(self, arguments: Arguments) -> Padded:
        return _rows(self, arguments)

    def ids(self, arguments: Arguments) -> Var:
        return _checked_ids(self, super().ids(arguments))


VocabularyColumn = VocabularyListCategoricalColumn | VocabularyFileCategoricalColumn


def _define(column: VocabularyColumn, kind: str) -> Definition:
    return column.define_as(
        kind,
        vocabulary_list=list(column.vocabulary_list),
        default_value=column.default_value,
        num_oov_buckets=column.num_oov_buckets,
    )


def _rows(column: VocabularyColumn, arguments: Arguments) -> Padded:
    read = column.read(arguments)
    entries = column.vocabulary_list
    keys: dict[str, Any] = {("keys_strings" if column.dtype.is_string else "keys_int64s"): entries}
    places = list(range(len(entries)))
    found = ml.label_encoder(read.values, values_int64s=places, default_int64=column.default_value, **keys)
    if column.num_oov_buckets:
        behind = op.add(column.hash(read.values, column.num_oov_buckets), op.const(np.int64(len(entries))))
        found = op.where(op.less(found, op.const(np.int64(0))), behind, found)
    return Padded(found, read.lengths)


def _checked_ids(column: VocabularyColumn, ids: Var) -> Var:
    """The ids; the graph fails on a default that has no bucket."""
    in_range = -1 <= column.default_value < column.num_buckets
    return ids if in_range else onnx_ops.check_ids(ids, column.num_buckets, column.key)


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
    id_dtype = check_id_dtype(vocabulary.dtype, f"column_name: {key} vocabulary")
    if dtype is not None and check_id_dtype(dtype, f"column_name: {key}") != id_dtype:
        given = dtype_text(dtypes.as_dtype(dtype))
        raise ValueError(f"dtype {given} and vocabulary dtype {dtype_text(id_dtype)} do not match, column_name: {key}")
    entries: Any
    if id_dtype.is_string:
        entries = tuple(entry.decode() if isinstance(entry, bytes) else str(entry) for entry in vocabulary_list)
    else:
        entries = tuple(int(entry) for entry in vocabulary_list)
    return VocabularyListCategoricalColumn(check_key(key), id_dtype, entries, int(default_value), int(num_oov_buckets))


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
    id_dtype = check_id_dtype(dtype, f"column_name: {key}")
    return VocabularyFileCategoricalColumn(
        check_key(key), id_dtype, path, int(vocabulary_size), default, int(num_oov_buckets or 0), file_format
    )
