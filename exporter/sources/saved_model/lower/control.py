"""Branches and loops, lists of tensors, and what has no value.

Owns the unrolling: a loop whose condition is known at every step becomes its steps one after the other. loops.py writes
those whose number of steps only a request tells.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.choosing import guarded
from estimator_serving.exporter.sources.saved_model.lower.loops import open_loop
from estimator_serving.exporter.sources.saved_model.lowering import Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import StackedList, Tensor, TensorList, Value

STEPS_MAX = 2048


@lowers("If", "StatelessIf")
def _if(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    condition = context.array(inputs[0], node, "condition")
    branch = "then_branch" if bool(condition.ravel()[0]) else "else_branch"
    return context.call(node.function(branch), f"{node.name}/{branch}", inputs[1:])


@lowers("While", "StatelessWhile")
def _while(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    values = list(inputs)
    for step in range(STEPS_MAX + 1):
        (condition,) = context.call(node.function("cond"), f"{node.name}/condition_{step}", values)
        if step == 0 and isinstance(condition, Tensor) and condition.constant is None:
            return open_loop(context, node, values, condition)
        if not bool(context.array(condition, node, "condition").ravel()[0]):
            return values
        values = context.call(node.function("body"), f"{node.name}/step_{step}", values)
    raise node.refuse(f"it runs more than {STEPS_MAX} times")


# ---- lists ----------------------------------------------------------------------------------------------------------


@lowers("TensorListReserve", "EmptyTensorList")
def _reserve(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    count = 0
    if node.op == "TensorListReserve":
        (length,) = context.dims(inputs[1], node, "length")
        if not isinstance(length, int):
            return StackedList(length, None, node.dtype("element_dtype"))
        count = length
    shape = inputs[0]
    sizes = None
    if isinstance(shape, Tensor) and shape.rank == 1 and (shape.sizes is not None or shape.constant is not None):
        sizes = context.dims(shape, node, "element shape")
    return TensorList((None,) * count, node.dtype("element_dtype"), sizes)


def _list(value: Value, node: Node) -> TensorList:
    if not isinstance(value, TensorList):
        raise node.refuse("it reads what is no list")
    return value


@lowers("TensorListFromTensor")
def _from_tensor(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    count = value.shape[0]
    if not isinstance(count, int) or count > STEPS_MAX:
        return StackedList(count, value, value.dtype)
    if value.constant is not None:
        return TensorList(tuple(context.constant(one) for one in value.constant), value.dtype, value.shape[1:])
    places = [context.constant(np.array(index, np.int64)) for index in range(count)]
    items = tuple(context.op("Gather", [value, at], value.dtype, value.shape[1:], axis=0) for at in places)
    return TensorList(items, value.dtype, value.shape[1:])


def _index(context: Lowering, node: Node, value: Value, length: int) -> int:
    index = int(context.array(value, node, "index").ravel()[0])
    if not 0 <= index < length:
        raise node.refuse(f"it takes element {index} of {length}")
    return index


@lowers("TensorListGetItem")
def _get_item(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    if isinstance(inputs[0], StackedList):
        stack, at = inputs[0].items, context.dense(inputs[1], node)
        if stack is None:
            raise node.refuse("it reads an element that nothing was written to")
        return context.tensor(
            stack.dtype,
            stack.shape[1:],
            lambda: context.builder.one("Gather", stack.name, guarded(context, stack, at, 0), axis=0),
        )
    items = _list(inputs[0], node)
    found = items.items[_index(context, node, inputs[1], len(items.items))]
    return _zeros(context, node, items) if found is None else found


def _zeros(context: Lowering, node: Node, items: TensorList) -> Tensor:
    shape = items.shape
    if shape is None or any(dim == -1 for dim in shape):
        raise node.refuse("it reads an element that nothing was written to")
    blank: Any = b"" if items.dtype.kind == "O" else 0
    scalar = context.constant(np.array(blank, items.dtype))
    return context.tensor(items.dtype, shape, lambda: context.spread(scalar, shape), small=scalar)


@lowers("TensorListSetItem")
def _set_item(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    items = _list(inputs[0], node)
    index = _index(context, node, inputs[1], len(items.items))
    written = list(items.items)
    written[index] = context.dense(inputs[2], node)
    return TensorList(tuple(written), items.dtype, items.shape)


@lowers("TensorListPushBack")
def _push_back(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    items = _list(inputs[0], node)
    return TensorList((*items.items, context.dense(inputs[1], node)), items.dtype, items.shape)


@lowers("TensorListLength")
def _length(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    if isinstance(inputs[0], StackedList):
        return context.sizes([inputs[0].length], np.dtype(np.int32), 0)
    return context.constant(np.array(len(_list(inputs[0], node).items), np.int32))


@lowers("TensorListStack")
def _stack(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    if isinstance(inputs[0], StackedList) and inputs[0].items is not None:
        return inputs[0].items
    items = _list(inputs[0], node)
    written = [one for one in items.items if one is not None]
    if not written:
        raise node.refuse("it stacks a list that nothing was written to")
    shape = written[0].shape
    rows = [
        one if one is not None else _zeros(context, node, TensorList((), items.dtype, shape)) for one in items.items
    ]

    def emit() -> str:
        return context.builder.one(
            "Concat", *(context.builder.one("Unsqueeze", one.name, context.int64(0)) for one in rows), axis=0
        )

    return context.tensor(items.dtype, [len(rows), *shape], emit)


@lowers("NoOp", "Assert")
def _nothing(_: Lowering, __: Node, ___: list[Value]) -> Lowered:
    return []
