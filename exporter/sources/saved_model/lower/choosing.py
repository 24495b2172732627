"""Places: what looks for elements, takes them by index or by a condition, and puts them at indices.

Owns the steps by which dense tensors become sparse ones: Where, GatherV2, GatherNd.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.arrays import numbers_as_operand, reshape, shape_of
from estimator_serving.exporter.sources.saved_model.lower.elementwise import (
    Emit,
    apply,
    can_move,
    cast,
    elementwise,
    grid_of,
    move_weights,
    wider,
)
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, FLOAT, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import (
    Cells,
    Coordinates,
    Flat,
    Handle,
    Positions,
    Shape,
    Tensor,
    Value,
)


@lowers("Where")
def _where(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    condition = inputs[0]
    if isinstance(condition, Flat) and not condition.tail and condition.cells.empty is None:
        return Positions(narrow(context, condition), condition.cells, is_column=True)
    dense = context.dense(condition, node)
    if dense.dtype != BOOL:
        raise node.refuse(f"it looks for {dense.dtype} that are not 0")
    if dense.rank == 2:
        rows, width = dense.shape
        return coordinates_of(context, context.cells_of(rows, width, dense))
    places = context.op(
        "Transpose", [context.op("NonZero", [dense], INT64, [dense.rank, None])], INT64, [None, dense.rank], perm=[1, 0]
    )
    places.low = 0
    return places


def coordinates_of(context: Lowering, cells: Cells) -> Coordinates:
    """The row and column numbers of cells."""
    numbers = ((cells.rows, 1, "row"), (cells.width, 0, "column"))
    flats = []
    for dim, axis, place in numbers:
        shape: Shape = (dim, 1) if axis else (1, dim)
        grid = context.op("Unsqueeze", [context.range_of(dim), numbers_as_operand(context, axis)], INT64, shape)
        grid.low = 0
        flats.append(Flat(cells, grid, place=place))
    return Coordinates(tuple(flats))


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
        taken = _take_cells(context, params, indices)
        if taken is not None:
            return taken
    if isinstance(params, Tensor) and isinstance(indices, Flat) and axis == 0:
        return look_up(context, node, params, indices)
    table, at = context.dense(params, node), context.dense(indices, node)
    axis %= table.rank
    if at.constant is not None:
        size = table.shape[axis]
        outside = [int(one) for one in at.constant.ravel() if one < 0 or (isinstance(size, int) and one >= size)]
        if outside and isinstance(size, int):
            raise node.refuse(f"it takes element {outside[0]} of {size}")
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


def _take_cells(context: Lowering, params: Value, indices: Positions) -> Value | None:
    """What stands at positions among cells: the same grid, over the fewer cells.

    Weights, or their indices, move onto the cells of their ids before.
    """
    cells, among = indices.cells, indices.among
    if isinstance(params, Flat) and not params.cells.same(among):
        params = move_weights(context, params, among) or params
    elif isinstance(params, Coordinates) and not params.cells.same(among) and can_move(params.cells, among):
        # The op that takes the indices takes the weights, too: that every row has as many is checked there.
        are_places = [one.place for one in params.columns] == ["row", "column"] and not params.is_transposed
        params = coordinates_of(context, among) if are_places else params
    if isinstance(params, Flat) and params.cells.same(among):
        return Flat(cells, params.grid, params.filler, params.place)
    if isinstance(params, Coordinates) and not params.is_transposed and params.cells.same(among):
        return Coordinates(tuple(Flat(cells, one.grid, one.filler, one.place) for one in params.columns))
    if isinstance(params, Positions) and not params.is_column and params.cells.same(among):
        return Positions(cells, params.among, dtype=params.dtype)
    return None


def guarded(context: Lowering, table: Tensor, at: Tensor, axis: int) -> str:
    """Indices of which a negative one is an error, as in TensorFlow, and not counted from the end."""
    if at.low is not None and at.low >= 0:
        return at.name
    if at.dtype == np.int32 or at.dtype == INT64:
        one = context.builder.one
        # As a scalar: beside a vector of one size a single index would become a vector.
        size = context.sizes([table.shape[axis]], at.dtype, 0)
        return one("Where", one("Less", at.name, context.scalar(0, at.dtype)), size.name, at.name)
    return context.builder.one("Cast", at.name, to=onnx_type(INT64))


def look_up(context: Lowering, node: Node, table: Tensor, ids: Flat) -> Flat:
    """Rows of a table for the ids of cells; what stands in other cells is not read."""
    cells = ids.cells
    grid = context.tensor(
        table.dtype,
        (*ids.grid.shape, *table.shape[1:]),
        lambda: context.builder.one("Gather", table.name, safe_ids(context, table, ids, 0), axis=0),
        looked_up=(table, ids.grid) if isinstance(table.shape[0], int) else None,
    )
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
    return context.tensor(
        table.dtype, shape, lambda: context.builder.one("GatherND", table.name, _not_negative(context, at))
    )


@lowers("Select", "SelectV2")
def _select(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    condition, chosen, other = inputs
    if node.op == "Select" and isinstance(condition, Tensor | Flat) and len(condition.shape) == 1:
        # Select's condition [b] for values [b, …] is one for each row.
        ones = [1] * (len(shape_of(chosen, node)) - 1)
        condition = reshape(context, node, condition, (condition.shape[0], *ones))
    flags = condition.row_flags if isinstance(condition, Tensor) else None
    if isinstance(other, Tensor) and other.mended is not None and flags is other.mended[0]:
        # This condition replaces the rows that were mended: what they were before is enough.
        other = other.mended[1]
        constant = None
        if isinstance(chosen, Tensor):
            small = None if chosen.small is None else chosen.small.constant
            constant = chosen.constant if chosen.constant is not None else small
        is_zero = constant is not None and constant.dtype.kind in "fiu" and not constant.any()
        if is_zero and flags is not None and other.zero_in is flags:
            return other
    dtype, one = np.dtype(chosen.dtype), context.builder.one  # type: ignore[union-attr]
    # ONNX Runtime's Where is of no flags.
    emit: Emit = (
        (lambda c, x, y: one("Or", one("And", c, x), one("And", one("Not", c), y)))
        if dtype == BOOL
        else (lambda c, x, y: one("Where", c, x, y))
    )
    made = elementwise(context, node, [condition, chosen, other], dtype, emit, np.where)
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
        wide = INT64 if dtype.kind in "iu" else FLOAT
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

    wide = wider(value.dtype)

    def found(index: int, dtype: np.dtype[Any], target: np.dtype[Any]) -> str:
        inputs = [cast(context, value.name, value.dtype, wide), context.int64(count)]
        made = context.builder.node("TopK", inputs, outputs=2, axis=value.rank - 1, largest=1, sorted=1)
        return cast(context, made[index], dtype, target)

    int32 = np.dtype(np.int32)
    return [
        context.tensor(value.dtype, shape, lambda: found(0, wide, value.dtype)),
        context.tensor(int32, shape, lambda: found(1, INT64, int32), low=0),
    ]


def scatter_nd(context: Lowering, node: Node, inputs: list[Value]) -> Tensor:
    """ScatterNd of dense tensors: repeated indices add up."""
    at, updates = (context.dense(one, node) for one in inputs[:2])
    shape = context.dims(inputs[2], node, "shape")
    if updates.dtype.kind not in "fiu":
        raise node.refuse(f"it scatters {updates.dtype}")
    zero = context.constant(np.array(0, updates.dtype))
    blank = context.tensor(updates.dtype, shape, lambda: context.spread(zero, shape))
    return _scattered(context, blank, at, updates, "add")


@lowers("TensorScatterUpdate", "TensorScatterAdd")
def _tensor_scatter(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, at, updates = (context.dense(one, node) for one in inputs)
    return _scattered(context, value, at, updates, "none" if node.op == "TensorScatterUpdate" else "add")


def _scattered(context: Lowering, value: Tensor, at: Tensor, updates: Tensor, reduction: str) -> Tensor:
    dtype, wide = value.dtype, wider(value.dtype) if reduction == "add" else value.dtype

    def emit() -> str:
        names = [cast(context, one.name, dtype, wide) for one in (value, updates)]
        made = context.builder.one("ScatterND", names[0], _not_negative(context, at), names[1], reduction=reduction)
        return cast(context, made, wide, dtype)

    return context.tensor(dtype, value.shape, emit)


def _not_negative(context: Lowering, at: Tensor) -> str:
    """Indices as int64, negative ones beyond every size: an error, and not counted from the end."""
    name = cast(context, at.name, at.dtype, INT64)
    if at.low is not None and at.low >= 0:
        return name
    limit = context.scalar(np.iinfo(np.int64).max, INT64)
    return context.builder.one("Where", context.builder.one("Less", name, context.scalar(0, INT64)), limit, name)


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
