"""A value of the ONNX graph as Keras sees it, and the builder that every rule writes with.

Owns dtypes, constants and layouts. Knows no operation of Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.builder import Builder, onnx_type
from estimator_serving.training.arrays import Array

Shape = tuple[int | None, ...]


class NotLoweredError(Exception):
    """No rule covers this layer or operation; the text names it."""


@dataclass(eq=False)
class Value:
    """A tensor of the graph. Only its mask changes, as that of a tensor of Keras does.

    Attributes:
        name: its name there.
        shape: its sizes, None for those that a request decides.
        dtype: Keras's word for its element type.
        mask: the steps that count, bool, as Keras attaches it to tensors; None for all.
    """

    name: str
    shape: Shape
    dtype: str
    mask: Value | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """numpy's type for Keras's word. Raises NotLoweredError for bfloat16 and others that numpy lacks."""
    try:
        return np.dtype(dtype)
    except TypeError:
        raise NotLoweredError(f"the element type {dtype}") from None


class Writer:
    """What the rules write nodes with: the graph's builder, and the conversions between Keras's arguments and names."""

    def __init__(self) -> None:
        self.builder = Builder()
        # Of values with channels last: the same values with channels first, which Conv and pooling read.
        self._first: dict[str, str] = {}
        self._arrays: dict[tuple[int, str], tuple[Any, Array]] = {}

    def one(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """The only output of a node."""
        return self.builder.one(op_type, *inputs, **attributes)

    def many(self, op_type: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """The outputs of a node."""
        return list(self.builder.node(op_type, inputs, outputs=outputs, **attributes))

    def constant(self, array: Any, dtype: str | None = None) -> str:
        """A constant of the graph."""
        return self.builder.constant(np.asarray(array) if dtype is None else np.asarray(array, numpy_dtype(dtype)))

    def int64(self, *values: int) -> str:
        """A vector of sizes or axes."""
        return self.constant(np.array(values, np.int64))

    def array(self, argument: Any, dtype: str | None = None) -> Array:
        """The numbers of a variable, tensor, array or number. Raises NotLoweredError for a value of the graph."""
        if isinstance(argument, Value):
            raise NotLoweredError("a computed value where a constant is expected")
        key = (id(argument), dtype or "")
        if key not in self._arrays:
            value = argument.value if hasattr(argument, "assign") else argument
            value = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
            # The argument is kept, so that no other one gets its identity.
            self._arrays[key] = (argument, value if dtype is None else value.astype(numpy_dtype(dtype), copy=False))
        return self._arrays[key][1]

    def use(self, argument: Any, dtype: str) -> str:
        """The name of an argument as that element type: a value of the graph, a variable, an array or a number."""
        if isinstance(argument, Value):
            return argument.name if argument.dtype == dtype else self.cast(argument.name, dtype)
        return self.constant(self.array(argument, dtype))

    def cast(self, name: str, dtype: str) -> str:
        """A value as another element type."""
        return self.one("Cast", name, to=onnx_type(numpy_dtype(dtype)))

    def transpose(self, name: str, axes: Sequence[int]) -> str:
        """A value with its axes in this order."""
        return name if list(axes) == list(range(len(axes))) else self.one("Transpose", name, perm=list(axes))

    def channels_first(self, name: str, rank: int) -> str:
        """A value of channels last with its channels behind the batch."""
        return self._first.get(name) or self.transpose(name, [0, rank - 1, *range(1, rank - 1)])

    def channels_last(self, name: str, rank: int) -> str:
        """A value of channels first with its channels at the end."""
        moved = self.transpose(name, [0, *range(2, rank), 1])
        self._first[moved] = name
        return moved

    def is_channels_last(self, name: str) -> bool:
        """Whether a value was made from one with channels first, which can be read without another transposition."""
        return name in self._first
