"""What a TensorFlow tensor is while its graph is lowered: a dense ONNX value, or entries of a grid that stay symbolic.

Owns the algebra of sizes and of sparse triples. A sparse feature of a batch is held as a grid [rows, width] of padded
values and a mask. TensorFlow's three tensors (indices, values, dense shape) are views of the grid; they cost nothing
until an op asks for them in full. Knows no op and emits no node: a value that is computed late carries a function that
does.

Words: a `Tensor` is dense. `Cells` are the kept cells of a grid in row order; a `Flat` has one entry for each of them,
`Positions` say where each stands among others, `Coordinates` are the index columns of a sparse tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


# ---- sizes ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Symbol:
    """A size known only when the graph runs.

    `emit` gives the ONNX value, int64 [1], that holds it; `cells` are those it counts, where it counts some.
    """

    emit: Callable[[], str]
    cells: Cells | None = None


@dataclass(frozen=True)
class Product:
    """A positive factor times one or more symbols, these in the order of their identities."""

    factor: int
    symbols: tuple[Symbol, ...]


Dim: TypeAlias = int | Symbol | Product
"""A size: a number, a symbol, or a product of them."""


def multiply(dims: Iterable[Dim]) -> Dim:
    """The product of sizes, in a form that is equal for equal factors."""
    factor, symbols = 1, list[Symbol]()
    for dim in dims:
        if isinstance(dim, int):
            factor *= dim
        elif isinstance(dim, Symbol):
            symbols.append(dim)
        else:
            factor *= dim.factor
            symbols.extend(dim.symbols)
    if factor == 0 or not symbols:
        return factor
    if factor == 1 and len(symbols) == 1:
        return symbols[0]
    return Product(factor, tuple(sorted(symbols, key=id)))


def divide(dividend: Dim, divisor: Dim) -> Dim | None:
    """The quotient of two sizes where it follows from their factors, else None."""
    factor, symbols = _parts(dividend)
    by, taken = _parts(divisor)
    if by == 0 or factor % by or taken - symbols:
        return None
    return multiply([factor // by, *(symbols - taken).elements()])


def _parts(dim: Dim) -> tuple[int, Counter[Symbol]]:
    if isinstance(dim, int):
        return dim, Counter()
    return (1, Counter([dim])) if isinstance(dim, Symbol) else (dim.factor, Counter(dim.symbols))


Shape: TypeAlias = tuple[Dim, ...]


def known(shape: Shape) -> tuple[int, ...] | None:
    """A shape of numbers alone, None where a size is open."""
    return tuple(dim for dim in shape if isinstance(dim, int)) if all(isinstance(dim, int) for dim in shape) else None


def numbers_of(shape: Shape) -> tuple[int, ...]:
    """A shape that is known to have no open size."""
    numbers = known(shape)
    assert numbers is not None
    return numbers


# ---- dense ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Tensor:
    """A dense tensor.

    Attributes:
        dtype: of its elements; object for strings.
        shape: its sizes; the rank is always known.
        emit: gives the ONNX value; called once, when something needs it.
        constant: its elements, where they are known.
        sizes: for integers of rank 0 or 1 whose elements are sizes, those.
        low, high: bounds of every element, where they are known.
        small: a tensor that is this one after broadcasting to `shape`.
        implies: for booleans, (tensor, low): where this is true, that tensor's element is at least `low`.
        otherwise: for booleans, (tensor, low, high): where this is false, that tensor's element is within the bounds.
        row_numbers: whether element [i, …] is i.
        row_flags: flags [rows] that this one repeats along its other axes.
        looked_up: (table, ids): what Gather takes from a table along its first axis.
        turned: gives the ONNX value with the first two axes exchanged, where that costs nothing more.
        mended: (flags, tensor): equal to that tensor but in the rows whose flag [rows] is true.
        zero_in: flags [rows] of rows in which every element is zero.
        rows_of: (cells, what): "counts", how many cells each row keeps; "ends", where rows end among all cells; or
            "splits", the same behind a 0.
        limits: ("Maximum" or "Minimum", operands) that it is the result of.
    """

    dtype: np.dtype[Any]
    shape: Shape
    emit: Callable[[], str]
    constant: Array | None = None
    sizes: tuple[Dim, ...] | None = None
    low: int | None = None
    high: int | None = None
    small: Tensor | None = None
    implies: tuple[tuple[Tensor, int], ...] = ()
    otherwise: tuple[tuple[Tensor, int | None, int | None], ...] = ()
    row_numbers: bool = False
    row_flags: Tensor | None = None
    looked_up: tuple[Tensor, Tensor] | None = None
    turned: Callable[[], str] | None = None
    mended: tuple[Tensor, Tensor] | None = None
    zero_in: Tensor | None = None
    rows_of: tuple[Cells, str] | None = None
    limits: tuple[str, tuple[Value, ...]] | None = None
    _name: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The ONNX value that holds it."""
        if self._name is None:
            self._name = self.emit()
        return self._name

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_string(self) -> bool:
        return self.dtype.kind == "O"


