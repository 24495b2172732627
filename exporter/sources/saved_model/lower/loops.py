"""Loops whose number of steps only a request tells: While becomes ONNX's Loop.

Owns what a loop's variables are: those that the body hands on unchanged are read from around the loop, a list that gets
one item at each step is a scan, everything else is carried. Recurrent layers of Keras over sequences of any length are
such loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node, Ref
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, arguments_of
from estimator_serving.exporter.sources.saved_model.values import Handle, StackedList, Tensor, TensorList, Value

_LISTS = (TensorList, StackedList)


@dataclass(frozen=True)
class _Written:
    """A list variable whose body sets one item: where, and what to."""

    initial: TensorList | StackedList
    place: Ref
    item: Ref


class _Variables:
    """The variables of a loop by what its body makes of them. Raises Unsupported for lists that it reads and writes."""

    def __init__(self, context: Lowering, node: Node, initial: Sequence[Value], body: str) -> None:
        self._context = context
        self.arguments = arguments_of(body, len(initial))
        self.outputs = context.graph.inline(node.function("body"), body, self.arguments, ())
        self.carried: dict[int, Tensor] = {}
        self.lists: dict[int, _Written] = {}
        self.kept: dict[int, Value] = {}
        for index, (value, argument) in enumerate(zip(initial, self.arguments, strict=True)):
            end = self.origin(self.outputs[index])
            if end == argument:
                self.kept[index] = value
            elif isinstance(value, _LISTS):
                setter = context.graph.nodes.get(end.node)
                if setter is None or setter.op != "TensorListSetItem" or self.origin(setter.inputs[0]) != argument:
                    raise node.refuse("its body does more with a list than to set one item at each step")
                self.lists[index] = _Written(value, *setter.inputs[1:3])
            else:
                self.carried[index] = context.dense(value, node)

    def origin(self, ref: Ref) -> Ref:
        """Where a value comes from, behind identities."""
        graph = self._context.graph
        while (found := graph.nodes.get((ref := graph.resolve(ref)).node)) is not None and found.op == "Identity":
            ref = found.inputs[0]
        return ref

    def counts_from(self, ref: Ref) -> int | None:
        """The first number of a variable that grows by 1 at each step, None for any other reference."""
        ref = self.origin(ref)
        if ref not in self.arguments:
            return None
        index = self.arguments.index(ref)
        start = self.carried[index].constant if index in self.carried else None
        adder = self._context.graph.nodes.get(self.origin(self.outputs[index]).node)
        if start is None or start.ndim or start.dtype.kind not in "iu" or adder is None:
            return None
        if adder.op not in ("AddV2", "Add") or self.origin(adder.inputs[0]) != ref:
            return None
        step = self._context.graph.nodes.get(self.origin(adder.inputs[1]).node)
        is_one = step is not None and step.op == "Const" and (step.tensor("value") == 1).all()
        return int(start) if is_one else None


def open_loop(context: Lowering, node: Node, initial: Sequence[Value], condition: Tensor) -> Lowered:
    """The values after the last step. `condition` says whether there is a first one."""
    variables = _Variables(context, node, initial, f"{node.name}/body")
    names = context.builder.open_body(2 + len(variables.carried) + len(variables.lists))
    try:
        return _loop(context, node, variables, names, condition)
    except Exception:
        context.builder.drop_body()
        raise


def _loop(context: Lowering, node: Node, variables: _Variables, names: list[str], condition: Tensor) -> Lowered:
    carried, lists = variables.carried, variables.lists
    # The shapes that hold at every step, None where the graph does not say.
    shapes = node.shapes("output_shapes")
    shapes = shapes if len(shapes) == len(variables.arguments) else [None] * len(variables.arguments)
    inside: dict[int, Tensor] = {}
    for (index, start), name in zip(carried.items(), names[2:], strict=False):
        inside[index] = _argument(
            context, name, start, shapes[index], variables.counts_from(variables.arguments[index])
        )
    # What reads a list here is refused: a list is no resource.
    unread = Handle(node.name)
    context.feed({ref: inside.get(i, variables.kept.get(i, unread)) for i, ref in enumerate(variables.arguments)})
    after = {index: context.dense(context.value(variables.outputs[index]), node) for index in carried}
    items = {index: context.dense(context.value(one.item), node) for index, one in lists.items()}
    scans = [index for index in lists if _is_scan(context, node, variables, lists[index])]
    single = [index for index in lists if index not in scans]
    for index, value in after.items():
        if value.rank != inside[index].rank or value.dtype != inside[index].dtype:
            raise node.refuse("a variable changes its rank")
    next_values = {**variables.kept, **after, **dict.fromkeys(lists, unread)}
    (again,) = context.call(
        node.function("cond"), f"{node.name}/condition", [next_values[i] for i in range(len(variables.arguments))]
    )
    kept = [
        (again, BOOL),
        *((after[i], after[i].dtype) for i in carried),
        *((items[i], items[i].dtype) for i in single),
    ]
    results = [(context.dense(value, node).name, dtype, context.dense(value, node).rank) for value, dtype in kept]
    results += [(items[i].name, items[i].dtype, items[i].rank) for i in scans]
    arguments: list[tuple[str, np.dtype[Any], int]] = [(names[0], INT64, 0), (names[1], BOOL, 0)]
    arguments += [(inside[i].name, inside[i].dtype, inside[i].rank) for i in carried]
    arguments += [
        (name, items[i].dtype, items[i].rank) for i, name in zip(single, names[2 + len(carried) :], strict=False)
    ]
    inputs = ["", condition.name, *(carried[i].name for i in carried)]
    inputs += [_first(context, lists[i], items[i], node) for i in single]
    made = iter(context.builder.close_loop(inputs, arguments, results))
    found: dict[int, Value] = dict(variables.kept)
    for index in carried:
        found[index] = _result(context, next(made), after[index])
    for index in single:
        found[index] = _with_item(context, node, lists[index], _result(context, next(made), items[index]))
    for index in scans:
        found[index] = _stacked(context, lists[index], next(made), items[index])
    return [found[index] for index in range(len(variables.arguments))]


def _argument(
    context: Lowering, name: str, start: Tensor, shape: tuple[int, ...] | None, counts_from: int | None
) -> Tensor:
    sizes = shape if shape is not None and len(shape) == start.rank else (-1,) * start.rank
    dims = [size if size >= 0 else None for size in sizes]
    low = counts_from if counts_from is not None and counts_from >= 0 else None
    return context.tensor(start.dtype, dims, lambda: name, low=low)


def _is_scan(context: Lowering, node: Node, variables: _Variables, written: _Written) -> bool:
    """Whether every step sets the item of its own number; else every step sets the same one."""
    initial = written.initial
    untouched = initial.items is None if isinstance(initial, StackedList) else not any(initial.items)
    if variables.counts_from(written.place) == 0 and untouched:
        return True
    place = context.value(written.place)
    constant = place.constant if isinstance(place, Tensor) else None
    if isinstance(initial, TensorList) and constant is not None and 0 <= int(constant) < len(initial.items):
        return False
    raise node.refuse("its body sets items of a list in an order that is not followed")


def _place(context: Lowering, written: _Written, node: Node) -> int:
    return int(context.array(context.value(written.place), node, "place").ravel()[0])


def _first(context: Lowering, written: _Written, item: Tensor, node: Node) -> str:
    """What an item is before the first step; no element where nothing was written."""
    assert isinstance(written.initial, TensorList)
    before = written.initial.items[_place(context, written, node)]
    if before is not None:
        return before.name
    return context.builder.constant(np.zeros([0] * item.rank, item.dtype))


def _with_item(context: Lowering, node: Node, written: _Written, item: Tensor) -> TensorList:
    initial = written.initial
    assert isinstance(initial, TensorList)
    items = list(initial.items)
    items[_place(context, written, node)] = item
    return TensorList(tuple(items), initial.dtype, initial.shape)


def _result(context: Lowering, name: str, inside: Tensor) -> Tensor:
    """A value behind the loop: sizes inside it mean nothing here."""
    return context.tensor(inside.dtype, [dim if isinstance(dim, int) else None for dim in inside.shape], lambda: name)


def _stacked(context: Lowering, written: _Written, name: str, item: Tensor) -> StackedList:
    """The items of all steps, and zeros up to the length of the list."""
    initial, one = written.initial, context.builder.one
    length = initial.length if isinstance(initial, StackedList) else len(initial.items)
    tail = [dim if isinstance(dim, int) else None for dim in item.shape]

    def emit() -> str:
        missing = one("Sub", context.dim_name(length), one("Shape", name, start=0, end=1))
        zeros, rest = context.int64(*[0] * (1 + item.rank)), context.int64(*[0] * item.rank)
        pads = one("Concat", zeros, missing, rest, axis=0) if item.rank else one("Concat", zeros, missing, axis=0)
        return one("Pad", name, pads, mode="constant")

    stack = context.tensor(item.dtype, [length, *tail], emit)
    return StackedList(length, stack, item.dtype)
