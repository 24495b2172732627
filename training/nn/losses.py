"""Losses of predictions and labels, and how a batch of them becomes one number (tf.compat.v1.losses of TF 2.15).

Pure functions of tensors. Knows no head, feature or variable. In every loss `weights` is a number, or a tensor of the
losses' rank whose dimensions are theirs or 1, and `reduction` one of Reduction; the result is an f32 scalar, or the
weighted losses themselves with Reduction.NONE. Labels and predictions of different shapes raise ValueError: a [B]
beside a [B, 1] would quietly become [B, B].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from estimator_serving.training.errors import InvalidArgumentError

# Where tf.losses has them.
from estimator_serving.training.nn.regularizers import get_regularization_loss as get_regularization_loss
from estimator_serving.training.nn.regularizers import get_regularization_losses as get_regularization_losses

Weights = Tensor | float | None


class Reduction:
    """How weighted losses become a scalar. SUM_OVER_BATCH_SIZE divides by the number of losses, not by the weights."""

    AUTO = "auto"
    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"
    SUM_BY_NONZERO_WEIGHTS = "sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS
    MEAN = "mean"
    """Divided by the sum of the weights."""

    @classmethod
    def all(cls) -> tuple[str, ...]:
        return (cls.AUTO, cls.NONE, cls.SUM, cls.SUM_OVER_BATCH_SIZE, cls.SUM_BY_NONZERO_WEIGHTS, cls.MEAN)


def compute_weighted_loss(
    losses: Tensor, weights: Weights = None, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS
) -> Tensor:
    """`losses` f32 [...] times `weights`, reduced; 0 where the divisor is 0.

    Raises ValueError for an unknown reduction and for weights that do not fit the losses.
    """
    if reduction not in Reduction.all():
        raise ValueError(f"Invalid Reduction Key {reduction}. Key should be one of {Reduction.all()}.")
    spread = _spread(weights, losses)
    weighted = losses if weights is None else losses * spread
    if reduction == Reduction.NONE:
        return weighted
    total = weighted.sum()
    if reduction == Reduction.SUM:
        return total
    if reduction in (Reduction.AUTO, Reduction.SUM_OVER_BATCH_SIZE):
        return total / max(losses.numel(), 1)
    divisor = (spread != 0).sum() if reduction == Reduction.SUM_BY_NONZERO_WEIGHTS else spread.sum()
    return torch.where(divisor != 0, total / divisor, torch.zeros_like(total))


def absolute_difference(
    labels: Tensor,
    predictions: Tensor,
    weights: Weights = None,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """|prediction − label|, both of one shape."""
    labels, predictions = _matched(labels, predictions)
    return compute_weighted_loss((predictions - labels).abs(), weights, reduction)


def mean_squared_error(
    labels: Tensor,
    predictions: Tensor,
    weights: Weights = None,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """(prediction − label)², both of one shape."""
    labels, predictions = _matched(labels, predictions)
    return compute_weighted_loss((predictions - labels).square(), weights, reduction)


def mean_pairwise_squared_error(labels: Tensor, predictions: Tensor, weights: Weights = None) -> Tensor:
    """The mean over an example's pairs of entries of (their difference predicted − their difference labelled)².

    Both [B, ...]; `weights` a number, [B] or [B, 1, ...]. Summed over the batch, as TF does.
    """
    labels, predictions = _matched(labels, predictions)
    differences = (predictions - labels).flatten(1)
    count = differences.shape[1]
    if count < 2:
        return torch.zeros(())
    squares, sums = differences.square().sum(1), differences.sum(1)
    each = 2.0 * squares / (count - 1) - 2.0 * sums.square() / (count * (count - 1))
    if isinstance(weights, Tensor):
        weights = weights.reshape(-1)
    return compute_weighted_loss(each, weights, Reduction.SUM)


def huber_loss(
    labels: Tensor,
    predictions: Tensor,
    weights: Weights = None,
    delta: float = 1.0,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """½e² up to |e| = delta, delta·|e| − ½delta² above, for e = prediction − label."""
    labels, predictions = _matched(labels, predictions)
    losses = functional.huber_loss(predictions, labels, reduction="none", delta=delta)
    return compute_weighted_loss(losses, weights, reduction)


def hinge_loss(
    labels: Tensor,
    logits: Tensor,
    weights: Weights = None,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """max(0, 1 − (2z − 1)·x) for logits x and labels z of 0 and 1."""
    labels, logits = _matched(labels, logits)
    return compute_weighted_loss(torch.relu(1.0 - (2.0 * labels - 1.0) * logits), weights, reduction)


def log_loss(
    labels: Tensor,
    predictions: Tensor,
    weights: Weights = None,
    epsilon: float = 1e-7,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """−z·ln(p + ε) − (1 − z)·ln(1 − p + ε) for probabilities p and labels z in [0, 1]."""
    labels, predictions = _matched(labels, predictions)
    losses = -labels * (predictions + epsilon).log() - (1.0 - labels) * (1.0 - predictions + epsilon).log()
    return compute_weighted_loss(losses, weights, reduction)


def cosine_distance(
    labels: Tensor,
    predictions: Tensor,
    axis: int | None = None,
    weights: Weights = None,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """1 − Σ prediction·label along `axis`, which is kept with size 1. Both are expected to have length 1 already.

    Raises ValueError without an axis.
    """
    if axis is None:
        raise ValueError("You must specify argument `axis`. It is the one that the vectors lie along, often 1.")
    labels, predictions = _matched(labels, predictions)
    return compute_weighted_loss(1.0 - (predictions * labels).sum(axis, keepdim=True), weights, reduction)


def log_poisson_loss(targets: Tensor, log_input: Tensor, compute_full_loss: bool = False) -> Tensor:
    """eˣ − z·x for x = log_input and counts z = targets, unreduced (tf.nn.log_poisson_loss).

    compute_full_loss adds Stirling's z·ln z − z + ½·ln(2πz) where z > 1. It makes the loss of a negative z NaN.
    """
    targets, log_input = _matched(targets, log_input)
    losses = log_input.exp() - targets * log_input
    if not compute_full_loss:
        return losses
    # Where z is in [0, 1] the term is 0, and ln 0 stays out of the sum.
    is_small = (targets >= 0) & (targets <= 1)
    z = targets.masked_fill(is_small, 1.0)
    stirling = z * z.log() - z + 0.5 * (2.0 * math.pi * z).log()
    return losses + stirling.masked_fill(is_small, 0.0)


def sigmoid_cross_entropy(
    multi_class_labels: Tensor,
    logits: Tensor,
    weights: Weights = None,
    label_smoothing: float = 0.0,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """max(x, 0) − x·z + log(1 + e^−|x|) for logits x and labels z in [0, 1], both [B, n].

    label_smoothing s moves labels to z·(1 − s) + s/2.
    """
    labels, logits = _matched(multi_class_labels, logits)
    if label_smoothing > 0:
        labels = labels * (1.0 - label_smoothing) + 0.5 * label_smoothing
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return compute_weighted_loss(losses, weights, reduction)


def softmax_cross_entropy(
    onehot_labels: Tensor,
    logits: Tensor,
    weights: Weights = None,
    label_smoothing: float = 0.0,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """−Σ z·log softmax(logits) along the last axis, for labels z that sum to 1, both [..., n]; losses are [...].

    label_smoothing s moves labels to z·(1 − s) + s/n.
    """
    labels, logits = _matched(onehot_labels, logits)
    if label_smoothing > 0:
        labels = labels * (1.0 - label_smoothing) + label_smoothing / labels.shape[-1]
    losses = -(labels * torch.log_softmax(logits, dim=-1)).sum(-1)
    return compute_weighted_loss(losses, _without_last(weights, losses), reduction)


def sparse_softmax_cross_entropy(
    labels: Tensor,
    logits: Tensor,
    weights: Weights = None,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """−log softmax(logits)[label]. `labels` integers [...] or [..., 1], `logits` [..., n]; losses are [...].

    Raises ValueError for labels that are not integers or, InvalidArgumentError, not in [0, n).
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"Labels dtype should be integer. Instead got {labels.dtype}: cast them to int64.")
    if labels.ndim == logits.ndim and labels.shape[-1] == 1:
        labels = labels.squeeze(-1)
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"Shapes {tuple(labels.shape)} and {tuple(logits.shape[:-1])} are incompatible: labels and the logits' "
            "shape without its last dimension. One-hot labels are for softmax_cross_entropy."
        )
    _check_class_range(labels, logits.shape[-1])
    losses = class_losses(labels.long(), logits)
    return compute_weighted_loss(losses, _without_last(weights, losses), reduction)


