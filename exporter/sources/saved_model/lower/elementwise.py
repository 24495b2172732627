"""How an op that works element by element reaches dense tensors, constants and symbolic sparse values alike.

Owns broadcasting, folding of constants and the step from a Flat to its grid. Knows no op.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from estimator_serving.exporter.sources.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lowering import Lowering
from estimator_serving.exporter.sources.saved_model.values import (
    Cells,
    Coordinates,
    Dim,
    Flat,
    Positions,
    Shape,
    Tensor,
    Value,
)
from estimator_serving.ops import DOMAIN

Array = npt.NDArray[Any]
Emit: TypeAlias = Callable[..., str]
Fold: TypeAlias = Callable[..., Any]

# What ORT has no arithmetic for is computed in a wider type. Of half types TensorFlow rounds after each op, too.
_WIDER = {
    np.dtype(name): np.dtype(wide)
    for wide, names in {
        "int32": ("int8", "int16", "uint8", "uint16"),
        "int64": ("uint32",),
        "float32": ("float16",),
    }.items()
    for name in names
}


def wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which ONNX Runtime computes for this one."""
    return np.dtype(np.float32) if dtype.name == "bfloat16" else _WIDER.get(dtype, dtype)


def cast(context: Lowering, name: str, source: np.dtype[Any], target: np.dtype[Any]) -> str:
    """A value in another type."""
    return name if source == target else context.builder.one("Cast", name, to=onnx_type(target))


