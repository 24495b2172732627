"""Columns -> ONNX nodes. The only place where a column is computed, in training and in serving.

Owns the arithmetic of every column: a new kind of column is one more `ids` or `dense` here and one more `define` in
definitions.py. Knows nothing of files, sessions or training.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import spox
import spox.opset.ai.onnx.ml.v4 as ml
import spox.opset.ai.onnx.v21 as op
from spox import Tensor, Var

from estimator_serving.training import normalizer, onnx_ops
from estimator_serving.training.columns import (
    BucketizedColumn,
    FeatureColumn,
    HashedCategoricalColumn,
    IndicatorColumn,
    NumericColumn,
    VocabularyListCategoricalColumn,
)
from estimator_serving.training.definitions import CategoricalInput, Dense, Input, NumericInput, Output, define


class Arguments:
    """The graph's inputs, and what has been computed from them so far."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.by_name = {name: var for wanted in inputs for name, var in _arguments(wanted).items()}
        self._ids: dict[str, Var] = {}

    def numeric(self, key: str) -> Var:
        return self.by_name[key]

    def values(self, key: str) -> Var:
        return self.by_name[f"{key}/values"]

    def mask(self, key: str, ids: Var) -> Var:
        """`ids` [batch, k] with -1 at and behind each row's length."""
        width = op.gather(op.shape(ids), op.const(1))
        positions = op.range(op.const(np.int64(0)), width, op.const(np.int64(1)))
        lengths = op.unsqueeze(self.by_name[f"{key}/lengths"], op.const([1]))
        return op.where(op.less(positions, lengths), ids, op.const(np.int64(-1)))

    def ids(self, column: FeatureColumn) -> Var:
        """The column's ids, computed once however many columns use them."""
        key = json.dumps(define(column), sort_keys=True)
        if key not in self._ids:
            self._ids[key] = ids(column, self)
        return self._ids[key]


def _arguments(wanted: Input) -> dict[str, Var]:
    if isinstance(wanted, NumericInput):
        return {wanted.key: spox.argument(Tensor(np.float32, ("batch", *wanted.shape)))}
    values, lengths = wanted.names
    element = np.str_ if wanted.dtype.is_string else np.int64
    return {
        values: spox.argument(Tensor(element, ("batch", _width(wanted)))),
        lengths: spox.argument(Tensor(np.int64, ("batch",))),
    }


def _width(wanted: CategoricalInput) -> str:
    """A name of its own for each feature's second axis: their widths differ."""
    return f"{wanted.key}/k"


def compute(output: Output, arguments: Arguments) -> Var:
    """The nodes of one output: float32 [batch, n] for Dense, int64 [batch, k] for Ids."""
    if isinstance(output, Dense):
        return dense(output.column, arguments)
    # An output is a node's own result: ids shared by two outputs would be one value under two names.
    return op.identity(arguments.ids(output.column))


@functools.singledispatch
def ids(column: FeatureColumn, arguments: Arguments) -> Var:  # noqa: ARG001  the signature every kind of column shares
    """Int64 [batch, k], -1 for nothing."""
    raise TypeError(f"{column} has no ids.")


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
    counts = op.reduce_sum(_one_hot(found, column.num_elements + 1, axis=1), op.const([2]), keepdims=0)
    return op.slice(counts, op.const([0]), op.const([column.num_elements]), op.const([1]))


@ids.register
def _(column: BucketizedColumn, arguments: Arguments) -> Var:
    """One id a dimension, the dimensions one after the other."""
    offsets = np.arange(column.source_column.num_elements, dtype=np.int64) * (len(column.boundaries) + 1)
    return op.add(_buckets(column, arguments), op.const(offsets))


@ids.register
def _(column: HashedCategoricalColumn, arguments: Arguments) -> Var:
    values = arguments.values(column.key)
    text = values if column.dtype.is_string else op.cast(values, to=np.str_)
    return arguments.mask(column.key, _hash(text, column.hash_bucket_size))


@ids.register
def _(column: VocabularyListCategoricalColumn, arguments: Arguments) -> Var:
    values = arguments.values(column.key)
    found = _look_up(values, column)
    if column.num_oov_buckets:
        text = values if column.dtype.is_string else op.cast(values, to=np.str_)
        hashed = op.add(_hash(text, column.num_oov_buckets), op.const(np.int64(len(column.vocabulary_list))))
        found = op.where(op.less(found, op.const(np.int64(0))), hashed, found)
    return arguments.mask(column.key, found)


def _look_up(values: Var, column: VocabularyListCategoricalColumn) -> Var:
    places = list(range(len(column.vocabulary_list)))
    keys: dict[str, Any] = {("keys_strings" if column.dtype.is_string else "keys_int64s"): column.vocabulary_list}
    return ml.label_encoder(values, values_int64s=places, default_int64=column.default_value, **keys)


def _hash(text: Var, buckets: int) -> Var:
    """Unsigned 64-bit modulo: half of all fingerprints are negative as int64."""
    return op.cast(op.mod(onnx_ops.fingerprint64(text), op.const(np.uint64(buckets))), to=np.int64)


def _buckets(column: BucketizedColumn, arguments: Arguments) -> Var:
    """Int64 [batch, n]: how many boundaries x is not below, so a boundary belongs to its right and NaN to the last."""
    x = op.unsqueeze(dense(column.source_column, arguments), op.const([2]))
    below = op.less(x, op.const(np.array(column.boundaries, dtype=np.float32)))
    return op.reduce_sum(op.cast(op.not_(below), to=np.int64), op.const([2]), keepdims=0)


def _one_hot(found: Var, classes: int, axis: int = -1) -> Var:
    return op.one_hot(found, op.const(np.int64(classes)), op.const(np.array([0, 1], dtype=np.float32)), axis=axis)
