"""Adadelta: steps as long as a moving mean of the steps so far, divided by one of the gradients. Owns the formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch

from estimator_serving.training.optimizers.base import Common, LearningRate, Optimizer, Tensors


class Adadelta(Optimizer):
    """s = ρ·s + (1−ρ)·g²; d = g·√(u + ε)/√(s + ε); u = ρ·u + (1−ρ)·d²; w −= lr·d. Defaults lr 0.001, ρ 0.95, ε 1e-7."""

    default_name = "Adadelta"
    slot_names = ("accum_grad", "accum_var")
    constants = ("decay", "rho")

    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **common: Unpack[Common]
    ) -> None:
        super().__init__(learning_rate, **common)
        self.rho = rho
        self.epsilon = epsilon

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        squares, steps = slots
        torch._foreach_mul_(squares, self.rho)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - self.rho)
        delta = torch._foreach_sqrt(torch._foreach_add(steps, self.epsilon))
        torch._foreach_div_(delta, torch._foreach_sqrt(torch._foreach_add(squares, self.epsilon)))
        torch._foreach_mul_(delta, gradients)
        torch._foreach_mul_(steps, self.rho)
        torch._foreach_addcmul_(steps, delta, delta, value=1.0 - self.rho)
        torch._foreach_add_(weights, delta, alpha=-rate)
