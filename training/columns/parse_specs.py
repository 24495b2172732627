"""Feature specs of columns, with and without a model's label and weight: what Examples carry.

Owns the three functions of the Estimator API. What one column asks of an Example is in the file of its kind.
Source: TF 2.15 feature_column_v2; estimator, canned/parsing_utils.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from estimator_serving.training.columns.base import FeatureColumn, ParseSpec
from estimator_serving.training.columns.numeric import NumericColumn, numeric_column
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature


def make_parse_example_spec(feature_columns: Iterable[FeatureColumn]) -> ParseSpec:
    """The features an Example must carry for these columns (TF 2.15).

    Raises:
        ValueError: an item that is no column, or two columns that read one key differently.
    """
    spec: ParseSpec = {}
    for column in feature_columns:
        if not isinstance(column, FeatureColumn):
            raise ValueError(f"All feature_columns must be FeatureColumn instances. Given: {column}")
        for key, feature in column.parse_example_spec.items():
            if key in spec and spec[key] != feature:
                raise ValueError(
                    f"feature_columns contain different parse_spec for key {key}. Given {feature} and {spec[key]}"
                )
            spec[key] = feature
    return spec


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