def class_losses(labels: Tensor, logits: Tensor) -> Tensor:
    """−log softmax(logits)[label], unreduced: labels int64 [...], logits [..., n] -> [...]."""
    if torch.compiler.is_exporting():  # ONNX has no operator for what cross_entropy becomes
        return -torch.log_softmax(logits, dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    flat = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="none")
    return flat.reshape(labels.shape)


# -- shapes -----------------------------------------------------------------------------------------------------------


def _matched(labels: Tensor, predictions: Tensor) -> tuple[Tensor, Tensor]:
    """Both as floats. Raises ValueError for different shapes."""
    for name, value in (("labels", labels), ("predictions", predictions)):
        if value is None:
            raise ValueError(f"Argument `{name}` must not be None.")
    if labels.shape != predictions.shape:
        raise ValueError(
            f"Shapes {tuple(predictions.shape)} and {tuple(labels.shape)} are incompatible: predictions and labels "
            "must have one shape. Reshape one of them, labels.reshape(-1, 1) for example."
        )
    return labels.float(), predictions.float()


def _spread(weights: Weights, losses: Tensor) -> Tensor:
    """Weights in the shape of the losses."""
    if weights is None:
        return torch.ones_like(losses)
    found = torch.as_tensor(weights, dtype=losses.dtype)
    fits = found.ndim == losses.ndim and all(w in (1, size) for w, size in zip(found.shape, losses.shape, strict=True))
    if found.ndim and not fits:
        raise ValueError(
            f"weights can not be broadcast to values. values.rank={losses.ndim}. weights.rank={found.ndim}. "
            f"values.shape={tuple(losses.shape)}. weights.shape={tuple(found.shape)}. Pass one number, or weights of "
            "the same rank."
        )
    return found.expand_as(losses)


def _without_last(weights: Weights, losses: Tensor) -> Weights:
    """Weights [B, 1] as [B], where a loss is one number an example."""
    is_column = isinstance(weights, Tensor) and weights.ndim == losses.ndim + 1 and weights.shape[-1] == 1
    return weights.squeeze(-1) if isinstance(weights, Tensor) and is_column else weights


def _check_class_range(labels: Tensor, n_classes: int) -> None:
    # An exported graph has no values to look at while it is traced.
    if torch.compiler.is_exporting() or not labels.numel():
        return
    low, high = (int(bound) for bound in torch.aminmax(labels))
    if low < 0 or high >= n_classes:
        raise InvalidArgumentError(
            f"Received a label value of {low if low < 0 else high} which is outside the valid range of "
            f"[0, {n_classes}). Give the logits one column a class, and number the classes from 0."
        )
