"""What the families share: which head a classifier has, and the checks of features and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from estimator_serving.training.columns import FeatureColumn
from estimator_serving.training.heads import BinaryClassHead, Head, MultiClassHead
from estimator_serving.training.heads.base import WeightColumn


def classifier_head(
    n_classes: int, weight_column: WeightColumn, label_vocabulary: Sequence[str] | None, loss_reduction: str
) -> Head:
    """One logit for two classes, n for more. ValueError for fewer than two."""
    if n_classes == 2:
        return BinaryClassHead(weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction)
    return MultiClassHead(n_classes, weight_column, label_vocabulary, loss_reduction)


def check_feature_dict(features: Any) -> None:
    """Canned estimators read columns, so their features have names."""
    if not isinstance(features, Mapping):
        raise ValueError(
            f"features should be a dictionary of `Tensor`s. Given type: {type(features)}. "
            "Let input_fn return ({name: array}, labels)."
        )


def listed(feature_columns: Iterable[FeatureColumn] | FeatureColumn | None) -> tuple[FeatureColumn, ...]:
    """The columns as a tuple: one column alone and generators are taken too, as TF does."""
    if feature_columns is None:
        return ()
    return tuple(feature_columns) if isinstance(feature_columns, Iterable) else (feature_columns,)
