"""Shapes and places: what moves, cuts, joins and repeats elements without computing with them.

Owns the arithmetic of shapes, which stays symbolic, and the steps by which dense tensors become sparse ones and back:
Where, GatherV2, GatherNd, Reshape.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from estimator_serving.exporter.sources.saved_model.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import (
    apply,
    broadcast,
    can_move,
    cast,
    elementwise,
    grid_of,
    move_weights,
)
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import (
    Cells,
    Coordinates,
    Dim,
    Flat,
    Handle,
    Positions,
    Product,
    Shape,
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
    if isinstance(value, Handle | TensorList):
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
    if dense.constant is not None:
        return context.constant(np.ascontiguousarray(dense.constant.transpose(order)))
    order = [axis % dense.rank for axis in order]
    if order == list(range(dense.rank)):
        return dense
    return context.op("Transpose", [dense], dense.dtype, [dense.shape[axis] for axis in order], perm=order)


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
    return context.op("Concat", tensors, tensors[0].dtype, shape, axis=axis)


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
            if places.size and places.ndim < 2:
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
            made = _with_axis(context, made, axis, shape)
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


def _with_axis(context: Lowering, value: Tensor, axis: int, shape: Sequence[Dim]) -> Tensor:
    made = context.tensor(
        value.dtype,
        shape,
        lambda: context.builder.one("Unsqueeze", value.name, context.int64(axis)),
        low=value.low,
        high=value.high,
    )
    if axis > 0:
        made.row_flags, made.row_numbers = value.row_flags, value.row_numbers
    return made


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
    return context.op("Range", [start, limit, delta], start.dtype, [None])


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


# ---- choosing -------------------------------------------------------------------------------------------------------


@lowers("Where")
def _where(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    condition = inputs[0]
    if isinstance(condition, Flat) and not condition.tail and condition.cells.empty is None:
        return Positions(narrow(context, condition), condition.cells, is_column=True)
    dense = context.dense(condition, node)
    one = context.builder.one
    if dense.dtype != BOOL:
        raise node.refuse(f"it looks for {dense.dtype} that are not 0")
    if dense.rank == 2:
        rows, width = dense.shape
        return coordinates_of(context, context.cells_of(rows, width, dense))

    def emit() -> str:
        return one("Transpose", one("NonZero", dense.name), perm=[1, 0])

    return context.tensor(INT64, [None, dense.rank], emit, low=0)


def coordinates_of(context: Lowering, cells: Cells) -> Coordinates:
    """The row and column numbers of cells."""
    rows, columns = context.range_of(cells.rows), context.range_of(cells.width)
    row_grid = context.tensor(
        INT64, (cells.rows, 1), lambda: context.builder.one("Unsqueeze", rows.name, context.int64(1)), low=0
    )
    column_grid = context.tensor(
        INT64, (1, cells.width), lambda: context.builder.one("Unsqueeze", columns.name, context.int64(0)), low=0
    )
    return Coordinates((Flat(cells, row_grid, place="row"), Flat(cells, column_grid, place="column")))


def narrow(context: Lowering, condition: Flat) -> Cells:
    """The cells for which a condition is true."""
    cells, grid = condition.cells, condition.grid
    if grid.constant is not None and grid.constant.all():
        return cells
    key = ("narrow", cells, grid)
    if key not in context.cache:
        if cells.mask is None:
            mask = grid
            if grid.shape != (cells.rows, cells.width):
                whole = (cells.rows, cells.width)
                mask = context.tensor(BOOL, whole, lambda: context.spread(grid, whole))
        else:
            mask = apply(context, [cells.mask, grid], BOOL, lambda x, y: context.builder.one("And", x, y))
        context.cache[key] = context.cells_of(
            cells.rows,
            cells.width,
            mask,
            bounds={**cells.bounds, **dict(grid.implies)},
            is_loose=cells.is_loose,
        )
    made: Cells = context.cache[key]
    return made


@lowers("GatherV2", "Gather", "ResourceGather")
def _gather(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    params, indices = inputs[0], inputs[1]
    if isinstance(params, Handle):
        params = context.constant(context.resources.variable(params.node))
    axis = int(context.array(inputs[2], node, "axis").ravel()[0]) if len(inputs) > 2 else 0
    if node.integer("batch_dims", 0):
        raise node.refuse("it gathers batch by batch")
    if isinstance(indices, Positions) and axis == 0 and not indices.is_column:
        taken = _take_cells(_moved(context, params, indices.among), indices)
        if taken is not None:
            return taken
    if isinstance(params, Tensor) and isinstance(indices, Flat) and axis == 0:
        return look_up(context, node, params, indices)
    table, at = context.dense(params, node), context.dense(indices, node)
    axis %= table.rank
    if at.constant is not None:
        if table.constant is not None:
            return context.constant(np.take(table.constant, at.constant, axis))
        if table.sizes is not None and table.rank == 1 and at.rank < 2:
            return context.sizes([table.sizes[int(i)] for i in at.constant.ravel()], table.dtype, at.rank)
    shape = [*table.shape[:axis], *at.shape, *table.shape[axis + 1 :]]
    return context.tensor(
        table.dtype,
        shape,
        lambda: context.builder.one("Gather", table.name, guarded(context, table, at, axis), axis=axis),
    )


def _moved(context: Lowering, params: Value, among: Cells) -> Value:
    """Weights, or their indices, over the cells of their ids; other values as they are."""
    if isinstance(params, Flat) and not params.cells.same(among):
        return move_weights(context, params, among) or params
    if isinstance(params, Coordinates) and not params.cells.same(among):
        source = params.cells
        # Whoever takes the indices takes the weights, too: that every row has as many is checked there.
        are_places = [one.place for one in params.columns] == ["row", "column"] and not params.is_transposed
        if are_places and can_move(source, among):
            return coordinates_of(context, among)
    return params


def _take_cells(params: Value, indices: Positions) -> Value | None:
    """What stands at positions among cells: the same grid, over the fewer cells."""
    cells = indices.cells
    if isinstance(params, Flat) and params.cells.same(indices.among):
        return Flat(cells, params.grid, params.filler, params.place)
    if isinstance(params, Coordinates) and not params.is_transposed and params.cells.same(indices.among):
        return Coordinates(tuple(Flat(cells, one.grid, one.filler, one.place) for one in params.columns))
    if isinstance(params, Positions) and not params.is_column and params.cells.same(indices.among):
        return Positions(cells, params.among, dtype=params.dtype)
    return None


def guarded(context: Lowering, table: Tensor, at: Tensor, axis: int) -> str:
    """Indices of which a negative one is an error, as in TensorFlow, and not counted from the end."""
    if at.low is not None and at.low >= 0:
        return at.name
    if at.dtype == np.int32 or at.dtype == INT64:
        one = context.builder.one
        size = cast(context, context.dim_name(table.shape[axis]), INT64, at.dtype)
        return one("Where", one("Less", at.name, context.scalar(0, at.dtype)), size, at.name)
    return context.builder.one("Cast", at.name, to=onnx_type(INT64))


def look_up(context: Lowering, node: Node, table: Tensor, ids: Flat) -> Flat:
    """Rows of a table for the ids of cells; what stands in other cells is not read."""
    cells, size = ids.cells, table.shape[0]
    shape = (*ids.grid.shape, *table.shape[1:])

    def emit() -> str:
        return context.builder.one("Gather", table.name, safe_ids(context, table, ids, 0), axis=0)

    grid = context.tensor(table.dtype, shape, emit, looked_up=(table, ids.grid) if isinstance(size, int) else None)
    filler = None
    if cells.empty is not None:
        assert ids.filler is not None
        if cells.part is not None and (number := cells.part[0].filler) is not None and number.constant != cells.part[1]:
            # The row is looked up in another part.
            filler = context.constant(np.zeros(tuple(table.shape[1:]), table.dtype))  # type: ignore[arg-type]
        elif ids.filler.constant is not None and table.constant is not None:
            filler = context.constant(np.take(table.constant, ids.filler.constant, 0))
        else:
            at = ids.filler
            filler = context.tensor(
                table.dtype,
                (*at.shape, *table.shape[1:]),
                lambda: context.builder.one("Gather", table.name, guarded(context, table, at, 0), axis=0),
            )
    return Flat(cells, grid, filler)


def safe_ids(context: Lowering, table: Tensor, ids: Flat, blank: int) -> str:
    """The ids of a grid, `blank` in the cells that are not kept; ids outside the table stay outside it."""
    cells, grid, size = ids.cells, ids.grid, table.shape[0]
    one = context.builder.one
    lows = [low for low in (grid.low, cells.bounds.get(grid)) if low is not None]
    low = max(lows, default=None)
    is_within = isinstance(size, int) and grid.high is not None and grid.high < size
    if is_within and grid.low is not None and grid.low >= 0 and blank == 0:
        return grid.name
    name, dtype = grid.name, grid.dtype
    if not is_within and blank:
        # The row behind the table is the blank one; what would meet it goes one further.
        assert isinstance(size, int)
        beyond = one("GreaterOrEqual", name, context.scalar(size, dtype))
        name = one("Where", beyond, context.scalar(size + 1, dtype), name)
    if low is None or low < 0:
        number = (
            context.scalar(size + 1, dtype)
            if isinstance(size, int)
            else cast(context, context.dim_name(size), INT64, dtype)
        )
        name = one("Where", one("Less", name, context.scalar(0, dtype)), number, name)
    mask = cells.mask
    if mask is None:
        return name
    kept = mask.name
    for _ in ids.tail:
        kept = one("Unsqueeze", kept, context.int64(2))
    return one("Where", kept, name, context.scalar(blank, dtype))


@lowers("GatherNd")
def _gather_nd(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    params, indices = inputs
    if isinstance(indices, Coordinates) and isinstance(params, Tensor) and not indices.is_transposed:
        cells = indices.cells
        places = [one.place for one in indices.columns]
        if places == ["row", "column"] and params.shape[:2] == (cells.rows, cells.width) and cells.empty is None:
            return Flat(cells, params)
    table, at = context.dense(params, node), context.dense(indices, node)
    depth = at.shape[-1]
    if not isinstance(depth, int):
        raise node.refuse("its indices have an open depth")
    shape = [*at.shape[:-1], *table.shape[depth:]]

    def emit() -> str:
        name = cast(context, at.name, at.dtype, INT64)
        if at.low is None or at.low < 0:
            limit = context.scalar(np.iinfo(np.int64).max, INT64)
            name = context.builder.one(
                "Where", context.builder.one("Less", name, context.scalar(0, INT64)), limit, name
            )
        return context.builder.one("GatherND", table.name, name)

    return context.tensor(table.dtype, shape, emit)


@lowers("Select", "SelectV2")
def _select(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    condition, chosen, other = inputs
    if node.op == "Select":
        condition = _widened(context, node, condition, chosen)
    flags = condition.row_flags if isinstance(condition, Tensor) else None
    if isinstance(other, Tensor) and other.mended is not None and flags is other.mended[0]:
        # This condition replaces the rows that were mended: what they were before is enough.
        other = other.mended[1]
        if _is_zero(chosen) and flags is not None and other.zero_in is flags:
            return other
    dtype = np.dtype(chosen.dtype)  # type: ignore[union-attr]
    made = elementwise(
        context,
        node,
        [condition, chosen, other],
        dtype,
        lambda c, x, y: context.builder.one("Where", c, x, y),
        np.where,
    )
    target, tested, first, second = (grid_of(one) for one in (made, condition, chosen, other))
    if target is None or first is None or second is None:
        return made
    low, high = second.low, second.high
    for tensor, at_least, at_most in tested.otherwise if tested is not None else ():
        # Ids out of range were replaced: what is left is within.
        if tensor is second:
            low, high = at_least if low is None else low, at_most if high is None else high
    if first.low is not None and low is not None:
        target.low = min(first.low, low)
    if first.high is not None and high is not None:
        target.high = max(first.high, high)
    return made


def _widened(context: Lowering, node: Node, condition: Value, chosen: Value) -> Value:
    """Select's condition [b] for values [b, …] is one for each row."""
    rank = len(shape_of(chosen, node))
    if isinstance(condition, Tensor) and condition.rank == 1 and rank > 1:
        return reshape(context, node, condition, (condition.shape[0], *([1] * (rank - 1))))
    if isinstance(condition, Flat) and not condition.tail and rank > 1:
        return reshape(context, node, condition, (condition.cells.count, *([1] * (rank - 1))))
    return condition


