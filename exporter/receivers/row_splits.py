"""Flat values and row splits, as ParseExample gives sparse and ragged features -> padded features.

Owns the nodes of that. What a padded feature is, and how a dense one becomes one, is in training/columns/padding.py.
Knows nothing of receivers or columns.
"""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.training.columns.padding import Padded


def pad_rows(values: Var, row_splits: Var) -> Padded:
    """Flat values [n] whose row i is values[row_splits[i]:row_splits[i + 1]], as a padded feature.

    Any value may stand behind a row's values: only the lengths say which count.
    """
    starts = _slice(row_splits, 0, -1)
    lengths = op.sub(_slice(row_splits, 1, _END), starts)
    longest = op.reduce_max(op.concat([lengths, op.const(np.array([0], np.int64))], axis=0), keepdims=False)
    places = op.range(op.const(np.int64(0)), longest, op.const(np.int64(1)))
    wanted = op.add(op.unsqueeze(starts, op.const(np.array([1], np.int64))), places)
    last = op.sub(op.squeeze(op.shape(values)), op.const(np.int64(1)))
    return Padded(op.gather(values, op.min([wanted, last])), lengths)


def splits_of_rows(rows: Var, batch: Var) -> Var:
    """The row splits int64[batch + 1] of values whose row numbers, in order, are `rows` int64[n].

    `batch` is int64[1], how many rows there are.
    """
    ones = op.expand(op.const(np.int64(1)), op.shape(rows))
    zeros = op.expand(op.const(np.int64(0)), batch)
    lengths = op.scatter_elements(zeros, rows, ones, reduction="add")
    ends = op.cumsum(lengths, op.const(np.int64(0)))
    return op.concat([op.const(np.array([0], np.int64)), ends], axis=0)


_END = np.iinfo(np.int64).max


def _slice(values: Var, start: int, end: int) -> Var:
    return op.slice(values, op.const(np.array([start], np.int64)), op.const(np.array([end], np.int64)))
