"""Ragged tensors: rows of words or characters, how often each number comes in them, and their way to dense tensors.

Owns the row splits: TensorFlow computes them from sparse indices, or gives them beside the values; here they are a fact
about a vector, and the values stay the cells of a grid.
"""

from __future__ import annotations

import numpy as np

from estimator_serving.exporter.sources.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import cast, elementwise
from estimator_serving.exporter.sources.saved_model.lower.parsing import padded_feature
from estimator_serving.exporter.sources.saved_model.lower.segments import row_counts, splits_of
from estimator_serving.exporter.sources.saved_model.lower.sparse import in_grid, packed
from estimator_serving.exporter.sources.saved_model.lowering import FLOAT, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Cells, Flat, Tensor, Value
from estimator_serving.ops import DOMAIN

_INT32 = np.dtype(np.int32)
_STRING = np.dtype(object)


def is_whole(cells: Cells) -> bool:
    """Whether cells are what TensorFlow has, in its order: nothing filled, left out or sorted anew."""
    return cells.empty is None and cells.distinct is None and not cells.is_loose


def _is_ragged(values: Value, rows: Value) -> bool:
    """Whether `rows` are the splits, or the row numbers, of `values`."""
    if not isinstance(values, Flat) or not is_whole(values.cells):
        return False
    if isinstance(rows, Flat):
        return rows.place == "row" and rows.cells.same(values.cells)
    cells, what = (rows.rows_of if isinstance(rows, Tensor) else None) or (None, "")
    return what == "splits" and cells is not None and cells.same(values.cells)


