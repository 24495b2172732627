"""Losses on weights: what a layer's regularizer adds, collected for the model_fn to add to its own loss.

    loss = losses.mean_squared_error(labels, net) + regularizers.get_regularization_loss()

Owns the functions and the collection of one call of model_fn. Does not know layers. As in TensorFlow nothing is added
to the loss by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from estimator_serving.training.nn.variables import current_store

Regularizer = Callable[[Tensor], Tensor]


def l1(l1: float = 0.01) -> Regularizer:
    """l1 · Σ|w|."""
    return l1_l2(l1=l1, l2=0.0)


def l2(l2: float = 0.01) -> Regularizer:
    """l2 · Σw² (Keras'; tf.contrib's l2_regularizer(scale) is half of it)."""
    return l1_l2(l1=0.0, l2=l2)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> Regularizer:
    """l1 · Σ|w| + l2 · Σw²: any tensor -> f32 scalar."""

    def penalty(weights: Tensor) -> Tensor:
        total = l2 * weights.square().sum() if l2 else weights.new_zeros(())
        return total + l1 * weights.abs().sum() if l1 else total

    return penalty


def add_regularization_loss(make: Callable[[], Tensor]) -> None:
    """Note a loss; `make` is called where the model_fn asks for it."""
    current_store().regularization_losses.append(make)


def get_regularization_losses() -> list[Tensor]:
    """What the regularizers of the layers called so far give: f32 scalars, in the order of the layers.

    ValueError outside a model_fn.
    """
    return [make() for make in current_store().regularization_losses]


def get_regularization_loss() -> Tensor:
    """Their sum, f32 scalar; 0 without any."""
    return torch.stack([torch.zeros(()), *get_regularization_losses()]).sum()
