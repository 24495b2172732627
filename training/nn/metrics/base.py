"""The state of one batch, and what a sum of states means. What all metrics share about shapes and division.

Owns Metric, TensorFlow's rules for the shapes of labels, predictions and weights, and 0 as the value of 0/0. Knows no
metric.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.arrays import Array

Weights = Tensor | float | None
State = Array | Tensor
"""A sum of states: an array where a value is read, a tensor where an exported graph computes it. The two share their
operators, methods and the functions of their modules, which `array_module` gives."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`state` adds up over batches, `finish` turns the sum into the value, `draw` turns the value into a picture.

    Attributes:
        state: f64 of any shape, the same for every batch.
        finish: takes the summed state and gives a number or an array. If it also takes a tensor, and does not branch on
            its values, exported evaluation graphs compute the metric; otherwise they leave it out.
        draw: None, or takes the value and gives a matplotlib figure, which evaluate writes for TensorBoard.
    """

    state: Tensor
    finish: Callable[[Any], Any]
    draw: Callable[[Array], Any] | None = None

    def __add__(self, other: Metric) -> Metric:
        return Metric(self.state + other.state, self.finish, self.draw)

    def __getitem__(self, index: int) -> Metric:
        """Itself at 0 and 1: TensorFlow's metrics are pairs of a value and an update, and this one stands for both."""
        if index not in (0, 1):
            raise IndexError("A metric stands for the pair (value, update_op): there are only [0] and [1].")
        return self

    def result(self) -> np.float32 | Array:
        """The value over all batches added so far: np.float32, or an array for a metric that is one."""
        value = self.finish(self.state.detach().numpy())
        return np.float32(value) if np.ndim(value) == 0 else np.asarray(value, np.float32)


def takes_names(function: Callable[..., Metric]) -> Callable[..., Metric]:
    """The function with TF's arguments that name and collect its ops. They change nothing, because there are no ops."""

    @functools.wraps(function)
    def metric(*arguments: Any, **named: Any) -> Metric:
        for of_ops in ("metrics_collections", "updates_collections", "name"):
            named.pop(of_ops, None)
        return function(*arguments, **named)

    return metric


def aligned(labels: Tensor, predictions: Tensor, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """All three in the shape of the predictions, weights as f64. Raises ValueError for shapes that do not fit."""
    if labels.ndim == predictions.ndim + 1 and labels.shape[-1] == 1:
        labels = labels.squeeze(-1)
    elif predictions.ndim == labels.ndim + 1 and predictions.shape[-1] == 1:
        predictions = predictions.squeeze(-1)
    if labels.shape != predictions.shape:
        raise ValueError(
            f"Shapes {tuple(predictions.shape)} and {tuple(labels.shape)} are incompatible: predictions and labels "
            "must have one shape."
        )
    return labels, predictions, broadcast_weights(weights, predictions)


def broadcast_weights(weights: Weights, values: Tensor) -> Tensor:
    """Weights as f64 in the shape of `values`. Raises ValueError if they cannot be broadcast to it."""
    if weights is None:
        return torch.ones(values.shape, dtype=torch.float64)
    found = torch.as_tensor(weights, dtype=torch.float64)
    if found.ndim == values.ndim + 1 and found.shape[-1] == 1:
        found = found.squeeze(-1)
    elif found.ndim and values.ndim == found.ndim + 1:
        found = found.unsqueeze(-1)
    try:
        return found.expand(values.shape)
    except RuntimeError as error:
        raise ValueError(
            f"weights can not be broadcast to values. values.shape={tuple(values.shape)}. "
            f"weights.shape={tuple(found.shape)}. Pass one number, or one weight an example."
        ) from error


def array_module(state: State) -> Any:
    """The module whose functions take such a state: torch or numpy."""
    return torch if isinstance(state, Tensor) else np


def divide(numerator: Any, denominator: Any) -> Any:
    """numerator / denominator, 0 where the denominator is 0."""
    where = torch.where if isinstance(denominator, Tensor) else np.where
    return where(denominator != 0, numerator / where(denominator != 0, denominator, 1.0), 0.0)


def ratio(state: State) -> Any:
    """What a state of two sums says: the first over the second."""
    return divide(state[0], state[1])
