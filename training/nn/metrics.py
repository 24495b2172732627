"""Streaming metrics: the additive state of one batch, and what a sum of states means (TF 2.15).

Pure functions of tensors. A Metric of one batch plus a Metric of the next is the Metric of both; `result` reads it.
Sums are kept in float64, results are float32. A metric of your own is such a function: it returns a Metric whose state
adds up over batches and a `finish` that reads the sum.

Labels, predictions and weights have one shape, but for a last dimension of 1 that one of them may lack or have too
many ([B] beside [B, 1]); weights may also have dimensions of 1 where predictions are wider, or be one number. Shapes
that do not fit raise ValueError. Without any weight a mean, a share or an area is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

THRESHOLDS = 200
"""TF's AUC is taken at 200 thresholds, not at every distinct prediction."""

Weights = Tensor | float | None
State = np.ndarray | Tensor
"""A sum of states: an array where a value is read, a tensor where an exported graph computes it. The two share their
operators, methods and the functions of their modules, which `_module` gives."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`state` is added up over batches, `finish` turns the sum into the value, `draw` the value into a picture.

    Attributes:
        state: f64 of any shape, the same for every batch.
        finish: from the summed state to a number or an array. One that also takes a tensor, without branching on its
            values, is computed inside exported evaluation graphs; another one is left out of them.
        draw: None, or from the value to a matplotlib figure, which evaluate writes for TensorBoard.
    """

    state: Tensor
    finish: Callable[[Any], Any]
    draw: Callable[[np.ndarray], Any] | None = None

    def __add__(self, other: Metric) -> Metric:
        return Metric(self.state + other.state, self.finish, self.draw)

    def result(self) -> np.float32 | np.ndarray:
        """The value over all batches added so far: np.float32, or an array for a metric that is one."""
        value = self.finish(self.state.detach().numpy())
        return np.float32(value) if np.ndim(value) == 0 else np.asarray(value, np.float32)


# -- means ------------------------------------------------------------------------------------------------------------


def mean(values: Tensor, weights: Weights = None) -> Metric:
    """Σw·v / Σw; 0 without weight. `weights` are broadcast to `values`."""
    values = values.double()
    spread = _spread(weights, values)
    return Metric(torch.stack([(values * spread).sum(), spread.sum()]), _ratio)


def mean_tensor(values: Tensor, weights: Weights = None) -> Metric:
    """The mean of each entry over the batches: an array in the shape of `values`, which every batch shares."""
    values = values.double()
    spread = _spread(weights, values)
    return Metric(torch.stack([values * spread, spread]), lambda state: _divide(state[0], state[1]))


def percentage_below(values: Tensor, threshold: float, weights: Weights = None) -> Metric:
    """The weighted share of values below `threshold`."""
    return mean(values < threshold, weights)


