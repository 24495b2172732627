"""Wide and deep: a linear model and a deep network whose logits are added, each with its own optimizer (TF 2.15)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.canned.common import check_feature_dict, classifier_head, listed, replayed
from estimator_serving.training.canned.dnn import Activation, DeepNetwork, summarise_activation
from estimator_serving.training.canned.linear import LinearSum
from estimator_serving.training.checkpoints.warm_start import WarmStartFrom
from estimator_serving.training.columns.values import FeatureColumn
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.heads import Head, RegressionHead
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.variables import current_store
from estimator_serving.training.optimizers.base import Optimizer, OptimizerLike, TrainOp, get_optimizer, group
from estimator_serving.training.run_config import RunConfig

DNN_LEARNING_RATE = 0.001
LINEAR_LEARNING_RATE_MAX = 0.005
"""TF's learning rates for optimizers given by name: 0.001, and min(0.005, 1/√columns) for the linear part."""


class DNNLinearCombinedClassifier(Estimator):
    """A classifier whose logits are those of a LinearClassifier plus those of a DNNClassifier, trained together.

    Either part may be left out. Arguments with `linear_` and `dnn_` are those of the two classifiers; optimizers given
    by name have learning rate min(0.005, 1/√linear columns) and 0.001. ValueError as in TF 2.15.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str] | None = None,
        linear_feature_columns: Iterable[FeatureColumn] | None = None,
        linear_optimizer: OptimizerLike = "Ftrl",
        dnn_feature_columns: Iterable[FeatureColumn] | None = None,
        dnn_optimizer: OptimizerLike = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Activation | None = torch.relu,
        dnn_dropout: float | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        config: RunConfig | None = None,
        warm_start_from: WarmStartFrom | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        head = classifier_head(n_classes, weight_column, label_vocabulary, loss_reduction)
        linear = _linear_part(linear_feature_columns, linear_optimizer, linear_sparse_combiner)
        dnn = _dnn_part(
            dnn_feature_columns, dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, batch_norm
        )
        model_fn = replayed(
            combined_model_fn(head, dnn, linear), [linear_optimizer, dnn_optimizer], weight_column, dnn_activation_fn
        )
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class DNNLinearCombinedRegressor(Estimator):
    """The sum of a linear model and a deep network, as in DNNLinearCombinedClassifier, under a RegressionHead."""

    def __init__(
        self,
        model_dir: str | os.PathLike[str] | None = None,
        linear_feature_columns: Iterable[FeatureColumn] | None = None,
        linear_optimizer: OptimizerLike = "Ftrl",
        dnn_feature_columns: Iterable[FeatureColumn] | None = None,
        dnn_optimizer: OptimizerLike = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Activation | None = torch.relu,
        dnn_dropout: float | None = None,
        label_dimension: int = 1,
        weight_column: WeightColumn = None,
        config: RunConfig | None = None,
        warm_start_from: WarmStartFrom | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        head = RegressionHead(label_dimension, weight_column, loss_reduction)
        linear = _linear_part(linear_feature_columns, linear_optimizer, linear_sparse_combiner)
        dnn = _dnn_part(
            dnn_feature_columns, dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, batch_norm
        )
        model_fn = replayed(
            combined_model_fn(head, dnn, linear), [linear_optimizer, dnn_optimizer], weight_column, dnn_activation_fn
        )
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class DNNLinearCombinedEstimator(Estimator):
    """The sum of a linear model and a deep network, as in DNNLinearCombinedClassifier, under a head of your choice."""

    def __init__(
        self,
        head: Head,
        model_dir: str | os.PathLike[str] | None = None,
        linear_feature_columns: Iterable[FeatureColumn] | None = None,
        linear_optimizer: OptimizerLike = "Ftrl",
        dnn_feature_columns: Iterable[FeatureColumn] | None = None,
        dnn_optimizer: OptimizerLike = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Activation | None = torch.relu,
        dnn_dropout: float | None = None,
        config: RunConfig | None = None,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        linear = _linear_part(linear_feature_columns, linear_optimizer, linear_sparse_combiner)
        dnn = _dnn_part(
            dnn_feature_columns, dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, batch_norm
        )
        super().__init__(combined_model_fn(head, dnn, linear), model_dir, config)


@dataclass(frozen=True)
class Part:
    """One of the two models: its logits, and what trains its variables.

    Attributes:
        logits: from features, units and whether it is training, to f32 [B, units].
        scope: what the names of its variables begin with.
        optimizer, learning_rate: see get_optimizer.
    """

    logits: Callable[[Mapping[str, Any], int, bool], Tensor]
    scope: str
    optimizer: OptimizerLike
    learning_rate: float

    def make_optimizer(self) -> Optimizer:
        return get_optimizer(self.optimizer, self.learning_rate)

    def minimize(self, optimizer: Optimizer, loss: Tensor) -> TrainOp:
        """The step over this part's own variables."""
        variables = current_store().trainable_variables
        return optimizer.minimize(loss, var_list=[v for name, v in variables.items() if name.startswith(self.scope)])


def combined_model_fn(head: Head, dnn: Part | None, linear: Part | None) -> ModelFn:
    """The model_fn of every combined estimator. Raises ValueError without either part."""
    parts = [part for part in (dnn, linear) if part is not None]
    if not parts:
        raise ValueError("Either linear_feature_columns or dnn_feature_columns must be defined.")

    def model_fn(features: Mapping[str, Any], labels: Any, mode: str) -> EstimatorSpec:
        check_feature_dict(features)
        training = mode == ModeKeys.TRAIN
        optimizers = [part.make_optimizer() for part in parts] if training else []
        logits = [part.logits(features, head.logits_dimension, training) for part in parts]

        def train_op_fn(loss: Tensor) -> TrainOp:
            # The deep part first: of two optimizers of one class the linear one's slots are `training/<class>_1/…`.
            return group(*(part.minimize(made, loss) for part, made in zip(parts, optimizers, strict=True)))

        together = logits[0] if len(logits) == 1 else logits[0] + logits[1]
        return head.create_estimator_spec(features, mode, together, labels, train_op_fn=train_op_fn)

    return model_fn


def _dnn_part(
    feature_columns: Iterable[FeatureColumn] | None,
    optimizer: OptimizerLike,
    hidden_units: Sequence[int] | None,
    activation_fn: Activation | None,
    dropout: float | None,
    batch_norm: bool,
) -> Part | None:
    columns = listed(feature_columns)
    if not columns:
        return None
    if not hidden_units:
        raise ValueError(
            "dnn_hidden_units must be defined when dnn_feature_columns is specified. [16] is one layer of 16 units."
        )
    network = DeepNetwork(hidden_units, columns, activation_fn, dropout, batch_norm)
    return Part(network.logits, "dnn/", optimizer, DNN_LEARNING_RATE)


def _linear_part(
    feature_columns: Iterable[FeatureColumn] | None, optimizer: OptimizerLike, sparse_combiner: str
) -> Part | None:
    columns = listed(feature_columns)
    if not columns:
        return None
    model = LinearSum(columns, sparse_combiner)

    def logits(features: Mapping[str, Any], units: int, training: bool) -> Tensor:  # noqa: ARG001  parts are called alike
        found = model.logits(features, units)
        summarise_activation(found, "linear")
        return found

    return Part(logits, "linear/", optimizer, min(LINEAR_LEARNING_RATE_MAX, 1.0 / math.sqrt(len(columns))))
