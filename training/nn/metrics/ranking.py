"""Metrics of the k best classes of each example.

Owns which classes are the best. `labels` are class ids int64 [B] or [B, m], rows padded with -1. `predictions` are
scores f32 [B, num_classes], of which the k largest count (of equal scores that of the lower class), or the k ids
themselves for `…_at_top_k`. `weights` are one number, [B] or [B, 1]. An id in `labels` that is not a class is never
found.
"""

from __future__ import annotations

import torch
from torch import Tensor

from estimator_serving.training.nn.metrics.base import Metric, Weights, broadcast_weights, ratio
from estimator_serving.training.nn.metrics.means import mean


def precision_at_k(
    labels: Tensor, predictions: Tensor, k: int, class_id: int | None = None, weights: Weights = None
) -> Metric:
    """The share of the k best classes that are labels. With `class_id` only this class counts."""
    return precision_at_top_k(labels, _best(predictions, k), k, class_id, weights)


def recall_at_k(
    labels: Tensor, predictions: Tensor, k: int, class_id: int | None = None, weights: Weights = None
) -> Metric:
    """The share of the labels that are among the k best classes. With `class_id` only labels of this class count."""
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
    """Of each example: labels among the best, labels, and best ones, f64 [B]; of one class only with `class_id`."""
    rows = _label_rows(labels)
    counted = (rows != -1) if class_id is None else rows == class_id
    shown = torch.ones_like(best, dtype=torch.bool) if class_id is None else best == class_id
    found = (rows.unsqueeze(-1) == best.unsqueeze(-2)).any(-1) & counted
    return found.sum(-1).double(), counted.sum(-1).double(), shown.sum(-1).double()


def _share(part: Tensor, whole: Tensor, weights: Weights) -> Metric:
    spread = broadcast_weights(_per_example(weights, len(whole)), whole)
    return Metric(torch.stack([(part * spread).sum(), (whole * spread).sum()]), ratio)


def _per_example(weights: Weights, rows: int) -> Weights:
    return weights.reshape(rows) if isinstance(weights, Tensor) and weights.ndim else weights
