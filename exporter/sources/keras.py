"""Keras models -> ONNX, on the torch backend, where a model is a torch module.

Owns how a Keras model is called and which inputs it has. The rest is as for torch modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from estimator_serving.exporter.sources.torch import TorchSource


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
        if self._takes_mapping:
            return self._model(dict(arguments), training=False)
        ordered = [arguments[name] for name in self._names]
        return self._model(ordered if len(ordered) > 1 else ordered[0], training=False)
