"""Keras models -> ONNX, on the torch backend, where a model is a torch module.

Owns how a Keras model is loaded and called, which inputs it has, and what becomes of a model with a layer that
`keras_graph` has no rule for: torch traces it. The network of an Estimator that was a Keras model takes the same way.
"""

from __future__ import annotations

import inspect
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor

from estimator_serving.exporter.sources.base import ModelInput, reason_of
from estimator_serving.exporter.sources.keras_graph.graph import to_graph
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError
from estimator_serving.exporter.sources.torch import TorchSource
from estimator_serving.exporter.sources.tracing import FixedAxisError, check_open
from estimator_serving.training.arrays import Array
from estimator_serving.training.keras_model import keras_on_torch, named_outputs


class KerasSource(TorchSource):
    """A Keras 3 model on the torch backend. Inputs are found by their names; one input takes all features.

    Raises ValueError for another backend, and for a model that does not know its inputs.
    """

    packages = ("keras", "torch")
    what = "The Keras model"
    cause = (
        "The usual cause is a layer that draws random numbers outside training, or one that reads more than its "
        "inputs; call model(x, training=False) twice, and write such a layer with keras.ops of its inputs only."
    )

    def __init__(self, model: Any) -> None:
        keras_on_torch()
        super().__init__(model)
        if known := getattr(model, "inputs", None):
            self._names = [one.name for one in known]
            self._takes_mapping = isinstance(getattr(model, "input", None), Mapping)
        else:
            # A subclassed model that was called before knows the shapes: of the dict that it takes, or of the one
            # argument of its `call`.
            shapes = (model.get_build_config() or {}).get("input_shape") if model.built else None
            is_one = isinstance(shapes, tuple) and all(size is None or isinstance(size, int) for size in shapes)
            self._takes_mapping = isinstance(shapes, Mapping)
            arguments = list(inspect.signature(model.call).parameters)
            self._names = list(shapes) if isinstance(shapes, Mapping) else arguments[:1] if is_one else []
        if not self._names:
            raise ValueError(
                f"The Keras model {type(model).__name__} does not know its inputs; call it once on data "
                "(model(x) or model.fit), or build it with keras.Input."
            )

    def arguments(self) -> dict[str, bool]:
        return dict.fromkeys(self._names, True)

    def call(self, arguments: Mapping[str, Tensor]) -> Any:
        return named_outputs(self._model, self._model(self._arranged(arguments), training=False))

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        shown = {one.name: sample[one.name] for one in inputs}
        open_axes = {one.name: one.open_axes for one in inputs}
        named, trace = partial(named_outputs, self._model), partial(super().convert, inputs, sample)
        return keras_to_onnx(self._model, shown, open_axes, self._arranged, named, self.answer, trace)

    def _arranged(self, arguments: Mapping[str, Any]) -> Any:
        """What the model is called with."""
        ordered = [arguments[name] for name in self._names]
        return dict(arguments) if self._takes_mapping else ordered if len(ordered) > 1 else ordered[0]


def keras_to_onnx(
    model: Any,
    sample: Mapping[str, Array],
    open_axes: Mapping[str, Sequence[int]],
    arrange: Callable[[Mapping[str, Any]], Any],
    name_outputs: Callable[[Any], Mapping[str, Any]],
    answer: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    trace: Callable[[], onnx.ModelProto],
) -> onnx.ModelProto:
    """The graph of a Keras model: by the rules for its layers, or where there is none for one of them, by torch.

    Args:
        sample: rows of the inputs, by name.
        open_axes: of the inputs, the axes of any size beside the batch.
        arrange, name_outputs: as of `to_graph`.
        answer: what the model itself gives for inputs.
        trace: the graph by torch.

    Raises ValueError naming the layer without a rule where torch cannot trace the model either, and FixedAxisError.
    """
    shapes = {
        name: (str(array.dtype), [None if axis in open_axes[name] else size for axis, size in enumerate(array.shape)])
        for name, array in sample.items()
    }
    try:
        converted = to_graph(model, shapes, arrange, name_outputs)
    except NotLoweredError as reason:
        try:
            return trace()
        except ValueError as error:
            sentence = "" if isinstance(error, FixedAxisError) else f" {error}"
            raise ValueError(
                f"The Keras model {model.name} cannot become a graph: there is no rule for {reason}, and torch cannot "
                "trace it with inputs of these shapes. Write that layer with functions of keras.ops, or give the "
                f"receiver one size for every axis.{sentence}"
            ) from error
    check_open(KerasSource.what, open_axes, converted, sample, answer)
    return converted


def load_keras(path: str | os.PathLike[str]) -> Any:
    """The model of a `.keras` or `.h5` file. Raises ValueError where Keras cannot load it."""
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {os.fspath(path)}; give the path of a saved Keras model.")
    keras = keras_on_torch()
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        written = _version_of(Path(path))
        if "Lambda" in str(error) and "safe_mode" in str(error):
            advice = (
                "It has a Lambda layer, whose Python code the file holds. If you trust the file, load it with "
                "keras.models.load_model(path, safe_mode=False) and pass the model"
            )
        elif written and written.split(".")[0] != keras.__version__.split(".")[0]:
            advice = (
                f"Keras {written} saved it. Load it there and save it with model.export or tf.saved_model.save, which "
                "`estimator-serving import` takes, or build the model again here and load its weights"
            )
        else:
            advice = (
                "Load it with keras.models.load_model(path, custom_objects={…}), which takes the classes and functions "
                "of your own, and pass the model"
            )
        raise ValueError(
            f"Keras {keras.__version__} cannot load {os.fspath(path)} ({reason_of(error)}). {advice}."
        ) from error


def _version_of(path: Path) -> str:
    """The version of Keras that wrote a file, '' where the file does not say."""
    with suppress(Exception):
        return str(json.loads(zipfile.ZipFile(path).read("metadata.json"))["keras_version"])
    with suppress(Exception):
        import h5py

        with h5py.File(path) as file:
            version = file.attrs["keras_version"]
            return version.decode() if isinstance(version, bytes) else str(version)
    return ""
