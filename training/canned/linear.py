"""Linear models on all columns (TF 2.15)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training import summaries
from estimator_serving.training.canned.classifier_head import check_feature_dict, classifier_head
from estimator_serving.training.columns import FeatureColumn
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.feature_column import linear_model
from estimator_serving.training.heads import Head
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.losses import Reduction
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys
from estimator_serving.training.optimizers import Ftrl, Optimizer, OptimizerLike, get_optimizer
from estimator_serving.training.run_config import RunConfig
from estimator_serving.training.variables import current_store, variable_scope

LEARNING_RATE = 0.2
"""TF's learning rate for a linear model whose optimizer is given by name, whichever name it is."""


class LinearClassifier(Estimator):
    """A classifier that is linear in its columns; every kind of column is allowed, weights start at 0.

    `optimizer` is a name (learning rate 0.2), an Optimizer, a function that returns one, or None for Ftrl with
    min(0.2, 1/√columns). `sparse_combiner` ('sum', 'mean', 'sqrtn') combines the ids of one example. `weight_column`,
    `label_vocabulary` and `loss_reduction`: see Head. ValueError as in TF 2.15.
    """

    def __init__(
        self,
        feature_columns: Sequence[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike | None = "Ftrl",
        config: RunConfig | None = None,
        warm_start_from: object = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        sparse_combiner: str = "sum",
    ) -> None:
        if not feature_columns:
            raise ValueError("feature_columns must not be empty. Pass at least one column.")
        head = classifier_head(n_classes, weight_column, label_vocabulary, loss_reduction)

        def model_fn(features: Mapping[str, Any], labels: Any, mode: str) -> EstimatorSpec:
            return linear_model_fn(features, labels, mode, head, feature_columns, optimizer, sparse_combiner)

        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


def linear_model_fn(
    features: Mapping[str, Any],
    labels: Any,
    mode: str,
    head: Head,
    feature_columns: Sequence[FeatureColumn],
    optimizer: OptimizerLike | None,
    sparse_combiner: str,
) -> EstimatorSpec:
    """The model_fn of every linear estimator."""
    check_feature_dict(features)
    made = linear_optimizer(optimizer, _count(feature_columns)) if mode == ModeKeys.TRAIN else None
    with variable_scope("linear"):
        logits = linear_model(features, feature_columns, head.logits_dimension, sparse_combiner)
    if current_store().summaries is not None:
        _summarise_weights()
    return head.create_estimator_spec(features, mode, logits, labels, optimizer=made)


def linear_optimizer(optimizer: OptimizerLike | None, columns: int) -> Optimizer:
    """TF's rule for the learning rate."""
    if optimizer is None:
        return Ftrl(min(LEARNING_RATE, 1.0 / math.sqrt(columns)))
    return get_optimizer(optimizer, LEARNING_RATE)


def _count(feature_columns: Any) -> int:
    return len(feature_columns) if isinstance(feature_columns, Sequence) else 1


def _summarise_weights() -> None:
    weights: dict[str, Tensor] = {
        name: value.detach()
        for name, value in current_store().trainable_variables.items()
        if name.startswith("linear/linear_model/")
    }
    bias = weights.pop("linear/linear_model/bias_weights")
    if bias.numel() == 1:
        summaries.scalar("bias", bias.reshape(()))
    else:
        summaries.histogram("bias", bias)
    everything = torch.cat([value.reshape(-1) for value in weights.values()])
    summaries.scalar("fraction_of_zero_weights", (everything == 0).float().mean())
