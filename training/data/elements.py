"""Elements of a data set, and the functions that take, join, stack and group their rows.

An element is an array, a dict of elements or a tuple of elements: typically ({"age": …, "class": …}, labels). Owns its
structure. Does not know where rows come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.wire.dtypes import as_dtype

Element = Any


def map_leaves(function: Callable[[Any, str], Any], element: Element, name: str = "tensors") -> Element:
    """The element with `function(array, its name)` in place of every array."""
    if isinstance(element, Mapping):
        return {key: map_leaves(function, value, str(key)) for key, value in element.items()}
    if isinstance(element, tuple):
        names = ("features", "labels") if len(element) == 2 else map(str, range(len(element)))
        return tuple(map_leaves(function, value, each) for value, each in zip(element, names, strict=True))
    return function(element, name)


def _leaves(element: Element) -> list[tuple[str, Array]]:
    found: list[tuple[str, Array]] = []
    map_leaves(lambda array, name: found.append((name, array)), element)
    return found


def length(element: Element) -> int:
    """How many rows the element has."""
    return len(_leaves(element)[0][1])


def check_lengths(columns: Element) -> None:
    """Raise ValueError unless there are columns, and all have one number of rows."""
    leaves = _leaves(columns)
    if not leaves:
        raise ValueError("A data set needs at least one column; the mapping given is empty.")
    scalars = [name for name, array in leaves if array.ndim == 0]
    if scalars:
        raise ValueError(f"Column {scalars[0]} is a single value; give one entry for each row.")
    lengths = {name: len(array) for name, array in leaves}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Columns must have the same number of rows; got {lengths}.")


def batches_of(passes: Iterator[Element], size: int, drop_remainder: bool) -> Iterator[Element]:
    """Batches of `size` rows over the passes, each of which is whole columns. A batch may cross from pass to pass."""
    rest: Element = None
    for columns in passes:
        start = 0
        if rest is not None:
            start = size - length(rest)
            rest = _joined(rest, taken(columns, slice(start)))
            if length(rest) < size:
                continue
            yield rest
        full = start + (length(columns) - start) // size * size
        for first in range(start, full, size):
            yield taken(columns, slice(first, first + size))
        rest = taken(columns, slice(full, None)) if full < length(columns) else None
    if rest is not None and not drop_remainder:
        yield rest


def groups(rows: Iterable[Any], size: int, drop_remainder: bool) -> Iterator[list[Any]]:
    """Lists of `size` rows; the last may be smaller unless `drop_remainder`."""
    rows = iter(rows)
    while group := list(itertools.islice(rows, size)):
        if len(group) == size or not drop_remainder:
            yield group


def stacked(rows: list[Element]) -> Element:
    """Rows -> a batch: arrays [len(rows), …] in the structure of a row.

    Raises ValueError for rows that differ in structure or shape.
    """
    first = rows[0]
    if isinstance(first, Mapping):
        _check_structure(rows, lambda row: isinstance(row, Mapping) and row.keys() == first.keys())
        return {key: _stacked_leaf([row[key] for row in rows], str(key)) for key in first}
    if isinstance(first, tuple):
        _check_structure(rows, lambda row: isinstance(row, tuple) and len(row) == len(first))
        return tuple(stacked(list(parts)) for parts in zip(*rows, strict=True))
    return _stacked_leaf(rows, "rows")


def _stacked_leaf(values: list[Any], name: str) -> Array:
    try:
        if isinstance(values[0], torch.Tensor):
            return as_array(torch.stack(values), name)
        # A list of typed values would lose its dtype to the rule for Python's floats.
        given = np.asarray(values) if isinstance(values[0], np.ndarray | np.generic) else values
    except (RuntimeError, TypeError, ValueError):
        shapes = sorted({f"{type(value).__name__} {list(np.shape(value))}" for value in values})
        raise ValueError(
            f"Feature {name} has rows that make no batch: {', '.join(shapes)}; yield rows of one kind and shape, "
            "padded to one length, text with '' and ids with -1."
        ) from None
    return as_array(given, name)


def _check_structure(rows: list[Element], fits: Callable[[Element], bool]) -> None:
    for row in rows:
        if not fits(row):
            raise ValueError(
                f"One row has the parts {_parts(rows[0])}, another {_parts(row)}; yield rows of one structure."
            )


def _parts(row: Element) -> str:
    if isinstance(row, Mapping):
        return f"{{{', '.join(map(str, row))}}}"
    return f"a tuple of {len(row)}" if isinstance(row, tuple) else type(row).__name__


def cast(element: Element, types: Element) -> Element:
    """The row with its values in the dtypes of `types`. Raises ValueError if their structures differ (TF's text)."""
    if isinstance(types, Mapping):
        _check_yielded(isinstance(element, Mapping) and element.keys() == types.keys(), element, types)
        return {key: cast(element[key], each) for key, each in types.items()}
    if isinstance(types, tuple):
        _check_yielded(isinstance(element, tuple) and len(element) == len(types), element, types)
        return tuple(cast(value, each) for value, each in zip(element, types, strict=True))
    dtype = as_dtype(types)
    try:
        return element if dtype.is_string else np.asarray(element, dtype.numpy)
    except (TypeError, ValueError):
        raise ValueError(
            "`generator` yielded an element that could not be converted to the expected type. The expected type was "
            f"{types}, but the yielded element was {element!r}. Yield numbers there, or give another output_types."
        ) from None


def _check_yielded(fits: bool, element: Element, types: Element) -> None:
    if not fits:
        raise ValueError(
            "`generator` yielded an element that did not match the expected structure. The expected structure was "
            f"{types}, but the yielded element was {element!r}. Yield dicts and tuples where output_types has them."
        )


def taken(columns: Element, rows: Any) -> Element:
    """`rows` (an index, a slice or an order) of every column; a slice gives views of the columns.

    It runs for every batch, so it does without map_leaves.
    """
    if isinstance(columns, np.ndarray):
        return columns[rows]
    if isinstance(columns, dict):
        return {key: taken(value, rows) for key, value in columns.items()}
    return tuple(taken(value, rows) for value in columns)


def _joined(left: Element, right: Element) -> Element:
    arrays = iter([np.concatenate([a, b]) for (_, a), (_, b) in zip(_leaves(left), _leaves(right), strict=True)])
    return map_leaves(lambda _, __: next(arrays), left)


def mixed(batches: Iterator[Element], buffer_size: int, random: np.random.Generator) -> Iterator[Element]:
    """The batches in an order that a buffer of `buffer_size` makes random."""
    held = list(itertools.islice(batches, buffer_size))
    for batch in batches:
        place = int(random.integers(len(held)))
        yield held[place]
        held[place] = batch
    for place in random.permutation(len(held)):
        yield held[place]
