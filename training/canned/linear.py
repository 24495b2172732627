"""Linear models on columns of every kind (TF 2.15).

Owns their optimizers' learning rates and their summaries. The head knows what the logits mean.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.canned.common import check_feature_dict, classifier_head, listed, replayed
from estimator_serving.training.checkpoints.warm_start import WarmStartFrom
from estimator_serving.training.columns.base import FeatureColumn
from estimator_serving.training.columns.layers import linear_model
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.heads import Head, RegressionHead
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn
from estimator_serving.training.nn import summaries
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.variables import current_store, variable_scope
from estimator_serving.training.optimizers import Ftrl, Optimizer, OptimizerLike, get_optimizer
from estimator_serving.training.run_config import RunConfig

LEARNING_RATE = 0.2
"""TF's learning rate for a linear model whose optimizer is given by any name."""


class LinearClassifier(Estimator):
    """A classifier that is linear in its columns. Every kind of column is allowed; weights start at 0.

    `optimizer` is a name (learning rate 0.2), an Optimizer, a function that returns one, or None for Ftrl with
    min(0.2, 1/√columns). `sparse_combiner` ('sum', 'mean', 'sqrtn') combines the ids of one example. `n_classes` 2
    gives a BinaryClassHead, more a MultiClassHead; `weight_column`, `label_vocabulary` and `loss_reduction` are the
    head's. Raises ValueError as TF 2.15 does.
    """

    def __init__(
        self,
        feature_columns: Iterable[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike | None = "Ftrl",
        config: RunConfig | None = None,
        warm_start_from: WarmStartFrom | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        sparse_combiner: str = "sum",
    ) -> None:
        head = classifier_head(n_classes, weight_column, label_vocabulary, loss_reduction)
        model = LinearSum(_required(feature_columns), sparse_combiner)
        model_fn = replayed(linear_model_fn(head, model, optimizer), [optimizer], weight_column)
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class LinearRegressor(Estimator):
    """A sum of columns as in LinearClassifier under a RegressionHead: `label_dimension` numbers an example."""

    def __init__(
        self,
        feature_columns: Iterable[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        label_dimension: int = 1,
        weight_column: WeightColumn = None,
        optimizer: OptimizerLike | None = "Ftrl",
        config: RunConfig | None = None,
        warm_start_from: WarmStartFrom | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        sparse_combiner: str = "sum",
    ) -> None:
        head = RegressionHead(label_dimension, weight_column, loss_reduction)
        model = LinearSum(_required(feature_columns), sparse_combiner)
        model_fn = replayed(linear_model_fn(head, model, optimizer), [optimizer], weight_column)
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class LinearEstimator(Estimator):
    """A sum of columns as in LinearClassifier under a head of your choice."""

    def __init__(
        self,
        head: Head,
        feature_columns: Iterable[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        optimizer: OptimizerLike | None = "Ftrl",
        config: RunConfig | None = None,
        sparse_combiner: str = "sum",
        warm_start_from: WarmStartFrom | None = None,
    ) -> None:
        model = LinearSum(_required(feature_columns), sparse_combiner)
        super().__init__(linear_model_fn(head, model, optimizer), model_dir, config, warm_start_from=warm_start_from)


def linear_model_fn(head: Head, model: LinearSum, optimizer: OptimizerLike | None) -> ModelFn:
    """The model_fn of every linear estimator."""

    def model_fn(features: Mapping[str, Any], labels: Any, mode: str) -> EstimatorSpec:
        check_feature_dict(features)
        made = linear_optimizer(optimizer, len(model.feature_columns)) if mode == ModeKeys.TRAIN else None
        logits = model.logits(features, head.logits_dimension)
        return head.create_estimator_spec(features, mode, logits, labels, optimizer=made)

    return model_fn


def linear_optimizer(optimizer: OptimizerLike | None, columns: int) -> Optimizer:
    """The optimizer with TF's learning rate for a name and for None; see LinearClassifier."""
    if optimizer is None:
        return Ftrl(min(LEARNING_RATE, 1.0 / math.sqrt(columns)))
    return get_optimizer(optimizer, LEARNING_RATE)


@dataclass(frozen=True)
class LinearSum:
    """A bias and a weighted sum of columns. Variables under `linear/` with TF's names."""

    feature_columns: tuple[FeatureColumn, ...]
    sparse_combiner: str

    def logits(self, features: Mapping[str, Any], units: int) -> Tensor:
        """Logits f32 [B, units]."""
        with variable_scope("linear"):
            logits = linear_model(features, self.feature_columns, units, self.sparse_combiner)
        store = current_store()
        if store.summaries is not None:
            prefix = "linear/linear_model/"
            weights = {name: w.detach() for name, w in store.trainable_variables.items() if name.startswith(prefix)}
            bias = weights.pop(f"{prefix}bias_weights")
            if bias.numel() == 1:
                summaries.scalar("bias", bias.reshape(()))
            else:
                summaries.histogram("bias", bias)
            everything = torch.cat([value.reshape(-1) for value in weights.values()])
            summaries.scalar("fraction_of_zero_weights", (everything == 0).float().mean())
        return logits


def _required(feature_columns: Iterable[FeatureColumn]) -> tuple[FeatureColumn, ...]:
    columns = listed(feature_columns)
    if not columns:
        raise ValueError("feature_columns must not be empty. Pass at least one column.")
    return columns
