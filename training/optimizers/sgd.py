"""Gradient descent, with momentum and Nesterov momentum. Owns the formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from estimator_serving.training.optimizers.base import Common, LearningRate, Optimizer, Tensors


class SGD(Optimizer):
    """w −= lr·g; with momentum a = m·a − lr·g, w += a (Nesterov: w += m·a − lr·g). Default lr 0.01."""

    default_name = "SGD"
    v1_name = "Momentum"
    constants = ("decay", "momentum")

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"`momentum` must be between [0, 1], given: {momentum}.")
        self.momentum = momentum
        self.nesterov = nesterov
        self.slot_names = ("momentum",) if momentum else ()
        self.rests_without_gradient = not momentum

    def from_v1(self, slot: str, value: Tensor, step: int) -> Tensor:
        # TensorFlow 1 accumulates gradients, and multiplies them by the learning rate in the step.
        return value * -self.rate(step)

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        if not self.momentum:
            torch._foreach_add_(weights, gradients, alpha=-rate)
            return
        (velocity,) = slots
        torch._foreach_mul_(velocity, self.momentum)
        torch._foreach_add_(velocity, gradients, alpha=-rate)
        if self.nesterov:
            torch._foreach_add_(weights, velocity, alpha=self.momentum)
            torch._foreach_add_(weights, gradients, alpha=-rate)
        else:
            torch._foreach_add_(weights, velocity)
