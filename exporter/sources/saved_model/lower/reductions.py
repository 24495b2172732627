"""Sums, products, extremes and their places along axes.

Owns that axes are counted from the front: with a negative one ONNX Runtime gives an empty batch a wrong shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import cast, wider
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Dim, Flat, Tensor, Value, multiply

_REDUCTIONS: dict[str, tuple[str, Any]] = {
    "Sum": ("ReduceSum", np.sum),
    "Mean": ("ReduceMean", np.mean),
    "Max": ("ReduceMax", np.max),
    "Min": ("ReduceMin", np.min),
    "Prod": ("ReduceProd", np.prod),
    "EuclideanNorm": ("ReduceL2", None),
}


@lowers(*_REDUCTIONS)
def _reduce(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, keep = inputs[0], node.flag("keep_dims", False)
    if isinstance(value, Flat) and value.tail:
        axes = [axis % (1 + len(value.tail)) for axis in _given_axes(context, node, inputs[1])]
        if axes and 0 not in axes:
            grid = _reduce_dense(context, node, value.grid, [axis + 1 for axis in axes], keep)
            filler = value.filler and _reduce_dense(context, node, value.filler, [axis - 1 for axis in axes], keep)
            return Flat(value.cells, grid, filler)
    dense = context.dense(value, node)
    return _reduce_dense(context, node, dense, _axes(context, node, inputs[1], dense), keep)


def _reduce_dense(context: Lowering, node: Node, value: Tensor, axes: list[int], keep: bool) -> Tensor:
    op_type, fold = _REDUCTIONS[node.op]
    if not axes:
        return value
    if value.constant is not None and fold is not None:
        reduced = np.asarray(fold(value.constant, axis=tuple(axes), keepdims=keep))
        return context.constant(reduced, value.dtype)
    if node.op == "Prod" and value.sizes is not None and value.rank == 1:
        return context.sizes([multiply(value.sizes)], value.dtype, int(keep))
    wide = wider(value.dtype)
    if node.op in ("Max", "Min", "Mean") and any(value.shape[axis] == 0 for axis in axes):
        raise node.refuse("it reduces nothing")

    def emit() -> str:
        if value.turned is not None and axes == [1] and not keep and wide == value.dtype:
            # ONNX Runtime reduces a first axis many times faster than one in the middle.
            return context.builder.one(op_type, value.turned(), context.int64(0), keepdims=0)
        reduced = context.builder.one(
            op_type, cast(context, value.name, value.dtype, wide), context.int64(*axes), keepdims=int(keep)
        )
        return cast(context, reduced, wide, value.dtype)

    return context.tensor(value.dtype, _reduced(value, axes, keep), emit)


def _given_axes(context: Lowering, node: Node, axes: Value) -> list[int]:
    return [int(axis) for axis in context.array(axes, node, "axes").ravel()]


def _axes(context: Lowering, node: Node, axes: Value, value: Tensor) -> list[int]:
    given = _given_axes(context, node, axes)
    if any(not -value.rank <= axis < value.rank for axis in given):
        raise node.refuse(f"it reduces the axes {given} of a tensor of rank {value.rank}")
    return sorted({axis % value.rank for axis in given})


def _reduced(value: Tensor, axes: list[int], keep: bool) -> list[Dim]:
    if keep:
        return [1 if axis in axes else dim for axis, dim in enumerate(value.shape)]
    return [dim for axis, dim in enumerate(value.shape) if axis not in axes]


@lowers("All", "Any")
def _all(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    axes, keep = _axes(context, node, inputs[1], value), node.flag("keep_dims", False)
    if value.constant is not None:
        return context.constant(
            (np.all if node.op == "All" else np.any)(value.constant, axis=tuple(axes), keepdims=keep)
        )
    one, number = context.builder.one, np.dtype(np.int32)

    def emit() -> str:
        # The sum of what is false, or true: right for nothing at all, too.
        counted = one("Not", value.name) if node.op == "All" else value.name
        total = one("ReduceSum", cast(context, counted, BOOL, number), context.int64(*axes), keepdims=int(keep))
        zero = context.scalar(0, number)
        return one("Equal", total, zero) if node.op == "All" else one("Greater", total, zero)

    return context.tensor(BOOL, _reduced(value, axes, keep), emit) if axes else value


@lowers("ArgMax", "ArgMin")
def _arg_max(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    axis = int(context.array(inputs[1], node, "axis").ravel()[0]) % value.rank
    dtype = node.dtype("output_type", INT64)
    shape = [dim for place, dim in enumerate(value.shape) if place != axis]
    size = value.shape[axis]
    wide = wider(value.dtype)

    def emit() -> str:
        found = context.builder.one(node.op, cast(context, value.name, value.dtype, wide), axis=axis, keepdims=0)
        return cast(context, found, INT64, dtype)

    return context.tensor(dtype, shape, emit, low=0, high=size - 1 if isinstance(size, int) else None)


@lowers("Cumsum")
def _cumsum(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    axis = int(context.array(inputs[1], node, "axis").ravel()[0]) % value.rank
    flags = {name: int(node.flag(name, False)) for name in ("exclusive", "reverse")}
    at = context.constant(np.array(axis, np.int64))
    made = context.op("CumSum", [value, at], value.dtype, value.shape, **flags)
    if value.rows_of is not None and value.rows_of[1] == "counts" and not any(flags.values()):
        made.rows_of = (value.rows_of[0], "ends")
    return made


@lowers("L2Loss")
def _l2_loss(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)

    def emit() -> str:
        squares = context.builder.one("ReduceSumSquare", value.name, keepdims=0)
        return context.builder.one("Mul", squares, context.scalar(0.5, value.dtype))

    return context.tensor(value.dtype, [], emit)
