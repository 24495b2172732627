"""Sums, means and extremes by segment: how embeddings of several ids become one row.

Owns the reduction of a grid of padded values to its rows, and distinct ids, which stay undistinguished: every lookup of
TensorFlow takes the ids apart only to put them together again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.errors import Unsupported
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.choosing import safe_ids
from estimator_serving.exporter.sources.saved_model.lower.elementwise import apply, cast
from estimator_serving.exporter.sources.saved_model.lowering import INT64, Lowered, Lowering, lowers
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

        def emit() -> str:
            if cells.mask is None:
                width = one("Squeeze", context.dim_name(cells.width), context.int64(0))
                return one("Expand", width, context.dim_name(cells.rows))
            return one("ReduceSum", one("Cast", cells.mask.name, to=7), context.int64(1), keepdims=0)

        context.cache[key] = context.tensor(INT64, (cells.rows,), emit, low=0)
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
    wide = INT64 if dense.dtype.kind in "iu" else dense.dtype

    def emit(index: int) -> str:
        name = cast(context, dense.name, dense.dtype, wide)
        found = context.builder.node("Unique", [name], outputs=4, sorted=0, axis=0)[index]
        return cast(context, found, wide if index == 0 else INT64, dense.dtype if index == 0 else places)

    return [
        context.tensor(dense.dtype, [None], lambda: emit(0), low=dense.low, high=dense.high),
        context.tensor(places, dense.shape, lambda: emit(2), low=0),
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
    taken_shape = [*at.shape, *table.shape[1:]]
    taken_rows = context.op("Gather", [table, at], table.dtype, taken_shape, axis=0)
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
    cells = data.cells
    inner = _reduce_grid(context, data, combiner)
    if cells.empty is not None:
        empty, filler = cells.empty, data.filler
        assert filler is not None
        inner.zero_in = empty

        def emit() -> str:
            flags = with_ones(context, empty.name, 1, inner.rank - 1)
            return context.builder.one("Where", flags, filler.name, inner.name)

        return context.tensor(inner.dtype, inner.shape, emit, mended=(empty, inner))
    if cells.mask is None and isinstance(cells.width, int) and cells.width > 0:
        return inner

    def cut() -> str:
        one = context.builder.one
        counts = row_counts(context, cells)
        ends = one("Add", context.row_numbers(cells).name, context.scalar(1, INT64))
        kept = one("Mul", ends, one("Sign", counts.name))
        last = one("ReduceMax", one("Concat", kept, context.int64(0), axis=0), context.int64(0), keepdims=1)
        return one("Slice", inner.name, context.int64(0), last, context.int64(0))

    return context.tensor(inner.dtype, [None, *inner.shape[1:]], cut)


def _reduce_grid(context: Lowering, data: Flat, combiner: str) -> Tensor:
    cells, grid = data.cells, data.grid
    dtype, tail = grid.dtype, data.tail
    one = context.builder.one
    if dtype.kind not in "fi":
        raise ValueError(f"segments of {dtype}")

    def total() -> str:
        table = grid.looked_up[0] if grid.looked_up is not None else None
        if (
            table is not None
            and table.constant is not None
            and cells.mask is not None
            and combiner not in ("max", "min")
        ):
            assert grid.looked_up is not None
            ids = Flat(cells, grid.looked_up[1])
            size = int(table.constant.shape[0])
            if len(ids.tail) == 0 and size < np.iinfo(np.int32).max - 1:
                # Cells that are not kept read a row of zeros behind the table: nothing has to be multiplied away.
                places = one("Transpose", safe_ids(context, table, ids, size), perm=[1, 0])
                return one(
                    "ReduceSum", one("Gather", blanked(context, table), places, axis=0), context.int64(0), keepdims=0
                )
        name = context.spread(grid, (cells.rows, cells.width, *tail))
        if cells.mask is not None:
            blank = {"max": _lowest(dtype), "min": _highest(dtype)}.get(combiner, 0)
            name = one("Where", with_ones(context, cells.mask.name, 2, len(tail)), name, context.scalar(blank, dtype))
        if combiner in ("max", "min"):
            # One more cell, so that no row is empty.
            limit = _lowest(dtype) if combiner == "max" else _highest(dtype)
            more = one("Expand", context.scalar(limit, dtype), context.shape_name((cells.rows, 1, *tail)))
            op_type = "ReduceMax" if combiner == "max" else "ReduceMin"
            found = one(op_type, one("Concat", name, more, axis=1), context.int64(1), keepdims=0)
            is_empty = one(
                "Equal", with_ones(context, row_counts(context, cells).name, 1, len(tail)), context.scalar(0, INT64)
            )
            return one("Where", is_empty, context.scalar(0, dtype), found)
        # ONNX Runtime sums a first axis many times faster than one in the middle.
        turned = one("Transpose", name, perm=[1, 0, *range(2, 2 + len(tail))])
        return one("ReduceSum", turned, context.int64(0), keepdims=0)

    summed = context.tensor(dtype, (cells.rows, *tail), total)
    if combiner not in ("mean", "sqrtn"):
        return summed
    return apply(
        context, [summed, _divisor(context, cells, combiner, dtype, len(tail))], dtype, lambda x, y: one("Div", x, y)
    )


def _divisor(context: Lowering, cells: Cells, combiner: str, dtype: np.dtype[Any], tail_rank: int) -> Tensor:
    """How many entries a row has, at least 1, or the root of it: [rows, 1, …]."""

    def emit() -> str:
        one = context.builder.one
        count = cast(context, one("Max", row_counts(context, cells).name, context.scalar(1, INT64)), INT64, dtype)
        return with_ones(context, one("Sqrt", count) if combiner == "sqrtn" else count, 1, tail_rank)

    return context.tensor(dtype, (cells.rows, *([1] * tail_rank)), emit)


def with_ones(context: Lowering, name: str, axis: int, count: int) -> str:
    """A value with `count` more axes of size 1, the first of them at `axis`."""
    for place in range(axis, axis + count):
        name = context.builder.one("Unsqueeze", name, context.int64(place))
    return name


def blanked(context: Lowering, table: Tensor) -> str:
    """A table with a row of zeros behind it."""
    key = ("blanked", table)
    if key not in context.cache:
        assert table.constant is not None
        array = table.constant
        zeros = np.zeros((1, *array.shape[1:]), array.dtype)
        context.cache[key] = context.constant(np.concatenate([array, zeros]))
    made: Tensor = context.cache[key]
    return made.name


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _segment_in_full(context: Lowering, node: Node, data: Tensor, segments: Tensor, combiner: str) -> Tensor:
    """Segments of entries that are no grid: scattered to one row for each segment, as many as the last one says."""
    dtype, one = data.dtype, context.builder.one
    if dtype.kind not in "fi":
        raise node.refuse(f"it computes with {dtype}")

    def emit() -> str:
        ids = cast(context, segments.name, segments.dtype, INT64)
        last = one("ReduceMax", one("Concat", ids, context.int64(-1), axis=0), context.int64(0), keepdims=1)
        count = one("Add", last, context.int64(1))
        tail = context.shape_name(data.shape[1:]) if data.rank > 1 else ""
        shape = one("Concat", count, tail, axis=0) if tail else count
        at = one("Unsqueeze", ids, context.int64(1))
        counts = one(
            "ScatterND",
            one("Expand", context.scalar(0, dtype), count),
            at,
            one("Expand", context.scalar(1, dtype), one("Shape", ids)),
            reduction="add",
        )
        counts = with_ones(context, counts, 1, data.rank - 1)
        if combiner in ("max", "min"):
            limit = _lowest(dtype) if combiner == "max" else _highest(dtype)
            blank = one("Expand", context.scalar(limit, dtype), shape)
            found = one("ScatterND", blank, at, data.name, reduction=combiner)
            zero = context.scalar(0, dtype)
            return one("Where", one("Equal", counts, zero), zero, found)
        summed = one("ScatterND", one("Expand", context.scalar(0, dtype), shape), at, data.name, reduction="add")
        if combiner == "sum":
            return summed
        count = one("Max", counts, context.scalar(1, dtype))
        return one("Div", summed, one("Sqrt", count) if combiner == "sqrtn" else count)

    return context.tensor(dtype, [None, *data.shape[1:]], emit)
