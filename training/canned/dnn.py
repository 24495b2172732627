"""Fully connected networks on dense columns (TF 2.15)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from estimator_serving.training.canned.common import check_feature_dict, classifier_head, listed, replayed
from estimator_serving.training.checkpoints.warm_start import WarmStartFrom
from estimator_serving.training.columns.layers import input_layer
from estimator_serving.training.columns.values import FeatureColumn
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.heads import Head, RegressionHead
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn
from estimator_serving.training.nn import layers, summaries
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.variables import current_store, variable_scope
from estimator_serving.training.optimizers.base import OptimizerLike, get_optimizer
from estimator_serving.training.run_config import RunConfig

Activation = Callable[[Tensor], Tensor]


class DNNClassifier(Estimator):
    """A classifier of dense layers: columns → [dense → activation → dropout → batch norm] × hidden_units → logits.

    Columns must be dense (numeric, bucketized, indicator, embedding). `optimizer` is a name (Keras' default learning
    rates: 0.001, SGD 0.01), an Optimizer or a function that returns one. `dropout` is the share dropped in training.
    `n_classes` 2 gives a BinaryClassHead, more a MultiClassHead; `weight_column`, `label_vocabulary` and
    `loss_reduction` are theirs. ValueError as in TF 2.15.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Iterable[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: Activation | None = torch.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        warm_start_from: WarmStartFrom | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
    ) -> None:
        head = classifier_head(n_classes, weight_column, label_vocabulary, loss_reduction)
        network = DeepNetwork(hidden_units, listed(feature_columns), activation_fn, dropout, batch_norm)
        model_fn = replayed(dnn_model_fn(head, network, optimizer), [optimizer], weight_column, activation_fn)
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class DNNRegressor(Estimator):
    """Dense layers as in DNNClassifier under a RegressionHead: `label_dimension` numbers an example."""

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Iterable[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        label_dimension: int = 1,
        weight_column: WeightColumn = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: Activation | None = torch.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        warm_start_from: WarmStartFrom | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
    ) -> None:
        head = RegressionHead(label_dimension, weight_column, loss_reduction)
        network = DeepNetwork(hidden_units, listed(feature_columns), activation_fn, dropout, batch_norm)
        model_fn = replayed(dnn_model_fn(head, network, optimizer), [optimizer], weight_column, activation_fn)
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class DNNEstimator(Estimator):
    """Dense layers as in DNNClassifier under a head of your choice."""

    def __init__(
        self,
        head: Head,
        hidden_units: Sequence[int],
        feature_columns: Iterable[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: Activation | None = torch.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        warm_start_from: WarmStartFrom | None = None,
        batch_norm: bool = False,
    ) -> None:
        network = DeepNetwork(hidden_units, listed(feature_columns), activation_fn, dropout, batch_norm)
        super().__init__(dnn_model_fn(head, network, optimizer), model_dir, config, warm_start_from=warm_start_from)


def dnn_model_fn(head: Head, network: DeepNetwork, optimizer: OptimizerLike) -> ModelFn:
    """The model_fn of every DNN estimator."""

    def model_fn(features: Mapping[str, Any], labels: Any, mode: str) -> EstimatorSpec:
        check_feature_dict(features)
        training = mode == ModeKeys.TRAIN
        made = get_optimizer(optimizer) if training else None
        logits = network.logits(features, head.logits_dimension, training)
        return head.create_estimator_spec(features, mode, logits, labels, optimizer=made)

    return model_fn


_RELUS = (torch.relu, functional.relu)


@dataclass(frozen=True)
class DeepNetwork:
    """The layers between dense columns and logits. Variables under `dnn/` with TF's names."""

    hidden_units: Sequence[int]
    feature_columns: tuple[FeatureColumn, ...]
    activation_fn: Activation | None
    dropout: float | None
    batch_norm: bool

    def logits(self, features: Mapping[str, Any], units: int, training: bool) -> Tensor:
        """Logits f32 [B, units]."""
        with variable_scope("dnn"):
            with variable_scope("input_from_feature_columns"):
                net = input_layer(features, self.feature_columns)
            if training and self._is_plain and current_store().summaries is None:
                names = [*(f"hiddenlayer_{i}" for i in range(len(self.hidden_units))), "logits"]
                return layers.relu_stack(net, [*self.hidden_units, units], names)
            for i, width in enumerate(self.hidden_units):
                net = self._hidden_layer(net, i, width, training)
            logits = layers.dense(net, units, name="logits")
            summarise_activation(logits, "logits")
        return logits

    @property
    def _is_plain(self) -> bool:
        return self.activation_fn in _RELUS and not self.dropout and not self.batch_norm

    def _hidden_layer(self, net: Tensor, i: int, width: int, training: bool) -> Tensor:
        name = f"hiddenlayer_{i}"
        net = layers.dense(net, width, self.activation_fn, name=name)
        if self.dropout:
            net = layers.dropout(net, self.dropout, training=training)
        if self.batch_norm:
            with variable_scope(name):
                net = layers.batch_normalization(net, momentum=0.999, training=training, name=f"batchnorm_{i}")
        summarise_activation(net, name)
        return net


def summarise_activation(values: Tensor, name: str) -> None:
    """What TensorBoard shows of a layer: how many of its values are 0, and their distribution."""
    summaries.scalar(f"{name}/fraction_of_zero_values", lambda: (values == 0).float().mean())
    summaries.histogram(f"{name}/activation", values)
