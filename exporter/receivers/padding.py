"""Features with any number of values a row, in the graph: padded matrices, made of what else they come as.

Owns Padded and the nodes that make one of flat values. Knows nothing of receivers or columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v21 as op
from spox import Var


@dataclass(frozen=True, eq=False)
class Padded:
    """A feature with any number of values a row.

    Attributes:
        values: [batch, k], padded behind each row's values.
        lengths: int64[batch], how many of them count.
    """

    values: Var
    lengths: Var


def pad_rows(values: Var, row_splits: Var) -> Padded:
    """Flat values [n] whose row i is values[row_splits[i]:row_splits[i + 1]], as a padded feature.

    What stands behind a row's values is any value: only the lengths tell.
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
