"""categorical_column_with_identity: integers that are ids already.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.base import Arguments, KeyedCategoricalColumn, check_key
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.padding import Padded
from estimator_serving.wire import dtypes


@dataclass(frozen=True)
class IdentityCategoricalColumn(KeyedCategoricalColumn):
    number_buckets: int
    default_value: int | None

    @property
    def num_buckets(self) -> int:
        return self.number_buckets

    def define(self) -> Definition:
        return self.define_as("identity", num_buckets=self.number_buckets, default_value=self.default_value)

    def rows(self, arguments: Arguments) -> Padded:
        read = self.read(arguments)
        if self.default_value is None:
            return read
        too_small = op.less(read.values, op.const(np.int64(0)))
        too_large = op.greater_or_equal(read.values, op.const(np.int64(self.num_buckets)))
        default = op.const(np.int64(self.default_value))
        return Padded(op.where(op.or_(too_small, too_large), default, read.values), read.lengths)

    def ids(self, arguments: Arguments) -> Var:
        found = super().ids(arguments)
        return onnx_ops.check_ids(found, self.num_buckets, self.key) if self.default_value is None else found


def categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> IdentityCategoricalColumn:
    """Integers that are ids already.

    Args:
        key: the feature's name, and the column's.
        num_buckets: ids are in [0, num_buckets).
        default_value: the id of everything out of that range. Without it a negative id is dropped and one that is too
            large is an error, in training and in serving, whatever reads the column. (In TF 2.15 an indicator gives
            zeros for it.)

    Raises:
        ValueError: TF 2.15's texts.
    """
    if num_buckets < 1:
        raise ValueError(f"num_buckets {num_buckets} < 1, column_name {key}")
    if default_value is not None and not 0 <= default_value < num_buckets:
        raise ValueError(f"default_value {default_value} not in range [0, {num_buckets}), column_name {key}")
    default = None if default_value is None else int(default_value)
    return IdentityCategoricalColumn(check_key(key), dtypes.int64, int(num_buckets), default)
