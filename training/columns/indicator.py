"""indicator_column: how often each id stands in a row.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import spox.opset.ai.onnx.v21 as op
import torch
from spox import Var

from estimator_serving.training.columns.base import (
    Arguments,
    CategoricalColumn,
    DenseOfCategoricalColumn,
    check_categorical,
)
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.nn.variables import gather_rows


@dataclass(frozen=True)
class IndicatorColumn(DenseOfCategoricalColumn):
    kind: ClassVar[str] = "indicator"

    @property
    def num_elements(self) -> int:
        return self.categorical_column.num_buckets

    def define(self) -> Definition:
        return {"kind": "indicator", "categorical": self.categorical_column.define()}

    def dense(self, arguments: Arguments) -> Var:
        found, n = arguments.once("ids", self.categorical_column), self.num_elements
        # One class more than there are: OneHot counts -1 from the end, so "nothing" falls into the last one, which is
        # cut off below.
        # Classes before places, [batch, n + 1, k]: ONNX Runtime sums a last axis 5 times as fast as a middle one.
        places = op.one_hot(found, op.const(np.int64(n + 1)), op.const(np.array([0, 1], dtype=np.float32)), axis=1)
        weights = arguments.once("weights", self.categorical_column)
        if weights is not None:
            places = op.mul(places, op.unsqueeze(weights, op.const([1])))
        counts = op.reduce_sum(places, op.const([2]), keepdims=0)
        return op.slice(counts, op.const([0]), op.const([n]), op.const([1]))

    def sequence_value(self, value: torch.Tensor, scope: str, trainable: bool) -> torch.Tensor:
        """A one-hot of each step's id; zeros for an id that is none."""
        return gather_rows(torch.eye(self.num_elements), value)


def indicator_column(categorical_column: CategoricalColumn) -> IndicatorColumn:
    """How often each id stands in a row: float32 [batch, num_buckets]. Raises ValueError for another kind of column."""
    return IndicatorColumn(check_categorical(categorical_column))
