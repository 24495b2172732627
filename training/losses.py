"""Losses of logits and labels, and how a batch of them becomes one number (TF 2.15).

Pure functions of tensors. Knows no head, feature or variable.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Where tf.losses has them.
from estimator_serving.training.regularizers import get_regularization_loss as get_regularization_loss
from estimator_serving.training.regularizers import get_regularization_losses as get_regularization_losses


class Reduction:
    """How weighted losses become a scalar. SUM_OVER_BATCH_SIZE divides by the number of losses, not by the weights."""

    AUTO = "auto"
    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"
    SUM_BY_NONZERO_WEIGHTS = "sum_by_nonzero_weights"
    MEAN = "mean"
    """Divided by the sum of the weights."""

    @classmethod
    def all(cls) -> tuple[str, ...]:
        return (cls.AUTO, cls.NONE, cls.SUM, cls.SUM_OVER_BATCH_SIZE, cls.SUM_BY_NONZERO_WEIGHTS, cls.MEAN)


def compute_weighted_loss(
    losses: Tensor, weights: Tensor | float | None = None, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS
) -> Tensor:
    """`losses` f32 [...] times `weights` (broadcast to it), reduced. Raises ValueError for an unknown reduction."""
    if reduction not in Reduction.all():
        raise ValueError(f"Invalid reduction: {reduction}. Valid ones are {Reduction.all()}.")
    weighted = losses if weights is None else losses * weights
    if reduction == Reduction.NONE:
        return weighted
    if reduction in (Reduction.AUTO, Reduction.SUM_OVER_BATCH_SIZE):
        return weighted.mean()
    total = weighted.sum()
    if reduction == Reduction.SUM:
        return total
    spread = torch.ones_like(losses) if weights is None else torch.as_tensor(weights).expand_as(losses)
    divisor = (spread != 0).sum() if reduction == Reduction.SUM_BY_NONZERO_WEIGHTS else spread.sum()
    return torch.where(divisor > 0, total / divisor, torch.zeros_like(total))


def sigmoid_cross_entropy(
    multi_class_labels: Tensor,
    logits: Tensor,
    weights: Tensor | float | None = None,
    label_smoothing: float = 0.0,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """max(x, 0) − x·z + log(1 + e^−|x|) for logits x and labels z in [0, 1], both f32 [B, n]. f32 scalar."""
    labels = multi_class_labels.to(logits.dtype)
    if label_smoothing:
        labels = labels * (1 - label_smoothing) + 0.5 * label_smoothing
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return compute_weighted_loss(losses, weights, reduction)


def sparse_softmax_cross_entropy(
    labels: Tensor,
    logits: Tensor,
    weights: Tensor | float | None = None,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """−log softmax(logits)[label]. `labels` integers [B] or [B, 1], `logits` f32 [B, n]. f32 scalar.

    Raises ValueError for labels that are not integers.
    """
    if labels.is_floating_point():
        raise ValueError(f"Labels dtype should be integer. Instead got {labels.dtype}: cast them to int64.")
    losses = functional.cross_entropy(logits, labels.reshape(-1).long(), reduction="none")
    if isinstance(weights, Tensor):
        weights = weights.reshape(-1)
    return compute_weighted_loss(losses, weights, reduction)


def mean_squared_error(
    labels: Tensor,
    predictions: Tensor,
    weights: Tensor | float | None = None,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """(prediction − label)², both f32 of one shape. f32 scalar."""
    losses = (predictions - labels.to(predictions.dtype)).square()
    return compute_weighted_loss(losses, weights, reduction)
