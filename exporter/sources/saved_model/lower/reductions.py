"""Sums, products, extremes and their places along axes.

Owns that axes are counted from the front: with a negative one ONNX Runtime gives an empty batch a wrong shape. And that
extremes of int64 are found by TopK: ONNX Runtime's ReduceMax and ReduceMin misread numbers from 2**31 to 2**32 - 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import cast, wider
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Dim, Flat, Shape, Tensor, Value, multiply

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
        axes = _axes(context, node, inputs[1], 1 + len(value.tail))
        if axes and 0 not in axes:
            grid = _reduce_dense(context, node, value.grid, [axis + 1 for axis in axes], keep)
            filler = value.filler and _reduce_dense(context, node, value.filler, [axis - 1 for axis in axes], keep)
            return Flat(value.cells, grid, filler)
    dense = context.dense(value, node)
    return _reduce_dense(context, node, dense, _axes(context, node, inputs[1], dense.rank), keep)


def _axes(context: Lowering, node: Node, axes: Value, rank: int) -> list[int]:
    given = [int(axis) for axis in context.array(axes, node, "axes").ravel()]
    if any(not -rank <= axis < rank for axis in given):
        raise node.refuse(f"it reduces the axes {given} of a tensor of rank {rank}")
    return sorted({axis % rank for axis in given})


def _reduce_dense(context: Lowering, node: Node, value: Tensor, axes: list[int], keep: bool) -> Tensor:
    (op_type, fold), one = _REDUCTIONS[node.op], context.builder.one
    dtype = value.dtype
    wide = INT64 if node.op == "Sum" and dtype.kind in "iu" else wider(dtype)
    if not axes:
        return context.op("Abs", [value], dtype, value.shape) if node.op == "EuclideanNorm" else value
    if value.constant is not None and fold is not None:
        reduced = np.asarray(fold(value.constant, axis=tuple(axes), keepdims=keep))
        return context.constant(reduced, dtype)
    if node.op == "Prod" and value.sizes is not None and value.rank == 1:
        return context.sizes([multiply(value.sizes)], dtype, int(keep))
    if node.op in ("Max", "Min", "Mean") and any(value.shape[axis] == 0 for axis in axes):
        raise node.refuse("it reduces nothing")
    if node.op in ("Max", "Min") and wide == INT64 and not _fits_half(value):
        name = cast(context, value.name, dtype, wide)
        made = extreme_of_int64(context, name, value.shape, axes, node.op == "Max", keep)
        return context.written(cast(context, made, wide, dtype), dtype, _reduced(value, axes, keep))
    if value.turned is not None and axes == [1] and not keep and wide == dtype:
        # ONNX Runtime reduces a first axis many times faster than one in the middle.
        name, places = value.turned(), context.int64(0)
    else:
        name, places = cast(context, value.name, dtype, wide), context.int64(*axes)
    made = one(op_type, name, places, keepdims=int(keep))
    if node.op == "Sum" and dtype == INT64 and None in (value.low, value.high):
        # ONNX Runtime sums as float64, which rounds. Sums of half the bits are exact, and wrap around as TensorFlow's.
        half = context.scalar(1 << 32, INT64)
        lower = one("BitwiseAnd", name, context.scalar((1 << 32) - 1, INT64))
        upper = one("Div", one("Sub", name, lower), half)
        upper, lower = (one(op_type, part, places, keepdims=int(keep)) for part in (upper, lower))
        made = one("Add", one("Mul", upper, half), lower)
    if node.op in ("Max", "Min") and dtype.kind == "f":
        # ONNX Runtime overlooks what is no number; TensorFlow gives it back.
        flags = cast(context, one("IsNaN", name), BOOL, np.dtype(np.int32))
        is_nan = cast(context, one("ReduceSum", flags, places, keepdims=int(keep)), np.dtype(np.int32), BOOL)
        made = one("Where", is_nan, context.scalar(np.nan, wide), made)
    if node.op == "Mean" and dtype.kind == "f" and not all(isinstance(value.shape[axis], int) for axis in axes):
        # ONNX Runtime has 0 for the mean of nothing, and TensorFlow what 0 / 0 is.
        count = one("Cast", context.dim_name(multiply(value.shape[axis] for axis in axes)), to=onnx_type(wide))
        total = one("ReduceSum", name, places, keepdims=int(keep))
        made = one("Div", total, one("Squeeze", count, context.int64(0)))
    return context.written(cast(context, made, wide, dtype), dtype, _reduced(value, axes, keep))


def _fits_half(value: Tensor) -> bool:
    """Whether the numbers are known to have 32 bits at most."""
    limit = np.iinfo(np.int32)
    return value.low is not None and value.high is not None and limit.min <= value.low and value.high <= limit.max


def extreme_of_int64(
    context: Lowering, name: str, shape: Shape, axes: list[int], is_max: bool, keep: bool = False
) -> str:
    """The largest, or smallest, int64 along axes; that of nothing is the end of the type, as TensorFlow's."""
    one, limits = context.builder.one, np.iinfo(np.int64)
    for axis in axes:
        if not isinstance(shape[axis], int):
            # TopK fails on an axis without elements.
            ends = [0] * (2 * len(shape))
            ends[len(shape) + axis] = 1
            name = one("Pad", name, context.int64(*ends), context.scalar(limits.min if is_max else limits.max, INT64))
        inputs = [name, context.int64(1)]
        name, _ = context.builder.node("TopK", inputs, outputs=2, axis=axis, largest=int(is_max), sorted=0)
    return name if keep else one("Squeeze", name, context.int64(*axes))


