"""Sparse tensors: what takes or gives indices, values and a dense shape.

Owns the rows that are filled because they are empty, crosses, and the way back to dense tensors. What the algebra of
grids cannot express is refused: ops that only reach other triples are rare in what Estimators export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import accumulate

import numpy as np

from estimator_serving.exporter.sources.saved_model.errors import Unsupported
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.choosing import coordinates_of, narrow, scatter_nd
from estimator_serving.exporter.sources.saved_model.lower.elementwise import apply, cast, move_weights
from estimator_serving.exporter.sources.saved_model.lower.segments import row_counts, with_ones
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import (
    Cells,
    Coordinates,
    Dim,
    Flat,
    Positions,
    Symbol,
    Tensor,
    Value,
    divide,
    multiply,
)
from estimator_serving.ops import DOMAIN


@lowers("SparseReshape")
def _sparse_reshape(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    before = context.dims(inputs[1], node, "shape")
    wanted = context.dims(inputs[2], node, "new shape")
    left = divide(multiply(before), multiply(dim for dim in wanted if dim != -1))
    after = [left if dim == -1 else dim for dim in wanted]
    if after == list(before):
        return [inputs[0], context.sizes(before, INT64)]
    # Each index as a place in the whole, and back.
    indices = context.dense(inputs[0], node)
    one, unit = context.builder.one, context.int64(1)
    old = [context.dim_name(dim) for dim in before]
    new = ["" if dim == -1 else context.dim_name(dim) for dim in wanted]
    if "" in new:
        total, product = (reduce(lambda x, y: one("Mul", x, y), filter(None, dims), unit) for dims in (old, new))
        new[new.index("")] = one("Div", total, one("Max", product, unit))
    strides = [list(accumulate(dims[:0:-1], lambda x, y: one("Mul", x, y), initial=unit))[::-1] for dims in (old, new)]
    place = one("ReduceSum", one("Mul", indices.name, one("Concat", *strides[0], axis=0)), unit, keepdims=1)
    columns = [
        one("Mod", one("Div", place, one("Max", stride, unit)), one("Max", dim, unit))
        for dim, stride in zip(new, strides[1], strict=True)
    ]
    shape = context.written(one("Concat", *new, axis=0), INT64, (len(wanted),), low=0)
    if all(dim is not None for dim in after):
        shape = context.sizes([dim for dim in after if dim is not None], INT64)
    moved = one("Concat", *columns, axis=1)
    return [context.written(moved, INT64, [indices.shape[0], len(wanted)], low=0), shape]


@lowers("SparseFillEmptyRows")
def _fill_empty_rows(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    indices, values, shape, default = inputs
    rows = context.dims(shape, node, "shape")[0]
    if not (isinstance(indices, Coordinates) and isinstance(values, Flat)):
        raise node.refuse("its entries are no feature's, or were moved in a way that is not followed")
    if [one.place for one in indices.columns] != ["row", "column"] or not indices.cells.same(values.cells):
        raise node.refuse("its entries are not in the order of their rows")
    cells = values.cells
    if values.tail or cells.empty is not None or cells.distinct is not None or rows != cells.rows:
        raise node.refuse("its entries were filled or taken apart before")
    if cells.mask is None and isinstance(cells.width, int) and cells.width > 0:
        none = context.tensor(BOOL, (rows,), lambda: context.spread(context.constant(np.array([False])), (rows,)))
        return [indices, values, none, Positions(cells, cells)]
    filled = _filled(context, node, cells)
    filler = context.dense(default, node)
    zero = context.constant(np.array(0, np.int64))
    row, column = indices.columns
    placed = Coordinates((Flat(filled, row.grid, None, "row"), Flat(filled, column.grid, zero, "column")))

    def refuse() -> str:
        raise Unsupported(node.op, node.name, "its reverse index map is used")

    assert filled.empty is not None
    backwards = Tensor(INT64, (cells.count,), refuse)
    return [placed, Flat(filled, values.grid, filler), filled.empty, backwards]


def _filled(context: Lowering, node: Node, cells: Cells) -> Cells:
    key = ("filled", cells.rows, cells.width, cells.mask)
    if key not in context.cache:
        counts = row_counts(context, cells)
        empty = apply(
            context,
            [counts, context.constant(np.array(0, np.int64))],
            BOOL,
            lambda x, y: context.builder.one("Equal", x, y),
        )
        empty.row_flags = empty

        def count() -> str:
            one = context.builder.one
            each = one("Max", counts.name, context.scalar(1, INT64))
            return one("Reshape", one("ReduceSum", each, keepdims=0), context.int64(1))

        symbol = Symbol(count)
        symbol.cells = Cells(cells.rows, cells.width, cells.mask, symbol, empty=empty, base=cells, bounds=cells.bounds)
        context.cache[key] = symbol.cells
    made: Cells = context.cache[key]
    return made


# ---- dense ----------------------------------------------------------------------------------------------------------


@lowers("SparseToDense")
def _sparse_to_dense(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    indices, values, default = inputs[0], inputs[2], inputs[3]
    shape = context.dims(inputs[1], node, "shape")
    blank = context.dense(default, node)
    if isinstance(indices, Coordinates) and [one.place for one in indices.columns] == ["row", "column"]:
        cells = indices.cells
        grid = values.grid if isinstance(values, Flat) and values.cells.same(cells) else None
        if isinstance(values, Tensor) and values.rank == 0:
            grid = values
        if grid is not None and cells.empty is None and tuple(shape) == (cells.rows, cells.width):
            return in_grid(context, cells, grid, blank)
    at, updates = context.dense(indices, node), context.dense(values, node)
    one, index = context.builder.one, cast(context, at.name, at.dtype, INT64)
    if at.rank < 2:
        # A vector of places, or a single one.
        index = one("Reshape", index, context.int64(-1, 1))
    count = one("Shape", index, start=0, end=1)
    given = one("Expand", updates.name, count) if updates.rank == 0 else updates.name
    base = one("Expand", blank.name, context.shape_name(shape))
    return context.written(one("ScatterND", base, index, given), updates.dtype, list(shape))


def in_grid(context: Lowering, cells: Cells, grid: Tensor, blank: Tensor) -> Tensor:
    """What stands in cells, and `blank` in the others: [rows, width]."""
    whole = (cells.rows, cells.width)
    if cells.mask is None:
        return grid if grid.shape == whole else context.tensor(grid.dtype, whole, lambda: context.spread(grid, whole))
    mask = cells.mask
    made = context.tensor(grid.dtype, whole, lambda: context.builder.one("Where", mask.name, grid.name, blank.name))
    if None not in (grid.low, blank.low):
        made.low = min(grid.low or 0, blank.low or 0)
    if None not in (grid.high, blank.high):
        made.high = max(grid.high or 0, blank.high or 0)
    return made


@lowers("SparseReorder")
def _sparse_reorder(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Entries keep the order of their rows. Where they would be sorted by something else than their columns within a
    row, only ops that do not depend on that order are converted behind this one."""
    indices, values = inputs[0], inputs[1]
    if isinstance(indices, Coordinates) and isinstance(values, Flat) and indices.columns[0].place == "row":
        moved = values if indices.cells.same(values.cells) else move_weights(context, values, indices.cells)
        if moved is not None and [one.place for one in indices.columns] == ["row", "column"]:
            return [indices, moved]
        if moved is not None and moved.cells.empty is None:
            cells = replace(moved.cells, is_loose=True)
            columns = tuple(Flat(cells, one.grid, place=one.place) for one in indices.columns)
            return [Coordinates(columns), Flat(cells, moved.grid)]
    raise node.refuse("its entries are no feature's, or were moved in a way that is not followed")