def _is_zero(value: Value) -> bool:
    if not isinstance(value, Tensor):
        return False
    constant = (
        value.constant if value.constant is not None else value.small.constant if value.small is not None else None
    )
    return constant is not None and constant.dtype.kind in "fiu" and not constant.any()


@lowers("OneHot")
def _one_hot(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    ids = context.dense(inputs[0], node)
    depth = int(context.array(inputs[1], node, "depth").ravel()[0])
    on, off = (context.dense(one, node) for one in inputs[2:4])
    axis = node.integer("axis", -1)
    axis = ids.rank if axis == -1 else axis
    shape = [*ids.shape[:axis], depth, *ids.shape[axis:]]
    dtype, one = on.dtype, context.builder.one

    def one_hot(name: str) -> str:
        name = cast(context, name, ids.dtype, INT64)
        if ids.low is None or ids.low < 0:
            # ONNX counts negative ones from the end.
            is_below = one("Less", name, context.scalar(0, INT64))
            name = one("Where", is_below, context.scalar(depth, INT64), name)
        wide = dtype if dtype in (np.float32, np.int64, np.int32) else np.dtype(np.float32)
        values = [one("Reshape", cast(context, value.name, dtype, wide), context.int64(1)) for value in (off, on)]
        made = one("OneHot", name, context.scalar(depth, INT64), one("Concat", *values, axis=0), axis=axis)
        return cast(context, made, wide, dtype)

    if dtype.kind == "O" or (dtype.kind == "f" and dtype.itemsize > 4):
        raise node.refuse(f"it makes values of {dtype}")
    made = context.tensor(dtype, shape, lambda: one_hot(ids.name))
    if ids.rank == 2 and axis == 2:
        made.turned = lambda: one_hot(one("Transpose", ids.name, perm=[1, 0]))
    return made


@lowers("TopKV2", "TopK")
def _top_k(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    count = int(context.array(inputs[1], node, "k").ravel()[0]) if node.op == "TopKV2" else node.integer("k")
    shape = [*value.shape[:-1], count]

    def emit(index: int) -> str:
        inputs = [value.name, context.int64(count)]
        return context.builder.node("TopK", inputs, outputs=2, axis=value.rank - 1, largest=1, sorted=1)[index]

    values = context.tensor(value.dtype, shape, lambda: emit(0))
    places = context.tensor(
        np.dtype(np.int32), shape, lambda: context.builder.one("Cast", emit(1), to=onnx_type(np.dtype(np.int32))), low=0
    )
    return [values, places]


def scatter_nd(context: Lowering, node: Node, inputs: list[Value]) -> Tensor:
    """ScatterNd of dense tensors: repeated indices add up."""
    at, updates = (context.dense(one, node) for one in inputs[:2])
    shape = context.dims(inputs[2], node, "shape")
    if updates.dtype.kind not in "fiu":
        raise node.refuse(f"it scatters {updates.dtype}")

    def emit() -> str:
        blank = context.builder.one("Expand", context.scalar(0, updates.dtype), context.shape_name(shape))
        name = _not_negative(context, at)
        return context.builder.one("ScatterND", blank, name, updates.name, reduction="add")

    return context.tensor(updates.dtype, shape, emit)


@lowers("TensorScatterUpdate", "TensorScatterAdd")
def _tensor_scatter(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, at, updates = (context.dense(one, node) for one in inputs)
    reduction = "none" if node.op == "TensorScatterUpdate" else "add"

    def emit() -> str:
        return context.builder.one(
            "ScatterND", value.name, _not_negative(context, at), updates.name, reduction=reduction
        )

    return context.tensor(value.dtype, value.shape, emit)


def _not_negative(context: Lowering, at: Tensor) -> str:
    """Indices as int64, negative ones beyond every size: an error, and not counted from the end."""
    name = cast(context, at.name, at.dtype, INT64)
    if at.low is not None and at.low >= 0:
        return name
    limit = context.scalar(np.iinfo(np.int64).max, INT64)
    return context.builder.one("Where", context.builder.one("Less", name, context.scalar(0, INT64)), limit, name)


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


@lowers("DenseBincount", "Bincount")
def _bincount(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """How often each number comes in a row, or whether it does; numbers from `size` on count nowhere."""
    values, weights = (context.dense(one, node) for one in (inputs[0], inputs[2]))
    size = int(context.array(inputs[1], node, "size").ravel()[0])
    if node.op == "Bincount" or values.rank not in (1, 2) or weights.shape != (0,):
        raise node.refuse("it counts with weights")
    dtype, one = weights.dtype, context.builder.one

    def emit() -> str:
        ids = cast(context, values.name, values.dtype, INT64)
        if values.low is None or values.low < 0:
            # TensorFlow refuses negative numbers; a lookup in a table of one row does, too.
            is_below = one("Cast", one("Less", ids, context.scalar(0, INT64)), to=onnx_type(INT64))
            nothing = one("Gather", context.builder.constant(np.zeros(1, np.int64)), is_below, axis=0)
            ids = one("Add", ids, nothing)
        onehot = one("OneHot", ids, context.scalar(size, INT64), context.builder.constant(np.array([0, 1], np.float32)))
        counted = one("ReduceSum", onehot, context.int64(values.rank - 1), keepdims=0)
        if node.flag("binary_output", False):
            counted = one("Min", counted, context.scalar(1, np.dtype(np.float32)))
        return cast(context, counted, np.dtype(np.float32), dtype)

    return context.tensor(dtype, [*values.shape[:-1], size], emit)


@lowers("NearestNeighbors")
def _nearest_neighbors(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """The nearest centres of each point, and the squares of their distances."""
    points, centres = (context.dense(one, node) for one in inputs[:2])
    count = int(context.array(inputs[2], node, "k").ravel()[0])
    size = centres.shape[0]
    count = min(count, size) if isinstance(size, int) else count
    one, dtype = context.builder.one, points.dtype
    shape = [points.shape[0], count]

    def emit(index: int) -> str:
        axis = context.int64(1)
        products = one("MatMul", points.name, one("Transpose", centres.name, perm=[1, 0]))
        lengths = one("ReduceSum", one("Mul", points.name, points.name), axis, keepdims=1)
        others = one("ReduceSum", one("Mul", centres.name, centres.name), axis, keepdims=0)
        squares = one("Sub", one("Add", lengths, others), one("Mul", products, context.scalar(2, dtype)))
        inputs = [squares, context.int64(count)]
        return context.builder.node("TopK", inputs, outputs=2, axis=1, largest=0, sorted=1)[index]

    places = context.tensor(INT64, shape, lambda: emit(1), low=0)
    return [places, context.tensor(dtype, shape, lambda: emit(0))]
