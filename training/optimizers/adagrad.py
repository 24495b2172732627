"""Adagrad: each entry of a variable divides its steps by the root of its squared gradients so far. Owns the formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch

from estimator_serving.training.optimizers.base import Common, LearningRate, Optimizer, Tensors


class Adagrad(Optimizer):
    """n += g²; w −= lr·g/(√n + ε). Defaults lr 0.001, n₀ 0.1, ε 1e-7."""

    default_name = "Adagrad"
    slot_names = ("accumulator",)
    rests_without_gradient = True

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        if initial_accumulator_value < 0.0:
            raise ValueError(f"initial_accumulator_value must be non-negative: {initial_accumulator_value}")
        self.initial_accumulator_value = initial_accumulator_value
        self.starts = {"accumulator": initial_accumulator_value}
        self.epsilon = epsilon

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        (accumulator,) = slots
        torch._foreach_addcmul_(accumulator, gradients, gradients)
        denominator = torch._foreach_sqrt(accumulator)
        torch._foreach_add_(denominator, self.epsilon)
        torch._foreach_addcdiv_(weights, gradients, denominator, value=-rate)
