"""Adamax: Adam with a decaying maximum of the gradients in place of the root. Owns the formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch

from estimator_serving.training.optimizers.base import Common, LearningRate, Optimizer, Tensors


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the root: u = max(β₂·u, |g|); w −= lr/(1−β₁ᵗ) · m/(u + ε).

    Defaults lr 0.001, β 0.9 and 0.999, ε 1e-7. t is global_step + 1.
    """

    default_name = "Adamax"
    slot_names = ("m", "v")
    constants = ("decay", "beta_1", "beta_2")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        m, largest = slots
        torch._foreach_lerp_(m, gradients, 1.0 - self.beta_1)
        torch._foreach_mul_(largest, self.beta_2)
        torch._foreach_maximum_(largest, torch._foreach_abs(gradients))
        denominator = torch._foreach_add(largest, self.epsilon)
        torch._foreach_addcdiv_(weights, m, denominator, value=-rate / (1.0 - self.beta_1 ** (step + 1)))
