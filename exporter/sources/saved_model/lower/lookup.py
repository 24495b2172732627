"""Variables and lookup tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, helper

from estimator_serving.exporter.sources.builder import ML_DOMAIN
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import cast, elementwise, grid_of
from estimator_serving.exporter.sources.saved_model.lowering import FLOAT, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Handle, Value

Array = npt.NDArray[Any]

# LabelEncoder's word for a type, and Python's type of its default.
_KINDS = {"O": "string", "f": "float", "i": "int64"}
_PYTHON: dict[str, Callable[[Any], Any]] = {"string": bytes, "float": float, "int64": int}


@lowers("VarHandleOp", "HashTableV2", "HashTable")
def _handle(_: Lowering, node: Node, __: list[Value]) -> Lowered:
    return Handle(node.name)


@lowers("VariableV2", "Variable", "ReadVariableOp")
def _variable(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    handle = inputs[0] if inputs else Handle(node.name)
    if not isinstance(handle, Handle):
        raise node.refuse("it reads what is no variable")
    return context.constant(context.resources.variable(handle.node))


@lowers("LookupTableSizeV2", "LookupTableSize")
def _table_size(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    keys, _ = _contents(context, node, inputs[0])
    return context.constant(np.array(len(keys), np.int64))


@lowers("LookupTableFindV2", "LookupTableFind")
def _find(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    keys, values = _contents(context, node, inputs[0])
    default = context.array(inputs[2], node, "default").ravel()[0]
    if keys.dtype.kind not in "Oiu":
        raise node.refuse(f"its table has keys of {keys.dtype} and values of {values.dtype}")
    source = keys.dtype if keys.dtype.kind == "O" else INT64
    # LabelEncoder has values of text, int64 and float32. Of other types it gives their places.
    is_direct = values.dtype.kind in "Oi" or values.dtype == FLOAT
    target = INT64 if values.dtype.kind == "i" or not is_direct else values.dtype
    found = values if is_direct else np.arange(len(values))
    missing = default if is_direct else len(values)
    kind = _KINDS[target.kind]
    attributes = [*_attribute("keys", keys, source), *_attribute("values", found, target)]
    attributes.append(helper.make_attribute(f"default_{kind}", _PYTHON[kind](missing)))

    def emit(x: str) -> str:
        if not len(keys):
            shape = context.builder.one("Shape", x)
            return context.builder.one("Expand", context.builder.constant(np.array(default, values.dtype)), shape)
        name = cast(context, x, keys.dtype, source)
        found = context.builder.node("LabelEncoder", [name], domain=ML_DOMAIN, attributes=attributes)[0]
        if is_direct:
            return cast(context, found, target, values.dtype)
        return context.builder.one("Gather", context.builder.constant(np.append(values, default)), found, axis=0)

    made = elementwise(context, node, [inputs[1]], values.dtype, emit)
    grid = grid_of(made)
    if grid is not None and values.dtype.kind in "iu":
        numbers = [int(default), *([int(values.min()), int(values.max())] if len(values) else [])]
        grid.low, grid.high = min(numbers), max(numbers)
    return made


def _contents(context: Lowering, node: Node, table: Value) -> tuple[Array, Array]:
    if not isinstance(table, Handle):
        raise node.refuse("it looks up in what is no table")
    key = ("table", table.node)
    if key not in context.cache:
        found = context.resources.table(table.node, lambda ref: context.array(context.value(ref), node, "table"))
        context.cache[key] = (found.keys, found.values)
    contents: tuple[Array, Array] = context.cache[key]
    return contents


def _attribute(name: str, array: Array, dtype: np.dtype[Any]) -> list[AttributeProto]:
    kind = _KINDS[dtype.kind]
    if kind == "string":
        # As bytes: keys that are not UTF-8 stay what they are.
        attribute = AttributeProto(name=f"{name}_strings", type=AttributeProto.STRINGS)
        attribute.strings.extend(array.tolist())
        return [attribute]
    return [helper.make_attribute(f"{name}_{kind}s", array.astype(dtype).tolist())] if len(array) else []
