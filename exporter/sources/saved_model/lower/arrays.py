"""Shapes: what moves, cuts, joins and repeats elements without computing with them.

Owns the arithmetic of shapes, which stays symbolic. What takes elements by their places is in `choosing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import (
    broadcast,
)
from estimator_serving.exporter.sources.saved_model.lowering import Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import (
    Coordinates,
    Dim,
    Flat,
    Handle,
    Positions,
    Product,
    Shape,
    StackedList,
    Symbol,
    Tensor,
    TensorList,
    Value,
    divide,
    known,
    multiply,
    numbers_of,
)

_FOLDED_MAX = 1 << 20

# What is kept of an axis: begin, end, step, and "keep", "shrink" for its one element, or "new" for an axis put in.
Cut: TypeAlias = tuple[int, Dim | None, int, str]


@lowers("Const")
def _const(context: Lowering, node: Node, _: list[Value]) -> Lowered:
    return context.constant(node.tensor("value"))


@lowers("Placeholder")
def _placeholder(_: Lowering, node: Node, __: list[Value]) -> Lowered:
    raise node.refuse("its value is none of the signature's inputs")


@lowers("Identity", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape", "PlaceholderWithDefault")
def _identity(_: Lowering, __: Node, inputs: list[Value]) -> Lowered:
    return inputs[0]


@lowers("IdentityN")
def _identity_n(_: Lowering, __: Node, inputs: list[Value]) -> Lowered:
    return inputs


# ---- shapes ---------------------------------------------------------------------------------------------------------


def shape_of(value: Value, node: Node) -> Shape:
    """The sizes of a value. Raises Unsupported for what is no tensor."""
    if isinstance(value, Handle | TensorList | StackedList):
        raise node.refuse("it reads a resource or a list as a tensor")
    return value.shape


@lowers("Shape")
def _shape(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    return context.sizes(shape_of(inputs[0], node), node.dtype("out_type", np.dtype(np.int32)))


@lowers("ShapeN")
def _shape_n(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = node.dtype("out_type", np.dtype(np.int32))
    return [context.sizes(shape_of(one, node), dtype) for one in inputs]


@lowers("Size")
def _size(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    return context.sizes([multiply(shape_of(inputs[0], node))], node.dtype("out_type", np.dtype(np.int32)), 0)


@lowers("Rank")
def _rank(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    return context.constant(np.array(len(shape_of(inputs[0], node)), np.int32))


@lowers("BroadcastArgs")
def _broadcast_args(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    shapes = [context.dims(one, node, "shape") for one in inputs]
    together = broadcast(context, shapes)
    if any(dim is None for dim in together):
        raise node.refuse("it broadcasts sizes that only the graph can tell")
    return context.sizes([dim for dim in together if dim is not None], np.dtype(inputs[0].dtype))  # type: ignore[union-attr]


# ---- reshape --------------------------------------------------------------------------------------------------------


@lowers("Reshape")
def _reshape(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    return reshape(context, node, inputs[0], context.dims(inputs[1], node, "shape"))


def reshape(context: Lowering, node: Node, value: Value, wanted: Sequence[Dim]) -> Value:
    """A value in other sizes; one of them may be -1."""
    # -1 is worked out where it follows from the others, and None where it does not.
    left = (
        divide(multiply(shape_of(value, node)), multiply(dim for dim in wanted if dim != -1)) if -1 in wanted else None
    )
    target = tuple(left if dim == -1 else dim for dim in wanted)
    if isinstance(value, Positions) and value.is_column and len(target) == 1:
        return Positions(value.cells, value.among, dtype=value.dtype)
    if isinstance(value, Positions) and target == value.shape:
        return value
    if isinstance(value, Flat):
        made = _reshape_flat(context, node, value, target)
        if made is not None:
            return made
    dense = context.dense(value, node)
    if target == dense.shape:
        return dense
    if (
        dense.constant is not None
        and (numbers := known(tuple(-1 if dim is None else dim for dim in target))) is not None
    ):
        return context.constant(dense.constant.reshape(numbers))
    if dense.sizes is not None and len(target) < 2:
        return context.sizes(dense.sizes, dense.dtype, len(target))
    if len(target) == 1 and dense.rank == 2:
        rows, width = dense.shape
        place = "row" if dense.row_numbers else ""
        return Flat(context.cells_of(rows, width, None), dense, place=place)
    return _reshape_dense(context, dense, wanted, target)


def _reshape_flat(context: Lowering, node: Node, value: Flat, target: tuple[Dim | None, ...]) -> Value | None:
    cells = value.cells
    if target == value.shape:
        return value
    if target and target[0] == cells.count and all(dim == 1 for dim in (*target[1:], *value.tail)):
        tail = target[1:]

        def in_tail(tensor: Tensor, lead: int) -> Tensor:
            shape = (*tensor.shape[:lead], *(1 for _ in tail))
            if tensor.constant is not None:
                return context.constant(tensor.constant.reshape(numbers_of(shape)))
            made = _reshape_dense(context, tensor, shape, shape)
            made.low, made.high, made.implies = tensor.low, tensor.high, tensor.implies
            return made

        filler = value.filler if value.filler is None or value.filler.rank == 0 else in_tail(value.filler, 0)
        return Flat(cells, in_tail(value.grid, 2), filler, value.place)
    if cells.mask is None and cells.empty is None and cells.distinct is None:
        # All cells: the grid itself is the tensor.
        shape = (cells.rows, cells.width, *value.tail)
        if value.grid.shape == shape:
            whole = value.grid
        else:
            whole = context.tensor(value.dtype, shape, lambda: context.spread(value.grid, shape), small=value.grid)
        return reshape(context, node, whole, [-1 if dim is None else dim for dim in target])
    return None


def _reshape_dense(context: Lowering, value: Tensor, wanted: Sequence[Dim], target: Sequence[Dim | None]) -> Tensor:
    one = context.builder.one
    inserted = _only_ones_differ(value.shape, target)

    def emit() -> str:
        if inserted is not None:
            kind, axes = inserted
            return one(kind, value.name, context.int64(*axes))
        open_places = [index for index, dim in enumerate(wanted) if not isinstance(dim, int) or dim == -1]
        numbers = [dim for dim in wanted if isinstance(dim, int) and dim != -1]
        if not open_places:
            return one("Reshape", value.name, context.int64(*numbers), allowzero=1)
        if len(open_places) == 1 and all(numbers):
            shape = [-1 if index in open_places else dim for index, dim in enumerate(wanted)]
            return one("Reshape", value.name, context.shape_name(shape))
        full = [dim if dim is not None else -1 for dim in target]
        return one("Reshape", value.name, context.shape_name(full), allowzero=1)

    made = context.tensor(value.dtype, target, emit)
    made.low, made.high = value.low, value.high
    if value.rank == 1 and len(target) > 1 and target[0] == value.shape[0]:
        made.row_numbers = value.row_numbers
    if (
        value.row_flags is not None
        and target
        and target[0] == value.row_flags.shape[0]
        and all(d == 1 for d in target[1:])
    ):
        made.row_flags = value.row_flags
    return made


def _only_ones_differ(shape: Shape, target: Sequence[Dim | None]) -> tuple[str, list[int]] | None:
    """The axes to squeeze or unsqueeze, where sizes of 1 are the only difference."""
    if None in target or [dim for dim in shape if dim != 1] != [dim for dim in target if dim != 1]:
        return None
    longer, shorter, kind = (
        (list(target), list(shape), "Unsqueeze") if len(target) > len(shape) else (list(shape), list(target), "Squeeze")
    )
    if len(longer) == len(shorter):
        return None
    axes, place = [], 0
    for axis, dim in enumerate(longer):
        if place < len(shorter) and shorter[place] == dim:
            place += 1
        elif dim == 1:
            axes.append(axis)
        else:
            return None
    return (kind, axes) if place == len(shorter) and len(axes) == len(longer) - len(shorter) else None


@lowers("ExpandDims")
def _expand_dims(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    shape = list(shape_of(inputs[0], node))
    axis = int(context.array(inputs[1], node, "axis").ravel()[0])
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 1)
    return _ones_changed(context, node, inputs[0], shape)


@lowers("Squeeze")
def _squeeze(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    shape = shape_of(inputs[0], node)
    given = node.integers("squeeze_dims", []) or node.integers("axis", [])
    axes = [axis % len(shape) for axis in given]
    if not axes:
        if any(not isinstance(dim, int) for dim in shape):
            raise node.refuse("it squeezes whatever is 1, and some sizes are open")
        axes = [axis for axis, dim in enumerate(shape) if dim == 1]
    if any(isinstance(shape[axis], int) and shape[axis] != 1 for axis in axes):
        raise node.refuse("it squeezes a size other than 1")
    kept = [dim for axis, dim in enumerate(shape) if axis not in axes]
    if all(shape[axis] == 1 for axis in axes):
        return _ones_changed(context, node, inputs[0], kept)
    dense = context.dense(inputs[0], node)
    return context.tensor(dense.dtype, kept, lambda: context.builder.one("Squeeze", dense.name, context.int64(*axes)))


def _ones_changed(context: Lowering, node: Node, value: Value, target: Sequence[Dim]) -> Value:
    if isinstance(value, Tensor) and value.rank == 2 and len(target) == 1:
        return (
            _reshape_dense(context, value, target, target)
            if value.constant is None
            else context.constant(value.constant.reshape(numbers_of(tuple(target))))
        )
    if isinstance(value, Coordinates | Positions):
        value = context.dense(value, node)
    return reshape(context, node, value, target)


@lowers("Transpose")
def _transpose(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = inputs[0]
    order = [int(one) for one in context.array(inputs[1], node, "permutation").ravel()]
    if isinstance(value, Coordinates) and order == [1, 0]:
        return Coordinates(value.columns, not value.is_transposed)
    dense = context.dense(value, node)
    order = [axis % dense.rank for axis in order]
    if dense.constant is None and order == list(range(dense.rank)):
        return dense
    return transposed(context, dense, order)


def transposed(context: Lowering, value: Tensor, order: Sequence[int]) -> Tensor:
    """A tensor with its axes in another order."""
    if value.constant is not None:
        return context.constant(np.ascontiguousarray(value.constant.transpose(order)))
    return context.op("Transpose", [value], value.dtype, [value.shape[axis] for axis in order], perm=order)


@lowers("InvertPermutation")
def _invert_permutation(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    return context.constant(np.argsort(context.array(inputs[0], node, "permutation")), np.dtype(inputs[0].dtype))  # type: ignore[union-attr]


# ---- joining --------------------------------------------------------------------------------------------------------


@lowers("Pack")
def _pack(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    axis = node.integer("axis", 0)
    flats = [one for one in inputs if isinstance(one, Flat)]
    if 1 < len(flats) == len(inputs) and all(
        not one.tail and one.dtype.kind in "iu" and one.cells.same(flats[0].cells) for one in flats
    ):
        # Integers of one set of cells side by side are the indices of a sparse tensor.
        return Coordinates(tuple(flats), is_transposed=axis == 0)
    tensors = [context.dense(one, node) for one in inputs]
    first = tensors[0]
    axis = axis if axis >= 0 else axis + first.rank + 1
    if all(one.constant is not None for one in tensors):
        return context.constant(np.stack([one.constant for one in tensors], axis))  # type: ignore[misc]
    if first.rank == 0 and first.dtype.kind in "iu":
        dims = list(itertools.chain.from_iterable(context.dims(one, node, "element") for one in tensors))
        return context.sizes(dims, first.dtype)
    shape = list(first.shape)
    shape.insert(axis, len(tensors))

    def emit() -> str:
        names = [context.builder.one("Unsqueeze", one.name, context.int64(axis)) for one in tensors]
        return context.builder.one("Concat", *names, axis=axis)

    return context.tensor(first.dtype, shape, emit)


@lowers("ConcatV2", "Concat")
def _concat(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    axis_input, parts = (inputs[-1], inputs[:-1]) if node.op == "ConcatV2" else (inputs[0], inputs[1:])
    rank = len(shape_of(parts[0], node))
    axis = int(context.array(axis_input, node, "axis").ravel()[0])
    axis = axis if axis >= 0 else axis + rank
    if len(parts) == 1:
        return parts[0]
    if axis == 1 and (made := _concat_columns(context, node, parts)):
        return made
    tensors = [context.dense(one, node) for one in parts]
    constants = [one.constant for one in tensors if one.constant is not None]
    if len(constants) == len(tensors):
        return context.constant(np.concatenate(constants, axis))
    if rank == 1 and all(one.sizes is not None for one in tensors):
        return context.sizes([dim for one in tensors for dim in one.sizes or ()], tensors[0].dtype)
    shape: list[Dim | None] = []
    for place, dims in enumerate(zip(*(one.shape for one in tensors), strict=True)):
        if place != axis:
            shape.append(next((dim for dim in dims if isinstance(dim, int)), dims[0]))
        else:
            numbers = known(dims)
            shape.append(None if numbers is None else sum(numbers))
    joined = context.op("Concat", tensors, tensors[0].dtype, shape, axis=axis)
    first, last = tensors[0], tensors[-1]
    is_zero = first.constant is not None and first.shape == (1,) and not first.constant.any()
    if len(tensors) == 2 and is_zero and last.rows_of is not None and last.rows_of[1] == "ends":
        joined.rows_of = (last.rows_of[0], "splits")
    return joined


def _concat_columns(context: Lowering, node: Node, parts: Sequence[Value]) -> Coordinates | None:
    columns: list[Flat] = []
    for one in parts:
        if isinstance(one, Coordinates) and not one.is_transposed:
            columns.extend(one.columns)
        elif isinstance(one, Flat) and one.tail == (1,) and one.dtype.kind in "iu":
            flat = reshape(context, node, one, (one.cells.count,))
            assert isinstance(flat, Flat)
            flat.place = one.place
            columns.append(flat)
        else:
            return None
    return Coordinates(tuple(columns)) if all(one.cells.same(columns[0].cells) for one in columns) else None


@lowers("Unpack")
def _unpack(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    axis = node.integer("axis", 0) % value.rank
    count = node.integer("num")
    if value.constant is not None:
        return [context.constant(np.take(value.constant, index, axis)) for index in range(count)]
    if value.sizes is not None:
        return [context.sizes([value.sizes[index]], value.dtype, 0) for index in range(count)]
    shape = [dim for place, dim in enumerate(value.shape) if place != axis]
    places = [context.constant(np.array(index, np.int64)) for index in range(count)]
    return [context.op("Gather", [value, at], value.dtype, shape, axis=axis) for at in places]


@lowers("Split", "SplitV")
def _split(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    axis_input, value = (inputs[0], inputs[1]) if node.op == "Split" else (inputs[2], inputs[0])
    dense = context.dense(value, node)
    axis = int(context.array(axis_input, node, "axis").ravel()[0]) % dense.rank
    size = dense.shape[axis]
    if node.op == "Split":
        count = node.integer("num_split")
        if not isinstance(size, int) or size % count:
            raise node.refuse("it splits an open size")
        lengths = [size // count] * count
    else:
        lengths = [int(one) for one in context.array(inputs[1], node, "lengths").ravel()]
        if -1 in lengths:
            if not isinstance(size, int):
                raise node.refuse("it splits an open size")
            lengths[lengths.index(-1)] = size - sum(lengths) - 1
    if dense.constant is not None:
        return [context.constant(one) for one in np.split(dense.constant, np.cumsum(lengths)[:-1], axis)]
    made = []
    for index, length in enumerate(lengths):
        shape = [length if place == axis else dim for place, dim in enumerate(dense.shape)]

        def emit(index: int = index) -> str:
            inputs = [dense.name, context.int64(*lengths)]
            return context.builder.node("Split", inputs, outputs=len(lengths), axis=axis)[index]

        made.append(context.tensor(dense.dtype, shape, emit))
    return made


# ---- cutting --------------------------------------------------------------------------------------------------------


@lowers("Slice")
def _slice(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = inputs[0]
    begins = context.dims(inputs[1], node, "begin")
    lengths = context.dims(inputs[2], node, "size")
    if isinstance(value, Coordinates) and not value.is_transposed and begins[0] == 0 and lengths[0] == -1:
        begin, length = begins[1], lengths[1]
        if isinstance(begin, int) and length == 1:
            return reshape(context, node, value.columns[begin], (value.cells.count, 1))
    dense = context.dense(value, node)
    plan = [_slice_cut(node, *one) for one in zip(dense.shape, begins, lengths, strict=True)]
    return _apply_plan(context, node, dense, plan)


def _slice_cut(node: Node, size: Dim, begin: Dim, length: Dim) -> Cut:
    """What Slice keeps of an axis; a length of -1 is what is left of it."""
    if not isinstance(begin, int):
        raise node.refuse("it begins where the graph computes")
    if length in (-1, size) and (length == -1 or begin == 0):
        return begin, None, 1, "keep"
    if isinstance(length, int):
        return begin, begin + length, 1, "keep"
    if begin:
        raise node.refuse("it ends where the graph computes")
    return 0, length, 1, "keep"


def _cut(
    context: Lowering, value: Tensor, cuts: Sequence[tuple[int, int, Dim | None, int]], shape: Sequence[Dim | None]
) -> Tensor:
    """ONNX's Slice; an end of None is that of the axis."""

    def emit() -> str:
        ends = [np.iinfo(np.int64).max * (1 if step > 0 else -1) if end is None else end for _, _, end, step in cuts]
        names = [
            context.int64(*(begin for _, begin, _, _ in cuts)),
            context.shape_name(ends),
            context.int64(*(axis for axis, _, _, _ in cuts)),
            context.int64(*(step for _, _, _, step in cuts)),
        ]
        return context.builder.one("Slice", value.name, *names)

    made = context.tensor(value.dtype, shape, emit)
    made.low, made.high = value.low, value.high
    return made


