"""Variables and lookup tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, helper

from estimator_serving.exporter.sources.saved_model.builder import ML_DOMAIN
from estimator_serving.exporter.sources.saved_model.graph import Node, Ref
from estimator_serving.exporter.sources.saved_model.lower.elementwise import cast, elementwise, grid_of
from estimator_serving.exporter.sources.saved_model.lowering import INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Handle, Value

Array = npt.NDArray[Any]


@lowers("VarHandleOp", "HashTableV2", "HashTable")
def _handle(_: Lowering, node: Node, __: list[Value]) -> Lowered:
    return Handle(node.name)


@lowers("VariableV2", "Variable")
def _variable(context: Lowering, node: Node, _: list[Value]) -> Lowered:
    return context.constant(context.resources.variable(node.name))


@lowers("ReadVariableOp")
def _read(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    handle = inputs[0]
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
    source = keys.dtype if keys.dtype != np.int32 else INT64
    target = values.dtype if values.dtype != np.int32 else INT64
    attributes = [*_attribute("keys", keys, source), *_attribute("values", values, target)]
    if keys.dtype.kind == "f" or (target.kind != "O" and target.kind not in "iuf"):
        raise node.refuse(f"its table has keys of {keys.dtype} and values of {values.dtype}")
    kind = _kind(target)
    missing = bytes(default) if kind == "string" else float(default) if kind == "float" else int(default)
    attributes.append(helper.make_attribute(f"default_{kind}", missing))

    def emit(x: str) -> str:
        if not len(keys):
            shape = context.builder.one("Shape", x)
            return context.builder.one("Expand", context.builder.constant(np.array(default, values.dtype)), shape)
        name = cast(context, x, keys.dtype, source)
        found = context.builder.node("LabelEncoder", [name], domain=ML_DOMAIN, attributes=attributes)[0]
        return cast(context, found, target, values.dtype)

    made = elementwise(context, node, [inputs[1]], values.dtype, emit)
    grid = grid_of(made)
    if grid is not None and values.dtype.kind in "iu":
        numbers = [int(default), *([int(values.min()), int(values.max())] if len(values) else [])]
        grid.low, grid.high = min(numbers), max(numbers)
    return made


def _contents(context: Lowering, node: Node, table: Value) -> tuple[Array, Array]:
    if not isinstance(table, Handle):
        raise node.refuse("it looks up in what is no table")

    def constant(ref: Ref) -> Array:
        return context.array(context.value(ref), node, "table")

    key = ("table", table.node)
    if key not in context.cache:
        found = context.resources.table(table.node, constant)
        context.cache[key] = (found.keys, found.values)
    contents: tuple[Array, Array] = context.cache[key]
    return contents


def _kind(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.kind == "O" else "float" if dtype.kind == "f" else "int64"


def _attribute(name: str, array: Array, dtype: np.dtype[Any]) -> list[AttributeProto]:
    kind = _kind(dtype)
    if kind == "string":
        # As bytes: keys that are not UTF-8 stay what they are.
        attribute = AttributeProto(name=f"{name}_strings", type=AttributeProto.STRINGS)
        attribute.strings.extend(array.tolist())
        return [attribute]
    return [helper.make_attribute(f"{name}_{kind}s", array.astype(dtype).tolist())] if len(array) else []
