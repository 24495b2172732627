"""Metrics of several classes that are read off the confusion matrix.

Owns the matrix: the weight of each (label, prediction), f64 [classes, classes], labels down, predictions across.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.nn.metrics.base import Metric, State, Weights, aligned, array_module, divide


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """The weight of each (label, prediction): an array [num_classes, num_classes], labels down, predictions across.

    `labels` and `predictions` are class ids. Raises ValueError for one that is not in [0, num_classes).
    """
    return Metric(_confusion(labels, predictions, num_classes, weights), lambda state: state)


def mean_per_class_accuracy(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """The mean over all classes of the share of their examples that is predicted right, 0 for a class without any."""
    return Metric(_confusion(labels, predictions, num_classes, weights), lambda state: _by_row(state).mean())


def recall_per_class(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """The share of each class's examples that is predicted right: an array [num_classes], 0 for a class without any."""
    return Metric(_confusion(labels, predictions, num_classes, weights), _by_row)


def precision_per_class(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """The share of each class's predictions that is right: an array [num_classes], 0 for a class never predicted."""
    return Metric(_confusion(labels, predictions, num_classes, weights), lambda state: _by_row(state.T))


def mean_iou(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """Intersection over union: right / (labelled or predicted so), the mean over classes that occur at all."""
    return Metric(_confusion(labels, predictions, num_classes, weights), _mean_iou)


def _confusion(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights) -> Tensor:
    labels, predictions, spread = aligned(labels, predictions, weights)
    rows, columns = labels.reshape(-1).long(), predictions.reshape(-1).long()
    for name, ids in (("labels", rows), ("predictions", columns)):
        if torch.compiler.is_exporting() or not ids.numel():
            continue
        if int(ids.min()) < 0 or int(ids.max()) >= num_classes:
            raise ValueError(
                f"`{name}` out of bound: class ids must be in [0, {num_classes}), found {int(ids.min())} to "
                f"{int(ids.max())}. Is num_classes right?"
            )
    empty = torch.zeros(num_classes * num_classes, dtype=torch.float64)
    return empty.scatter_add(0, rows * num_classes + columns, spread.reshape(-1)).reshape(num_classes, num_classes)


def _by_row(state: State) -> Any:
    return divide(array_module(state).diagonal(state), state.sum(1))


def _mean_iou(state: State) -> Any:
    right = array_module(state).diagonal(state)
    union = state.sum(0) + state.sum(1) - right
    return divide(divide(right, union).sum(), (union != 0).sum())
