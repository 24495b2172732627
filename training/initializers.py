"""First values of variables, by TensorFlow's rules.

Owns the distributions. Does not know what a variable is: an initializer is a function of a shape and a generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Initializer = Callable[[Sequence[int], torch.Generator], Tensor]


def zeros(shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG001  every initializer is called alike
    """All 0, float32 of `shape`."""
    return torch.zeros(*shape) if shape else torch.zeros(())


def ones(shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG001  every initializer is called alike
    """All 1, float32 of `shape`."""
    return torch.ones(*shape) if shape else torch.ones(())


def constant(value: float | Sequence[float] | Tensor) -> Initializer:
    """`value` itself, broadcast to the variable's shape."""

    def fill(shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG001
        return torch.as_tensor(value, dtype=torch.float32).expand(*shape).clone()

    return fill


def glorot_uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform in ±sqrt(6 / (fan_in + fan_out)), float32 (TF's default for dense kernels)."""
    fan_in, fan_out = _fans(shape)
    limit = math.sqrt(6.0 / max(1.0, fan_in + fan_out))
    return torch.empty(tuple(shape)).uniform_(-limit, limit, generator=generator)


def truncated_normal(mean: float = 0.0, stddev: float = 1.0) -> Initializer:
    """Normal draws, those further than 2 `stddev` from `mean` drawn again (TF's default for embedding tables)."""

    def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
        low, high = mean - 2 * stddev, mean + 2 * stddev
        return torch.nn.init.trunc_normal_(torch.empty(tuple(shape)), mean, stddev, low, high, generator=generator)

    return draw


def random_normal(mean: float = 0.0, stddev: float = 1.0) -> Initializer:
    """Normal draws."""

    def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.empty(tuple(shape)).normal_(mean, stddev, generator=generator)

    return draw


def _fans(shape: Sequence[int]) -> tuple[float, float]:
    if len(shape) < 2:
        only = float(shape[0]) if shape else 1.0
        return only, only
    receptive_field = math.prod(shape[:-2])
    return float(shape[-2] * receptive_field), float(shape[-1] * receptive_field)
