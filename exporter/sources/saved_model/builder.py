"""The ONNX graph as it grows: nodes that are never written twice, initializers, inputs.

Owns names and sharing. Knows nothing of TensorFlow; shapes and dtypes are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from estimator_serving.exporter.servable import weights
from estimator_serving.ops import DOMAIN, VERSION
from estimator_serving.training.columns.onnx_export import OPSET

Array = npt.NDArray[Any]

ML_DOMAIN = "ai.onnx.ml"
_ML_VERSION = 4
_IR_VERSION = 10


def onnx_type(dtype: np.dtype[Any]) -> int:
    """ONNX's number of an element type; object is string. Raises ValueError for a type it lacks."""
    if dtype.kind == "O":
        return int(TensorProto.STRING)
    try:
        return int(helper.np_dtype_to_tensor_dtype(dtype))
    except (KeyError, ValueError):
        raise ValueError(f"ONNX has no tensors of {dtype}") from None


class Builder:
    """Nodes, initializers and inputs of a graph under construction."""

    def __init__(self) -> None:
        self.inputs: dict[str, onnx.ValueInfoProto] = {}
        self.detached: dict[str, TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._made: dict[Any, list[str]] = {}
        self._constants: dict[Any, str] = {}
        # Keeps large arrays alive while their identities serve as keys.
        self._large: list[Array] = []

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        *,
        outputs: int = 1,
        domain: str = "",
        attributes: Sequence[onnx.AttributeProto] | None = None,
        **values: Any,
    ) -> list[str]:
        """The outputs of a node; one that was written before is not written again."""
        made = [*(attributes or ()), *(helper.make_attribute(key, value) for key, value in sorted(values.items()))]
        key = (op_type, domain, tuple(inputs), outputs, tuple(one.SerializeToString() for one in made))
        if key not in self._made:
            names = [f"_{len(self._nodes)}.{index}" for index in range(outputs)]
            node = helper.make_node(op_type, list(inputs), names, domain=domain)
            node.attribute.extend(made)
            self._nodes.append(node)
            self._made[key] = names
        return self._made[key]

    def one(self, op_type: str, *inputs: str, **values: Any) -> str:
        """The only output of a node of ONNX's own domain."""
        return self.node(op_type, inputs, **values)[0]

    def constant(self, array: Array) -> str:
        """An initializer; equal ones share a name. Large ones are detached: inputs stand for them until the end."""
        array = np.asarray(array)
        if array.dtype.kind == "O":
            key: Any = ("string", array.shape, tuple(array.ravel().tolist()))
        elif array.nbytes < weights.DETACHED_MIN_BYTES:
            key = (array.dtype.str, array.shape, array.tobytes())
        else:
            key = id(array)
            self._large.append(array)
        if key not in self._constants:
            name = f"_c{len(self._constants)}"
            if array.dtype.kind == "O":
                tensor = TensorProto(name=name, data_type=TensorProto.STRING, dims=array.shape)
                tensor.string_data.extend(array.ravel().tolist())
            else:
                tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            if array.dtype.kind != "O" and array.nbytes >= weights.DETACHED_MIN_BYTES:
                tensor.name = name = f"weights/{name}"
                self.detached[name] = tensor
            else:
                self._initializers[name] = tensor
            self._constants[key] = name
        return self._constants[key]

    def add_input(self, name: str, dtype: np.dtype[Any], shape: Sequence[int | str | None]) -> None:
        self.inputs[name] = helper.make_tensor_value_info(name, onnx_type(dtype), shape)

    def model(self, outputs: Mapping[str, tuple[str, np.dtype[Any], Sequence[int | str | None]]]) -> onnx.ModelProto:
        """The graph that gives `outputs` (by name: value, dtype, shape), without what they do not need."""
        ends = [helper.make_node("Identity", [value], [name]) for name, (value, _, _) in outputs.items()]
        needed = {value for value, _, _ in outputs.values()}
        kept: list[onnx.NodeProto] = []
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.output):
                kept.append(node)
                needed.update(node.input)
        infos = [helper.make_tensor_value_info(name, onnx_type(t), shape) for name, (_, t, shape) in outputs.items()]
        self.detached = {name: tensor for name, tensor in self.detached.items() if name in needed}
        stand_ins = [
            helper.make_tensor_value_info(name, one.data_type, list(one.dims)) for name, one in self.detached.items()
        ]
        graph = helper.make_graph(
            [*reversed(kept), *ends],
            "saved_model",
            [*self.inputs.values(), *stand_ins],
            infos,
            [tensor for name, tensor in self._initializers.items() if name in needed],
        )
        opsets = [("", OPSET), (ML_DOMAIN, _ML_VERSION), (DOMAIN, VERSION)]
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*one) for one in opsets], ir_version=_IR_VERSION
        )
