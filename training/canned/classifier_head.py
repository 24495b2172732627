"""Which head a classifier has, and what canned model_fns check alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
