"""The optimizers of tf.compat.v1.train under their names, with TF 1's constants and arguments; and its learning rates.

    train_op = train.AdamOptimizer(learning_rate=0.001).minimize(loss, global_step=train.get_global_step())

Slots are saved under the names of training.optimizers, which owns the formulas; only RMSProp's differs here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from estimator_serving.training.nn.variables import get_global_step
from estimator_serving.training.optimizers.adagrad import Adagrad
from estimator_serving.training.optimizers.adam import Adam
from estimator_serving.training.optimizers.base import LearningRate, Optimizer, Tensors
from estimator_serving.training.optimizers.ftrl import Ftrl
from estimator_serving.training.optimizers.rmsprop import RMSProp
from estimator_serving.training.optimizers.schedules import (
    cosine_decay,
    cosine_decay_restarts,
    exponential_decay,
    inverse_time_decay,
    linear_cosine_decay,
    natural_exp_decay,
    piecewise_constant,
    polynomial_decay,
)
from estimator_serving.training.optimizers.sgd import SGD

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
    """w −= lr·g. `use_locking` changes nothing, here and below: two threads never take a step at once."""

    def __init__(self, learning_rate: LearningRate, use_locking: bool = False, name: str = "GradientDescent") -> None:
        super().__init__(learning_rate, name=name)


class MomentumOptimizer(SGD):
    """a = m·a − lr·g, w += a; TF's a is the same divided by −lr."""

    def __init__(
        self,
        learning_rate: LearningRate,
        momentum: float,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate, momentum, use_nesterov, name=name)


class AdagradOptimizer(Adagrad):
    """Adagrad without ε: w −= lr·g/√n, n₀ 0.1."""

    def __init__(
        self,
        learning_rate: LearningRate,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(f"initial_accumulator_value must be positive: {initial_accumulator_value}")
        super().__init__(learning_rate, initial_accumulator_value, epsilon=0.0, name=name)


class AdamOptimizer(Adam):
    """Adam with ε 1e-8."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, name=name)


class FtrlOptimizer(Ftrl):
    """Ftrl; the learning rate has no default."""

    def __init__(
        self,
        learning_rate: LearningRate,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            learning_rate_power,
            initial_accumulator_value,
            l1_regularization_strength,
            l2_regularization_strength,
            l2_shrinkage_regularization_strength,
            beta or 0.0,
            name=name,
        )


class RMSPropOptimizer(RMSProp):
    """s₀ = 1; s = ρ·s + (1−ρ)·g²; a = m·a + lr·g/√(s + ε), w −= a; ε 1e-10, with and without momentum."""

    def __init__(
        self,
        learning_rate: LearningRate,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        super().__init__(learning_rate, decay, momentum, epsilon, centered, name=name)
        self.slot_names = ("rms", "momentum", *(["mg"] if centered else []))
        self.starts = {"rms": 1.0}
        self.touches_only_rows = True

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        squares, moved, *means = slots
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1.0 - self.rho)
        variance: Tensors | tuple[Tensor, ...] = squares
        if means:
            torch._foreach_lerp_(means[0], gradients, 1.0 - self.rho)
            variance = torch._foreach_addcmul(squares, means[0], means[0], value=-1.0)
        root = torch._foreach_sqrt(torch._foreach_add(variance, self.epsilon))
        torch._foreach_mul_(moved, self.momentum)
        torch._foreach_addcdiv_(moved, gradients, root, value=rate)
        torch._foreach_sub_(weights, moved)


BY_NAME: dict[str, Callable[[float], Optimizer]] = {
    "Adagrad": AdagradOptimizer,
    "Adam": AdamOptimizer,
    "Ftrl": FtrlOptimizer,
    "RMSProp": RMSPropOptimizer,
    "SGD": GradientDescentOptimizer,
}
"""Those that TensorFlow 1 makes of a name and a learning rate."""
