"""Learning rates that follow global_step (tf.keras.optimizers.schedules and tf.compat.v1.train of TF 2.15).

A schedule is a function of the step: pass it as an optimizer's learning_rate. The functions with TF 1's names take the
step themselves and give the rate of that step as a float. Knows no optimizer.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


class LearningRateSchedule:
    """A learning rate as a function of global_step, which is 0 in the first step. Subclasses write `at`."""

    def __call__(self, step: int | Tensor) -> float:
        return self.at(int(step))

    def at(self, step: int) -> float:
        """The rate of the step that starts at global_step `step`."""
        raise NotImplementedError


@dataclass(frozen=True)
class ExponentialDecay(LearningRateSchedule):
    """lr · rate^(step/decay_steps), in whole powers alone with `staircase`."""

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str | None = None

    def at(self, step: int) -> float:
        return self.initial_learning_rate * self.decay_rate ** _periods(step, self.decay_steps, self.staircase)


@dataclass(frozen=True)
class NaturalExponentialDecay(LearningRateSchedule):
    """lr · e^(−rate·step/decay_steps), in whole periods alone with `staircase` (TF 1.x: natural_exp_decay)."""

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str | None = None

    def at(self, step: int) -> float:
        periods = _periods(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate * math.exp(-self.decay_rate * periods)


@dataclass(frozen=True)
class InverseTimeDecay(LearningRateSchedule):
    """lr / (1 + rate·step/decay_steps), in whole periods alone with `staircase`."""

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str | None = None

    def at(self, step: int) -> float:
        return self.initial_learning_rate / (1.0 + self.decay_rate * _periods(step, self.decay_steps, self.staircase))


@dataclass(frozen=True)
class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], values[1] up to boundaries[1], …, the last one for ever.

    Raises ValueError unless there is one value more than boundaries.
    """

    boundaries: Sequence[float]
    values: Sequence[float]
    name: str | None = None

    def __post_init__(self) -> None:
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError(
                "The length of boundaries should be 1 less than the length of values. Received: "
                f"boundaries={self.boundaries} of length {len(self.boundaries)}, and values={self.values} of length "
                f"{len(self.values)}."
            )

    def at(self, step: int) -> float:
        return float(self.values[bisect.bisect_left(list(self.boundaries), step)])


@dataclass(frozen=True)
class PolynomialDecay(LearningRateSchedule):
    """From lr to end_learning_rate as (1 − step/decay_steps)^power, constant afterwards.

    With `cycle` decay_steps grows to its next multiple whenever it is reached, and the rate jumps up again.
    """

    initial_learning_rate: float
    decay_steps: float
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False
    name: str | None = None

    def at(self, step: int) -> float:
        length = self.decay_steps
        if self.cycle:
            length *= max(math.ceil(step / length), 1)
        left = 1.0 - min(step, length) / length
        return (self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate


@dataclass(frozen=True)
class CosineDecay(LearningRateSchedule):
    """From lr to alpha·lr along half a cosine over decay_steps, constant afterwards.

    With `warmup_target` the rate first rises in a line from lr to it over warmup_steps, and falls from there.
    """

    initial_learning_rate: float
    decay_steps: float
    alpha: float = 0.0
    name: str | None = None
    warmup_target: float | None = None
    warmup_steps: int = 0

    def at(self, step: int) -> float:
        if self.warmup_target is None:
            return self._fall(self.initial_learning_rate, step)
        if step < self.warmup_steps:
            rise = (self.warmup_target - self.initial_learning_rate) * step / self.warmup_steps
            return self.initial_learning_rate + rise
        return self._fall(self.warmup_target, step - self.warmup_steps)

    def _fall(self, start: float, step: float) -> float:
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps))
        return start * ((1.0 - self.alpha) * cosine + self.alpha)


@dataclass(frozen=True)
class CosineDecayRestarts(LearningRateSchedule):
    """CosineDecay over first_decay_steps, then again from m_mul times the height over t_mul times the steps, and so on
    (alpha is a share of the first height, SGDR)."""

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0
    name: str | None = None

    def at(self, step: int) -> float:
        done, restarts = self._position(step / self.first_decay_steps)
        cosine = 0.5 * self.m_mul**restarts * (1.0 + math.cos(math.pi * done))
        return self.initial_learning_rate * ((1.0 - self.alpha) * cosine + self.alpha)

    def _position(self, periods: float) -> tuple[float, int]:
        """How much of the current period is done, and how many came before it."""
        if self.t_mul == 1.0:
            return periods - math.floor(periods), math.floor(periods)
        before = math.floor(math.log(1.0 - periods * (1.0 - self.t_mul)) / math.log(self.t_mul))
        length = self.t_mul**before
        return (periods - (1.0 - length) / (1.0 - self.t_mul)) / length, before


@dataclass(frozen=True)
class LinearCosineDecay(LearningRateSchedule):
    """lr · ((alpha + 1 − step/decay_steps) · ½(1 + cos(2π·num_periods·step/decay_steps)) + beta)
    (tf.compat.v1.train.linear_cosine_decay)."""

    initial_learning_rate: float
    decay_steps: float
    num_periods: float = 0.5
    alpha: float = 0.0
    beta: float = 0.001
    name: str | None = None

    def at(self, step: int) -> float:
        done = min(step, self.decay_steps) / self.decay_steps
        cosine = 0.5 * (1.0 + math.cos(2.0 * math.pi * self.num_periods * done))
        return self.initial_learning_rate * ((self.alpha + 1.0 - done) * cosine + self.beta)


def _periods(step: int, decay_steps: float, staircase: bool) -> float:
    return math.floor(step / decay_steps) if staircase else step / decay_steps


# -- TF 1's functions: the rate of a given step -----------------------------------------------------------------------


def _at_step(schedule: Callable[..., LearningRateSchedule]) -> Callable[..., float]:
    def rate(learning_rate: float, global_step: int | Tensor, *args: Any, **kwargs: Any) -> float:
        return schedule(learning_rate, *args, **kwargs)(global_step)

    rate.__doc__ = f"{schedule.__name__}(learning_rate, …) at `global_step`."
    return rate


exponential_decay = _at_step(ExponentialDecay)
natural_exp_decay = _at_step(NaturalExponentialDecay)
inverse_time_decay = _at_step(InverseTimeDecay)
polynomial_decay = _at_step(PolynomialDecay)
cosine_decay = _at_step(CosineDecay)
cosine_decay_restarts = _at_step(CosineDecayRestarts)
linear_cosine_decay = _at_step(LinearCosineDecay)


def piecewise_constant(x: int | Tensor, boundaries: Sequence[float], values: Sequence[float]) -> float:
    """PiecewiseConstantDecay(boundaries, values) at step `x`."""
    return PiecewiseConstantDecay(boundaries, values)(x)
