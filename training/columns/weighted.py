"""weighted_categorical_column: another column's ids, each with a weight.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spox import Var

from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.base import (
    Arguments,
    CategoricalColumn,
    Ids,
    Output,
    ParseSpec,
    Weights,
    WrappedIds,
    check_categorical,
)
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.inputs import WeightInput, dtype_text
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import VarLenFeature


@dataclass(frozen=True)
class WeightedCategoricalColumn(WrappedIds, CategoricalColumn):
    """The ids of another column, each with a weight that a second feature gives."""

    categorical_column: CategoricalColumn
    weight_feature_key: str
    dtype: DType

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_weighted_by_{self.weight_feature_key}"

    @property
    def parse_example_spec(self) -> ParseSpec:
        spec = super().parse_example_spec
        if self.weight_feature_key in spec:
            raise ValueError(
                f"Parse config {spec[self.weight_feature_key]} already exists for {self.weight_feature_key}. "
                "Give the weights a feature of their own."
            )
        return spec | {self.weight_feature_key: VarLenFeature(self.dtype)}

    @property
    def id_outputs(self) -> tuple[Output, ...]:
        return (Ids(self), Weights(self))

    def define(self) -> Definition:
        weight = {"kind": "weight", "key": self.weight_feature_key, "dtype": self.dtype.name}
        return {"kind": "weighted", "categorical": self.categorical_column.define(), "weight": weight}

    def weights(self, arguments: Arguments) -> Var:
        found = arguments.rows(self.categorical_column)
        given = arguments.padded(WeightInput(self.weight_feature_key, self.dtype))
        return onnx_ops.align_weights(
            (found.values, found.lengths), (given.values, given.lengths), self.weight_feature_key
        )


def weighted_categorical_column(
    categorical_column: CategoricalColumn, weight_feature_key: str, dtype: Any = dtypes.float32
) -> WeightedCategoricalColumn:
    """A column's ids with weights: embeddings and linear models multiply by them, an indicator adds them up.

    Args:
        categorical_column: where the ids come from.
        weight_feature_key: the feature with one weight for each id. 0.0 is dropped from a dense array, as '' and -1 are
            from a dense array of ids; a row that then has another number of weights than of ids is an error.
        dtype: float32 or an integer type, of the weights as they are fed.

    Raises:
        ValueError: a dtype that is no number (TF 2.15's text), or a column that is not categorical or has weights.
    """
    number = None if dtype is None else dtypes.as_dtype(dtype)
    if number is None or number.numpy.kind not in "iuf":
        raise ValueError(f"dtype {None if number is None else dtype_text(number)} is not convertible to float.")
    if isinstance(check_categorical(categorical_column), WeightedCategoricalColumn):
        raise ValueError(
            f"The column {categorical_column.name} has weights already; multiply the two weight features in your "
            "input_fn and give one."
        )
    return WeightedCategoricalColumn(categorical_column, weight_feature_key, number)
