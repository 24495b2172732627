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
from estimator_serving.wire import ragged
from estimator_serving.wire.dtypes import as_dtype
from estimator_serving.wire.ragged import RaggedBytes

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
            rest = joined([rest, taken(columns, slice(start))])
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
        if isinstance(values[0], bytes):  # numpy's own text ends at the last byte that is not 0
            given = np.array(values, object)
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


_ROWS = (np.ndarray, RaggedBytes)


def taken(columns: Element, rows: Any) -> Element:
    """`rows` (an index, a slice or an order) of every column; a slice gives views of the columns.

    It runs for every batch, so it does without map_leaves, and takes the arrays of a dict without a call.
    """
    if isinstance(columns, dict):
        return {key: value[rows] if type(value) is np.ndarray else taken(value, rows) for key, value in columns.items()}
    if isinstance(columns, _ROWS):
        return columns[rows]
    return tuple(taken(value, rows) for value in columns)


def joined(elements: list[Element]) -> Element:
    """The rows of all elements, which have one structure. Rows of lists are padded to the longest, as in a batch."""
    columns = [[array for _, array in _leaves(element)] for element in elements]
    whole = iter([_concatenated(list(parts)) for parts in zip(*columns, strict=True)])
    return map_leaves(lambda _, __: next(whole), elements[0])


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], RaggedBytes):
        return RaggedBytes.joined(parts)
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    width = np.max([part.shape[1:] for part in parts], axis=0)
    return np.concatenate([padded(part, width, _ABSENT[part.dtype.kind]) for part in parts])


# What stands for "no value" in a row that is padded; columns drop '' and -1.
_ABSENT = {"O": "", "i": -1, "u": 0, "f": 0.0, "b": False}


def padded(array: Array, shape: Any, value: Any) -> Array:
    """The array [rows, …] with its other axes extended to `shape` by `value`. Raises ValueError if it is longer."""
    if len(shape) != array.ndim - 1 or any(wide > width for wide, width in zip(array.shape[1:], shape, strict=True)):
        raise ValueError(f"A row of shape {list(array.shape[1:])} cannot be padded to {list(map(int, shape))}.")
    whole = np.full((len(array), *shape), value, array.dtype)
    whole[tuple(map(slice, array.shape))] = array
    return whole


def padded_stack(rows: list[Element], shapes: Any, values: Any) -> Element:
    """Rows of different shapes -> a batch, each row padded to its shape in `shapes`, or to the largest."""
    first = rows[0]
    if isinstance(first, Mapping | tuple):
        keys = list(first) if isinstance(first, Mapping) else list(range(len(first)))
        nested = isinstance(values, Mapping | tuple)
        parts = {
            key: padded_stack([row[key] for row in rows], shapes and shapes[key], values[key] if nested else values)
            for key in keys
        }
        return parts if isinstance(first, Mapping) else tuple(parts.values())
    arrays = [as_array(row, "rows") for row in rows]
    if len({array.ndim for array in arrays}) > 1:
        raise ValueError("All elements in a batch must have the same rank when padding; yield rows of one rank.")
    largest = np.max([array.shape for array in arrays], axis=0).tolist() if arrays[0].ndim else []
    wanted = [wide if one in (None, -1) else one for one, wide in zip(shapes or largest, largest, strict=True)]
    value = {"O": "", "b": False}.get(arrays[0].dtype.kind, 0) if values is None else values
    return np.concatenate([padded(array[None], wanted, value) for array in arrays])


def in_turns(streams: Iterable[Iterator[Element]], cycle_length: int, block_length: int) -> Iterator[Element]:
    """`block_length` rows of each of `cycle_length` streams in turns; a stream that ends gives its place to the next.

    As in tf.data, a place is left out in the turn in which its stream ends.
    """
    waiting = iter(streams)
    places: list[Iterator[Element] | None] = [None] * cycle_length
    has_more = True
    while has_more or any(place is not None for place in places):
        for place, stream in enumerate(places):
            if stream is None and has_more:
                stream = places[place] = next(waiting, None)
                has_more = stream is not None
            if stream is not None:
                count = 0
                for row in itertools.islice(stream, block_length):
                    count += 1
                    yield row
                if count < block_length:
                    places[place] = None


def mixed(rows: Iterator[Element], buffer_size: int, random: np.random.Generator) -> Iterator[Element]:
    """The rows, or batches, in an order that a buffer of `buffer_size` makes random."""
    held = list(itertools.islice(rows, buffer_size))
    # Numbers are drawn many at a time, because a single one costs more than the rest.
    draws = iter(lambda: random.integers(len(held), size=_DRAWS).tolist(), None)
    for row, place in zip(rows, itertools.chain.from_iterable(draws), strict=False):
        yield held[place]
        held[place] = row
    for place in random.permutation(len(held)):
        yield held[place]


_DRAWS = 1024


def mixed_blocks(blocks: Iterator[Element], buffer_size: int, random: np.random.Generator) -> Iterator[Element]:
    """The rows of all blocks of columns, in an order that a buffer of `buffer_size` rows makes random."""
    first = next(blocks, None)
    if first is None:
        return
    blocks = itertools.chain([first], blocks)
    if isinstance(first, RaggedBytes):
        yield from ragged.mixed(blocks, buffer_size, int(random.integers(2**63)))
        return
    held: list[Element] = []
    for block in blocks:
        held.append(block)
        # A quarter of the buffer at least leaves it at a time, so that its rows are not copied too often.
        surplus = sum(map(length, held)) - buffer_size
        if surplus >= buffer_size // 4 and surplus > 0:
            rows = joined(held)
            order = random.permutation(length(rows))
            yield taken(rows, order[:surplus])
            held = [taken(rows, order[surplus:])]
    rows = joined(held)
    yield taken(rows, random.permutation(length(rows)))
