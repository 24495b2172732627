"""Feature specs that hold a model's label and weight beside its columns: what training Examples carry.

Owns the two functions of the Estimator API. What a column asks of an Example is in columns.py.
Source: TF 2.15 estimator, canned/parsing_utils.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from estimator_serving.training.columns.constructors import numeric_column
from estimator_serving.training.columns.values import FeatureColumn, NumericColumn, ParseSpec, make_parse_example_spec
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature


def classifier_parse_example_spec(
    feature_columns: Iterable[FeatureColumn],
    label_key: str,
    label_dtype: Any = dtypes.int64,
    label_default: Any = None,
    weight_column: str | NumericColumn | None = None,
) -> ParseSpec:
    """The features of Examples that a classifier is trained on.

    Args:
        feature_columns: the classifier's columns.
        label_key: the feature that holds the label, one a row.
        label_dtype: int64; string for a classifier with a label_vocabulary; float32 for a binary one with soft labels.
        label_default: the label of an Example without one; None makes it required.
        weight_column: the feature that holds the row's weight, or its numeric column.

    Raises:
        ValueError: the label or the weight is a feature, too; a weight column of another kind (TF 2.15's texts).
    """
    label = FixedLenFeature((1,), label_dtype, label_default)
    return _with_label_and_weight(make_parse_example_spec(feature_columns), label_key, label, weight_column)


def regressor_parse_example_spec(
    feature_columns: Iterable[FeatureColumn],
    label_key: str,
    label_dtype: Any = dtypes.float32,
    label_default: Any = None,
    label_dimension: int = 1,
    weight_column: str | NumericColumn | None = None,
) -> ParseSpec:
    """The features of Examples that a regressor with `label_dimension` numbers a row is trained on.

    Further arguments and errors as classifier_parse_example_spec.
    """
    label = FixedLenFeature((label_dimension,), label_dtype, label_default)
    return _with_label_and_weight(make_parse_example_spec(feature_columns), label_key, label, weight_column)


def _with_label_and_weight(
    spec: ParseSpec, label_key: str, label: FixedLenFeature, weight_column: str | NumericColumn | None
) -> ParseSpec:
    if label_key in spec:
        raise ValueError(f"label should not be used as feature. label_key: {label_key}, features: {spec.keys()}")
    spec = spec | {label_key: label}
    if weight_column is None:
        return spec
    column = numeric_column(weight_column) if isinstance(weight_column, str) else weight_column
    if not isinstance(column, NumericColumn):
        raise ValueError(
            "weight_column should be an instance of tf.feature_column.numeric_column. "
            f"Given type: {type(column)} value: {column}"
        )
    if column.key in spec:
        raise ValueError(
            f"weight_column should not be used as feature. weight_column: {column.key}, features: {spec.keys()}"
        )
    return spec | column.parse_example_spec
