"""The ONNX graph as it grows: nodes that are never written twice, initializers, inputs, and the bodies of loops.

Owns names and sharing. A node stands in the innermost body that it reads from, however late it is written: what a loop
repeats without need is computed once, in front of it. Knows nothing of TensorFlow; shapes and dtypes are the caller's.
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
        # The graph's nodes, then those of each body that is open, by increasing numbers.
        self._scopes: dict[int, list[onnx.NodeProto]] = {0: []}
        # Of values inside bodies: the number of their scope.
        self._scope_of: dict[str, int] = {}
        self._count = 0
        # Of nodes with a body, by their first output: what the body reads from around it.
        self._captured: dict[str, set[str]] = {}
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
            self._made[key] = self._write(op_type, inputs, outputs, domain, made)
        return self._made[key]

    def _write(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: int,
        domain: str,
        attributes: Sequence[onnx.AttributeProto],
        captured: set[str] | None = None,
    ) -> list[str]:
        self._count += 1
        names = [f"_{self._count}.{index}" for index in range(outputs)]
        node = helper.make_node(op_type, list(inputs), names, domain=domain)
        node.attribute.extend(attributes)
        scopes = {self._scope_of[name] for name in (*inputs, *(captured or ())) if name in self._scope_of}
        if not scopes <= self._scopes.keys():
            raise ValueError("it reads a value inside a loop from outside")
        scope = max(scopes, default=0)
        self._scopes[scope].append(node)
        if scope:
            self._scope_of |= dict.fromkeys(names, scope)
        if captured is not None:
            self._captured[names[0]] = captured
        return names

    def one(self, op_type: str, *inputs: str, **values: Any) -> str:
        """The only output of a node of ONNX's own domain."""
        return self.node(op_type, inputs, **values)[0]

    def open_body(self, count: int) -> list[str]:
        """Begins the body of a loop; returns the names of its `count` inputs. Close or drop it before the one around
        it."""
        self._count += 1
        names = [f"_{self._count}.{index}" for index in range(count)]
        self._scopes[self._count] = []
        self._scope_of |= dict.fromkeys(names, self._count)
        return names

    def drop_body(self) -> None:
        """Forgets the innermost body."""
        self._scopes.popitem()

    def close_loop(
        self,
        inputs: Sequence[str],
        arguments: Sequence[tuple[str, np.dtype[Any], int]],
        results: Sequence[tuple[str, np.dtype[Any], int]],
    ) -> list[str]:
        """Ends the innermost body and writes ONNX's Loop over it.

        Args:
            inputs: of the Loop: the number of steps or "", the condition, the carried values.
            arguments: of the body: name, dtype and rank.
            results: of the body: the condition, the carried values, the elements of scans.

        Returns:
            The carried values after the last step, and the scans.
        """
        self._count += 1
        ends = [f"_{self._count}.{index}" for index in range(len(results))]
        _, nodes = self._scopes.popitem()
        nodes += [helper.make_node("Identity", [name], [end]) for (name, _, _), end in zip(results, ends, strict=True)]
        nodes, needed = self._without_unused(nodes, set(ends))
        produced = {name for node in nodes for name in node.output}.union(name for name, _, _ in arguments)
        body = helper.make_graph(
            nodes,
            "body",
            [_info(name, dtype, rank) for name, dtype, rank in arguments],
            [_info(end, dtype, rank) for end, (_, dtype, rank) in zip(ends, results, strict=True)],
        )
        attributes = [helper.make_attribute("body", body)]
        return self._write("Loop", inputs, len(results) - 1, "", attributes, needed - produced - {""})

    def _without_unused(
        self, nodes: Sequence[onnx.NodeProto], needed: set[str]
    ) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that the values `needed` depend on, and all values that they and their bodies read."""
        kept: list[onnx.NodeProto] = []
        for node in reversed(nodes):
            if not needed.isdisjoint(node.output):
                kept.append(node)
                needed.update(node.input, self._captured.get(node.output[0], ()))
        return kept[::-1], needed

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
        kept, needed = self._without_unused(self._scopes[0], {value for value, _, _ in outputs.values()})
        infos = [helper.make_tensor_value_info(name, onnx_type(t), shape) for name, (_, t, shape) in outputs.items()]
        self.detached = {name: tensor for name, tensor in self.detached.items() if name in needed}
        stand_ins = [
            helper.make_tensor_value_info(name, one.data_type, list(one.dims)) for name, one in self.detached.items()
        ]
        graph = helper.make_graph(
            [*kept, *ends],
            "saved_model",
            [*self.inputs.values(), *stand_ins],
            infos,
            [tensor for name, tensor in self._initializers.items() if name in needed],
        )
        opsets = [("", OPSET), (ML_DOMAIN, _ML_VERSION), (DOMAIN, VERSION)]
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*one) for one in opsets], ir_version=_IR_VERSION
        )


def _info(name: str, dtype: np.dtype[Any], rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_type(dtype), [None] * rank)
