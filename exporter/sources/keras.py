"""Keras models -> ONNX, on the torch backend, where a model is a torch module.

Owns how a Keras model is loaded and called, and which inputs it has. The rest is as for torch modules.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor

from estimator_serving.exporter.sources.base import ModelInput, reason_of
from estimator_serving.exporter.sources.keras_graph.graph import functional_of, to_graph
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError
from estimator_serving.exporter.sources.torch import TorchSource
from estimator_serving.training.arrays import Array
from estimator_serving.training.keras_model import named_outputs


class KerasSource(TorchSource):
    """A Keras 3 model on the torch backend. Inputs are found by their names; one input takes all features.

    Raises ValueError for another backend, and for a model that does not know its inputs.
    """

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
        self._takes_mapping = isinstance(getattr(model, "input", None), Mapping)

    def arguments(self) -> dict[str, bool]:
        return dict.fromkeys(self._names, True)

    def call(self, arguments: Mapping[str, Tensor]) -> Any:
        ordered = [arguments[name] for name in self._names]
        given = dict(arguments) if self._takes_mapping else ordered if len(ordered) > 1 else ordered[0]
        return named_outputs(self._model, self._model(given, training=False))

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        functional = functional_of(self._model)
        try:
            if functional is None:
                raise NotLoweredError(f"the model's own call ({type(self._model).__name__})")
            fed = {
                one.name: (
                    str(sample[one.name].dtype),
                    [None if axis in one.open_axes else size for axis, size in enumerate(sample[one.name].shape)],
                )
                for one in inputs
            }
            converted = to_graph(functional, fed, named_outputs(functional, functional.output))
        except NotLoweredError as reason:
            return self._traced(inputs, sample, reason)
        self.check_open(inputs, converted, sample)
        return converted

    def _traced(
        self, inputs: Sequence[ModelInput], sample: Mapping[str, Array], reason: NotLoweredError
    ) -> onnx.ModelProto:
        """As torch traces it: slowly, and only where no layer goes through steps of any number."""
        return super().convert(inputs, sample)


def load_keras(path: str | os.PathLike[str]) -> Any:
    """The model of a `.keras` or `.h5` file. Raises ValueError where Keras cannot load it."""
    import keras

    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {os.fspath(path)}; give the path of a saved Keras model.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(
            f"Keras {keras.__version__} cannot load {os.fspath(path)} ({reason_of(error)}). Load it with "
            "keras.models.load_model(path, custom_objects={…}), which takes the classes and functions of your own, and "
            "pass the model; save a model of another major version of Keras again with this one."
        ) from error
