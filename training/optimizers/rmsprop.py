"""RMSProp: steps divided by the root of a moving mean of the squared gradients. Owns the formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from estimator_serving.training.optimizers.base import Common, LearningRate, Optimizer, Tensors


class RMSProp(Optimizer):
    """s = ρ·s + (1−ρ)·g²; w −= lr·g/(√s + ε); with momentum a = m·a + lr·g/√(s + ε), w −= a.

    `centered` takes the square of the moving mean of g from s. Defaults lr 0.001, ρ 0.9, momentum 0, ε 1e-7.
    """

    default_name = "RMSprop"
    v1_name = "RMSProp"
    v1_slots = ("rms", "mg", "momentum")
    constants = ("decay", "rho", "momentum")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"`momentum` must be between [0, 1], given: {momentum}.")
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered
        self.slot_names = ("rms", *(["momentum"] if momentum else []), *(["mg"] if centered else []))
        # TF decays s everywhere without momentum, and only in the touched rows with it.
        self.touches_only_rows = bool(momentum)

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        named = dict(zip(self.slot_names, slots, strict=True))
        squares = named["rms"]
        torch._foreach_mul_(squares, self.rho)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - self.rho)
        variance: Tensors | tuple[Tensor, ...] = squares
        if self.centered:
            torch._foreach_lerp_(named["mg"], gradients, 1.0 - self.rho)
            variance = torch._foreach_addcmul(squares, named["mg"], named["mg"], value=-1.0)
        if self.momentum:
            root = torch._foreach_sqrt(torch._foreach_add(variance, self.epsilon))
            torch._foreach_mul_(named["momentum"], self.momentum)
            torch._foreach_addcdiv_(named["momentum"], gradients, root, value=rate)
            torch._foreach_sub_(weights, named["momentum"])
        else:
            root = torch._foreach_add(torch._foreach_sqrt(variance), self.epsilon)
            torch._foreach_addcdiv_(weights, gradients, root, value=-rate)


RMSprop = RMSProp
"""Keras' spelling."""