def _reduced(value: Tensor, axes: list[int], keep: bool) -> list[Dim]:
    if keep:
        return [1 if axis in axes else dim for axis, dim in enumerate(value.shape)]
    return [dim for axis, dim in enumerate(value.shape) if axis not in axes]


@lowers("All", "Any")
def _all(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, is_all = context.dense(inputs[0], node), node.op == "All"
    axes, keep = _axes(context, node, inputs[1], value.rank), node.flag("keep_dims", False)
    if value.constant is not None:
        return context.constant((np.all if is_all else np.any)(value.constant, axis=tuple(axes), keepdims=keep))
    if not axes:
        return value
    # The sum of what is false, or true: right for nothing at all, too.
    one, number = context.builder.one, np.dtype(np.int32)
    counted = cast(context, one("Not", value.name) if is_all else value.name, BOOL, number)
    total = one("ReduceSum", counted, context.int64(*axes), keepdims=int(keep))
    made = one("Equal" if is_all else "Greater", total, context.scalar(0, number))
    return context.written(made, BOOL, _reduced(value, axes, keep))


@lowers("ArgMax", "ArgMin")
def _arg_max(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, dtype = context.dense(inputs[0], node), node.dtype("output_type", INT64)
    (axis,) = _axes(context, node, inputs[1], value.rank)
    name, size = cast(context, value.name, value.dtype, wider(value.dtype)), value.shape[axis]
    found = context.builder.one(node.op, name, axis=axis, keepdims=0)
    high = size - 1 if isinstance(size, int) else None
    return context.written(cast(context, found, INT64, dtype), dtype, _reduced(value, [axis], False), low=0, high=high)


@lowers("Cumsum")
def _cumsum(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    (axis,) = _axes(context, node, inputs[1], value.rank)
    name, wide = cast(context, value.name, value.dtype, wider(value.dtype)), wider(value.dtype)
    flags = {key: int(node.flag(key, False)) for key in ("exclusive", "reverse")}
    made = context.builder.one("CumSum", name, context.scalar(axis, INT64), **flags)
    summed = context.written(cast(context, made, wide, value.dtype), value.dtype, value.shape)
    if value.rows_of is not None and value.rows_of[1] == "counts" and not any(flags.values()):
        summed.rows_of = (value.rows_of[0], "ends")
    return summed


@lowers("L2Loss")
def _l2_loss(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    squares = context.builder.one("ReduceSumSquare", value.name, keepdims=0)
    return context.written(context.builder.one("Mul", squares, context.scalar(0.5, value.dtype)), value.dtype, [])
