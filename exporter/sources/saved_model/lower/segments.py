"""Sums, means and extremes by segment: how embeddings of several ids become one row.

Owns the reduction of a grid of padded values to its rows, and distinct ids, which stay undistinguished: every lookup of
TensorFlow takes the ids apart only to put them together again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.errors import Unsupported
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.choosing import guarded, safe_ids
from estimator_serving.exporter.sources.saved_model.lower.elementwise import apply, cast, wider
from estimator_serving.exporter.sources.saved_model.lower.reductions import extreme_of_int64
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Cells, Flat, Positions, Symbol, Tensor, Value

_SPARSE = {"SparseSegmentSum": "sum", "SparseSegmentMean": "mean", "SparseSegmentSqrtN": "sqrtn"}
_DENSE = {"SegmentSum": "sum", "SegmentMean": "mean", "SegmentMax": "max", "SegmentMin": "min"}


def row_counts(context: Lowering, cells: Cells) -> Tensor:
    """int64 [rows]: how many cells of each row of the grid are kept; filled rows have none."""
    if cells.lengths is not None:
        return cells.lengths
    key = ("row counts", cells.rows, cells.width, cells.mask)
    if key not in context.cache:
        one = context.builder.one
        if cells.mask is None:
            width = one("Squeeze", context.dim_name(cells.width), context.int64(0))
            counts = one("Expand", width, context.dim_name(cells.rows))
        else:
            counts = one("ReduceSum", cast(context, cells.mask.name, BOOL, INT64), context.int64(1), keepdims=0)
        context.cache[key] = context.written(counts, INT64, (cells.rows,), low=0)
    made: Tensor = context.cache[key]
    return made


def splits_of(context: Lowering, cells: Cells, dtype: np.dtype[Any] = INT64) -> Tensor:
    """[rows + 1]: where each row begins among all cells, and the end."""
    one = context.builder.one

    def emit() -> str:
        ends = one("CumSum", row_counts(context, cells).name, context.scalar(0, INT64))
        return cast(context, one("Concat", context.int64(0), ends, axis=0), INT64, dtype)

    return context.tensor(dtype, [None], emit, low=0, rows_of=(cells, "splits"))


# ---- distinct -------------------------------------------------------------------------------------------------------


@lowers("Unique", "UniqueV2")
def _unique(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = inputs[0]
    places = node.dtype("out_idx", np.dtype(np.int32))
    if isinstance(value, Flat) and not value.tail and value.cells.distinct is None:
        cells = value.cells
        key = ("distinct", cells)
        if key not in context.cache:

            def refuse() -> str:
                raise Unsupported(node.op, node.name, "how many distinct values there are is used")

            count = Symbol(refuse)
            count.cells = Cells(
                cells.rows, cells.width, cells.mask, count, empty=cells.empty, bounds=cells.bounds, distinct=cells
            )
            context.cache[key] = count.cells
        distinct: Cells = context.cache[key]
        return [Flat(distinct, value.grid, value.filler), Positions(value.cells, distinct, dtype=places)]
    dense = context.dense(value, node)
    if dense.rank != 1:
        raise node.refuse("it looks for distinct slices")
    if isinstance(value, Flat):
        raise node.refuse("it looks for what is distinct among distinct values")
    wide = INT64 if dense.dtype.kind in "iub" else wider(dense.dtype)
    name = cast(context, dense.name, dense.dtype, wide)
    values, _, at, _ = context.builder.node("Unique", [name], outputs=4, sorted=0, axis=0)
    return [
        context.written(cast(context, values, wide, dense.dtype), dense.dtype, [None], low=dense.low, high=dense.high),
        context.written(cast(context, at, INT64, places), places, dense.shape, low=0),
    ]


# ---- segments -------------------------------------------------------------------------------------------------------


@lowers(*_SPARSE)
def _sparse_segment(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    data, places, segments = inputs[:3]
    if isinstance(places, Positions) and isinstance(data, Flat) and data.cells.same(places.among):
        taken = Flat(places.cells, data.grid, data.filler)
        if _are_rows(segments, taken.cells):
            return reduce_rows(context, taken, _SPARSE[node.op])
    table, at = (context.dense(one, node) for one in (data, places))
    rows = context.builder.one("Gather", table.name, guarded(context, table, at, 0), axis=0)
    taken_rows = context.written(rows, table.dtype, [*at.shape, *table.shape[1:]])
    return _segment_in_full(context, node, taken_rows, context.dense(segments, node), _SPARSE[node.op])


@lowers(*_DENSE)
def _segment(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    data, segments = inputs
    if isinstance(data, Flat) and _are_rows(segments, data.cells):
        return reduce_rows(context, data, _DENSE[node.op])
    return _segment_in_full(context, node, context.dense(data, node), context.dense(segments, node), _DENSE[node.op])


def _are_rows(segments: Value, cells: Cells) -> bool:
    return isinstance(segments, Flat) and segments.place == "row" and segments.cells.same(cells)


def reduce_rows(context: Lowering, data: Flat, combiner: str) -> Tensor:
    """One entry for each row of the grid, [rows, *tail]; where rows may be empty, up to the last that has a cell."""
    cells, one = data.cells, context.builder.one
    inner = _reduce_grid(context, data, combiner)
    if cells.empty is not None:
        assert data.filler is not None
        inner.zero_in = cells.empty
        flags = with_ones(context, cells.empty.name, 1, inner.rank - 1)
        made = one("Where", flags, data.filler.name, inner.name)
        return context.written(made, inner.dtype, inner.shape, mended=(cells.empty, inner))
    if cells.mask is None and isinstance(cells.width, int) and cells.width > 0:
        return inner
    ends = one("Add", context.range_of(cells.rows).name, context.scalar(1, INT64))
    kept = one("Mul", ends, one("Sign", row_counts(context, cells).name))
    last = one("ReduceMax", one("Concat", kept, context.int64(0), axis=0), context.int64(0), keepdims=1)
    cut = one("Slice", inner.name, context.int64(0), last, context.int64(0))
    return context.written(cut, inner.dtype, [None, *inner.shape[1:]])


def _reduce_grid(context: Lowering, data: Flat, combiner: str) -> Tensor:
    cells, one = data.cells, context.builder.one
    dtype, tail = data.grid.dtype, data.tail
    if dtype.kind not in "fi":
        raise ValueError(f"segments of {dtype}")
    if combiner in ("max", "min"):
        limit = _limit(dtype, combiner)
        # One more cell, so that no row is empty.
        more = one("Expand", context.scalar(limit, dtype), context.shape_name((cells.rows, 1, *tail)))
        joined = one("Concat", _filled_grid(context, data, limit), more, axis=1)
        if dtype == INT64:
            # Its size along the axis only has to be known not to be 0.
            found = extreme_of_int64(context, joined, (cells.rows, 1, *tail), [1], combiner == "max")
        else:
            found = one("ReduceMax" if combiner == "max" else "ReduceMin", joined, context.int64(1), keepdims=0)
        is_empty = one(
            "Equal", with_ones(context, row_counts(context, cells).name, 1, len(tail)), context.scalar(0, INT64)
        )
        return context.written(one("Where", is_empty, context.scalar(0, dtype), found), dtype, (cells.rows, *tail))
    # ONNX Runtime sums a first axis many times faster than one in the middle.
    turned = _looked_up_and_turned(context, data)
    if turned is None:
        name = _filled_grid(context, data, 0)
        turned = one("Transpose", name, perm=[1, 0, *range(2, 2 + len(tail))])
    summed = context.written(one("ReduceSum", turned, context.int64(0), keepdims=0), dtype, (cells.rows, *tail))
    if combiner == "sum":
        return summed
    # By how many entries a row has, at least 1, or the root of it.
    count = cast(context, one("Max", row_counts(context, cells).name, context.scalar(1, INT64)), INT64, dtype)
    divisor = with_ones(context, one("Sqrt", count) if combiner == "sqrtn" else count, 1, len(tail))
    by = context.written(divisor, dtype, (cells.rows, *([1] * len(tail))))
    return apply(context, [summed, by], dtype, lambda x, y: one("Div", x, y))


def _filled_grid(context: Lowering, data: Flat, blank: Any) -> str:
    """The grid with `blank` in the cells that are not kept."""
    cells, dtype = data.cells, data.dtype
    name = context.spread(data.grid, (cells.rows, cells.width, *data.tail))
    if cells.mask is None:
        return name
    kept = with_ones(context, cells.mask.name, 2, len(data.tail))
    return context.builder.one("Where", kept, name, context.scalar(blank, dtype))


def _looked_up_and_turned(context: Lowering, data: Flat) -> str | None:
    """Rows of a table that is known, [width, rows, *tail]. Cells that are not kept read a row of zeros behind the
    table, so that nothing has to be multiplied away. None where the entries come from elsewhere."""
    cells = data.cells
    if data.grid.looked_up is None or cells.mask is None:
        return None
    table, grid = data.grid.looked_up
    ids = Flat(cells, grid)
    if table.constant is None or ids.tail or len(table.constant) >= np.iinfo(np.int32).max - 1:
        return None
    key = ("blanked", table)
    if key not in context.cache:
        zeros = np.zeros((1, *table.constant.shape[1:]), table.dtype)
        context.cache[key] = context.constant(np.concatenate([table.constant, zeros]))
    places = context.builder.one("Transpose", safe_ids(context, table, ids, len(table.constant)), perm=[1, 0])
    return context.builder.one("Gather", context.cache[key].name, places, axis=0)


def with_ones(context: Lowering, name: str, axis: int, count: int) -> str:
    """A value with `count` more axes of size 1, the first of them at `axis`."""
    for place in range(axis, axis + count):
        name = context.builder.one("Unsqueeze", name, context.int64(place))
    return name


def _limit(dtype: np.dtype[Any], combiner: str) -> Any:
    """What every other number is above, for "max", or below, for "min"."""
    lowest, highest = (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return lowest if combiner == "max" else highest


def _segment_in_full(context: Lowering, node: Node, data: Tensor, segments: Tensor, combiner: str) -> Tensor:
    """Segments of entries that are no grid: scattered to one row for each segment, as many as the last one says."""
    dtype, one = data.dtype, context.builder.one
    if dtype.kind not in "fi":
        raise node.refuse(f"it computes with {dtype}")
    ids = cast(context, segments.name, segments.dtype, INT64)
    last = one("ReduceMax", one("Concat", ids, context.int64(-1), axis=0), context.int64(0), keepdims=1)
    rows = one("Add", last, context.int64(1))
    shape = one("Concat", rows, context.shape_name(data.shape[1:]), axis=0) if data.rank > 1 else rows
    at, zero, unit = one("Unsqueeze", ids, context.int64(1)), context.scalar(0, dtype), context.scalar(1, dtype)
    units = one("Expand", unit, one("Shape", ids))
    counts = one("ScatterND", one("Expand", zero, rows), at, units, reduction="add")
    counts = with_ones(context, counts, 1, data.rank - 1)
    if combiner in ("max", "min"):
        blank = one("Expand", context.scalar(_limit(dtype, combiner), dtype), shape)
        found = one("ScatterND", blank, at, data.name, reduction=combiner)
        made = one("Where", one("Equal", counts, zero), zero, found)
    else:
        made = one("ScatterND", one("Expand", zero, shape), at, data.name, reduction="add")
        if combiner != "sum":
            count = one("Max", counts, unit)
            made = one("Div", made, one("Sqrt", count) if combiner == "sqrtn" else count)
    return context.written(made, dtype, [None, *data.shape[1:]])
