"""torch modules -> ONNX.

Owns which features become which arguments of a module, and its tracing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from estimator_serving.exporter.servable.draft import one_ulp_off
from estimator_serving.exporter.sources.base import PREDICT, ModelInput, matrix_input
from estimator_serving.exporter.sources.tracing import FixedAxisError, check_open, explain, trace_program
from estimator_serving.training.arrays import Array
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
    cause = (
        "The usual cause is a module whose forward reads more than its arguments, or draws random numbers outside "
        "training; make it a function of its arguments only."
    )

    def __init__(self, model: nn.Module) -> None:
        # What torch.compile returns calls the module with any arguments.
        self._model: nn.Module = getattr(model, "_orig_mod", model)

    def arguments(self) -> dict[str, bool]:
        """The arguments that can be given by name, and whether a call needs them."""
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = inspect.signature(self._model.forward).parameters.values()
        return {one.name: one.default is inspect.Parameter.empty for one in parameters if one.kind in named}

    def call(self, arguments: Mapping[str, Tensor]) -> Any:
        """What the module returns for these arguments."""
        return self._model(**arguments)

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        arguments = self.arguments()
        if not arguments:
            raise ValueError(
                f"{self.what} {type(self._model).__name__} names no argument of its forward; write a module whose "
                "forward has one for each feature, or one for all."
            )
        required = {name for name, is_required in arguments.items() if is_required}
        if required <= set(features) <= set(arguments):
            self._refuse_text(features)
            return [ModelInput(key, (key,), features[key], False) for key in arguments if key in features]
        if len(arguments) != 1:
            raise ValueError(
                f"{self.what} takes {', '.join(arguments)}, and the receiver gives {', '.join(features)}; "
                "give the features the names of the arguments, or the module one argument."
            )
        (name,) = arguments
        if len(features) == 1:
            self._refuse_text(features)
            ((key, dtype),) = features.items()
            return [ModelInput(name, (key,), dtype, False)]
        matrix = matrix_input(features, None, dtypes.float32, self.what)
        return [ModelInput(name, matrix.keys, matrix.dtype, True)]

    def known_values(self) -> Mapping[str, Sequence[Any]]:
        return {}

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        tensors = [torch.from_numpy(sample[one.name]) for one in inputs]
        names = [one.name for one in inputs]
        module = _Flat(self._model, self.call, names)
        program: torch.export.ExportedProgram | None = None
        with _evaluating(self._model):
            try:
                # Called once for the outputs' names: what tracing sets on a module, torch takes back.
                output_names = list(module.named([tensor[:2] for tensor in tensors]))
                batch = torch.export.Dim("batch")
                shapes = [{0: batch, **dict.fromkeys(one.open_axes, torch.export.Dim.AUTO)} for one in inputs]
                program = trace_program(module, tuple(tensors), (tuple(shapes),))
                converted = to_onnx(program, input_names=names, output_names=output_names)
                check_open(self.what, {one.name: one.open_axes for one in inputs}, converted, sample, self.answer)
            except FixedAxisError:
                raise
            except Exception as error:
                raise ValueError(explain(self.what, self._model, error, program)) from error
        # torch writes a node x -> x for an input that is handed on under its own name.
        kept = [node for node in converted.graph.node if list(node.input) != list(node.output)]
        del converted.graph.node[:]
        converted.graph.node.extend(kept)
        return converted

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with _evaluating(self._model):
            module = _Flat(self._model, self.call, list(inputs))
            named = module.named([torch.from_numpy(array) for array in inputs.values()])
        return {name: value.detach().cpu().numpy() for name, value in named.items()}

    @contextmanager
    def nudged(self, generator: np.random.Generator) -> Iterator[None]:
        """Inside, each float32 weight is at most one unit in the last place off."""
        values = [one for one in (*self._model.parameters(), *self._model.buffers()) if one.dtype == torch.float32]
        kept = [one.detach().clone() for one in values]
        try:
            with torch.no_grad():
                for one in values:
                    one.copy_(torch.from_numpy(one_ulp_off(one.detach().cpu().numpy(), generator)))
            yield
        finally:
            with torch.no_grad():
                for one, before in zip(values, kept, strict=True):
                    one.copy_(before)

    def _refuse_text(self, features: Mapping[str, DType]) -> None:
        if words := [key for key, dtype in features.items() if dtype.is_string]:
            raise ValueError(
                f"{self.what} takes tensors of numbers, and the receiver gives text for {', '.join(words)}; turn text "
                "into ids in the receiver, or train an Estimator with categorical columns."
            )


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

    def __init__(self, model: nn.Module, call: Callable[[Mapping[str, Tensor]], Any], names: Sequence[str]) -> None:
        super().__init__()
        # torch finds the weights by this.
        self.model = model
        self._call = call
        self._names = names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(inputs).values())

    def named(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by name: their own names, or `output`, `output_1`, … Raises TypeError for what is no tensor."""
        value = self._call(dict(zip(self._names, inputs, strict=True)))
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
