"""Dataset: columns in memory, worked on as whole columns with numpy, read as batches.

Owns creation (arrays, CSV), shuffle, repeat, batch and map. Knows nothing of feature columns, estimators or tensors.
Names and order of batches are tf.data's; where a rule differs the method says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.csv_file import read_columns

# An element is an array, a dict of elements or a tuple of elements: typically ({"age": …, "class": …}, labels).
Element = Any
# One pass over the data: whole columns before batch(), an iterator of batches behind it.
Pass = Any


class Dataset:
    """Rows of columns, or batches of them. Each method returns a new Dataset; the columns themselves are shared.

    Iterating gives batches (before `batch`, single rows): numbers in the dtype they came in, text as object arrays of
    str. A batch may be a view of the data: do not write into it.
    """

    def __init__(
        self, passes: Callable[[], Iterator[Pass]], *, is_batched: bool, no_rows: Callable[[], Element]
    ) -> None:
        self._passes = passes
        self._is_batched = is_batched
        self.no_rows = no_rows
        """Makes a batch without rows, which has the columns and dtypes of all others."""

    @classmethod
    def from_tensor_slices(cls, tensors: Element) -> Dataset:
        """The rows of arrays: `(features, labels)`, a dict of columns, or one array.

        Args:
            tensors: numpy arrays, torch tensors, pandas Series or lists, all with the same first dimension. Lists of
                floats become float32; bytes are decoded as UTF-8, once.

        Raises:
            ValueError: lengths that differ, a scalar, no column at all, or text that is not UTF-8.
        """
        columns = _map_leaves(as_array, tensors)
        _check_lengths(columns)
        return cls(lambda: iter((columns,)), is_batched=False, no_rows=lambda: _rows(columns, 0, 0))

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        label_name: str | None = None,
        select_columns: Sequence[str] | None = None,
        column_defaults: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """The rows of a CSV file with a header (UTF-8; fields may be quoted): `(features, labels)`, or features alone.

        A column is int64 if all its fields are integers, else float32 if all are numbers, else text. An empty field is
        '' in a text column; in a column of numbers it takes the column's default.

        Args:
            path: the file.
            label_name: the column that becomes the labels.
            select_columns: the columns to read, labels aside; by default all.
            column_defaults: column name -> the value of an empty field. Its type is the column's: 0.0 makes it float32,
                0 int64, '' text.

        Raises:
            FileNotFoundError: no such file.
            ValueError: an unknown column, a row with too few or too many fields, an empty field without a default, a
                field that does not fit its column's default; the line is named. Nothing is returned of such a file.
        """
        table = read_columns(Path(path), select_columns, label_name, column_defaults or {})
        if label_name is None:
            return cls.from_tensor_slices(table)
        labels = table.pop(label_name)
        return cls.from_tensor_slices((table, labels))

    def shuffle(
        self, buffer_size: int | None = None, seed: int | None = None, reshuffle_each_iteration: bool = True
    ) -> Dataset:
        """The rows of each pass in random order.

        Before `batch` every order of all rows is equally likely, whatever `buffer_size` says (tf.data only mixes within
        the buffer), and passes are not mixed with each other. Behind `batch` whole batches are mixed in a buffer, as in
        tf.data.

        Args:
            buffer_size: batches held at a time; needed behind `batch`.
            seed: makes the order the same in every run; by default it comes from torch's generator.
            reshuffle_each_iteration: another order in every pass.

        Raises:
            ValueError: a buffer_size below 1, or none behind `batch`.
        """
        if buffer_size is not None and buffer_size < 1:
            raise ValueError(f"buffer_size must be greater than zero; got {buffer_size}. Leave it out to mix all rows.")
        if self._is_batched and buffer_size is None:
            raise ValueError("shuffle behind batch holds whole batches: give buffer_size, or shuffle before batch.")
        root = int(torch.randint(2**62, ())) if seed is None else seed
        numbers = itertools.count()

        def passes() -> Iterator[Pass]:
            for columns in self._passes():
                random = np.random.default_rng((root, next(numbers) if reshuffle_each_iteration else 0))
                if self._is_batched:
                    yield _mixed(columns, buffer_size or 1, random)
                else:
                    order = random.permutation(_length(columns))
                    yield _taken(columns, order)

        return Dataset(passes, is_batched=self._is_batched, no_rows=self.no_rows)

    def repeat(self, count: int | None = None) -> Dataset:
        """`count` passes one behind the other; None or -1 for no end. A data set without rows ends at once."""
        rounds = itertools.repeat(None) if count is None or count < 0 else [None] * count

        def passes() -> Iterator[Pass]:
            for _ in rounds:
                is_empty = True
                for one in self._passes():
                    has_rows, whole = _peek(one, self._is_batched)
                    is_empty = is_empty and not has_rows
                    yield whole
                if is_empty:
                    return

        return Dataset(passes, is_batched=self._is_batched, no_rows=self.no_rows)

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Groups of `batch_size` rows; behind `repeat` a group may hold the end of one pass and the start of the next.

        Args:
            batch_size: rows of a batch.
            drop_remainder: leave out a last batch that is smaller.

        Raises:
            ValueError: a size below 1, or a data set that is batched already.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be greater than zero; got {batch_size}.")
        if self._is_batched:
            raise ValueError("This data set is batched already; call batch once, behind shuffle and repeat.")
        return Dataset(
            lambda: iter((_batches(self._passes(), batch_size, drop_remainder),)), is_batched=True, no_rows=self.no_rows
        )

    def take(self, count: int) -> Dataset:
        """The first `count` rows, or batches behind `batch`; -1 for all."""
        return self._between(0, None if count < 0 else count)

    def skip(self, count: int) -> Dataset:
        """All but the first `count` rows, or batches behind `batch`; -1 leaves nothing, as in tf.data."""
        return self._between(count, None) if count >= 0 else self._between(0, 0)

    def _between(self, start: int, stop: int | None) -> Dataset:
        def passes() -> Iterator[Pass]:
            if self._is_batched:
                yield itertools.islice(itertools.chain.from_iterable(self._passes()), start, stop)
                return
            seen = 0
            for columns in self._passes():
                first, last = max(start - seen, 0), None if stop is None else stop - seen
                yield _rows(columns, first, last)
                seen += _length(columns)
                if stop is not None and seen >= stop:
                    return

        return Dataset(passes, is_batched=self._is_batched, no_rows=self.no_rows)

    def map(self, function: Callable[..., Element]) -> Dataset:
        """`function` applied to whole columns before `batch`, and to every batch behind it.

        tf.data calls it with one row before `batch`; here it sees all rows at once (numpy arrays [rows, …]) and must
        keep their number. For elements `(features, labels)` it is called with two arguments.

        Raises:
            ValueError: a result with another number of rows, or one that is not arrays.
        """

        def apply(element: Element) -> Element:
            mapped = function(*element) if isinstance(element, tuple) else function(element)
            return _checked_map(_map_leaves(as_array, mapped), element)

        def passes() -> Iterator[Pass]:
            for one in self._passes():
                yield map(apply, one) if self._is_batched else apply(one)

        return Dataset(passes, is_batched=self._is_batched, no_rows=lambda: apply(self.no_rows()))

    def __iter__(self) -> Iterator[Element]:
        for one in self._passes():
            yield from one if self._is_batched else _single_rows(one)


def _map_leaves(function: Callable[[Any, str], Any], element: Element, name: str = "tensors") -> Element:
    """`function(leaf, its name)` for every array."""
    if isinstance(element, Mapping):
        return {key: _map_leaves(function, value, str(key)) for key, value in element.items()}
    if isinstance(element, tuple):
        names = ("features", "labels") if len(element) == 2 else map(str, range(len(element)))
        return tuple(_map_leaves(function, value, each) for value, each in zip(element, names, strict=True))
    return function(element, name)


def _leaves(element: Element) -> list[tuple[str, Array]]:
    found: list[tuple[str, Array]] = []
    _map_leaves(lambda array, name: found.append((name, array)), element)
    return found


def _length(element: Element) -> int:
    return len(_leaves(element)[0][1])


def _peek(one: Pass, is_batched: bool) -> tuple[bool, Pass]:
    """Whether a pass holds anything, and the pass, whole."""
    if not is_batched:
        return _length(one) > 0, one
    first = list(itertools.islice(one, 1))
    return bool(first), itertools.chain(first, one)


def _check_lengths(columns: Element) -> None:
    leaves = _leaves(columns)
    if not leaves:
        raise ValueError("A data set needs at least one column; the mapping given is empty.")
    scalars = [name for name, array in leaves if array.ndim == 0]
    if scalars:
        raise ValueError(f"Column {scalars[0]} is a single value; give one entry for each row.")
    lengths = {name: len(array) for name, array in leaves}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Columns must have the same number of rows; got {lengths}.")


def _checked_map(mapped: Element, before: Element) -> Element:
    _check_lengths(mapped)
    if _length(mapped) != _length(before):
        raise ValueError(
            f"The function given to map turned {_length(before)} rows into {_length(mapped)}; it is called with whole "
            "columns and must keep their number of rows."
        )
    return mapped


def _single_rows(columns: Element) -> Iterator[Element]:
    for row in range(_length(columns)):
        yield _taken(columns, row)


def _batches(passes: Iterator[Element], size: int, drop_remainder: bool) -> Iterator[Element]:
    rest: Element = None
    for columns in passes:
        start = 0
        if rest is not None:
            start = size - _length(rest)
            rest = _joined(rest, _rows(columns, 0, start))
            if _length(rest) < size:
                continue
            yield rest
        full = start + (_length(columns) - start) // size * size
        for first in range(start, full, size):
            yield _rows(columns, first, first + size)
        rest = _rows(columns, full, None) if full < _length(columns) else None
    if rest is not None and not drop_remainder:
        yield rest


def _rows(columns: Element, start: int, stop: int | None) -> Element:
    return _taken(columns, slice(start, stop))


def _taken(columns: Element, rows: Any) -> Element:
    """`rows` (an index, a slice or an order) of every column. Runs for every batch, hence without _map_leaves."""
    if isinstance(columns, np.ndarray):
        return columns[rows]
    if isinstance(columns, dict):
        return {key: _taken(value, rows) for key, value in columns.items()}
    return tuple(_taken(value, rows) for value in columns)


def _joined(left: Element, right: Element) -> Element:
    arrays = iter([np.concatenate([a, b]) for (_, a), (_, b) in zip(_leaves(left), _leaves(right), strict=True)])
    return _map_leaves(lambda _, __: next(arrays), left)


def _mixed(batches: Iterator[Element], buffer_size: int, random: np.random.Generator) -> Iterator[Element]:
    held = list(itertools.islice(batches, buffer_size))
    for batch in batches:
        place = int(random.integers(len(held)))
        yield held[place]
        held[place] = batch
    for place in random.permutation(len(held)):
        yield held[place]
