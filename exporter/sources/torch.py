"""torch modules and Keras models -> ONNX.

Owns which features become which arguments, and the tracing of a module. Keras runs on its torch backend, where a model
is a torch module.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from estimator_serving.exporter.sources.base import PREDICT, Array, ModelInput, matrix_input
from estimator_serving.exporter.sources.tracing import explain, trace_program
from estimator_serving.training.columns.onnx_export import to_onnx
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

OUTPUT = "output"


class TorchSource:
    """A torch module. It is used in eval mode, and put back into the mode it came in.

    Features become the arguments of `forward` that have their names; a forward of one argument gets its one feature, or
    all of them side by side as a float32 matrix.
    """

    method = PREDICT
    labels: Sequence[str] | None = None
    packages: tuple[str, ...] = ("torch",)
    what = "The torch module"

    def __init__(self, model: nn.Module) -> None:
        # What torch.compile returns calls the module with any arguments.
        self._model: nn.Module = getattr(model, "_orig_mod", model)

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        names = self._argument_names()
        if not names:
            raise ValueError(
                f"{self.what} {type(self._model).__name__} names no argument of its forward; write a module whose "
                "forward has one for each feature, or one for all."
            )
        if set(features) <= set(names) and not self._required() - set(features):
            self._refuse_text(features)
            return [ModelInput(key, (key,), features[key], False) for key in names if key in features]
        if len(names) != 1:
            raise ValueError(
                f"{self.what} takes {', '.join(names)}, and the receiver gives {', '.join(features)}; "
                "give the features the names of the arguments, or the module one argument."
            )
        if len(features) == 1:
            self._refuse_text(features)
            ((key, dtype),) = features.items()
            return [ModelInput(names[0], (key,), dtype, False)]
        matrix = matrix_input(features, None, dtypes.float32, self.what)
        return [ModelInput(names[0], matrix.keys, matrix.dtype, True)]

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        tensors = [torch.from_numpy(sample[one.name]) for one in inputs]
        module = _Flat(self._model, [one.name for one in inputs])
        program: torch.export.ExportedProgram | None = None
        with _evaluating(self._model):
            try:
                # Once for its outputs' names: what tracing sets on a module, torch takes back.
                names = list(module.named(tensors))
                batch = torch.export.Dim("batch")
                program = trace_program(module, tuple(tensors), (tuple({0: batch} for _ in tensors),))
                converted = to_onnx(program, input_names=module.names, output_names=names)
                _drop_loops(converted.graph)
                return converted
            except Exception as error:
                raise ValueError(explain(self.what, self._model, error, program)) from error

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with _evaluating(self._model):
            named = _Flat(self._model, list(inputs)).named([torch.from_numpy(array) for array in inputs.values()])
        return {name: value.detach().cpu().numpy() for name, value in named.items()}

    def _argument_names(self) -> list[str]:
        return [one.name for one in self._parameters()]

    def _required(self) -> set[str]:
        return {one.name for one in self._parameters() if one.default is inspect.Parameter.empty}

    def _parameters(self) -> list[inspect.Parameter]:
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [one for one in inspect.signature(self._model.forward).parameters.values() if one.kind in named]

    def _refuse_text(self, features: Mapping[str, DType]) -> None:
        if words := [key for key, dtype in features.items() if dtype.is_string]:
            raise ValueError(
                f"{self.what} takes tensors of numbers, and the receiver gives text for {', '.join(words)}; turn text "
                "into ids in the receiver, or train an Estimator with categorical columns."
            )


class KerasSource(TorchSource):
    """A Keras 3 model on the torch backend. Inputs are found by their names; one input takes all features."""

    packages = ("keras", "torch")
    what = "The Keras model"

    def __init__(self, model: Any) -> None:
        import keras

        if keras.backend.backend() != "torch":
            raise ValueError(
                f"Keras runs on the backend {keras.backend.backend()!r}; load the model in a process started with "
                "KERAS_BACKEND=torch to export it."
            )
        super().__init__(model)
        if not getattr(model, "inputs", None):
            raise ValueError(
                f"The Keras model {type(model).__name__} does not know its inputs; build it with keras.Input, or wrap "
                "it: inputs = keras.Input(shape); keras.Model(inputs, model(inputs))."
            )
        self._names = [one.name for one in model.inputs]

    def _argument_names(self) -> list[str]:
        return self._names

    def _required(self) -> set[str]:
        return set(self._names)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The module in eval mode and without gradients, afterwards in the mode it was in."""
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


class _Flat(nn.Module):
    """A module that takes tensors in the order of `names` and gives a tuple of them."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = list(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(inputs).values())

    def named(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by name."""
        return _flat_outputs(self._call(inputs))

    def _call(self, inputs: Sequence[Tensor]) -> Any:
        if not hasattr(self.model, "inputs"):
            return self.model(**dict(zip(self.names, inputs, strict=True)))
        given: Any = dict(zip(self.names, inputs, strict=True))
        if not isinstance(getattr(self.model, "input", None), Mapping):
            ordered = [given[one.name] for one in self.model.inputs]
            given = ordered if len(ordered) > 1 else ordered[0]
        return self.model(given, training=False)


def _drop_loops(graph: onnx.GraphProto) -> None:
    """Takes out the node x -> x that torch writes for an input handed on under its own name."""
    kept = [node for node in graph.node if list(node.input) != list(node.output)]
    del graph.node[:]
    graph.node.extend(kept)


def _flat_outputs(value: Any) -> dict[str, Tensor]:
    """A module's outputs by name: their own names, or `output`, `output_1`, …"""
    if isinstance(value, Mapping):
        named = dict(value)
    elif isinstance(value, Tensor):
        named = {OUTPUT: value}
    elif hasattr(value, "_asdict"):
        named = value._asdict()
    else:
        named = {OUTPUT if not index else f"{OUTPUT}_{index}": one for index, one in enumerate(value)}
    wrong = [f"{name} is a {type(one).__name__}" for name, one in named.items() if not isinstance(one, Tensor)]
    if wrong:
        raise TypeError(f"A module's outputs must be tensors, by name or in order: {'; '.join(wrong)}.")
    return {str(name): one for name, one in named.items()}
