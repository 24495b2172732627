"""Adam: steps along a moving mean of the gradients, divided by the root of a moving mean of their squares.

Owns the formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch

from estimator_serving.training.optimizers.base import Common, LearningRate, Optimizer, Tensors


class Adam(Optimizer):
    """Adam with ε outside the corrected root, as TF has it: w −= lr·√(1−β₂ᵗ)/(1−β₁ᵗ) · m/(√v + ε).

    Defaults lr 0.001, β 0.9 and 0.999, ε 1e-7. t is global_step + 1. Every row of a table moves, looked up or not.
    `amsgrad` divides by the root of the largest v so far.
    """

    default_name = "Adam"
    slot_names: tuple[str, ...] = ("m", "v")
    touches_only_rows = False
    constants = ("decay", "beta_1", "beta_2")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.slot_names = ("m", "v", "vhat") if amsgrad else ("m", "v")

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        m, v, *largest = slots
        corrected = rate * (1.0 - self.beta_2 ** (step + 1)) ** 0.5 / (1.0 - self.beta_1 ** (step + 1))
        torch._foreach_lerp_(m, gradients, 1.0 - self.beta_1)
        torch._foreach_mul_(v, self.beta_2)
        torch._foreach_addcmul_(v, gradients, gradients, value=1.0 - self.beta_2)
        if largest:
            torch._foreach_maximum_(largest[0], v)
        denominator = torch._foreach_sqrt(largest[0] if largest else v)
        torch._foreach_add_(denominator, self.epsilon)
        torch._foreach_addcdiv_(weights, m, denominator, value=-corrected)
