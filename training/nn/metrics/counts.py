"""Metrics of true and false positives and negatives, at one threshold and at several.

Owns the state of such counts: their weights, f64 [4, thresholds]. Labels are positive unless they are 0. Predictions
are positive above `threshold`: 0.5 suits class ids and probabilities. TF 1's functions take every prediction but 0 for
positive, which threshold=0 gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.nn.metrics.base import Metric, State, Weights, aligned, divide

THRESHOLDS = 200
"""TF takes 200 thresholds, not every distinct prediction."""


def true_positives(labels: Tensor, predictions: Tensor, weights: Weights = None, threshold: float = 0.5) -> Metric:
    """The weight of positive labels predicted positive."""
    return Metric(_counts(labels, predictions, weights, [threshold]), lambda state: state[_TP, 0])


def false_positives(labels: Tensor, predictions: Tensor, weights: Weights = None, threshold: float = 0.5) -> Metric:
    """The weight of negative labels predicted positive."""
    return Metric(_counts(labels, predictions, weights, [threshold]), lambda state: state[_FP, 0])


def true_negatives(labels: Tensor, predictions: Tensor, weights: Weights = None, threshold: float = 0.5) -> Metric:
    """The weight of negative labels predicted negative."""
    return Metric(_counts(labels, predictions, weights, [threshold]), lambda state: state[_TN, 0])


def false_negatives(labels: Tensor, predictions: Tensor, weights: Weights = None, threshold: float = 0.5) -> Metric:
    """The weight of positive labels predicted negative."""
    return Metric(_counts(labels, predictions, weights, [threshold]), lambda state: state[_FN, 0])


def precision(labels: Tensor, predictions: Tensor, weights: Weights = None, threshold: float = 0.5) -> Metric:
    """True positives / predicted positives, 0 when nothing is predicted positive."""
    return Metric(_counts(labels, predictions, weights, [threshold]), lambda state: _share(state, _PRECISION)[0])


def recall(labels: Tensor, predictions: Tensor, weights: Weights = None, threshold: float = 0.5) -> Metric:
    """True positives / positive labels, 0 when no label is positive."""
    return Metric(_counts(labels, predictions, weights, [threshold]), lambda state: _share(state, _RECALL)[0])


Thresholds = Sequence[float]


def true_positives_at_thresholds(
    labels: Tensor, predictions: Tensor, thresholds: Thresholds, weights: Weights = None
) -> Metric:
    """true_positives at each threshold: an array [thresholds]."""
    return Metric(_counts(labels, predictions, weights, thresholds), lambda state: state[_TP])


def false_positives_at_thresholds(
    labels: Tensor, predictions: Tensor, thresholds: Thresholds, weights: Weights = None
) -> Metric:
    """false_positives at each threshold: an array [thresholds]."""
    return Metric(_counts(labels, predictions, weights, thresholds), lambda state: state[_FP])


def true_negatives_at_thresholds(
    labels: Tensor, predictions: Tensor, thresholds: Thresholds, weights: Weights = None
) -> Metric:
    """true_negatives at each threshold: an array [thresholds]."""
    return Metric(_counts(labels, predictions, weights, thresholds), lambda state: state[_TN])


def false_negatives_at_thresholds(
    labels: Tensor, predictions: Tensor, thresholds: Thresholds, weights: Weights = None
) -> Metric:
    """false_negatives at each threshold: an array [thresholds]."""
    return Metric(_counts(labels, predictions, weights, thresholds), lambda state: state[_FN])


def precision_at_thresholds(
    labels: Tensor, predictions: Tensor, thresholds: Thresholds, weights: Weights = None
) -> Metric:
    """precision at each threshold: an array [thresholds]."""
    return Metric(_counts(labels, predictions, weights, thresholds), lambda state: _share(state, _PRECISION))


def recall_at_thresholds(
    labels: Tensor, predictions: Tensor, thresholds: Thresholds, weights: Weights = None
) -> Metric:
    """recall at each threshold: an array [thresholds]."""
    return Metric(_counts(labels, predictions, weights, thresholds), lambda state: _share(state, _RECALL))


def sensitivity_at_specificity(
    labels: Tensor,
    predictions: Tensor,
    specificity: float,
    weights: Weights = None,
    num_thresholds: int = THRESHOLDS,
) -> Metric:
    """The recall at one of `num_thresholds` thresholds: the one whose specificity is nearest to `specificity`.

    Of several it is the lowest. Raises ValueError for a specificity outside [0, 1].
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"`specificity` must be in the range [0, 1]. Currently, `specificity` is {specificity}.")
    finish = partial(_share_nearest, wanted=_RECALL, near=_SPECIFICITY, to=specificity, place=0)
    return Metric(_counts(labels, predictions, weights, _even_thresholds(num_thresholds)), finish)


def specificity_at_sensitivity(
    labels: Tensor,
    predictions: Tensor,
    sensitivity: float,
    weights: Weights = None,
    num_thresholds: int = THRESHOLDS,
) -> Metric:
    """The specificity at one of `num_thresholds` thresholds: the one whose recall is nearest to `sensitivity`.

    Of several it is the highest. Raises ValueError for a sensitivity outside [0, 1].
    """
    if not 0 <= sensitivity <= 1:
        raise ValueError(f"`sensitivity` must be in the range [0, 1]. Currently, `sensitivity` is {sensitivity}.")
    finish = partial(_share_nearest, wanted=_SPECIFICITY, near=_RECALL, to=sensitivity, place=-1)
    return Metric(_counts(labels, predictions, weights, _even_thresholds(num_thresholds)), finish)


_TP, _FP, _TN, _FN = range(4)
# A share of two of the counts: the first over their sum.
_PRECISION, _RECALL, _SPECIFICITY = (_TP, _FP), (_TP, _FN), (_TN, _FP)


def _counts(labels: Tensor, predictions: Tensor, weights: Weights, thresholds: Sequence[float]) -> Tensor:
    """f64 [4, thresholds]: the weight of true and false positives, true and false negatives."""
    labels, predictions, spread = aligned(labels, predictions, weights)
    above = predictions.float().reshape(-1, 1) > torch.tensor(list(thresholds), dtype=torch.float32)
    positive, spread = labels.reshape(-1).bool(), spread.reshape(-1)
    true, false = (spread * positive) @ above.double(), (spread * ~positive) @ above.double()
    positives, negatives = (spread * positive).sum(), (spread * ~positive).sum()
    return torch.stack([true, false, negatives - false, positives - true])


def _share(state: State, of: tuple[int, int]) -> Any:
    part, rest = of
    return divide(state[part], state[part] + state[rest])


def _share_nearest(state: State, wanted: tuple[int, int], near: tuple[int, int], to: float, place: int) -> float:
    """One share at the threshold where another is nearest to a number; of several nearest the first or the last."""
    distances = np.abs(_share(state, near) - to)
    return float(_share(state, wanted)[np.flatnonzero(distances == distances.min())[place]])


def _even_thresholds(count: int) -> list[float]:
    """From just below 0 to just above 1, so that the first takes everything and the last nothing."""
    outside = 1e-7
    return [-outside, *(i / (count - 1) for i in range(1, count - 1)), 1.0 + outside]
