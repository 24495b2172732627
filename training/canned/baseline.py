"""Models that see no feature: what always giving the same answer achieves (TF 2.15)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from estimator_serving.training.canned.common import classifier_head
from estimator_serving.training.columns.features import Features
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.heads import Head, RegressionHead
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn
from estimator_serving.training.nn import initializers
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.variables import get_variable, variable_scope
from estimator_serving.training.optimizers.base import OptimizerLike, get_optimizer
from estimator_serving.training.run_config import RunConfig

LEARNING_RATE = 0.3
"""TF's learning rate for an optimizer given by name, whichever name it is."""


class BaselineClassifier(Estimator):
    """A classifier that learns how frequent each class is, and answers that for every example.

    `optimizer` is a name (learning rate 0.3), an Optimizer or a function that returns one. `n_classes` 2 gives a
    BinaryClassHead, more a MultiClassHead; `weight_column`, `label_vocabulary` and `loss_reduction` are theirs.
    ValueError as in TF 2.15.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
    ) -> None:
        head = classifier_head(n_classes, weight_column, label_vocabulary, loss_reduction)
        super().__init__(baseline_model_fn(head, optimizer), model_dir, config)


class BaselineRegressor(Estimator):
    """A regressor that learns the labels' mean, and answers that for every example. Arguments: see BaselineClassifier
    and RegressionHead."""

    def __init__(
        self,
        model_dir: str | os.PathLike[str] | None = None,
        label_dimension: int = 1,
        weight_column: WeightColumn = None,
        optimizer: OptimizerLike = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
    ) -> None:
        head = RegressionHead(label_dimension, weight_column, loss_reduction)
        super().__init__(baseline_model_fn(head, optimizer), model_dir, config)


class BaselineEstimator(Estimator):
    """One bias a logit under a head of your choice."""

    def __init__(
        self,
        head: Head,
        model_dir: str | os.PathLike[str] | None = None,
        optimizer: OptimizerLike = "Ftrl",
        config: RunConfig | None = None,
    ) -> None:
        super().__init__(baseline_model_fn(head, optimizer), model_dir, config)


def baseline_model_fn(head: Head, optimizer: OptimizerLike) -> ModelFn:
    """The model_fn of every baseline estimator."""

    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        made = get_optimizer(optimizer, LEARNING_RATE) if mode == ModeKeys.TRAIN else None
        logits = baseline_logits(features, head.logits_dimension)
        return head.create_estimator_spec(features, mode, logits, labels, optimizer=made)

    return model_fn


def baseline_logits(features: Any, units: int) -> Tensor:
    """The bias in every row: f32 [B, units]. Variable `baseline/bias`, zeros at first."""
    with variable_scope("baseline"):
        bias = get_variable("bias", (units,), initializer=initializers.zeros)
    return bias.unsqueeze(0).expand(_batch_size(features), units)


def _batch_size(features: Any) -> Any:
    if isinstance(features, Features):
        return features.batch_size
    if isinstance(features, Mapping):
        return len(next(iter(features.values())))
    return len(features)
