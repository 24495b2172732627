"""Metrics that are a weighted mean over the examples: shares, errors, distances.

Owns the state [Σ weight·value, Σ weight], f64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.nn.metrics.base import (
    Metric,
    State,
    Weights,
    aligned,
    array_module,
    broadcast_weights,
    ratio,
)


def mean(values: Tensor, weights: Weights = None) -> Metric:
    """Σw·v / Σw; 0 without weight. `weights` are broadcast to `values`."""
    values = values.double()
    spread = broadcast_weights(weights, values)
    return Metric(torch.stack([(values * spread).sum(), spread.sum()]), ratio)


def mean_tensor(values: Tensor, weights: Weights = None) -> Metric:
    """The mean of each entry over the batches: an array in the shape of `values`, which every batch shares."""
    values = values.double()
    spread = broadcast_weights(weights, values)
    return Metric(torch.stack([values * spread, spread]), ratio)


def percentage_below(values: Tensor, threshold: float, weights: Weights = None) -> Metric:
    """The weighted share of values below `threshold`."""
    return mean(values < threshold, weights)


def accuracy(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The weighted share of predictions equal to their labels."""
    labels, predictions, spread = aligned(labels, predictions, weights)
    return mean(predictions == labels, spread)


def mean_absolute_error(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The mean of |prediction − label|."""
    labels, predictions, spread = aligned(labels, predictions, weights)
    return mean((predictions - labels).abs(), spread)


def mean_squared_error(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The mean of (prediction − label)²."""
    labels, predictions, spread = aligned(labels, predictions, weights)
    return mean((predictions - labels).square(), spread)


def root_mean_squared_error(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The root of the mean of (prediction − label)² over all batches."""
    return Metric(mean_squared_error(labels, predictions, weights).state, lambda state: ratio(state) ** 0.5)


def mean_relative_error(labels: Tensor, predictions: Tensor, normalizer: Tensor, weights: Weights = None) -> Metric:
    """The mean of |label − prediction| / normalizer, 0 where the normalizer is 0."""
    labels, predictions, spread = aligned(labels, predictions, weights)
    by = normalizer.double().reshape(labels.shape)
    return mean(torch.where(by == 0, 0.0, (labels - predictions).abs() / by), spread)


def mean_cosine_distance(labels: Tensor, predictions: Tensor, dim: int, weights: Weights = None) -> Metric:
    """1 − the mean of Σ prediction·label along `dim`. Both are expected to have length 1 already."""
    labels, predictions, _ = aligned(labels, predictions, None)
    similarity = mean((predictions * labels).sum(dim, keepdim=True), weights)
    return Metric(similarity.state, lambda state: 1.0 - ratio(state))


def larger_class_share(labels: Tensor, weights: Weights = None) -> Metric:
    """max(p, 1 − p) of the labels' mean p: the accuracy of a model that always answers the more frequent class."""
    return Metric(mean(labels, weights).state, _larger_share)


def _larger_share(state: State) -> Any:
    share = ratio(state)
    where = array_module(state).where
    return where(state[1] != 0, where(share < 0.5, 1.0 - share, share), 0.0)
