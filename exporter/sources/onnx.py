"""Existing ONNX models -> part of a servable.

Owns how a graph's inputs are found among the features, and the checks that make it fit to be served in batches.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.inliner import inline_local_functions

from estimator_serving import ops
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.running import run_all
from estimator_serving.exporter.sources.base import PREDICT, ModelInput, matrix_input
from estimator_serving.training.arrays import Array
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType


class OnnxSource:
    """An ONNX model: a path (external data beside it included), its bytes or a ModelProto."""

    method = PREDICT
    packages = ("onnx",)
    cause = "The usual cause is a node that draws random numbers; export the model for inference, without it."

    def __init__(self, model: onnx.ModelProto | bytes | str | os.PathLike[str]) -> None:
        if isinstance(model, onnx.ModelProto):
            self._model = _copy(model)
        else:
            try:
                self._model = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))
            except FileNotFoundError:
                raise
            except Exception as error:
                raise ValueError(f"{model!r:.80} is not an ONNX model ({error}); give a .onnx file.") from error
        graph = self._model.graph
        self.labels = _without_maps(graph)
        # In old models every weight is an input with a default. Clients never send one, so it becomes a constant.
        initialized = {tensor.name for tensor in graph.initializer}
        kept = [onnx.ValueInfoProto.FromString(one.SerializeToString()) for one in graph.input]
        del graph.input[:]
        graph.input.extend(one for one in kept if one.name not in initialized)
        self._inputs = list(graph.input)
        for value in self._inputs:
            dims = value.type.tensor_type.shape.dim
            if not dims or dims[0].HasField("dim_value"):
                size = f"only batches of {dims[0].dim_value} rows" if dims else "a scalar"
                raise ValueError(
                    f"The input {value.name} of the ONNX model takes {size}; export the model with a dynamic first "
                    "dimension, the batch."
                )

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        names = [value.name for value in self._inputs]
        if set(names) <= set(features):
            return [ModelInput(one.name, (one.name,), _dtype(one), False) for one in self._inputs]
        if len(names) != 1:
            raise ValueError(
                f"The ONNX model takes {', '.join(names)}, and the receiver gives {', '.join(features)}; "
                "give the features the names of the model's inputs."
            )
        (only,) = self._inputs
        if len(features) == 1:
            return [ModelInput(only.name, tuple(features), _dtype(only), False)]
        matrix = matrix_input(features, None, _dtype(only), "The ONNX model")
        return [ModelInput(only.name, matrix.keys, matrix.dtype, True)]

    def known_values(self) -> Mapping[str, Sequence[Any]]:
        return {}

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        return inline_local_functions(self._model) if self._model.functions else _copy(self._model)

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        model = _copy(self._model)
        # Fed as inputs: no message holds more than 2 GB.
        large = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in weights.detach(model).items()}
        return run_all(ops.session(model.SerializeToString()), {**inputs, **large})


def _without_maps(graph: onnx.GraphProto) -> list[str] | None:
    """Makes outputs that are a map from class to score for each row, as converters write them, the matrix [batch, n] of
    the scores. Returns the names of the classes, None where there is no map."""
    maps = {node.output[0]: node for node in graph.node if node.op_type == "ZipMap"}
    outputs = [one for one in graph.output if one.name in maps]
    if not outputs:
        return None
    classes: list[str] = []
    for value in outputs:
        node = maps[value.name]
        for attribute in node.attribute:
            named = helper.get_attribute_value(attribute)
            classes = [one.decode() if isinstance(one, bytes) else str(one) for one in named]
        value.CopyFrom(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, [None, len(classes)]))
        node.CopyFrom(helper.make_node("Identity", node.input, node.output))
    return classes


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _dtype(value: onnx.ValueInfoProto) -> DType:
    return dtypes.from_numpy(np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))
