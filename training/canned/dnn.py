"""Fully connected networks on dense columns (TF 2.15)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from estimator_serving.training import layers, summaries
from estimator_serving.training.canned.classifier_head import check_feature_dict, classifier_head
from estimator_serving.training.columns import FeatureColumn
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.feature_column import input_layer
from estimator_serving.training.heads import Head
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.losses import Reduction
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys
from estimator_serving.training.optimizers import OptimizerLike, get_optimizer
from estimator_serving.training.run_config import RunConfig
from estimator_serving.training.variables import current_store, variable_scope


class DNNClassifier(Estimator):
    """A classifier of dense layers: columns → [dense → activation → dropout → batch norm] × hidden_units → logits.

    Columns must be dense (numeric, bucketized, indicator, embedding). `optimizer` is a name (Keras' default learning
    rates: 0.001, SGD 0.01), an Optimizer or a function that returns one. `dropout` is the share dropped in training.
    `weight_column`, `label_vocabulary` and `loss_reduction`: see Head. ValueError as in TF 2.15.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Sequence[FeatureColumn],
        model_dir: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: Callable[[Tensor], Tensor] | None = torch.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        warm_start_from: object = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
    ) -> None:
        head = classifier_head(n_classes, weight_column, label_vocabulary, loss_reduction)

        def model_fn(features: Mapping[str, Any], labels: Any, mode: str) -> EstimatorSpec:
            return dnn_model_fn(
                features,
                labels,
                mode,
                head,
                hidden_units,
                feature_columns,
                optimizer,
                activation_fn,
                dropout,
                batch_norm,
            )

        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


def dnn_model_fn(
    features: Mapping[str, Any],
    labels: Any,
    mode: str,
    head: Head,
    hidden_units: Sequence[int],
    feature_columns: Sequence[FeatureColumn],
    optimizer: OptimizerLike,
    activation_fn: Callable[[Tensor], Tensor] | None,
    dropout: float | None,
    batch_norm: bool,
) -> EstimatorSpec:
    """The model_fn of every DNN estimator."""
    check_feature_dict(features)
    training = mode == ModeKeys.TRAIN
    made = get_optimizer(optimizer) if training else None
    logits = dnn_logits(
        features, head.logits_dimension, hidden_units, feature_columns, activation_fn, dropout, batch_norm, training
    )
    return head.create_estimator_spec(features, mode, logits, labels, optimizer=made)


_RELUS = (torch.relu, functional.relu)


def dnn_logits(
    features: Mapping[str, Any],
    units: int,
    hidden_units: Sequence[int],
    feature_columns: Sequence[FeatureColumn],
    activation_fn: Callable[[Tensor], Tensor] | None,
    dropout: float | None,
    batch_norm: bool,
    training: bool,
) -> Tensor:
    """Logits f32 [B, units]; variables under `dnn/` with TF's names."""
    with variable_scope("dnn"):
        with variable_scope("input_from_feature_columns"):
            net = input_layer(features, feature_columns)
        plain = activation_fn in _RELUS and not dropout and not batch_norm
        if training and plain and current_store().summaries is None:
            names = [*(f"hiddenlayer_{i}" for i in range(len(hidden_units))), "logits"]
            return layers.relu_stack(net, [*hidden_units, units], names)
        for i, width in enumerate(hidden_units):
            name = f"hiddenlayer_{i}"
            net = layers.dense(net, width, activation_fn, name=name)
            if dropout:
                net = layers.dropout(net, dropout, training=training)
            if batch_norm:
                with variable_scope(name):
                    net = layers.batch_normalization(net, momentum=0.999, training=training, name=f"batchnorm_{i}")
            _summarise(net, name)
        logits = layers.dense(net, units, name="logits")
        _summarise(logits, "logits")
    return logits


def _summarise(values: Tensor, name: str) -> None:
    summaries.scalar(f"{name}/fraction_of_zero_values", lambda: (values == 0).float().mean())
    summaries.histogram(f"{name}/activation", values)
