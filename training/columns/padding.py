"""Rows of any number of values, as a padded matrix and lengths; and which entries of a dense matrix count.

Owns the nodes that drop blanks. The input pipeline puts them in front of a transform, the exporter behind a receiver:
there is no second implementation. Which blank a feature has is written in inputs.py. Knows nothing of features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import spox.opset.ai.onnx.ml.v4 as ml
import spox.opset.ai.onnx.v21 as op
from spox import Var


@dataclass(frozen=True, eq=False)
class Padded:
    """A feature, or a column's ids, with any number of values a row.

    Attributes:
        values: [batch, k], anything behind each row's values.
        lengths: int64 [batch], how many of each row count.
    """

    values: Var
    lengths: Var


def pad_dense(values: Var, blank: str | float) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one: entries equal to `blank` (NaN equals NaN) are dropped,
    the rest moves to the left.

    Source: TF 2.15 feature columns, dense categorical input.
    """
    rows = as_matrix(values)
    kept = _kept(rows, blank)
    shape = rows.unwrap_tensor().shape
    if shape is not None and shape[1] == 1:
        return Padded(rows, op.squeeze(kept, op.const([1])))
    width = op.shape(rows, start=1, end=2)
    # The columns count down, and a blank is 0: sorting moves what is kept to the front without changing its order.
    countdown = op.range(op.squeeze(width), op.const(np.int64(0)), op.const(np.int64(-1)))
    order = op.top_k(op.mul(kept, countdown), width, axis=1)[1]
    return Padded(op.gather_elements(rows, order, axis=1), op.reduce_sum(kept, op.const([1]), keepdims=False))


def pad_whole(values: Var) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one in which every entry is a value."""
    rows = as_matrix(values)
    return Padded(rows, op.expand(op.shape(rows, start=1, end=2), op.shape(rows, end=1)))


def pad_sequence(values: Var, blank: float) -> Padded:
    """A dense feature of numbers, [batch] or [batch, k], as a padded one: only entries equal to `blank` at a row's end
    are dropped."""
    rows = as_matrix(values)
    end = op.add(op.squeeze(op.shape(rows, start=1, end=2)), op.const(np.int64(1)))
    positions = op.range(op.const(np.int64(1)), end, op.const(np.int64(1)))
    # A column of zeros in front: the maximum of a row without entries is 0.
    last = op.pad(op.mul(_kept(rows, blank), positions), op.const(np.array([0, 1, 0, 0], np.int64)))
    return Padded(rows, op.reduce_max(last, op.const([1]), keepdims=False))


def as_matrix(values: Var) -> Var:
    """[batch] as [batch, 1], [batch, i, j, …] as [batch, i · j · …], a batch of 0 rows too."""
    shape = values.unwrap_tensor().shape
    return values if shape is not None and len(shape) == 2 else op.flatten(values, axis=1)


def is_within(padded: Padded) -> Var:
    """Bool [batch, k]: whether an entry stands before its row's length."""
    width = op.gather(op.shape(padded.values), op.const(1))
    positions = op.range(op.const(np.int64(0)), width, op.const(np.int64(1)))
    return op.less(positions, op.unsqueeze(padded.lengths, op.const([1])))


def _kept(rows: Var, blank: str | float) -> Var:
    """Int64 [batch, k]: 0 where an entry is the blank, 1 elsewhere."""
    element = np.dtype(rows.unwrap_tensor().dtype)
    keys = {np.dtype(str): "keys_strings", np.dtype(np.int64): "keys_int64s", np.dtype(np.float32): "keys_floats"}
    if element in keys:
        # One node instead of Equal, Not and Cast: it runs at every training step.
        one: Any = [blank]
        return ml.label_encoder(rows, values_int64s=[0], default_int64=1, **{keys[element]: one})
    is_blank = op.isnan(rows) if blank != blank else op.equal(rows, op.const(element.type(blank)))
    return op.cast(op.not_(is_blank), to=np.int64)
