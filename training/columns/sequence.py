"""sequence_numeric_column and sequence_categorical_column_with_*: features in which the order within a row counts.

Source of rules and texts: TF 2.15 feature_column_v2, sequence_feature_column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.training.columns import normalizer
from estimator_serving.training.columns.base import (
    Arguments,
    CategoricalColumn,
    FeatureColumn,
    KeyedCategoricalColumn,
    Output,
    ParseSpec,
    StepCount,
    Steps,
    WrappedIds,
)
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.hash_bucket import categorical_column_with_hash_bucket
from estimator_serving.training.columns.identity import categorical_column_with_identity
from estimator_serving.training.columns.inputs import SequenceInput
from estimator_serving.training.columns.numeric import numeric_column
from estimator_serving.training.columns.padding import is_within
from estimator_serving.training.columns.vocabulary import (
    categorical_column_with_vocabulary_file,
    categorical_column_with_vocabulary_list,
)
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import VarLenFeature


@dataclass(frozen=True)
class SequenceCategoricalColumn(WrappedIds, CategoricalColumn):
    """Another column's ids, in which the order within a row counts."""

    categorical_column: KeyedCategoricalColumn
    is_sequence: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.categorical_column.name

    def define(self) -> Definition:
        return self.categorical_column.define()

    def step_count(self, arguments: Arguments) -> Var:
        return op.identity(arguments.rows(self).lengths)


@dataclass(frozen=True)
class SequenceNumericColumn(FeatureColumn):
    """A sequence of numbers, or of blocks of numbers, of any length a row."""

    key: str
    shape: tuple[int, ...]
    default_value: float
    dtype: DType
    normalizer_fn: normalizer.Normalizer | None

    @property
    def name(self) -> str:
        return self.key

    @property
    def parse_example_spec(self) -> ParseSpec:
        return {self.key: VarLenFeature(self.dtype)}

    @property
    def sequence_outputs(self) -> tuple[Output, ...]:
        return (Steps(self), StepCount(self))

    def define(self) -> Definition:
        return {
            "kind": "sequence_numeric",
            "key": self.key,
            "dtype": self.dtype.name,
            "shape": list(self.shape),
            "default_value": self.default_value,
            "normalizer": None if self.normalizer_fn is None else normalizer.trace(self).definition,
        }

    def steps(self, arguments: Arguments) -> Var:
        """The nodes that compute float32 [batch, steps, n]: each row's numbers, the default behind them."""
        given = arguments.padded(SequenceInput(self.key, self.dtype))
        numbers = given.values
        if self.normalizer_fn is not None:
            # The function sees each step as numeric_column's sees a row.
            every = op.reshape(numbers, op.const(np.array([-1, *self.shape], dtype=np.int64)))
            (every,) = spox.inline(normalizer.trace(self).model)(every).values()
            numbers = op.reshape(op.cast(every, to=np.float32), op.shape(numbers), allowzero=True)
        filled = op.where(is_within(given), numbers, op.const(np.float32(self.default_value)))
        n = op.const(np.array([math.prod(self.shape)], dtype=np.int64))
        shape = op.concat([op.shape(filled, end=1), op.div(op.shape(filled, start=1), n), n], axis=0)
        return op.reshape(filled, shape, allowzero=True)

    def step_count(self, arguments: Arguments) -> Var:
        n = math.prod(self.shape)
        lengths = arguments.padded(SequenceInput(self.key, self.dtype)).lengths
        return op.div(op.add(lengths, op.const(np.int64(n - 1))), op.const(np.int64(n)))


def sequence_numeric_column(
    key: str,
    shape: int | Iterable[int] = (1,),
    default_value: float = 0.0,
    dtype: Any = dtypes.float32,
    normalizer_fn: normalizer.Normalizer | None = None,
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
