"""Columns -> ONNX nodes. The only place where a column is computed, in training and in serving.

Owns the arithmetic of every column: a new kind of column is one more `ids` or `dense` here and one more `define` in
definitions.py. Knows nothing of files, sessions or training.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import spox
import spox.opset.ai.onnx.ml.v4 as ml
import spox.opset.ai.onnx.v21 as op
from spox import Tensor, Var

from estimator_serving.training.columns import normalizer, onnx_ops
from estimator_serving.training.columns.definitions import (
    Dense,
    Input,
    NumericInput,
    Output,
    PaddedInput,
    SequenceInput,
    StepCount,
    Steps,
    TextInput,
    WeightInput,
    Weights,
    define,
)
from estimator_serving.training.columns.values import (
    BucketizedColumn,
    CategoricalColumn,
    CrossedColumn,
    FeatureColumn,
    HashedCategoricalColumn,
    IdentityCategoricalColumn,
    IndicatorColumn,
    KeyedCategoricalColumn,
    NumericColumn,
    SequenceCategoricalColumn,
    SequenceNumericColumn,
    VocabularyColumn,
    VocabularyFileCategoricalColumn,
    VocabularyListCategoricalColumn,
    WeightedCategoricalColumn,
)
from estimator_serving.wire import dtypes

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Rows:
    """What a categorical column finds, before anything is dropped: a cross and weights count what is unknown, too.

    Attributes:
        values: int64 [batch, k], any number for what is unknown; text where a cross reads it.
        lengths: int64 [batch], how many of each row count.
    """

    values: Var
    lengths: Var


class Arguments:
    """The graph's inputs, and what has been computed from them so far."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.by_name = {name: var for wanted in inputs for name, var in _arguments(wanted).items()}
        self._made: dict[tuple[str, str], Any] = {}

    def numeric(self, key: str) -> Var:
        return self.by_name[key]

    def padded(self, wanted: PaddedInput) -> Rows:
        values, lengths = (self.by_name[name] for name in wanted.names)
        return Rows(values, lengths)

    def rows(self, column: FeatureColumn) -> Rows:
        return self._once("rows", column, rows)

    def ids(self, column: FeatureColumn) -> Var:
        return self._once("ids", column, ids)

    def weights(self, column: WeightedCategoricalColumn) -> Var:
        return self._once("weights", column, weights)

    def _once(self, what: str, column: FeatureColumn, make: Callable[[Any, Arguments], _Value]) -> _Value:
        """Made once, however many columns use it."""
        key = (what, json.dumps(define(column), sort_keys=True))
        if key not in self._made:
            self._made[key] = make(column, self)
        made: _Value = self._made[key]
        return made


def _arguments(wanted: Input) -> dict[str, Var]:
    if isinstance(wanted, NumericInput):
        return {wanted.key: spox.argument(Tensor(np.float32, ("batch", *wanted.shape)))}
    values, lengths = wanted.names
    # A name of its own for each feature's second axis: their widths differ.
    width = f"{values.removesuffix('/values')}/k"
    return {
        values: spox.argument(Tensor(_element(wanted), ("batch", width))),
        lengths: spox.argument(Tensor(np.int64, ("batch",))),
    }


def _element(wanted: PaddedInput) -> Any:
    if isinstance(wanted, WeightInput | SequenceInput):
        return np.float32
    return np.str_ if wanted.dtype.is_string else np.int64


def compute(output: Output, arguments: Arguments) -> Var:
    """The nodes of one output, as the class of the output says."""
    if isinstance(output, Dense):
        return dense(output.column, arguments)
    if isinstance(output, Steps):
        return steps(output.column, arguments)
    if isinstance(output, StepCount):
        return step_count(output.column, arguments)
    made = arguments.weights(output.column) if isinstance(output, Weights) else arguments.ids(output.column)
    # An output is a node's own result: ids shared by two outputs would be one value under two names.
    return op.identity(made)


# ---- ids ------------------------------------------------------------------------------------------------------------


def ids(column: CategoricalColumn, arguments: Arguments) -> Var:
    """Int64 [batch, k], -1 for nothing."""
    if isinstance(column, CrossedColumn | BucketizedColumn):
        return arguments.rows(column).values
    if isinstance(column, WeightedCategoricalColumn | SequenceCategoricalColumn):
        return arguments.ids(column.categorical_column)
    found = _masked(arguments.rows(column))
    if isinstance(column, KeyedCategoricalColumn) and _may_leave_its_range(column):
        return onnx_ops.check_ids(found, column.num_buckets, column.key)
    return found


