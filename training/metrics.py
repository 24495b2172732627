"""Streaming metrics: the additive state of one batch, and what a sum of states means (TF 2.15).

Pure functions of tensors. A Metric of one batch plus a Metric of the next is the Metric of both; `result` reads it.
Sums are kept in float64, results are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

THRESHOLDS = 200
"""TF's AUC is taken at 200 thresholds, not at every distinct prediction."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`state` is added up over batches, `finish` turns the sum into the value."""

    state: Tensor
    finish: Callable[[np.ndarray], float | np.ndarray]

    def __add__(self, other: Metric) -> Metric:
        return Metric(self.state + other.state, self.finish)

    def result(self) -> np.float32 | np.ndarray:
        """The value over all batches added so far: np.float32, or an array for a metric that is one."""
        value = self.finish(self.state.detach().numpy())
        return np.float32(value) if np.ndim(value) == 0 else np.asarray(value, np.float32)


def mean(values: Tensor, weights: Tensor | None = None) -> Metric:
    """Σw·v / Σw; 0 without weight. `weights` are broadcast to `values`."""
    values, spread = _weighted(values, weights)
    return Metric(torch.stack([(values * spread).sum(), spread.sum()]), _ratio)


def accuracy(labels: Tensor, predictions: Tensor, weights: Tensor | None = None) -> Metric:
    """The weighted share of predictions equal to their labels. [B] and [B, 1] may be mixed."""
    return mean(predictions.reshape(-1) == labels.reshape(-1), _flat(weights))


def precision(labels: Tensor, predictions: Tensor, weights: Tensor | None = None, threshold: float = 0.5) -> Metric:
    """True positives / predicted positives, 0 when nothing is predicted positive.

    Predictions above `threshold` are positive, labels unless they are 0.
    """
    predicted, positive, spread = _positives(labels, predictions, weights, threshold)
    return Metric(torch.stack([(predicted * positive * spread).sum(), (predicted * spread).sum()]), _ratio)


def recall(labels: Tensor, predictions: Tensor, weights: Tensor | None = None, threshold: float = 0.5) -> Metric:
    """True positives / positive labels, 0 when no label is positive. Positive as in `precision`."""
    predicted, positive, spread = _positives(labels, predictions, weights, threshold)
    return Metric(torch.stack([(predicted * positive * spread).sum(), (positive * spread).sum()]), _ratio)


def larger_class_share(labels: Tensor, weights: Tensor | None = None) -> Metric:
    """max(p, 1 − p) of the labels' mean p: what always answering the more frequent class would score."""
    share = mean(labels, weights)
    return Metric(share.state, _larger_share)


def auc(labels: Tensor, predictions: Tensor, weights: Tensor | None = None, curve: str = "ROC") -> Metric:
    """Area under the ROC or PR curve at 200 thresholds. `labels` 0/1, `predictions` f32 in [0, 1], same size.

    State: weight of positives and of negatives per bucket, f64 [2, 200]. Raises ValueError for another curve or for
    predictions outside [0, 1].
    """
    if curve not in _AREAS:
        raise ValueError(f"curve must be 'ROC' or 'PR', got {curve!r}.")
    flat = predictions.reshape(-1).float()
    if flat.numel() and not bool(((flat >= 0) & (flat <= 1)).all()):
        raise ValueError("auc takes predictions in [0, 1]: pass probabilities, not logits.")
    # The bucket needs float32 arithmetic: ceil(p·199) differs in float64 where p·199 is rounded to a whole number.
    buckets = ((flat * (THRESHOLDS - 1)).ceil() - 1).clamp(min=0).long()
    positive = labels.reshape(-1).bool()
    _, spread = _weighted(flat, _flat(weights))
    state = torch.zeros(2, THRESHOLDS, dtype=torch.float64)
    state[0].index_add_(0, buckets, positive * spread)
    state[1].index_add_(0, buckets, ~positive * spread)
    return Metric(state, _AREAS[curve])


def _area_under_roc(state: np.ndarray) -> float:
    tp, fp = _above(state)
    x, y = _divide(fp, fp[0]), _divide(tp, tp[0])
    return float(np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2))


def _area_under_pr(state: np.ndarray) -> float:
    """Interpolated as Davis and Goadrich do, which TF follows."""
    tp, fp = _above(state)
    predicted = tp + fp
    dtp, dp = tp[:-1] - tp[1:], predicted[:-1] - predicted[1:]
    slope = _divide(dtp, np.maximum(dp, 0))
    intercept = tp[1:] - slope * predicted[1:]
    both = (predicted[:-1] > 0) & (predicted[1:] > 0)
    ratio = np.where(both, _divide(predicted[:-1], np.maximum(predicted[1:], 0)), 1.0)
    area = slope * (dtp + intercept * np.log(ratio))
    return float(np.sum(_divide(area, np.full_like(area, max(tp[0], 0.0)))))


_AREAS: dict[str, Callable[[np.ndarray], float]] = {"ROC": _area_under_roc, "PR": _area_under_pr}


def _above(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and negatives in bucket i or higher."""
    sums = np.cumsum(state[:, ::-1], axis=1)[:, ::-1]
    return sums[0], sums[1]


def _divide(numerator: np.ndarray, denominator: np.ndarray | float) -> np.ndarray:
    """0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, np.asarray(denominator, np.float64))
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def _ratio(state: np.ndarray) -> float:
    return float(state[0] / state[1]) if state[1] else 0.0


def _larger_share(state: np.ndarray) -> float:
    share = _ratio(state)
    return max(share, 1.0 - share) if state[1] else 0.0


def _positives(
    labels: Tensor, predictions: Tensor, weights: Tensor | None, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    positive = labels.reshape(-1).bool()
    _, spread = _weighted(positive, _flat(weights))
    return predictions.reshape(-1) > threshold, positive, spread


def _weighted(values: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    values = values.double()
    if weights is None:
        return values, torch.ones_like(values)
    return values, weights.double().expand_as(values)


def _flat(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.reshape(-1)
