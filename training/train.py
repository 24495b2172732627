"""The optimizers of tf.compat.v1.train under their names, with TF 1's constants and arguments; and its learning rates.

    train_op = train.AdamOptimizer(learning_rate=0.001).minimize(loss, global_step=train.get_global_step())

Slots are saved under the names of training.optimizers, which own the formulas; only RMSProp's differs here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from estimator_serving.training.optimizers import SGD, Adagrad, Adam, Ftrl, LearningRate, RMSProp, Tensors
from estimator_serving.training.schedules import (
    cosine_decay,
    cosine_decay_restarts,
    exponential_decay,
    inverse_time_decay,
    linear_cosine_decay,
    natural_exp_decay,
    piecewise_constant,
    polynomial_decay,
)
from estimator_serving.training.variables import get_global_step

__all__ = [
    "AdagradOptimizer",
    "AdamOptimizer",
    "FtrlOptimizer",
    "GradientDescentOptimizer",
    "MomentumOptimizer",
    "RMSPropOptimizer",
    "cosine_decay",
    "cosine_decay_restarts",
    "exponential_decay",
    "get_global_step",
    "inverse_time_decay",
    "linear_cosine_decay",
    "natural_exp_decay",
    "piecewise_constant",
    "polynomial_decay",
]


class GradientDescentOptimizer(SGD):
    """w −= lr·g."""

    def __init__(self, learning_rate: LearningRate) -> None:
        super().__init__(learning_rate)


class MomentumOptimizer(SGD):
    """a = m·a − lr·g, w += a (TF 1 keeps a/lr, which is the same for a rate that does not change)."""

    def __init__(self, learning_rate: LearningRate, momentum: float, use_nesterov: bool = False) -> None:
        super().__init__(learning_rate, momentum, use_nesterov)


class AdagradOptimizer(Adagrad):
    """n += g²; w −= lr·g/√n. n₀ 0.1; canned estimators of TF 1 used lr 0.05."""

    def __init__(self, learning_rate: LearningRate, initial_accumulator_value: float = 0.1) -> None:
        super().__init__(learning_rate, initial_accumulator_value, epsilon=0.0)


class AdamOptimizer(Adam):
    """Adam with ε 1e-8."""

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon)


class FtrlOptimizer(Ftrl):
    """Ftrl, whose learning rate has no default."""

    def __init__(
        self,
        learning_rate: LearningRate,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
    ) -> None:
        super().__init__(
            learning_rate,
            learning_rate_power,
            initial_accumulator_value,
            l1_regularization_strength,
            l2_regularization_strength,
            l2_shrinkage_regularization_strength,
            beta,
        )


class RMSPropOptimizer(RMSProp):
    """s = ρ·s + (1−ρ)·g² from s₀ = 1; a = m·a + lr·g/√(s + ε), w −= a. ρ is called decay; ε 1e-10.

    As in TF 1 only the rows that were looked up change.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        centered: bool = False,
    ) -> None:
        super().__init__(learning_rate, decay, momentum, epsilon, centered)
        self.slot_names = ("rms", "momentum", *(["mg"] if centered else []))
        self.touches_rows_alone = True

    def initial(self, slot: str) -> float:
        return 1.0 if slot == "rms" else 0.0

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        squares, steps, *means = slots
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1.0 - self.rho)
        variance = squares
        if means:
            torch._foreach_lerp_(means[0], gradients, 1.0 - self.rho)
            variance = torch._foreach_addcmul(squares, means[0], means[0], value=-1.0)
        root = torch._foreach_sqrt(torch._foreach_add(variance, self.epsilon))
        torch._foreach_mul_(steps, self.momentum)
        torch._foreach_addcdiv_(steps, gradients, root, value=rate)
        torch._foreach_sub_(weights, steps)