def _may_leave_its_range(column: KeyedCategoricalColumn) -> bool:
    if isinstance(column, VocabularyColumn):
        return not -1 <= column.default_value < column.num_buckets
    return isinstance(column, IdentityCategoricalColumn) and column.default_value is None


def _masked(found: Rows) -> Var:
    """The values with -1 at and behind each row's length."""
    return op.where(_is_within(found), found.values, op.const(np.int64(-1)))


def _is_within(found: Rows) -> Var:
    """Bool [batch, k]: before the row's length."""
    width = op.gather(op.shape(found.values), op.const(1))
    positions = op.range(op.const(np.int64(0)), width, op.const(np.int64(1)))
    return op.less(positions, op.unsqueeze(found.lengths, op.const([1])))


@functools.singledispatch
def rows(column: FeatureColumn, arguments: Arguments) -> Rows:  # noqa: ARG001  the signature every kind of column shares
    """What the column finds in each row."""
    raise TypeError(f"{column} has no ids.")


@rows.register
def _(column: BucketizedColumn, arguments: Arguments) -> Rows:
    """One id a dimension, the dimensions one after the other."""
    offsets = np.arange(column.source_column.num_elements, dtype=np.int64) * (len(column.boundaries) + 1)
    found = op.add(_buckets(column, arguments), op.const(offsets))
    # 0 * bucket + 1, summed: a constant would not know how many rows there are.
    ones = op.add(op.mul(found, op.const(np.int64(0))), op.const(np.int64(1)))
    return Rows(found, op.reduce_sum(ones, op.const([1]), keepdims=0))


@rows.register
def _(column: HashedCategoricalColumn, arguments: Arguments) -> Rows:
    found = _read(column, arguments)
    return Rows(_hash(_as_text(found.values, column), column.hash_bucket_size), found.lengths)


@rows.register(VocabularyListCategoricalColumn)
@rows.register(VocabularyFileCategoricalColumn)
def _(column: VocabularyColumn, arguments: Arguments) -> Rows:
    read = _read(column, arguments)
    entries = column.vocabulary_list
    found = _look_up(read.values, column, entries)
    if column.num_oov_buckets:
        hashed = _hash(_as_text(read.values, column), column.num_oov_buckets)
        behind = op.add(hashed, op.const(np.int64(len(entries))))
        found = op.where(op.less(found, op.const(np.int64(0))), behind, found)
    return Rows(found, read.lengths)


@rows.register
def _(column: IdentityCategoricalColumn, arguments: Arguments) -> Rows:
    read = _read(column, arguments)
    if column.default_value is None:
        return read
    too_small = op.less(read.values, op.const(np.int64(0)))
    too_large = op.greater_or_equal(read.values, op.const(np.int64(column.num_buckets)))
    default = op.const(np.int64(column.default_value))
    return Rows(op.where(op.or_(too_small, too_large), default, read.values), read.lengths)


@rows.register
def _(column: CrossedColumn, arguments: Arguments) -> Rows:
    keys = [_leaf(leaf, arguments) for leaf in column.leaves]
    pairs = [(key.values, key.lengths) for key in keys]
    found = onnx_ops.cross_hash(pairs, column.hash_bucket_size, column.hash_key)
    is_id = op.cast(op.greater_or_equal(found, op.const(np.int64(0))), to=np.int64)
    return Rows(found, op.reduce_sum(is_id, op.const([1]), keepdims=0))


@rows.register(WeightedCategoricalColumn)
@rows.register(SequenceCategoricalColumn)
def _(column: WeightedCategoricalColumn | SequenceCategoricalColumn, arguments: Arguments) -> Rows:
    return arguments.rows(column.categorical_column)


def weights(column: WeightedCategoricalColumn, arguments: Arguments) -> Var:
    """Float32 [batch, k], beside the ids; 0 behind them."""
    found = arguments.rows(column.categorical_column)
    given = arguments.padded(WeightInput(column.weight_feature_key, column.dtype))
    return onnx_ops.align_weights(
        (found.values, found.lengths), (given.values, given.lengths), column.weight_feature_key
    )


def _leaf(leaf: str | CategoricalColumn, arguments: Arguments) -> Rows:
    return arguments.padded(TextInput(leaf, dtypes.string)) if isinstance(leaf, str) else arguments.rows(leaf)


def _read(column: KeyedCategoricalColumn, arguments: Arguments) -> Rows:
    return arguments.padded(PaddedInput(column.key, column.dtype))


def _as_text(values: Var, column: KeyedCategoricalColumn) -> Var:
    return values if column.dtype.is_string else op.cast(values, to=np.str_)


def _look_up(values: Var, column: VocabularyColumn, entries: tuple[Any, ...]) -> Var:
    keys: dict[str, Any] = {("keys_strings" if column.dtype.is_string else "keys_int64s"): entries}
    places = list(range(len(entries)))
    return ml.label_encoder(values, values_int64s=places, default_int64=column.default_value, **keys)


