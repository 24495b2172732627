"""First values of variables, by TensorFlow's rules.

Owns the distributions. Does not know variables: an initializer is a function of a shape and a generator.
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
        # A copy of an expanded tensor would keep strides of 0, which cannot be written to a file.
        return torch.empty(tuple(shape)).copy_(torch.as_tensor(value, dtype=torch.float32))

    return fill


def variance_scaling(scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal") -> Initializer:
    """Draws of variance scale/n, where n is the kernel's fan_in, its fan_out, or their mean (`fan_avg`) (Keras').

    `distribution` is "truncated_normal", "untruncated_normal" or "uniform". Raises ValueError for other words.
    """
    if mode not in _FAN_MODES:
        raise ValueError(f"Invalid `mode` argument: {mode}. It must be one of {sorted(_FAN_MODES)}.")
    if distribution not in _SCALED:
        raise ValueError(f"Invalid `distribution` argument: {distribution}. It must be one of {sorted(_SCALED)}.")

    def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
        if len(shape) < 2:
            fan_in = fan_out = float(shape[0]) if shape else 1.0
        else:
            receptive_field = math.prod(shape[:-2])
            fan_in, fan_out = float(shape[-2] * receptive_field), float(shape[-1] * receptive_field)
        variance = scale / max(1.0, _FAN_MODES[mode]((fan_in, fan_out)))
        return _SCALED[distribution](variance)(shape, generator)

    return draw


def truncated_normal(mean: float = 0.0, stddev: float = 1.0) -> Initializer:
    """Normal draws; one further than 2 `stddev` from `mean` is drawn again (TF's default for embedding tables)."""

    def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
        low, high = mean - 2 * stddev, mean + 2 * stddev
        return torch.nn.init.trunc_normal_(torch.empty(tuple(shape)), mean, stddev, low, high, generator=generator)

    return draw


def random_uniform(minval: float = -0.05, maxval: float = 0.05) -> Initializer:
    """Uniform draws in [minval, maxval)."""

    def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.empty(tuple(shape)).uniform_(minval, maxval, generator=generator)

    return draw


def random_normal(mean: float = 0.0, stddev: float = 1.0) -> Initializer:
    """Normal draws."""

    def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.empty(tuple(shape)).normal_(mean, stddev, generator=generator)

    return draw


def orthogonal(gain: float = 1.0) -> Initializer:
    """A matrix with orthogonal rows or columns of length `gain`; all axes but the last are the rows."""

    def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
        rows = torch.empty(math.prod(shape[:-1]), shape[-1])
        return torch.nn.init.orthogonal_(rows, gain, generator).reshape(tuple(shape))

    return draw


_FAN_MODES: dict[str, Callable[[tuple[float, float]], float]] = {
    "fan_in": lambda fans: fans[0],
    "fan_out": lambda fans: fans[1],
    "fan_avg": lambda fans: sum(fans) / 2,
}

# The standard deviation of a standard normal distribution that is cut at ±2.
_CUT_STDDEV = 0.87962566103423978

_SCALED: dict[str, Callable[[float], Initializer]] = {
    "truncated_normal": lambda variance: truncated_normal(stddev=math.sqrt(variance) / _CUT_STDDEV),
    "untruncated_normal": lambda variance: random_normal(stddev=math.sqrt(variance)),
    "uniform": lambda variance: random_uniform(-math.sqrt(3 * variance), math.sqrt(3 * variance)),
}

glorot_uniform = variance_scaling(1.0, "fan_avg", "uniform")
"""Uniform in ±sqrt(6 / (fan_in + fan_out)): TF's default for kernels."""
glorot_normal = variance_scaling(1.0, "fan_avg")
he_normal = variance_scaling(2.0)
he_uniform = variance_scaling(2.0, distribution="uniform")
lecun_normal = variance_scaling(1.0)
lecun_uniform = variance_scaling(1.0, distribution="uniform")