@lowers("StridedSlice")
def _strided_slice(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = inputs[0]
    shape = shape_of(value, node)
    plan = _plan(context, node, inputs, shape)
    if isinstance(value, Coordinates) and not value.is_transposed and len(plan) == 2:
        rows, column = plan
        if rows == (0, None, 1, "keep") and column[3] == "shrink":
            return value.columns[int(column[0])]
        if rows == (0, None, 1, "keep") and column[3] == "keep" and not isinstance(column[1], Symbol | Product):
            kept = value.columns[_numpy_index(column)]
            if len(kept) > 1:
                return Coordinates(kept)
            if kept:
                return reshape(context, node, kept[0], (value.cells.count, 1))
    if isinstance(value, Flat) and all(one == (0, None, 1, "keep") for one in plan):
        return value
    dense = context.dense(value, node)
    return _apply_plan(context, node, dense, plan)


def _plan(context: Lowering, node: Node, inputs: list[Value], shape: Shape) -> list[Cut]:
    """For every axis, begin, end, step and what becomes of it: "keep", "shrink", or "new" for one that is put in."""
    begins, ends = (context.dims(one, node, "bounds") for one in inputs[1:3])
    steps = [int(one) for one in context.array(inputs[3], node, "strides").ravel()]
    masks = {name: node.integer(f"{name}_mask", 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    consumed = sum(not (masks["new_axis"] >> i & 1 or masks["ellipsis"] >> i & 1) for i in range(len(steps)))
    plan: list[Cut] = []
    for index, step in enumerate(steps):
        if masks["ellipsis"] >> index & 1:
            plan.extend([(0, None, 1, "keep")] * (len(shape) - consumed))
        elif masks["new_axis"] >> index & 1:
            plan.append((0, None, 1, "new"))
        else:
            begin, end = begins[index], ends[index]
            if masks["shrink_axis"] >> index & 1:
                if not isinstance(begin, int):
                    raise node.refuse("it takes an element whose place the graph computes")
                plan.append((begin, None, 1, "shrink"))
                continue
            start: Dim = (0 if step > 0 else -1) if masks["begin"] >> index & 1 else begin
            if not isinstance(start, int):
                raise node.refuse("it begins where the graph computes")
            plan.append((start, None if masks["end"] >> index & 1 else end, step, "keep"))
    axes = sum(one[3] != "new" for one in plan)
    return plan + [(0, None, 1, "keep")] * (len(shape) - axes)


def _apply_plan(context: Lowering, node: Node, value: Tensor, plan: Sequence[Cut]) -> Tensor:
    if all(end is None or isinstance(end, int) for _, end, _, _ in plan):
        index = tuple(_numpy_index(one) for one in plan)
        if value.constant is not None:
            return context.constant(value.constant[index])
        if value.sizes is not None and value.rank == 1:
            places = np.arange(len(value.sizes))[index]
            if places.ndim < 2:
                return context.sizes([value.sizes[int(place)] for place in places.ravel()], value.dtype, places.ndim)
    made = _cut_axes(context, node, value, [one for one in plan if one[3] != "new"])
    axes = [axis for axis, one in enumerate(one for one in plan if one[3] != "new") if one[3] == "shrink"]
    if axes:
        cut = made
        shape = [dim for axis, dim in enumerate(cut.shape) if axis not in axes]
        made = context.tensor(
            cut.dtype,
            shape,
            lambda: context.builder.one("Squeeze", cut.name, context.int64(*axes)),
            low=cut.low,
            high=cut.high,
        )
    kept = [one for one in plan if one[3] != "shrink"]
    for axis, one in enumerate(kept):
        if one[3] == "new":
            shape = list(made.shape)
            shape.insert(axis, 1)

            def emit(inner: Tensor = made, axis: int = axis) -> str:
                return context.builder.one("Unsqueeze", inner.name, context.int64(axis))

            widened = context.tensor(made.dtype, shape, emit, low=made.low, high=made.high)
            if axis > 0:
                widened.row_flags, widened.row_numbers = made.row_flags, made.row_numbers
            made = widened
    return made


def _cut_axes(context: Lowering, node: Node, value: Tensor, plan: Sequence[Cut]) -> Tensor:
    """Every axis cut; of one that shrinks, its one element."""
    cuts: list[tuple[int, int, Dim | None, int]] = []
    shape: list[Dim | None] = list(value.shape)
    for axis, (begin, end, step, kind) in enumerate(plan):
        size = value.shape[axis]
        if kind == "shrink":
            if isinstance(size, int) and not -size <= begin < size:
                raise node.refuse(f"it takes element {begin} of {size}")
            # A last element has no number behind it.
            cuts.append((axis, begin, None if begin == -1 else begin + 1, 1))
            shape[axis] = 1
        elif (begin, step) != (0, 1) or (end is not None and end != size):
            cuts.append((axis, begin, end, step))
            shape[axis] = None
            if isinstance(size, int) and (end is None or isinstance(end, int)):
                shape[axis] = len(range(size)[_numpy_index((begin, end, step, "keep"))])
            elif step == 1 and begin == 0 and end is not None and not isinstance(end, int):
                shape[axis] = end
    return _cut(context, value, cuts, shape) if cuts else value


def _numpy_index(cut: Cut) -> Any:
    begin, end, step, kind = cut
    if kind == "new":
        return None
    if kind == "shrink":
        return begin
    first = begin if step > 0 or begin != -1 else None
    return slice(first, end, step)


# ---- repeating ------------------------------------------------------------------------------------------------------


@lowers("Tile")
def _tile(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    multiples = context.dims(inputs[1], node, "multiples")
    if all(one == 1 for one in multiples):
        return value
    shape = [multiply(pair) for pair in zip(value.shape, multiples, strict=True)]
    numbers = known(tuple(multiples))
    context.check_elements(tuple(shape), node)
    if value.constant is not None and numbers is not None:
        tiled = np.tile(value.constant, numbers)
        return context.constant(tiled)
    if value.rank == 1 and value.constant is not None and numbers is None and value.shape[0] != 1:
        # A row's values once for every row: what numbers the columns of a grid without gaps.
        cells = context.cells_of(multiples[0], value.shape[0], None)
        place = "column" if np.array_equal(value.constant, np.arange(len(value.constant))) else ""
        return Flat(cells, context.constant(value.constant[None]), place=place)
    if value.rank == 1 and value.constant is not None and numbers is None:
        cells = context.cells_of(multiples[0], 1, None)
        place = "column" if value.constant[0] == 0 else ""
        return Flat(cells, context.constant(value.constant[None]), place=place)
    if all(one == 1 or dim == 1 for one, dim in zip(multiples, value.shape, strict=True)):
        made = context.tensor(
            value.dtype, shape, lambda: context.spread(value, tuple(shape)), small=value.small or value
        )
        if multiples[0] == 1:
            made.row_flags, made.row_numbers = value.row_flags, value.row_numbers
        made.low, made.high = value.low, value.high
        return made
    return context.tensor(
        value.dtype, shape, lambda: context.builder.one("Tile", value.name, context.shape_name(multiples))
    )


@lowers("BroadcastTo")
def _broadcast_to(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, shape = context.dense(inputs[0], node), context.dims(inputs[1], node, "shape")
    context.check_elements(shape, node)
    if value.shape == shape:
        return value
    return context.tensor(value.dtype, shape, lambda: context.spread(value, shape), small=value.small or value)


@lowers("Fill")
def _fill(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    return filled(context, node, context.dims(inputs[0], node, "shape"), context.dense(inputs[1], node))


def filled(context: Lowering, node: Node, shape: Sequence[Dim], value: Tensor) -> Value:
    """One value, as often as a shape says."""
    context.check_elements(tuple(shape), node)
    numbers = known(tuple(shape))
    if numbers is not None and value.constant is not None and int(np.prod(numbers)) <= _FOLDED_MAX:
        return context.constant(np.full(numbers, value.constant.ravel()[0], value.dtype))
    if shape and isinstance(shape[0], Symbol) and (cells := shape[0].cells) is not None:
        # One for each of some cells.
        tail = tuple(shape[1:])
        grid = filled(context, node, (1, 1, *tail), value)
        filler = filled(context, node, tail, value) if cells.empty is not None else None
        if isinstance(grid, Tensor) and (filler is None or isinstance(filler, Tensor)):
            return Flat(cells, grid, filler)
    return context.tensor(
        value.dtype,
        list(shape),
        lambda: context.spread(value, tuple(shape)),
        small=value,
        low=value.low,
        high=value.high,
    )


@lowers("ZerosLike", "OnesLike")
def _like(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = inputs[0]
    shape_of(value, node)
    dtype = np.dtype(value.dtype)  # type: ignore[union-attr]
    element: Any = b"" if dtype.kind == "O" else dtype.type(node.op == "OnesLike")
    scalar = context.constant(np.array(element, dtype))
    return filled(context, node, shape_of(value, node), scalar)


@lowers("Range")
def _range(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    start, limit, delta = (context.dense(one, node) for one in inputs)
    constants = [one.constant for one in (start, limit, delta)]
    if all(one is not None for one in constants):
        numbers = [one.ravel()[0] for one in constants if one is not None]
        if numbers[2] == 0 or abs(float(numbers[1] - numbers[0]) / float(numbers[2])) > _FOLDED_MAX * 64:
            raise node.refuse("it makes too long a range")
        return context.constant(np.arange(*numbers, dtype=start.dtype))
    is_plain = start.constant is not None and delta.constant is not None and start.constant == 0 and delta.constant == 1
    if is_plain and limit.sizes is not None:
        size = limit.sizes[0]
        if isinstance(size, Symbol) and size.cells is not None:
            return Positions(size.cells, size.cells, dtype=start.dtype)
        return context.range_of(size, start.dtype)
    made = context.op("Range", [start, limit, delta], start.dtype, [None])
    made.row_numbers = is_plain
    return made


@lowers("LinSpace")
def _lin_space(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    start, stop, count = (context.array(one, node, "bounds").ravel()[0] for one in inputs)
    return context.constant(np.linspace(start, stop, int(count)), np.dtype(inputs[0].dtype))  # type: ignore[union-attr]


@lowers("ReverseV2")
def _reverse(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    axes = [int(axis) % value.rank for axis in context.array(inputs[1], node, "axes").ravel()]
    if value.constant is not None:
        return context.constant(np.ascontiguousarray(np.flip(value.constant, tuple(axes))))
    return _cut(context, value, [(axis, -1, None, -1) for axis in axes], value.shape)


@lowers("Pad", "PadV2", "MirrorPad")
def _pad(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    pads = context.array(inputs[1], node, "paddings").astype(np.int64)
    mode = {"REFLECT": "reflect", "SYMMETRIC": "symmetric"}[node.text("mode")] if node.op == "MirrorPad" else "constant"
    if mode == "symmetric" or value.is_string:
        raise node.refuse("it pads in a way that ONNX lacks")
    fill = context.dense(inputs[2], node) if node.op == "PadV2" else context.constant(np.array(0, value.dtype))
    shape = [
        dim + int(sum(pair)) if isinstance(dim, int) else dim if not pair.any() else None
        for dim, pair in zip(value.shape, pads, strict=True)
    ]
    places = context.constant(np.concatenate([pads[:, 0], pads[:, 1]]))
    return context.op("Pad", [value, places, fill], value.dtype, shape, mode=mode)


@lowers("Roll")
def _roll(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    made = context.dense(inputs[0], node)
    shifts, axes = (context.array(one, node, "shift").ravel() for one in inputs[1:3])
    for shift, axis in zip(shifts.tolist(), axes.tolist(), strict=True):
        axis %= made.rank
        size = made.shape[axis]
        if not isinstance(size, int) or size == 0:
            raise node.refuse("it rolls an open size")
        split = size - shift % size
        if split == size:
            continue
        ends = [split if place == axis else dim for place, dim in enumerate(made.shape)]
        front = _cut(context, made, [(axis, 0, split, 1)], ends)
        ends = [size - split if place == axis else dim for place, dim in enumerate(made.shape)]
        back = _cut(context, made, [(axis, split, None, 1)], ends)
        made = context.op("Concat", [back, front], made.dtype, made.shape, axis=axis)
    return made
