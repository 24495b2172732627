"""Areas under the ROC and the precision-recall curve, and the points of the curves (TF 2.15).

Owns the state of a curve: the weight of positives and of negatives in each bucket of predictions, f64 [2, buckets].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.nn.metrics.base import Metric, State, Weights, aligned, array_module, divide
from estimator_serving.training.nn.metrics.counts import THRESHOLDS


def auc(
    labels: Tensor,
    predictions: Tensor,
    weights: Weights = None,
    num_thresholds: int = THRESHOLDS,
    curve: str = "ROC",
    summation_method: str = "interpolation",
) -> Metric:
    """Area under the ROC or PR curve at 200 thresholds. `labels` 0/1, `predictions` f32 in [0, 1].

    `summation_method` is 'interpolation' (trapezoids under ROC; under PR as Davis and Goadrich interpolate),
    'trapezoidal', 'minoring' (the lower edge of each step) or 'majoring' (the upper one). State: weight of positives
    and of negatives per bucket, f64 [2, num_thresholds]. Raises ValueError for another curve or method, for
    predictions outside [0, 1] and for num_thresholds < 2.
    """
    if curve not in ("ROC", "PR"):
        raise ValueError(f"curve must be 'ROC' or 'PR', got {curve!r}.")
    if summation_method not in _METHODS:
        raise ValueError(f"Invalid summation_method: {summation_method} valid options are {list(_METHODS)}")
    finish = partial(_area, curve=curve, method=summation_method)
    return Metric(bucket_weights(labels, predictions, weights, num_thresholds), finish)


def bucket_weights(
    labels: Tensor, predictions: Tensor, weights: Weights = None, num_thresholds: int = THRESHOLDS
) -> Tensor:
    """Weight of positives and of negatives per bucket of predictions: f64 [2, num_thresholds]. Errors as in auc."""
    if num_thresholds < 2:
        raise ValueError(f"Argument `num_thresholds` must be an integer > 1. Received: num_thresholds={num_thresholds}")
    labels, predictions, spread = aligned(labels, predictions, weights)
    flat = predictions.reshape(-1).float()
    if not torch.compiler.is_exporting() and flat.numel() and not bool(((flat >= 0) & (flat <= 1)).all()):
        raise ValueError("auc takes predictions in [0, 1]: pass probabilities, not logits.")
    # The bucket needs float32 arithmetic: ceil(p·199) differs in float64 where p·199 is rounded to a whole number.
    buckets = ((flat * (num_thresholds - 1)).ceil() - 1).clamp(min=0).long()
    positive, spread = labels.reshape(-1).bool(), spread.reshape(-1)
    weighed = torch.stack([positive * spread, ~positive * spread])
    return torch.zeros(2, num_thresholds, dtype=torch.float64).scatter_add(1, buckets.expand(2, -1), weighed)


def curve_points(state: State, curve: str) -> Any:
    """The points of a curve, f64 [2, thresholds], of a state as bucket_weights makes it, and of its type.

    ROC: false positive rate and recall. PR: recall and precision, which is 1 where nothing is predicted positive.
    """
    xp = array_module(state)
    tp, fp = _above(state)
    recalls = divide(tp, tp[0])
    if curve == "ROC":
        return xp.stack([divide(fp, fp[0]), recalls])
    return xp.stack([recalls, xp.where(tp + fp > 0, divide(tp, tp + fp), 1.0)])


_METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "interpolation": lambda left, right: (left + right) / 2,
    "trapezoidal": lambda left, right: (left + right) / 2,
    "minoring": lambda left, right: array_module(left).minimum(left, right),
    "majoring": lambda left, right: array_module(left).maximum(left, right),
}


def _area(state: State, curve: str, method: str) -> Any:
    if curve == "PR" and method == "interpolation":
        # Interpolated as Davis and Goadrich do, which TF follows.
        xp = array_module(state)
        tp, fp = _above(state)
        predicted = tp + fp
        dtp, dp = tp[:-1] - tp[1:], predicted[:-1] - predicted[1:]
        slope = divide(dtp, dp.clip(0))
        intercept = tp[1:] - slope * predicted[1:]
        both = (predicted[:-1] > 0) & (predicted[1:] > 0)
        ratio = xp.where(both, divide(predicted[:-1], predicted[1:].clip(0)), 1.0)
        area = slope * (dtp + intercept * xp.log(ratio))
        return divide(area, tp[0].clip(0)).sum()
    x, y = curve_points(state, curve)
    if curve == "PR" and method != "trapezoidal":
        tp, fp = _above(state)
        y = divide(tp, tp + fp)
    return ((x[:-1] - x[1:]) * _METHODS[method](y[:-1], y[1:])).sum()


def _above(state: State) -> tuple[Any, Any]:
    """Weight of positives and negatives in bucket i or higher."""
    xp = array_module(state)
    sums = xp.flip(xp.flip(state, (1,)).cumsum(1), (1,))
    return sums[0], sums[1]
