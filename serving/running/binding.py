"""A signature tied to its graph, worked out once when a version is opened.

Owns what a request has to look like for a signature, and how its inputs become feeds of the graph. Knows no session:
the graph is a set of names.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import Array
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import join_examples
from estimator_serving.wire.signatures import Signature

_log = logging.getLogger(__name__)


class Input(NamedTuple):
    """How one input of a signature enters the graph.

    graph_names: the graph's input; or, for strings that enter as ragged bytes (serialized Examples do), the two inputs
        for their values and row_splits.
    """

    alias: str
    dtype: DType
    graph_names: tuple[str, ...]
    is_ragged: bool


class Binding(NamedTuple):
    """A signature with the graph's names.

    outputs: graph names by alias; also, by `qualified` name, those of every signature that has the same inputs.
    aliases, graph_names: the signature's own outputs, in one order.
    has_rows: whether dimension 0 of every input and output may be a batch, as far as their shapes are declared.
    needs_rows: whether the graph cannot run on no rows.
    numbers: numpy's dtype of each input by alias, if all are numbers; empty where more than dtypes is to be checked.
    are_fed_as_named: whether the graph's inputs have the aliases' names.
    """

    inputs: tuple[Input, ...]
    outputs: Mapping[str, str]
    aliases: tuple[str, ...]
    graph_names: list[str]
    has_rows: bool
    needs_rows: bool = False
    numbers: tuple[tuple[str, np.dtype[Any]], ...] = ()
    are_fed_as_named: bool = False

    def check(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The inputs of a request as a run takes them: strings as str, serialized Examples still as bytes.

        Raises InvalidArgumentError for a wrong dtype, Examples that are not a vector, text that is not UTF-8, and
        inputs without rows where the graph needs some.
        """
        if self.numbers and len(inputs) == len(self.numbers):
            wrong = [alias for alias, dtype in self.numbers if inputs[alias].dtype is not dtype]
            if not wrong:
                return inputs
        return self._checked(inputs)

    def _checked(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        checked: dict[str, Array] = {}
        for index, entry in enumerate(self.inputs):
            array = inputs[entry.alias]
            if array.dtype != entry.dtype.numpy:
                came = dtypes.from_numpy(array.dtype).name
                raise InvalidArgumentError(
                    f"Expects arg[{index}] to be {entry.dtype.name} but {came} is provided. Input: {entry.alias}; "
                    f"send it as {entry.dtype.name}."
                )
            if entry.is_ragged:
                if array.ndim != 1:
                    raise InvalidArgumentError(
                        f"Input {entry.alias} has shape {list(array.shape)}; expected a vector [batch] of serialized "
                        "tf.Examples."
                    )
            elif entry.dtype.is_string:
                # As str, because ONNX Runtime's binding would take a bytes object for the text "b'..'".
                flat = array.ravel()
                text = flat.copy()
                try:
                    text[:] = [value.decode() for value in flat]
                except UnicodeDecodeError as error:
                    raise InvalidArgumentError(
                        f"Input {entry.alias} holds a string that is not UTF-8 ({error.reason} at byte {error.start}); "
                        "string tensors carry text."
                    ) from None
                array = text.reshape(array.shape)
            checked[entry.alias] = array
        if self.needs_rows:
            for alias, array in checked.items():
                if not array.size:
                    raise InvalidArgumentError(
                        f"Input {alias} has shape {list(array.shape)}, and ONNX Runtime cannot run this model on "
                        "nothing; send at least one row."
                    )
        return checked

    def feeds(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Checked inputs by the graph's names."""
        if self.are_fed_as_named:
            return inputs
        feeds: dict[str, Array] = {}
        for entry in self.inputs:
            if entry.is_ragged:
                feeds.update(zip(entry.graph_names, join_examples(inputs[entry.alias]), strict=True))
            else:
                feeds[entry.graph_names[0]] = inputs[entry.alias]
        return feeds


def qualified(signature_name: str, alias: str) -> str:
    """The name under which a request of another signature asks for an output of this one, at no further run."""
    return f"{signature_name}:{alias}"


def bind(
    signatures: Mapping[str, Signature],
    graph_inputs: Collection[str],
    graph_outputs: Collection[str],
    *,
    path: Path,
    needs_rows: bool = False,
    first_dims: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Binding]:
    """The binding of every signature to a graph with these inputs and outputs.

    first_dims: by graph name, what the graph calls dimension 0 of its inputs and outputs, as far as it names it.

    Raises InvalidArgumentError, with the model's path, where a signature names what the graph does not have: it would
    fail at every request.
    """
    bindings = {}
    for key, signature in signatures.items():
        inputs = []
        for alias, info in sorted(signature.inputs.items()):
            ragged = info.dtype.is_string and all(name in graph_inputs for name in info.ragged_names)
            inputs.append(Input(alias, info.dtype, info.ragged_names if ragged else (info.value_name,), ragged))
        outputs = {alias: info.value_name for alias, info in signature.outputs.items()}
        wanted = {name for entry in inputs for name in entry.graph_names}
        absent = (wanted - set(graph_inputs)) | (set(outputs.values()) - set(graph_outputs))
        if absent:
            raise InvalidArgumentError(
                f"Signature {key} of {path} names {', '.join(sorted(absent))}, which its graph does not have; "
                "export the model again."
            )
        others = {
            qualified(name, alias): info.value_name
            for name, other in signatures.items()
            for alias, info in other.outputs.items()
            if other.inputs == signature.inputs
        }
        shapes = [info.shape for info in (*signature.inputs.values(), *signature.outputs.values())]
        has_rows = all(shape is None or shape[:1] == (-1,) for shape in shapes)
        # Ragged bytes begin with a dimension of their own. What the other dimensions are called tells them apart: the
        # rows of an output [time, batch] are no rows of a request.
        plain = [name for entry in inputs if not entry.is_ragged for name in entry.graph_names]
        called = {first_dims[name] for name in (*plain, *outputs.values()) if name in first_dims}
        if has_rows and len(called) > 1:
            has_rows = False
            _log.warning(
                "Signature %s of %s is never batched: dimension 0 of its inputs and outputs is %s; a batch is one "
                "dimension.", key, path, " and ".join(sorted(called)),
            )  # fmt: skip
        are_numbers = not needs_rows and not any(entry.dtype.is_string for entry in inputs)
        bindings[key] = Binding(
            tuple(inputs), others | outputs, tuple(outputs), list(outputs.values()), has_rows, needs_rows,
            tuple((entry.alias, entry.dtype.numpy) for entry in inputs) if are_numbers else (),
            all(entry.graph_names == (entry.alias,) and not entry.is_ragged for entry in inputs),
        )  # fmt: skip
    return bindings