def _hash(text: Var, buckets: int) -> Var:
    """Unsigned 64-bit modulo: half of all fingerprints are negative as int64."""
    return op.cast(op.mod(onnx_ops.fingerprint64(text), op.const(np.uint64(buckets))), to=np.int64)


def _buckets(column: BucketizedColumn, arguments: Arguments) -> Var:
    """Int64 [batch, n]: how many boundaries x is not below, so a boundary belongs to its right and NaN to the last."""
    x = op.unsqueeze(dense(column.source_column, arguments), op.const([2]))
    below = op.less(x, op.const(np.array(column.boundaries, dtype=np.float32)))
    return op.reduce_sum(op.cast(op.not_(below), to=np.int64), op.const([2]), keepdims=0)


# ---- sequences -----------------------------------------------------------------------------------------------------


def steps(column: SequenceNumericColumn, arguments: Arguments) -> Var:
    """Float32 [batch, steps, n]: each row's numbers, the default behind them."""
    given = arguments.padded(SequenceInput(column.key, column.dtype))
    numbers = _normalized(given.values, column)
    default = op.const(np.float32(column.default_value))
    filled = op.where(_is_within(given), numbers, default)
    n = op.const(np.array([math.prod(column.shape)], dtype=np.int64))
    shape = op.concat([op.shape(filled, end=1), op.div(op.shape(filled, start=1), n), n], axis=0)
    return op.reshape(filled, shape, allowzero=True)


def _normalized(values: Var, column: SequenceNumericColumn) -> Var:
    """The function sees each step as numeric_column's sees a row."""
    if column.normalizer_fn is None:
        return values
    every = op.reshape(values, op.const(np.array([-1, *column.shape], dtype=np.int64)))
    (every,) = spox.inline(normalizer.trace(column).model)(every).values()
    return op.reshape(op.cast(every, to=np.float32), op.shape(values), allowzero=True)


def step_count(column: SequenceCategoricalColumn | SequenceNumericColumn, arguments: Arguments) -> Var:
    """Int64 [batch]."""
    if isinstance(column, SequenceCategoricalColumn):
        return op.identity(arguments.rows(column).lengths)
    n = math.prod(column.shape)
    lengths = arguments.padded(SequenceInput(column.key, column.dtype)).lengths
    return op.div(op.add(lengths, op.const(np.int64(n - 1))), op.const(np.int64(n)))


# ---- dense values ---------------------------------------------------------------------------------------------------


@functools.singledispatch
def dense(column: FeatureColumn, arguments: Arguments) -> Var:  # noqa: ARG001  the signature every kind shares
    """Float32 [batch, column.num_elements]."""
    raise TypeError(f"{column} has no dense values.")


@dense.register
def _(column: NumericColumn, arguments: Arguments) -> Var:
    x = arguments.numeric(column.key)
    if column.normalizer_fn is not None:
        (x,) = spox.inline(normalizer.trace(column).model)(x).values()
        x = op.cast(x, to=np.float32) if x.unwrap_tensor().dtype != np.float32 else x
    # 0 keeps the batch axis, which -1 could not infer for a batch of 0 rows.
    return op.reshape(x, op.const(np.array([0, column.num_elements], dtype=np.int64)))


@dense.register
def _(column: BucketizedColumn, arguments: Arguments) -> Var:
    buckets = len(column.boundaries) + 1
    one_hot = _one_hot(_buckets(column, arguments), buckets)
    return op.reshape(one_hot, op.const(np.array([0, column.num_buckets], dtype=np.int64)))


@dense.register
def _(column: IndicatorColumn, arguments: Arguments) -> Var:
    found = arguments.ids(column.categorical_column)
    # One class more than there are: OneHot counts -1 from the end, so "nothing" falls into the last one, cut off below.
    # Classes before places, [batch, n + 1, k]: ONNX Runtime sums a last axis 5 times as fast as a middle one.
    places = _one_hot(found, column.num_elements + 1, axis=1)
    if isinstance(column.categorical_column, WeightedCategoricalColumn):
        places = op.mul(places, op.unsqueeze(arguments.weights(column.categorical_column), op.const([1])))
    counts = op.reduce_sum(places, op.const([2]), keepdims=0)
    return op.slice(counts, op.const([0]), op.const([column.num_elements]), op.const([1]))


def _one_hot(found: Var, classes: int, axis: int = -1) -> Var:
    return op.one_hot(found, op.const(np.int64(classes)), op.const(np.array([0, 1], dtype=np.float32)), axis=axis)
