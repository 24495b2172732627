"""bucketized_column: which of several ranges a number lies in.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.training.columns.base import Arguments, CategoricalColumn, DenseColumn
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.numeric import NumericColumn
from estimator_serving.training.columns.padding import Padded


@dataclass(frozen=True)
class BucketizedColumn(DenseColumn, CategoricalColumn):
    """Dense: a one-hot of each dimension's bucket. Categorical: one id a dimension, bucket + (n + 1) * dimension."""

    source_column: NumericColumn
    boundaries: tuple[float, ...]
    marks_nothing: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"{self.source_column.name}_bucketized"

    @property
    def num_buckets(self) -> int:
        return (len(self.boundaries) + 1) * self.source_column.num_elements

    @property
    def num_elements(self) -> int:
        return self.num_buckets

    def define(self) -> Definition:
        return {"kind": "bucketized", "source": self.source_column.define(), "boundaries": list(self.boundaries)}

    def dense(self, arguments: Arguments) -> Var:
        classes = op.const(np.int64(len(self.boundaries) + 1))
        one_hot = op.one_hot(self._buckets(arguments), classes, op.const(np.array([0, 1], dtype=np.float32)))
        return op.reshape(one_hot, op.const(np.array([0, self.num_buckets], dtype=np.int64)))

    def rows(self, arguments: Arguments) -> Padded:
        """One id a dimension, the dimensions one after the other."""
        offsets = np.arange(self.source_column.num_elements, dtype=np.int64) * (len(self.boundaries) + 1)
        found = op.add(self._buckets(arguments), op.const(offsets))
        # 0 * bucket + 1, summed: a constant would not know how many rows there are.
        ones = op.add(op.mul(found, op.const(np.int64(0))), op.const(np.int64(1)))
        return Padded(found, op.reduce_sum(ones, op.const([1]), keepdims=0))

    def _buckets(self, arguments: Arguments) -> Var:
        """Int64 [batch, n]: how many boundaries x is not below, so a boundary belongs to its right and NaN to the
        last."""
        x = op.unsqueeze(self.source_column.dense(arguments), op.const([2]))
        below = op.less(x, op.const(np.array(self.boundaries, dtype=np.float32)))
        return op.reduce_sum(op.cast(op.not_(below), to=np.int64), op.const([2]), keepdims=0)


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