# ---- sparse ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Cells:
    """The kept cells of a grid, row by row.

    Attributes:
        rows, width: sizes of the grid.
        mask: bool [rows, width] of the cells that are kept; None where all are.
        lengths: int64 [rows], where every row keeps its first cells alone; else None.
        count: how many cells there are.
        empty: after empty rows were filled: bool [rows], the rows whose only entry is the filled one. Entries of those
            rows are a Flat's `filler`, and stand in no cell of the grid.
        base: where empty rows were filled, the cells before.
        bounds: tensors [rows, width] whose elements in the kept cells are at least a number.
        distinct: the cells whose distinct values these stand for. Duplicates are left in, so only what is taken from
            these by Positions is defined.
        part: (numbers, index): of other cells those whose number is `index`.
        is_loose: whether TensorFlow has the cells of a row in another order, sorted by an index that is no column.
    """

    rows: Dim
    width: Dim
    mask: Tensor | None
    count: Dim
    lengths: Tensor | None = None
    empty: Tensor | None = None
    base: Cells | None = None
    bounds: Mapping[Tensor, int] = field(default_factory=dict)
    distinct: Cells | None = None
    part: tuple[Flat, int] | None = None
    is_loose: bool = False

    def same(self, other: Cells) -> bool:
        """Whether both list the same cells in the same order."""
        if self is other:
            return True
        if self.distinct or other.distinct or self.empty is not other.empty or self.is_loose != other.is_loose:
            return False
        return (self.rows, self.width) == (other.rows, other.width) and self.mask is other.mask


@dataclass(eq=False)
class Flat:
    """A tensor [n, *tail] with an entry for each of some cells.

    Attributes:
        cells: which.
        grid: the entries in their cells, [rows, width, *tail] or of sizes that broadcast to it. What stands in other
            cells means nothing.
        filler: where empty rows were filled, what stands there: [*tail], or of sizes that broadcast to it.
        place: "row" or "column" where the entries are the numbers of the cells' rows or columns.
    """

    cells: Cells
    grid: Tensor
    filler: Tensor | None = None
    place: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.grid.dtype

    @property
    def tail(self) -> Shape:
        return self.grid.shape[2:]

    @property
    def shape(self) -> Shape:
        return (self.cells.count, *self.tail)


@dataclass(eq=False)
class Positions:
    """For each of `cells`, its position among `among`: int64 [n], or [n, 1] where `is_column`."""

    cells: Cells
    among: Cells
    is_column: bool = False
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.int64))

    @property
    def shape(self) -> Shape:
        return (self.cells.count, 1) if self.is_column else (self.cells.count,)


@dataclass(eq=False)
class Coordinates:
    """The index columns of cells: [n, columns], or [columns, n] where `is_transposed`."""

    columns: tuple[Flat, ...]
    is_transposed: bool = False

    @property
    def cells(self) -> Cells:
        return self.columns[0].cells

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.columns[0].dtype

    @property
    def shape(self) -> Shape:
        shape = (self.cells.count, len(self.columns))
        return shape[::-1] if self.is_transposed else shape


# ---- what is no tensor ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handle:
    """A resource or a ref: the node that made it."""

    node: str


@dataclass(frozen=True)
class TensorList:
    """A list of tensors whose length is known: a TensorList, or a TensorArray. None stands for one never written."""

    items: tuple[Tensor | None, ...]
    dtype: np.dtype[Any]
    shape: Shape | None


@dataclass(frozen=True)
class StackedList:
    """A list whose length only the graph knows: its items one after the other, [length, …]. None where none was ever
    written."""

    length: Dim
    items: Tensor | None
    dtype: np.dtype[Any]


Value: TypeAlias = Tensor | Flat | Positions | Coordinates | Handle | TensorList | StackedList
