"""The inputs of a transform's graph: the raw features that columns read, and what counts as nothing in each.

Owns the table of blanks: a class below for each way of reading a feature, whose `pad` turns a dense feature into
values and lengths. The input pipeline (feed.py, graph.py) and the exporter both use it. Knows nothing of columns: the
inputs follow from the definitions that a checkpoint keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from spox import Tensor, Var, argument

from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.padding import Padded, pad_dense, pad_sequence, pad_whole
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType


@dataclass(frozen=True)
class NumericInput:
    """`key`: float32 [batch, *shape]."""

    key: str
    shape: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.key,)

    def arguments(self) -> dict[str, Var]:
        """The graph's inputs, by name."""
        return {self.key: argument(Tensor(np.float32, ("batch", *self.shape)))}


@dataclass(frozen=True)
class PaddedInput:
    """`key/values` [batch, k], padded, and `key/lengths` int64 [batch].

    A dense feature enters as one matrix, under one of `dense_names`, and `pad` makes the two of it.
    """

    key: str
    dtype: DType
    holds_numbers: ClassVar[bool] = False
    """Whether the values are float32 in the graph. Otherwise they are text or int64, as `dtype` says."""
    infix: ClassVar[str] = ""
    """What stands between the key and the rest of the names."""

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.key}{self.infix}/values", f"{self.key}{self.infix}/lengths")

    @property
    def element(self) -> Any:
        """The values' numpy dtype in the graph."""
        return np.float32 if self.holds_numbers else np.str_ if self.dtype.is_string else np.int64

    @property
    def dense_names(self) -> tuple[str, str]:
        """The names under which a dense feature enters: as a matrix [batch, k], or [batch, 1] for one value a row."""
        return (f"{self.names[0]}/dense", f"{self.names[0]}/single")

    def pad(self, values: Var) -> Padded:
        """Values and lengths of a dense feature of `element`, [batch] or [batch, k]: here without its blanks."""
        return pad_dense(values, 0.0 if self.holds_numbers else "" if self.dtype.is_string else -1)

    def arguments(self) -> dict[str, Var]:
        """The graph's inputs, by name."""
        values, lengths = self.names
        # Each feature names its own second axis: their widths differ.
        width = f"{values.removesuffix('/values')}/k"
        return {
            values: argument(Tensor(self.element, ("batch", width))),
            lengths: argument(Tensor(np.int64, ("batch",))),
        }


@dataclass(frozen=True)
class CategoricalInput(PaddedInput):
    """A feature that a categorical column reads: string or int64; '' and -1 count as nothing.

    `kind` is the column's, for messages.
    """

    kind: str = field(default="", compare=False)


@dataclass(frozen=True)
class TextInput(PaddedInput):
    """A feature that a cross reads by its name, text or integers. It stands beside the CategoricalInput of that key,
    because here '' and -1 are values."""

    infix: ClassVar[str] = "/text"

    def pad(self, values: Var) -> Padded:
        return pad_whole(values)


@dataclass(frozen=True)
class WeightInput(PaddedInput):
    """The weights of a weighted column: fed as `dtype`, float32 in the graph; 0.0 counts as nothing."""

    holds_numbers: ClassVar[bool] = True


@dataclass(frozen=True)
class SequenceInput(PaddedInput):
    """The numbers of a sequence: fed as any number, float32 in the graph; zeros at a row's end count as nothing."""

    holds_numbers: ClassVar[bool] = True

    def pad(self, values: Var) -> Padded:
        return pad_sequence(values, 0.0)


Input = NumericInput | PaddedInput


def inputs_of(definitions: Iterable[Definition]) -> tuple[Input, ...]:
    """The inputs of a transform with these definitions, sorted by name.

    Raises:
        ValueError: one key asked for in two shapes or two dtypes.
    """
    by_names: dict[tuple[str, ...], Input] = {}
    for leaf in (leaf for definition in definitions for leaf in _leaves(definition)):
        key, kind = leaf["key"], leaf["kind"]
        dtype = dtypes.as_dtype(leaf.get("dtype", "string"))
        wanted: Input
        if kind == "numeric":
            wanted = NumericInput(key, tuple(leaf["shape"]))
        else:
            wanted = _READ[kind](key, dtype) if kind in _READ else CategoricalInput(key, dtype, kind)
        known = by_names.setdefault(wanted.names, wanted)
        if known != wanted:
            first, second = (
                f"shape {one.shape}" if isinstance(one, NumericInput) else f"dtype {dtype_text(one.dtype)}"
                for one in (known, wanted)
            )
            raise ValueError(
                f"Two columns read the feature {wanted.key} differently: {first} and {second}. "
                "Let them agree, or feed the feature a second time under another key."
            )
    return tuple(by_names[names] for names in sorted(by_names))


def integers_in(definitions: Iterable[Definition]) -> frozenset[str]:
    """The features that these definitions cross as integers: the `integer_keys` of define_output."""
    return frozenset(
        one.key for one in inputs_of(definitions) if isinstance(one, TextInput) and not one.dtype.is_string
    )


def _leaves(definition: Any) -> Iterator[Mapping[str, Any]]:
    """The parts of a definition that read a feature: those with a key. Others hold them as values or in lists."""
    if isinstance(definition, Mapping) and "key" in definition:
        yield definition
    elif isinstance(definition, Mapping | list):
        for value in definition.values() if isinstance(definition, Mapping) else definition:
            yield from _leaves(value)


# How the kinds of definitions read their feature; every other kind is a categorical column's.
_READ: dict[str, type[PaddedInput]] = {"text": TextInput, "weight": WeightInput, "sequence_numeric": SequenceInput}


def dtype_text(dtype: DType) -> str:
    """A dtype as TensorFlow prints it: <dtype: 'float32'>."""
    return f"<dtype: '{'string' if dtype.is_string else dtype.numpy}'>"