@lowers("SparseSlice")
def _sparse_slice(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    indices, values = inputs[0], inputs[1]
    before, starts, sizes = (context.dims(one, node, "sizes") for one in inputs[2:5])
    if not (isinstance(indices, Coordinates) and isinstance(values, Flat) and indices.cells.same(values.cells)):
        raise node.refuse("its entries are no feature's, or were moved in a way that is not followed")
    if any(start != 0 for start in starts) or values.cells.empty is not None:
        raise node.refuse("it does not begin at 0")
    cells, one = values.cells, context.builder.one
    for column, size in zip(indices.columns, sizes, strict=True):
        if (column.place == "row" and size == cells.rows) or (column.place == "column" and size == cells.width):
            continue
        low, limit = context.scalar(0, INT64), one("Squeeze", context.dim_name(size), context.int64(0))
        number = column.grid.name
        is_inside = one("And", one("Less", number, limit), one("GreaterOrEqual", number, low))
        inside = context.written(is_inside, BOOL, column.grid.shape, implies=((column.grid, 0),))
        cells = narrow(context, Flat(cells, inside))
    kept = tuple(Flat(cells, one.grid, place=one.place) for one in indices.columns)
    after = [size if size == dim else _smaller(context, size, dim) for size, dim in zip(sizes, before, strict=True)]
    return [Coordinates(kept), Flat(cells, values.grid), context.sizes(after, INT64)]


def _smaller(context: Lowering, left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    return Symbol(lambda: context.builder.one("Min", context.dim_name(left), context.dim_name(right)))


@lowers("ScatterNd")
def _scatter_nd(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    indices, values = inputs[0], inputs[1]
    shape = context.dims(inputs[2], node, "shape")
    if not (isinstance(indices, Coordinates) and isinstance(values, Flat) and indices.cells.same(values.cells)):
        return scatter_nd(context, node, inputs)
    cells = values.cells
    row, column = (*indices.columns, *indices.columns)[:2]
    is_grid = len(indices.columns) == 2 and row.place == "row" and not indices.is_transposed
    if not is_grid or cells.empty is not None or values.tail or shape[0] != cells.rows or values.dtype.kind != "f":
        return scatter_nd(context, node, inputs)
    if cells.bounds.get(column.grid, -1) < 0 and (column.grid.low is None or column.grid.low < 0):
        return scatter_nd(context, node, inputs)
    one, dtype, whole = context.builder.one, values.dtype, (cells.rows, cells.width)
    at, given = context.spread(column.grid, whole), context.spread(values.grid, whole)
    if cells.mask is not None:
        at = one("Where", cells.mask.name, at, context.scalar(0, INT64))
        given = one("Where", cells.mask.name, given, context.scalar(0, dtype))
    base = one("Expand", context.scalar(0, dtype), context.shape_name(shape))
    added = one("ScatterElements", base, at, given, axis=1, reduction="add")
    return context.written(added, dtype, list(shape))


# ---- crosses --------------------------------------------------------------------------------------------------------


@lowers("SparseCross")
def _sparse_cross(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    count = node.integer("N", 0)
    if not node.flag("hashed_output", False) or node.integer("num_buckets", 0) < 1:
        raise node.refuse("it gives the crossed text itself, or ids without a bound")
    triples = list(zip(inputs[:count], inputs[count : 2 * count], inputs[2 * count : 3 * count], strict=True))
    keys: list[tuple[Tensor, Tensor]] = []
    for indices, values, _ in triples:
        if not (isinstance(indices, Coordinates) and isinstance(values, Flat) and indices.cells.same(values.cells)):
            raise node.refuse("it crosses entries that are no feature's, or were moved in a way that is not followed")
        if values.cells.empty is not None or values.tail or indices.columns[0].place != "row":
            raise node.refuse("it crosses entries that were filled before")
        keys.append(packed(context, values))
    for one in inputs[3 * count :]:
        dense = context.dense(one, node)
        if dense.rank != 2:
            raise node.refuse("it crosses a dense tensor that is no matrix")
        whole = context.cells_of(dense.shape[0], dense.shape[1], None)
        keys.append((_crossable(context, dense), row_counts(context, whole)))
    rows = keys[0][0].shape[0]
    buckets = node.integer("num_buckets")
    signed = int(np.uint64(node.integer("hash_key") % (1 << 64)).astype(np.int64))

    names = [one.name for key in keys for one in key]
    (made,) = context.builder.node("CrossHash", names, domain=DOMAIN, hash_bucket_size=buckets, hash_key=signed)
    ids = context.written(made, INT64, [rows, None], low=-1, high=buckets - 1)
    is_there = context.builder.one("GreaterOrEqual", made, context.scalar(0, INT64))
    mask = context.written(is_there, BOOL, ids.shape)
    cells = context.cells_of(rows, ids.shape[1], mask, bounds={ids: 0})
    lengths = row_counts(context, cells)
    cells.lengths = lengths
    return [coordinates_of(context, cells), Flat(cells, ids), context.sizes([rows, ids.shape[1]], INT64)]


def _crossable(context: Lowering, values: Tensor) -> Tensor:
    if values.is_string or values.dtype == INT64:
        return values
    return apply(context, [values], INT64, lambda x: cast(context, x, values.dtype, INT64))


def packed(context: Lowering, values: Flat) -> tuple[Tensor, Tensor]:
    """The entries of every row moved to its front, [rows, width], and how many there are, int64 [rows]."""
    cells, one = values.cells, context.builder.one
    whole = (cells.rows, cells.width)
    grid = values.grid
    if grid.shape != whole:
        spread = values.grid
        grid = context.tensor(spread.dtype, whole, lambda: context.spread(spread, whole))
    grid = _crossable(context, grid) if grid.dtype.kind in "iu" else grid
    counts = row_counts(context, cells)
    if cells.lengths is not None or cells.mask is None:
        return grid, counts
    # The largest of (kept, first come first) stand in front: a stable sort by what is kept.
    width = context.dim_name(cells.width)
    order = one("Sub", one("Squeeze", width, context.int64(0)), context.range_of(cells.width).name)
    bonus = one("Mul", cast(context, cells.mask.name, BOOL, INT64), one("Add", width, context.int64(1)))
    places = context.builder.node("TopK", [one("Add", bonus, order), width], outputs=2, axis=1, largest=1, sorted=1)
    return context.written(one("GatherElements", grid.name, places[1], axis=1), grid.dtype, whole), counts


# ---- partitions -----------------------------------------------------------------------------------------------------


@lowers("DynamicPartition")
def _dynamic_partition(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    data, parts = inputs
    count = node.integer("num_partitions")
    if isinstance(parts, Flat) and isinstance(data, Flat | Positions) and data.cells.same(parts.cells):
        return [_part(context, data, parts, index) for index in range(count)]
    dense, at, one = context.dense(data, node), context.dense(parts, node), context.builder.one
    chosen = [one("Equal", at.name, context.scalar(index, at.dtype)) for index in range(count)]
    taken = [one("Compress", dense.name, flags, axis=0) for flags in chosen]
    return [context.written(name, dense.dtype, [None, *dense.shape[1:]]) for name in taken]


def _part(context: Lowering, data: Flat | Positions, parts: Flat, index: int) -> Value:
    cells, grid = parts.cells, parts.grid
    key = ("part", cells, grid, index)
    if key not in context.cache:
        number = context.constant(np.array(index, grid.dtype))
        chosen = apply(context, [grid, number], BOOL, lambda x, y: context.builder.one("Equal", x, y))
        whole = (cells.rows, cells.width)
        mask = chosen
        if cells.mask is not None:
            mask = apply(context, [cells.mask, chosen], BOOL, lambda x, y: context.builder.one("And", x, y))
        elif chosen.shape != whole:
            mask = context.tensor(BOOL, whole, lambda: context.spread(chosen, whole))

        def emit() -> str:
            raise Unsupported("DynamicPartition", "", "how many entries a part has is used")

        symbol = Symbol(emit)
        symbol.cells = Cells(
            cells.rows,
            cells.width,
            mask,
            symbol,
            empty=cells.empty,
            bounds=cells.bounds,
            distinct=cells.distinct or cells,
            part=(parts, index),
        )
        context.cache[key] = symbol.cells
    part: Cells = context.cache[key]
    if isinstance(data, Positions):
        return Positions(part, data.among, dtype=data.dtype)
    return Flat(part, data.grid, data.filler)


@lowers("DynamicStitch", "ParallelDynamicStitch")
def _dynamic_stitch(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    count = node.integer("N")
    places, values = inputs[:count], inputs[count:]
    made = _stitch_parts(context, places, values)
    if made is not None:
        return made
    at = [context.dense(one, node) for one in places]
    given = [context.dense(one, node) for one in values]
    tail = given[0].shape[at[0].rank :]
    if any(one.rank != 1 for one in at):
        raise node.refuse("it stitches indices of other ranks than 1")
    one, dtype = context.builder.one, given[0].dtype
    ids = one("Concat", *(cast(context, i.name, i.dtype, INT64) for i in at), axis=0)
    last = one("ReduceMax", one("Concat", ids, context.int64(-1), axis=0), context.int64(0), keepdims=1)
    rows = one("Add", last, context.int64(1))
    shape = one("Concat", rows, context.shape_name(tail), axis=0) if tail else rows
    base = one("Expand", context.scalar(b"" if given[0].is_string else 0, dtype), shape)
    updates = one("Concat", *(value.name for value in given), axis=0)
    stitched = one("ScatterND", base, one("Unsqueeze", ids, context.int64(1)), updates)
    return context.written(stitched, dtype, [None, *tail])


def _stitch_parts(context: Lowering, places: Sequence[Value], values: Sequence[Value]) -> Flat | None:
    """The parts of cells that DynamicPartition took apart, side by side in their grid again. None for other values."""
    first = places[0]
    if not isinstance(first, Positions) or first.cells.part is None:
        return None
    parts, flats = first.cells.part[0], list[Flat]()
    for index, (place, value) in enumerate(zip(places, values, strict=True)):
        if not isinstance(place, Positions) or not isinstance(value, Flat) or value.cells is not place.cells:
            return None
        part = place.cells.part
        if part is None or part[0].grid is not parts.grid or part[1] != index or not place.among.same(parts.cells):
            return None
        flats.append(value)
    filler = None
    if parts.cells.empty is not None:
        if parts.filler is None or parts.filler.constant is None or any(one.filler is None for one in flats):
            return None
        filler = flats[int(parts.filler.constant)].filler
    tail_rank, one = len(flats[0].tail), context.builder.one
    made = flats[-1].grid
    for index in range(len(flats) - 2, -1, -1):
        is_part = one("Equal", parts.grid.name, context.scalar(index, parts.grid.dtype))
        chosen = context.written(
            with_ones(context, is_part, 2, tail_rank), BOOL, (*parts.grid.shape, *([1] * tail_rank))
        )
        made = apply(context, [chosen, flats[index].grid, made], made.dtype, lambda c, x, y: one("Where", c, x, y))
    return Flat(parts.cells, made, filler)