@lowers("RaggedTensorToTensor")
def _ragged_to_tensor(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Rows as a matrix, cut or filled up to a width."""
    shape, values, default, *partitions = inputs
    wanted = context.array(shape, node, "shape")
    # -1 without a dimension leaves all of them open.
    sizes = [int(one) for one in wanted.ravel()] if wanted.ndim else [-1, -1]
    is_followed = node.texts("row_partition_types") in (["FIRST_DIM_SIZE", "VALUE_ROWIDS"], ["ROW_SPLITS"])
    blank = context.dense(default, node)
    if (
        not is_followed
        or not isinstance(values, Flat)
        or not _is_ragged(values, partitions[-1])
        or values.cells.lengths is None
        or values.tail
        or len(sizes) != 2
        or sizes[0] != -1
        or blank.rank
    ):
        raise node.refuse("its rows are not followed to where they come from")
    cells, width, one = values.cells, sizes[1], context.builder.one
    matrix = in_grid(context, cells, values.grid, blank)
    if width == -1:
        return matrix

    def emit() -> str:
        more = one("Expand", blank.name, context.shape_name((cells.rows, width)))
        joined = one("Concat", matrix.name, more, axis=1)
        return one("Slice", joined, context.int64(0), context.int64(width), context.int64(1))

    return context.tensor(matrix.dtype, [cells.rows, width], emit, low=matrix.low, high=matrix.high)


@lowers("RaggedTensorToSparse")
def _ragged_to_sparse(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    *splits, values = inputs
    if len(splits) != 1 or not isinstance(values, Flat) or not _is_ragged(values, splits[0]) or values.tail:
        raise node.refuse("its rows are not followed to where they come from")
    cells = values.cells
    assert cells.lengths is not None
    grid = values.grid
    whole = context.tensor(
        grid.dtype, (cells.rows, cells.width), lambda: context.spread(grid, (cells.rows, cells.width))
    )
    return padded_feature(context, whole, cells.lengths)


# ---- counts ---------------------------------------------------------------------------------------------------------


@lowers("DenseBincount", "Bincount")
def _bincount(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """How often each number comes in a row, or whether it does; numbers from `size` on count nowhere."""
    if (lengths := _row_lengths(context, node, inputs)) is not None:
        return lengths
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
            counted = one("Min", counted, context.scalar(1, FLOAT))
        return cast(context, counted, FLOAT, dtype)

    return context.tensor(dtype, [*values.shape[:-1], size], emit)


def _row_lengths(context: Lowering, node: Node, inputs: list[Value]) -> Tensor | None:
    """Row numbers of cells, counted up to the number of rows: how long each row is."""
    rows, size, weights = inputs
    if not (isinstance(rows, Flat) and rows.place == "row" and is_whole(rows.cells)) or node.op != "DenseBincount":
        return None
    if context.dims(size, node, "size") != (rows.cells.rows,) or context.dense(weights, node).shape != (0,):
        return None
    counts = row_counts(context, rows.cells)
    dtype = context.dense(weights, node).dtype
    return context.tensor(
        dtype,
        counts.shape,
        lambda: cast(context, counts.name, INT64, dtype),
        low=0,
        rows_of=(rows.cells, "counts"),
    )


@lowers("RaggedBincount")
def _ragged_bincount(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    splits, values, size_value, weights = inputs
    size = int(context.array(size_value, node, "size").ravel()[0])
    if not isinstance(values, Flat) or not _is_ragged(values, splits) or values.tail:
        raise node.refuse("its rows are not followed to where they come from")
    cells, one = values.cells, context.builder.one
    weight = None
    if isinstance(weights, Flat) and weights.cells.same(cells):
        weight = weights.grid
    elif context.dense(weights, node).shape != (0,):
        raise node.refuse("its weights are not of the same rows")
    dtype = np.dtype(weights.dtype)  # type: ignore[union-attr]
    is_binary, ids = node.flag("binary_output", False), values.grid

    def emit() -> str:
        whole = (cells.rows, cells.width)
        numbers = cast(context, context.spread(ids, whole), ids.dtype, INT64)
        beyond = context.scalar(size, INT64)
        # What counts nowhere goes one column further; a negative number, which TensorFlow refuses, leaves the table.
        # No Min: ONNX Runtime misreads int64 from 2**31 to 2**32 - 1 there.
        places = one("Where", one("Less", numbers, beyond), numbers, beyond)
        if ids.low is None or ids.low < 0:
            is_below = one("Less", numbers, context.scalar(0, INT64))
            places = one("Where", is_below, context.scalar(size + 1, INT64), places)
        if cells.mask is not None:
            places = one("Where", cells.mask.name, places, beyond)
        given = context.spread(weight, whole) if weight is not None and not is_binary else None
        updates = given or one("Expand", context.scalar(1, dtype), context.shape_name(whole))
        base = one("Expand", context.scalar(0, dtype), context.shape_name((cells.rows, size + 1)))
        reduction = "max" if is_binary else "add"
        counted = one("ScatterElements", base, places, updates, axis=1, reduction=reduction)
        return one("Slice", counted, context.int64(0), context.int64(size), context.int64(1))

    return context.tensor(dtype, [cells.rows, size], emit)


_UNSORTED = {"UnsortedSegmentSum": "add", "UnsortedSegmentMax": "max", "UnsortedSegmentMin": "min"}


@lowers(*_UNSORTED, "UnsortedSegmentProd")
def _unsorted_segment(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """One row for each segment; what has a negative number is in none. TensorFlow reduces ragged rows by it."""
    data, ids = (context.dense(one, node) for one in inputs[:2])
    (count,) = context.dims(inputs[2], node, "number of segments")
    dtype, one = data.dtype, context.builder.one
    if ids.rank != 1 or dtype.kind not in "fi":
        raise node.refuse("its segments are no vector, or it computes with another type")
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    blank = {"UnsortedSegmentMax": limits.min, "UnsortedSegmentMin": limits.max, "UnsortedSegmentProd": 1}
    reduction = _UNSORTED.get(node.op, "mul")

    def emit() -> str:
        number, rows = cast(context, ids.name, ids.dtype, INT64), context.dim_name(count)
        last = one("Squeeze", rows, context.int64(0))
        places = one("Where", one("Less", number, context.scalar(0, INT64)), last, number)
        # A row more takes what is in no segment; a number beyond it, which TensorFlow refuses, leaves the table.
        beyond = one("GreaterOrEqual", number, last)
        places = one("Where", beyond, one("Add", last, context.scalar(1, INT64)), places)
        shape = one("Add", rows, context.int64(1))
        if data.rank > 1:
            shape = one("Concat", shape, context.shape_name(data.shape[1:]), axis=0)
        base = one("Expand", context.scalar(blank.get(node.op, 0), dtype), shape)
        made = one("ScatterND", base, one("Unsqueeze", places, context.int64(1)), data.name, reduction=reduction)
        return one("Slice", made, context.int64(0), rows, context.int64(0))

    return context.tensor(dtype, [count, *data.shape[1:]], emit)


# ---- words and characters -------------------------------------------------------------------------------------------


@lowers("StringNGrams")
def _ngrams(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    words, splits = inputs
    if not isinstance(words, Flat) or not _is_ragged(words, splits):
        raise node.refuse("its rows are not followed to where they come from")
    if node.integer("pad_width", 0) != 0 or node.flag("preserve_short_sequences", False):
        raise node.refuse("it pads rows, or keeps short ones")
    grid, counts = packed(context, words)
    separator, widths = node.text("separator", ""), node.integers("ngram_widths")

    def emit(index: int) -> str:
        inputs = [grid.name, counts.name]
        made = context.builder.node("WordGrams", inputs, outputs=2, domain=DOMAIN, separator=separator, widths=widths)
        return made[index]

    rows = words.cells.rows
    grams = context.tensor(_STRING, [rows, None], lambda: emit(0))
    lengths = context.tensor(INT64, [rows], lambda: emit(1), low=0)
    made = padded_feature(context, grams, lengths)[1]
    assert isinstance(made, Flat)
    return [made, splits_of(context, made.cells)]


@lowers("UnicodeDecode")
def _decode_characters(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Row splits, and the numbers of the characters."""
    texts = context.dense(inputs[0], node)
    is_plain = (
        node.text("input_encoding", "") == "UTF-8"
        and node.text("errors", "replace") == "replace"
        and node.integer("replacement_char", 0xFFFD) == 0xFFFD
        and not node.flag("replace_control_characters", False)
    )
    if not is_plain or texts.rank != 1:
        raise node.refuse("it decodes another encoding than UTF-8, or treats what is no character in another way")

    def emit(index: int) -> str:
        return context.builder.node("DecodeCharacters", [texts.name], outputs=2, domain=DOMAIN)[index]

    rows = texts.shape[0]
    codes = context.tensor(_INT32, [rows, None], lambda: emit(0), low=0)
    lengths = context.tensor(INT64, [rows], lambda: emit(1), low=0)
    made = padded_feature(context, codes, lengths)[1]
    assert isinstance(made, Flat)
    return [splits_of(context, made.cells), made]


@lowers("UnicodeEncode")
def _encode_characters(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Each character as a text; its splits count 0, 1, 2, …"""
    splits = inputs[1]
    is_plain = (
        node.text("output_encoding", "") == "UTF-8"
        and node.text("errors", "replace") == "replace"
        and node.integer("replacement_char", 0xFFFD) == 0xFFFD
    )
    if not is_plain or not isinstance(splits, Tensor) or not splits.row_numbers:
        raise node.refuse("it joins characters, or writes another encoding than UTF-8")

    def emit(codes: str) -> str:
        return context.builder.node("EncodeCharacters", [codes], domain=DOMAIN)[0]

    return elementwise(context, node, inputs[:1], _STRING, emit)