def accuracy(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The weighted share of predictions equal to their labels."""
    labels, predictions, spread = _aligned(labels, predictions, weights)
    return mean(predictions == labels, spread)


def mean_absolute_error(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The mean of |prediction − label|."""
    labels, predictions, spread = _aligned(labels, predictions, weights)
    return mean((predictions - labels).abs(), spread)


def mean_squared_error(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The mean of (prediction − label)²."""
    labels, predictions, spread = _aligned(labels, predictions, weights)
    return mean((predictions - labels).square(), spread)


def root_mean_squared_error(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Metric:
    """The root of the mean of (prediction − label)² over all batches."""
    return Metric(mean_squared_error(labels, predictions, weights).state, lambda state: _ratio(state) ** 0.5)


def mean_relative_error(labels: Tensor, predictions: Tensor, normalizer: Tensor, weights: Weights = None) -> Metric:
    """The mean of |label − prediction| / normalizer, 0 where the normalizer is 0."""
    labels, predictions, spread = _aligned(labels, predictions, weights)
    by = normalizer.double().reshape(labels.shape)
    return mean(torch.where(by == 0, 0.0, (labels - predictions).abs() / by), spread)


def mean_cosine_distance(labels: Tensor, predictions: Tensor, dim: int, weights: Weights = None) -> Metric:
    """1 − the mean of Σ prediction·label along `dim`. Both are expected to have length 1 already."""
    labels, predictions, _ = _aligned(labels, predictions, None)
    similarity = mean((predictions * labels).sum(dim, keepdim=True), weights)
    return Metric(similarity.state, lambda state: 1.0 - _ratio(state))


def larger_class_share(labels: Tensor, weights: Weights = None) -> Metric:
    """max(p, 1 − p) of the labels' mean p: what always answering the more frequent class would score."""
    return Metric(mean(labels, weights).state, _larger_share)


# -- true and false, positive and negative ----------------------------------------------------------------------------
# Labels are positive unless they are 0. Predictions are positive above `threshold`: 0.5 suits class ids and
# probabilities; TF 1's functions take every prediction but 0 for positive, which threshold=0 gives.


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
    counts = _counts(labels, predictions, weights, [threshold])
    return Metric(counts, lambda state: _precisions(state)[0])


def recall(labels: Tensor, predictions: Tensor, weights: Weights = None, threshold: float = 0.5) -> Metric:
    """True positives / positive labels, 0 when no label is positive."""
    return Metric(_counts(labels, predictions, weights, [threshold]), lambda state: _recalls(state)[0])


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
    return Metric(_counts(labels, predictions, weights, thresholds), _precisions)


def recall_at_thresholds(
    labels: Tensor, predictions: Tensor, thresholds: Thresholds, weights: Weights = None
) -> Metric:
    """recall at each threshold: an array [thresholds]."""
    return Metric(_counts(labels, predictions, weights, thresholds), _recalls)


def sensitivity_at_specificity(
    labels: Tensor,
    predictions: Tensor,
    specificity: float,
    weights: Weights = None,
    num_thresholds: int = THRESHOLDS,
) -> Metric:
    """The recall at that of `num_thresholds` thresholds whose specificity is nearest to `specificity` (the lowest of
    several). Raises ValueError for a specificity outside [0, 1]."""
    if not 0 <= specificity <= 1:
        raise ValueError(f"`specificity` must be in the range [0, 1]. Currently, `specificity` is {specificity}.")

    def finish(state: State) -> float:
        nearest = int(np.argmin(np.abs(_specificities(state) - specificity)))
        return float(_recalls(state)[nearest])

    return Metric(_counts(labels, predictions, weights, _even_thresholds(num_thresholds)), finish)


def specificity_at_sensitivity(
    labels: Tensor,
    predictions: Tensor,
    sensitivity: float,
    weights: Weights = None,
    num_thresholds: int = THRESHOLDS,
) -> Metric:
    """The specificity at that of `num_thresholds` thresholds whose recall is nearest to `sensitivity` (the highest of
    several). Raises ValueError for a sensitivity outside [0, 1]."""
    if not 0 <= sensitivity <= 1:
        raise ValueError(f"`sensitivity` must be in the range [0, 1]. Currently, `sensitivity` is {sensitivity}.")

    def finish(state: State) -> float:
        distances = np.abs(_recalls(state) - sensitivity)
        nearest = int(np.flatnonzero(distances == distances.min())[-1])
        return float(_specificities(state)[nearest])

    return Metric(_counts(labels, predictions, weights, _even_thresholds(num_thresholds)), finish)


_TP, _FP, _TN, _FN = range(4)


def _counts(labels: Tensor, predictions: Tensor, weights: Weights, thresholds: Sequence[float]) -> Tensor:
    """f64 [4, thresholds]: the weight of true and false positives, true and false negatives."""
    labels, predictions, spread = _aligned(labels, predictions, weights)
    above = predictions.float().reshape(-1, 1) > torch.tensor(list(thresholds), dtype=torch.float32)
    positive, spread = labels.reshape(-1).bool(), spread.reshape(-1)
    true, false = (spread * positive) @ above.double(), (spread * ~positive) @ above.double()
    positives, negatives = (spread * positive).sum(), (spread * ~positive).sum()
    return torch.stack([true, false, negatives - false, positives - true])


def _precisions(state: State) -> State:
    return _divide(state[_TP], state[_TP] + state[_FP])


def _recalls(state: State) -> State:
    return _divide(state[_TP], state[_TP] + state[_FN])


def _specificities(state: State) -> State:
    return _divide(state[_TN], state[_TN] + state[_FP])


def _even_thresholds(count: int) -> list[float]:
    """From just below 0 to just above 1, so that the first takes everything and the last nothing."""
    outside = 1e-7
    return [-outside, *(i / (count - 1) for i in range(1, count - 1)), 1.0 + outside]


# -- areas ------------------------------------------------------------------------------------------------------------


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
    labels, predictions, spread = _aligned(labels, predictions, weights)
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
    xp = _module(state)
    tp, fp = _above(state)
    recalls = _divide(tp, tp[0])
    if curve == "ROC":
        return xp.stack([_divide(fp, fp[0]), recalls])
    return xp.stack([recalls, xp.where(tp + fp > 0, _divide(tp, tp + fp), 1.0)])


_METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "interpolation": lambda left, right: (left + right) / 2,
    "trapezoidal": lambda left, right: (left + right) / 2,
    "minoring": lambda left, right: _module(left).minimum(left, right),
    "majoring": lambda left, right: _module(left).maximum(left, right),
}


def _area(state: State, curve: str, method: str) -> Any:
    if curve == "PR" and method == "interpolation":
        return _area_under_pr(state)
    x, y = curve_points(state, curve)
    if curve == "PR" and method != "trapezoidal":
        tp, fp = _above(state)
        y = _divide(tp, tp + fp)
    return ((x[:-1] - x[1:]) * _METHODS[method](y[:-1], y[1:])).sum()


def _area_under_pr(state: State) -> Any:
    """Interpolated as Davis and Goadrich do, which TF follows."""
    xp = _module(state)
    tp, fp = _above(state)
    predicted = tp + fp
    dtp, dp = tp[:-1] - tp[1:], predicted[:-1] - predicted[1:]
    slope = _divide(dtp, dp.clip(0))
    intercept = tp[1:] - slope * predicted[1:]
    both = (predicted[:-1] > 0) & (predicted[1:] > 0)
    ratio = xp.where(both, _divide(predicted[:-1], predicted[1:].clip(0)), 1.0)
    area = slope * (dtp + intercept * xp.log(ratio))
    return _divide(area, tp[0].clip(0)).sum()


def _above(state: State) -> tuple[Any, Any]:
    """Weight of positives and negatives in bucket i or higher."""
    xp = _module(state)
    sums = xp.flip(xp.flip(state, (1,)).cumsum(1), (1,))
    return sums[0], sums[1]


# -- classes ----------------------------------------------------------------------------------------------------------


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """The weight of each (label, prediction): an array [num_classes, num_classes], labels down, predictions across.

    `labels` and `predictions` are class ids. Raises ValueError for one that is not in [0, num_classes).
    """
    return Metric(_confusion(labels, predictions, num_classes, weights), lambda state: state)


def mean_per_class_accuracy(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """The mean over all classes of the share of their examples that is predicted right, 0 for a class without any."""
    return Metric(_confusion(labels, predictions, num_classes, weights), lambda state: _by_row(state).mean())


def recall_per_class(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """Of each class's examples the share predicted right: an array [num_classes], 0 for a class without any."""
    return Metric(_confusion(labels, predictions, num_classes, weights), _by_row)


def precision_per_class(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """Of each class's predictions the share that is right: an array [num_classes], 0 for a class never predicted."""
    return Metric(_confusion(labels, predictions, num_classes, weights), lambda state: _by_row(state.T))


def mean_iou(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights = None) -> Metric:
    """Intersection over union: right / (labelled or predicted so), the mean over classes that occur at all."""
    return Metric(_confusion(labels, predictions, num_classes, weights), _mean_iou)


def _confusion(labels: Tensor, predictions: Tensor, num_classes: int, weights: Weights) -> Tensor:
    labels, predictions, spread = _aligned(labels, predictions, weights)
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
    return _divide(_module(state).diagonal(state), state.sum(1))


def _mean_iou(state: State) -> Any:
    right = _module(state).diagonal(state)
    union = state.sum(0) + state.sum(1) - right
    return _divide(_divide(right, union).sum(), (union != 0).sum())


# -- the best k classes -----------------------------------------------------------------------------------------------
# `labels` are class ids int64 [B] or [B, m], rows padded with -1; `predictions` scores f32 [B, num_classes], of which
# the k largest count (of equal ones that of the lower class), or the k ids themselves for `…_at_top_k`. `weights` are
# one number, [B] or [B, 1]. An id of `labels` that is no class is never found.


def precision_at_k(
    labels: Tensor, predictions: Tensor, k: int, class_id: int | None = None, weights: Weights = None
) -> Metric:
    """The share of the k best classes that are labels. With `class_id` only when this class is one of them."""
    return precision_at_top_k(labels, _best(predictions, k), k, class_id, weights)


def recall_at_k(
    labels: Tensor, predictions: Tensor, k: int, class_id: int | None = None, weights: Weights = None
) -> Metric:
    """The share of the labels that are among the k best classes. With `class_id` of the labels of this class alone."""
    return recall_at_top_k(labels, _best(predictions, k), k, class_id, weights)


def precision_at_top_k(
    labels: Tensor, predictions_idx: Tensor, k: int | None = None, class_id: int | None = None, weights: Weights = None
) -> Metric:
    """precision_at_k of the predicted ids int64 [B, k] themselves."""
    found, _, best = _hits(labels, predictions_idx[..., :k], class_id)
    return _share(found, best, weights)


def recall_at_top_k(
    labels: Tensor, predictions_idx: Tensor, k: int | None = None, class_id: int | None = None, weights: Weights = None
) -> Metric:
    """recall_at_k of the predicted ids int64 [B, k] themselves."""
    found, wanted, _ = _hits(labels, predictions_idx[..., :k], class_id)
    return _share(found, wanted, weights)


def average_precision_at_k(labels: Tensor, predictions: Tensor, k: int, weights: Weights = None) -> Metric:
    """The mean over examples of Σᵢ precision@i·[i-th best class is a label] / min(k, number of labels)."""
    best = _best(predictions, k)
    rows = _label_rows(labels)
    is_label = (best.unsqueeze(-1) == rows.unsqueeze(-2)).any(-1).double()
    places = torch.arange(1, k + 1, dtype=torch.float64)
    precisions = is_label.cumsum(-1) / places
    labelled = (labels.reshape(len(rows), -1) != -1).sum(-1).clamp(max=k).double()
    total = (precisions * is_label).sum(-1)
    return mean(torch.where(labelled > 0, total / labelled.clamp(min=1.0), 0.0), _per_example(weights, len(rows)))


def _best(predictions: Tensor, k: int) -> Tensor:
    if not 1 <= k <= predictions.shape[-1]:
        raise ValueError(f"k must be from 1 to the number of classes, {predictions.shape[-1]}, got {k}.")
    return predictions.sort(dim=-1, descending=True, stable=True).indices[..., :k]


def _label_rows(labels: Tensor) -> Tensor:
    """[B, m] without duplicates: the second of two equal ids becomes -1."""
    rows = (labels.unsqueeze(-1) if labels.ndim == 1 else labels).long().sort(dim=-1).values
    repeated = torch.zeros_like(rows, dtype=torch.bool)
    repeated[..., 1:] = rows[..., 1:] == rows[..., :-1]
    return rows.masked_fill(repeated, -1)


def _hits(labels: Tensor, best: Tensor, class_id: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Of each example: labels among the best, labels, and best ones, f64 [B]; of one class alone with `class_id`."""
    rows = _label_rows(labels)
    counted = (rows != -1) if class_id is None else rows == class_id
    shown = torch.ones_like(best, dtype=torch.bool) if class_id is None else best == class_id
    found = (rows.unsqueeze(-1) == best.unsqueeze(-2)).any(-1) & counted
    return found.sum(-1).double(), counted.sum(-1).double(), shown.sum(-1).double()


def _share(part: Tensor, whole: Tensor, weights: Weights) -> Metric:
    spread = _spread(_per_example(weights, len(whole)), whole)
    return Metric(torch.stack([(part * spread).sum(), (whole * spread).sum()]), _ratio)


def _per_example(weights: Weights, rows: int) -> Weights:
    return weights.reshape(rows) if isinstance(weights, Tensor) and weights.ndim else weights


# -- shapes and sums --------------------------------------------------------------------------------------------------


def _aligned(labels: Tensor, predictions: Tensor, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """All three in the shape of the predictions, weights as f64."""
    if labels.ndim == predictions.ndim + 1 and labels.shape[-1] == 1:
        labels = labels.squeeze(-1)
    elif predictions.ndim == labels.ndim + 1 and predictions.shape[-1] == 1:
        predictions = predictions.squeeze(-1)
    if labels.shape != predictions.shape:
        raise ValueError(
            f"Shapes {tuple(predictions.shape)} and {tuple(labels.shape)} are incompatible: predictions and labels "
            "must have one shape."
        )
    return labels, predictions, _spread(weights, predictions)


def _spread(weights: Weights, values: Tensor) -> Tensor:
    """Weights as f64 in the shape of `values`."""
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


def _module(state: State) -> Any:
    """The module whose functions take such a state."""
    return torch if isinstance(state, Tensor) else np


def _divide(numerator: Any, denominator: Any) -> Any:
    """0 where the denominator is 0."""
    where = torch.where if isinstance(denominator, Tensor) else np.where
    return where(denominator != 0, numerator / where(denominator != 0, denominator, 1.0), 0.0)


def _ratio(state: State) -> Any:
    return _divide(state[0], state[1])


def _larger_share(state: State) -> Any:
    share = _ratio(state)
    where = _module(state).where
    return where(state[1] != 0, where(share < 0.5, 1.0 - share, share), 0.0)