def broadcast(context: Lowering, shapes: Sequence[Shape]) -> list[Dim | None]:
    """The shape of values of these shapes together; None for a size that only the graph can tell."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    together: list[Dim | None] = []
    for dims in zip(*padded, strict=True):
        others = {dim for dim in dims if dim != 1}
        if len(others) < 2:
            together.append(others.pop() if others else 1)
            continue
        numbers = [dim for dim in others if isinstance(dim, int)]
        if len(numbers) > 1:
            raise ValueError(f"shapes that do not broadcast: {numbers}")
        # Beside a number other than 1 an open size can only be the same number, or 1.
        together.append(numbers[0] if numbers else None)
    return together


def grid_of(value: Value) -> Tensor | None:
    """What the elements of a value are computed in: its grid, or itself."""
    return value.grid if isinstance(value, Flat) else value if isinstance(value, Tensor) else None


def elementwise(
    context: Lowering, node: Node, inputs: Sequence[Value], dtype: np.dtype[Any], emit: Emit, fold: Fold | None = None
) -> Tensor | Flat | Coordinates:
    """An op of element by element.

    Args:
        inputs: its operands.
        dtype: of the result.
        emit: ONNX names of the operands -> that of the result.
        fold: numpy's form of it, for operands that are known.
    """
    if len(inputs) == 1 and isinstance(inputs[0], Coordinates):
        columns = [elementwise(context, node, [one], dtype, emit, fold) for one in inputs[0].columns]
        if all(isinstance(one, Flat) for one in columns):
            return replace(inputs[0], columns=tuple(columns))  # type: ignore[arg-type]
    flats = [one for one in inputs if isinstance(one, Flat)]
    if flats and not any(isinstance(one, Positions | Coordinates) for one in inputs):
        made = _on_grids(context, node, inputs, dtype, emit, fold)
        if made is not None:
            return made
    return apply(context, [context.dense(one, node) for one in inputs], dtype, emit, fold)


def _on_grids(
    context: Lowering, node: Node, inputs: Sequence[Value], dtype: np.dtype[Any], emit: Emit, fold: Fold | None
) -> Flat | None:
    aligned = align(context, node, [one for one in inputs if isinstance(one, Flat)])
    if aligned is None:
        return None
    cells, flats = aligned[0].cells, iter(aligned)
    tail = len(aligned[0].tail)
    operands = [next(flats) if isinstance(one, Flat) else one for one in inputs]
    grids, fillers = list[Tensor](), list[Tensor]()
    for one in operands:
        if isinstance(one, Flat) and len(one.tail) == tail:
            grids.append(one.grid)
            fillers += [] if one.filler is None else [one.filler]
        elif isinstance(one, Tensor) and (one.rank <= tail or (one.rank == tail + 1 and one.shape[0] == 1)):
            grids.append(one)
            fillers.append(one)
        else:
            return None
    grid = apply(context, grids, dtype, emit, fold)
    if cells.empty is None:
        return Flat(cells, grid)
    # Numbers of rows have no filler that is one for all.
    return Flat(cells, grid, apply(context, fillers, dtype, emit, fold)) if len(fillers) == len(grids) else None


def align(context: Lowering, node: Node, flats: Sequence[Flat]) -> list[Flat] | None:
    """Flats over the cells of the first one. Weights of the same rows move onto the cells of their ids.

    None where they have nothing to do with each other; then they have to be of equal length, in full.
    """
    # Ids go before weights: these are moved.
    first = next((one for one in flats if one.dtype.kind != "f"), flats[0])
    placed = []
    for one in flats:
        if one.cells.same(first.cells):
            placed.append(Flat(first.cells, one.grid, one.filler, one.place))
            continue
        if one.grid.shape[:2] == (1, 1) and one.filler is None and can_move(one.cells, first.cells):
            # One value for all cells is the same anywhere.
            placed.append(Flat(first.cells, one.grid))
            continue
        moved = move_weights(context, one, first.cells)
        if moved is None:
            return None
        placed.append(moved)
    return placed


def can_move(source: Cells, cells: Cells) -> bool:
    """Whether weights over `source` may belong to ids over `cells`: both are features as they were parsed."""
    are_whole = not any(one.empty or one.distinct or one.part for one in (source, cells))
    return are_whole and source.lengths is not None and cells.lengths is not None


def move_weights(context: Lowering, weights: Flat, cells: Cells) -> Flat | None:
    """Weights over the cells of their ids; the graph fails on a row that has more or fewer of them. None where the two
    have nothing to do with each other."""
    source = weights.cells
    if weights.dtype != np.float32 or weights.tail or not can_move(source, cells):
        return None

    def emit() -> str:
        # Only lengths and width of the ids are read.
        ids = context.builder.one(
            "Expand", context.scalar(0, np.dtype(np.int64)), context.shape_name((cells.rows, cells.width))
        )
        grid = context.spread(weights.grid, (source.rows, source.width))
        assert cells.lengths is not None
        assert source.lengths is not None
        inputs = [ids, cells.lengths.name, grid, source.lengths.name]
        return context.builder.node("AlignWeights", inputs, domain=DOMAIN, key="")[0]

    return Flat(cells, context.tensor(weights.dtype, (cells.rows, cells.width), emit))


def apply(
    context: Lowering, operands: Sequence[Tensor], dtype: np.dtype[Any], emit: Emit, fold: Fold | None = None
) -> Tensor:
    """The op on dense tensors."""
    constants = [one.constant for one in operands]
    if fold is not None and all(one is not None for one in constants):
        with np.errstate(all="ignore"):
            return context.constant(np.asarray(fold(*constants)), dtype)
    shape = broadcast(context, [one.shape for one in operands])
    used = _smallest(context, operands, shape)
    small = None
    if used is None:
        # All are one value for many elements: so is the result.
        used = [one.small or one for one in operands]
        inner = broadcast(context, [one.shape for one in used])
        small_operands = list(used)
        small = context.tensor(dtype, inner, lambda: emit(*(one.name for one in small_operands)))
        full: Shape = tuple(dim for dim in shape if dim is not None)
        result = context.tensor(dtype, shape, lambda: context.spread(small, full))
        result.small = small
        return result
    kept = list(used)
    return context.tensor(dtype, shape, lambda: emit(*(one.name for one in kept)))


def _smallest(context: Lowering, operands: Sequence[Tensor], shape: Sequence[Dim | None]) -> list[Tensor] | None:
    """The operands before broadcasting where that still gives `shape`; None where all of them would be too small."""
    if all(one.small is None for one in operands) or None in shape:
        return list(operands)
    small = [one.small or one for one in operands]
    if broadcast(context, [one.shape for one in small]) == list(shape):
        return small
    if all(one.small is not None or not one.shape for one in operands):
        return None
    return list(operands)


def map_values(context: Lowering, node: Node, value: Value, function: Callable[[Tensor], Tensor]) -> Tensor | Flat:
    """A function of dense tensors that keeps their shape, on a dense value or on the grid of a sparse one."""
    if not isinstance(value, Flat):
        return function(context.dense(value, node))
    return Flat(value.cells, function(value.grid), None if value.filler is None else function(value.filler))
