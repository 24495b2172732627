"""Ftrl: follow the regularised leader, the optimizer of linear models. Owns the formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from estimator_serving.training.optimizers.base import Common, LearningRate, Optimizer, Tensors


class Ftrl(Optimizer):
    """Follow the regularised leader. Defaults lr 0.001, lr_power −0.5, n₀ 0.1, l1 = l2 = shrinkage = β = 0.

        n' = n + g²;  σ = (n'^−p − n^−p)/lr;  z += g + 2·shrinkage·w − σ·w
        w  = (clip(z, ±l1) − z) / (n'^−p/lr + 2·(l2 + β/(2·lr)))

    z starts at 0, so a weight that starts elsewhere is pulled towards 0 and one without gradient becomes 0 (TF's too).
    With `keep_initial_weights`, which TF lacks, z starts at −w₀·(n₀^−p + β)/lr: a weight stays where it starts (or was
    warm-started) until gradients and regularisation move it.
    """

    default_name = "Ftrl"
    slot_names = ("accumulator", "linear")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        keep_initial_weights: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        not_negative = {
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
        }
        for name, value in not_negative.items():
            if value < 0.0:
                raise ValueError(f"{name} needs to be positive or zero, given: {value}.")
        if learning_rate_power > 0.0:
            raise ValueError(f"learning_rate_power {learning_rate_power} needs to be negative or zero.")
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.starts = {"accumulator": initial_accumulator_value}
        self.l1 = l1_regularization_strength
        self.l2 = l2_regularization_strength
        self.l2_shrinkage = l2_shrinkage_regularization_strength
        self.beta = beta
        self.keep_initial_weights = keep_initial_weights

    def first_slot(self, slot: str, weights: Tensor, step: int) -> Tensor:
        if slot != "linear" or not self.keep_initial_weights:
            return super().first_slot(slot, weights, step)
        pull = (self.initial_accumulator_value**-self.learning_rate_power + self.beta) / self.rate(step)
        first: Tensor = weights.detach() * -pull
        return first

    def hyperparameters(self) -> dict[str, float]:
        return {
            **super().hyperparameters(),
            "beta": self.beta,
            "l1_regularization_strength": self.l1,
            "l2_regularization_strength": self.l2,
            "learning_rate_power": self.learning_rate_power,
        }

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        accumulator, linear = slots
        before = self._power(accumulator)
        torch._foreach_addcmul_(accumulator, gradients, gradients)
        after = self._power(accumulator)
        torch._foreach_add_(linear, gradients)
        if self.l2_shrinkage:
            torch._foreach_add_(linear, weights, alpha=2.0 * self.l2_shrinkage)
        torch._foreach_sub_(before, after)
        torch._foreach_addcmul_(linear, before, weights, value=1.0 / rate)
        torch._foreach_div_(after, rate)
        torch._foreach_add_(after, 2.0 * self.l2 + self.beta / rate)
        pulled = torch._foreach_neg(linear)
        if self.l1:
            clipped = torch._foreach_clamp_min(torch._foreach_clamp_max(linear, self.l1), -self.l1)
            torch._foreach_add_(pulled, clipped)
        torch._foreach_div_(pulled, after)
        torch._foreach_copy_(weights, pulled)

    def _power(self, accumulator: Tensors) -> Tensors:
        if self.learning_rate_power == -0.5:
            return list(torch._foreach_sqrt(accumulator))
        return list(torch._foreach_pow(accumulator, -self.learning_rate_power))
