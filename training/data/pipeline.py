"""Shuffle, repeat, batch, map and their kin: the way of rows to batches.

Rows in memory are worked on as whole columns with numpy; rows of a generator or of a file of records one by one. Owns
those two ways. Does not know where rows come from, feature columns, estimators or tensors. Names and the order of
batches are tf.data's; where a rule differs, the method says so.
"""

from __future__ import annotations

import enum
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
import torch

from estimator_serving.training.arrays import as_array
from estimator_serving.training.data.elements import (
    Element,
    batches_of,
    check_lengths,
    groups,
    in_turns,
    length,
    map_leaves,
    mixed,
    mixed_blocks,
    padded_stack,
    stacked,
    taken,
)
from estimator_serving.training.data.read_ahead import read_ahead
from estimator_serving.wire.ragged import RaggedBytes

# One pass over the data, in one of the units below.
Pass = Any


class Unit(enum.Enum):
    """What one pass consists of."""

    COLUMNS = "columns"
    """One element that holds all rows."""
    ROWS = "rows"
    """An iterator of single rows."""
    BATCHES = "batches"
    """An iterator of batches."""


# As in tf.data: the size is left to the implementation.
AUTOTUNE = -1
_AUTOTUNED_ELEMENTS = 2


class Pipeline:
    """What all data sets can do. Each method returns a new data set; the columns themselves are shared.

    `passes` gives the passes over the data, each in the `unit`. `gather` makes a batch of rows that are not parsed yet.
    `is_streamed`: each of the COLUMNS is only a block of the rows, read when it is needed.
    """

    def __init__(
        self,
        passes: Callable[[], Iterator[Pass]],
        unit: Unit,
        *,
        may_read_ahead: bool = True,
        gather: Callable[[Any], Element] | None = None,
        is_streamed: bool = False,
        no_rows: Callable[[], Element] | None = None,
    ) -> None:
        self._passes = passes
        self._unit = unit
        self._is_whole, self._is_batched = unit is Unit.COLUMNS, unit is Unit.BATCHES
        self._gather = gather
        self._is_streamed = is_streamed
        self.no_rows = no_rows
        """Makes a batch without rows, with the columns and dtypes of the others; None if only reading shows them."""
        self.may_read_ahead = may_read_ahead
        """Whether rows may be read before they are needed. False if a user's code makes them."""

    def _with(self, passes: Callable[[], Iterator[Pass]], unit: Unit | None = None) -> Self:
        return type(self)(
            passes,
            unit or self._unit,
            may_read_ahead=self.may_read_ahead,
            gather=self._gather,
            is_streamed=self._is_streamed,
            no_rows=self.no_rows,
        )

    def shuffle(
        self, buffer_size: int | None = None, seed: int | None = None, reshuffle_each_iteration: bool = True
    ) -> Self:
        """The rows of each pass in random order.

        Before `batch`, every order of rows in memory is equally likely, whatever `buffer_size` says (tf.data only mixes
        within the buffer), and passes are not mixed with each other. Rows of a generator or of files that are read as
        streams, and whole batches behind `batch`, are mixed in a buffer, as in tf.data.

        Args:
            buffer_size: rows or batches held at a time; needed if there is a buffer.
            seed: makes the order the same in every run; by default it comes from torch's generator.
            reshuffle_each_iteration: another order in every pass.

        Raises:
            ValueError: a buffer_size below 1, or none although it is needed.
        """
        if buffer_size is not None and buffer_size < 1:
            raise ValueError(f"buffer_size must be greater than zero; got {buffer_size}. Leave it out to mix all rows.")
        if self._is_batched and buffer_size is None:
            raise ValueError("shuffle behind batch holds whole batches: give buffer_size, or shuffle before batch.")
        if (self._is_streamed or not self._is_whole) and buffer_size is None:
            raise ValueError(
                "These rows are read when they are needed: give shuffle a buffer_size, the rows to mix at a time."
            )
        root = int(torch.randint(2**62, ())) if seed is None else seed
        numbers = itertools.count()

        def passes() -> Iterator[Pass]:
            if self._is_whole and self._is_streamed:
                random = np.random.default_rng((root, next(numbers) if reshuffle_each_iteration else 0))
                yield from mixed_blocks(self._passes(), buffer_size or 1, random)
                return
            for columns in self._passes():
                random = np.random.default_rng((root, next(numbers) if reshuffle_each_iteration else 0))
                if self._is_whole:
                    yield taken(columns, random.permutation(length(columns)))
                else:
                    yield mixed(columns, buffer_size or 1, random)

        return self._with(passes)

    def repeat(self, count: int | None = None) -> Self:
        """`count` passes one after the other; None or -1 for no end. A data set without rows ends at once."""
        rounds = itertools.repeat(None) if count is None or count < 0 else [None] * count

        def passes() -> Iterator[Pass]:
            for _ in rounds:
                is_empty = True
                for one in self._passes():
                    if self._is_whole:
                        is_empty = is_empty and not length(one)
                        yield one
                    else:
                        first = list(itertools.islice(one, 1))
                        is_empty = is_empty and not first
                        yield itertools.chain(first, one)
                if is_empty:
                    return

        return self._with(passes)

    def batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Self:
        """Groups of `batch_size` rows. After `repeat` a group may hold the end of one pass and the start of the next.

        Args:
            batch_size: rows of a batch.
            drop_remainder: leave out a last batch that is smaller.
            num_parallel_calls, deterministic: change nothing.

        Raises:
            ValueError: a size below 1, or a data set that is batched already.
        """
        del num_parallel_calls, deterministic
        if batch_size < 1:
            raise ValueError(f"batch_size must be greater than zero; got {batch_size}.")
        if self._is_batched:
            raise ValueError("This data set is batched already; call batch once, behind shuffle and repeat.")
        whole, gather = self._is_whole, self._gather or (_unframed if self._is_whole else stacked)

        def passes() -> Iterator[Pass]:
            if whole:
                yield map(gather, batches_of(self._passes(), batch_size, drop_remainder))
            else:
                rows = itertools.chain.from_iterable(self._passes())
                yield map(gather, groups(rows, batch_size, drop_remainder))

        return self._with(passes, Unit.BATCHES)

    def take(self, count: int) -> Self:
        """The first `count` rows, or batches behind `batch`; -1 for all."""
        return self._between(0, None if count < 0 else count)

    def skip(self, count: int) -> Self:
        """All but the first `count` rows, or batches behind `batch`; -1 leaves nothing, as in tf.data."""
        return self._between(count, None) if count >= 0 else self._between(0, 0)

    def _between(self, start: int, stop: int | None) -> Self:
        def passes() -> Iterator[Pass]:
            if not self._is_whole:
                yield itertools.islice(itertools.chain.from_iterable(self._passes()), start, stop)
                return
            seen = 0
            for columns in self._passes():
                first, last = max(start - seen, 0), None if stop is None else stop - seen
                yield taken(columns, slice(first, last))
                seen += length(columns)
                if stop is not None and seen >= stop:
                    return

        return self._with(passes)

    def shard(self, num_shards: int, index: int) -> Self:
        """Every `num_shards`-th row (or batch, behind `batch`) from the `index`-th on: the part of one worker.

        Raises:
            ValueError: num_shards below 1, or an index outside 0..num_shards - 1.
        """
        if num_shards < 1:
            raise ValueError(f"num_shards must be >= 1; got {num_shards}.")
        if not 0 <= index < num_shards:
            raise ValueError(f"index must be between 0 and {num_shards - 1}; got {index}.")

        def passes() -> Iterator[Pass]:
            if not self._is_whole:
                yield itertools.islice(itertools.chain.from_iterable(self._passes()), index, None, num_shards)
                return
            first = index
            for columns in self._passes():
                yield taken(columns, slice(first, None, num_shards))
                first = (first - length(columns)) % num_shards

        return self._with(passes)

    def cache(self) -> Self:
        """The same elements, kept in memory from the first complete pass on. Everything before `cache` runs once."""
        kept: list[Pass] | None = None

        def passes() -> Iterator[Pass]:
            nonlocal kept
            if kept is not None:
                yield from kept if self._is_whole else map(iter, kept)
                return
            gathered: list[Pass] = []
            for one in self._passes():
                gathered.append(one if self._is_whole else [])
                yield one if self._is_whole else _noted(one, gathered[-1])
            kept = gathered

        return self._with(passes)

    def prefetch(self, buffer_size: int = AUTOTUNE) -> Self:
        """Make elements in a thread, up to `buffer_size` of them before they are needed; -1 for a good number.

        An error in the thread is raised where its element would have come. Rows in memory have nothing to wait for, so
        `prefetch` before `batch` leaves them as they are.

        Raises:
            ValueError: a buffer_size below -1.
        """
        if buffer_size < AUTOTUNE:
            raise ValueError(f"buffer_size must be -1 or more; got {buffer_size}.")
        if (self._is_whole and not self._is_streamed) or buffer_size == 0:
            return self
        count = _AUTOTUNED_ELEMENTS if buffer_size == AUTOTUNE else buffer_size
        if self._is_whole:
            return self._with(lambda: read_ahead(self._passes(), _AUTOTUNED_ELEMENTS))
        return self._with(lambda: iter((read_ahead(itertools.chain.from_iterable(self._passes()), count),)))

    def filter(self, predicate: Callable[..., Any]) -> Self:
        """The rows for which `predicate` is true; for example

            dataset.filter(lambda features, labels: features["age"] >= 18)

        As in `map`, before `batch` it is called with whole columns, and returns a bool for each row; for rows of a
        generator and behind `batch` it returns one bool, as in tf.data.

        Raises:
            ValueError: the rows are Examples that `batch` has not parsed; when it is read, it returns something else.
        """
        self._check_parsed("filter")

        def keeps(element: Element) -> Any:
            return predicate(*element) if isinstance(element, tuple) else predicate(element)

        def kept_rows(columns: Element) -> Element:
            mask = np.asarray(keeps(_unframed(columns)))
            if mask.dtype != bool or mask.shape != (length(columns),):
                raise ValueError(
                    f"`predicate` must return a bool for each of the {length(columns)} rows it is called with; it "
                    f"returned {mask.dtype} {list(mask.shape)}. Compare columns, and join conditions with & and |."
                )
            return taken(columns, mask)

        def passes() -> Iterator[Pass]:
            for one in self._passes():
                yield kept_rows(one) if self._is_whole else filter(keeps, one)

        return self._with(passes)

    def interleave(
        self,
        map_func: Callable[[Any], Pipeline],
        cycle_length: int | None = None,
        block_length: int = 1,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Self:
        """The rows of the data sets that `map_func` makes of this one's rows, `cycle_length` of them in turns.

        The order is tf.data's. It goes row by row; from_tfrecord(num_parallel_reads=…) reads files in turns faster.

        Args:
            map_func: called with one row, a file's name for example; returns a data set.
            cycle_length: data sets read at a time; by default as many as there are processors.
            block_length: rows of one data set before the next has its turn.
            num_parallel_calls, deterministic: change nothing; the order is always the same.

        Raises:
            ValueError: a length below 1. TypeError, when it is read: `map_func` returns no data set.
        """
        del num_parallel_calls, deterministic
        cycle = (os.cpu_count() or 1) if cycle_length in (None, AUTOTUNE) else cycle_length
        for name, value in (("cycle_length", cycle), ("block_length", block_length)):
            if value is None or value < 1:
                raise ValueError(f"`{name}` must be >= 1; got {value}.")

        def rows_of(row: Element) -> Iterator[Element]:
            made = map_func(*row) if isinstance(row, tuple) else map_func(row)
            if not isinstance(made, Pipeline):
                raise TypeError(f"`map_func` must return a `Dataset` object. Got {type(made).__name__}.")
            return iter(made)

        def rows() -> Iterator[Element]:
            return in_turns(map(rows_of, self), cycle or 1, block_length)

        return type(self)(lambda: iter((rows(),)), Unit.ROWS)

    def flat_map(self, map_func: Callable[[Any], Pipeline]) -> Self:
        """The rows of the data sets that `map_func` makes of this one's rows, one data set after the other."""
        return self.interleave(map_func, cycle_length=1)

    def padded_batch(
        self, batch_size: int, padded_shapes: Any = None, padding_values: Any = None, drop_remainder: bool = False
    ) -> Self:
        """As `batch`, with rows of different shapes padded to one.

        Args:
            batch_size, drop_remainder: as in `batch`.
            padded_shapes: the shape of a row, in the structure of a row, None for as long as the longest of the batch;
                by default every axis is as long as the longest.
            padding_values: what is added, one value or a structure of them; by default 0 and '', as in tf.data. Columns
                drop '' and -1, so give ids of which 0 is one -1.

        Raises:
            ValueError: as `batch`; when it is read, a row that is longer than its padded shape.
        """
        plain = self.batch(batch_size, drop_remainder)

        def passes() -> Iterator[Pass]:
            yield (
                padded_stack(group, padded_shapes, padding_values)
                for group in groups(iter(self), batch_size, drop_remainder)
            )

        return plain._with(passes)

    def apply(self, transformation_func: Callable[[Self], Any]) -> Any:
        """`transformation_func(self)`, for example `dataset.apply(shuffle_and_repeat(1000))`."""
        return transformation_func(self)

    def _check_parsed(self, method: str) -> None:
        if not self._is_batched and self._gather is not None:
            raise ValueError(
                f"Examples are parsed a batch at a time: call {method} behind batch, where it sees the features."
            )

    def map(
        self,
        map_func: Callable[..., Element],
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Self:
        """`map_func` applied to whole columns before `batch`, and to every batch behind it; for example

            dataset.map(lambda features, labels: ({**features, "age": features["age"] / 100}, labels))

        tf.data calls it with one row before `batch`; here it sees all rows at once (numpy arrays [rows, …]) and must
        keep their number. Only rows of a generator come one by one, as in tf.data. For elements `(features, labels)` it
        is called with two arguments. It gets copies: it may write into the arrays and take features out of the dict.
        `num_parallel_calls` and `deterministic` change nothing: `prefetch` makes batches in a thread, in their order.

        Raises:
            ValueError: the function returns None, something that is not arrays, or another number of rows; or
                the rows are Examples of `from_tfrecord` and `batch` has not parsed them yet.
        """
        del num_parallel_calls, deterministic
        self._check_parsed("map")

        def call(element: Element) -> Element:
            own = map_leaves(lambda value, _: value.copy() if isinstance(value, np.ndarray) else value, element)
            made = map_func(*own) if isinstance(own, tuple) else map_func(own)
            if made is None:
                raise ValueError("The function given to map returned None; let it return the features, or a pair.")
            return made

        def apply(element: Element) -> Element:
            mapped = map_leaves(as_array, call(element))
            check_lengths(mapped)
            if length(mapped) != length(element):
                raise ValueError(
                    f"The function given to map turned {length(element)} rows into {length(mapped)}; it is called with "
                    "whole columns and must keep their number of rows."
                )
            return mapped

        def passes() -> Iterator[Pass]:
            for one in self._passes():
                if self._is_whole:
                    yield apply(_unframed(one))
                else:
                    yield map(apply if self._is_batched else call, one)

        made = self._with(passes)
        no_rows = self.no_rows
        made.no_rows = None if no_rows is None or self._unit is Unit.ROWS else lambda: apply(no_rows())
        return made

    def __iter__(self) -> Iterator[Element]:
        gather = self._gather
        for one in self._passes():
            if self._is_whole and gather is None:
                yield from (taken(one, row) for row in range(length(one)))
            elif self._is_whole and gather is not None:
                yield from (taken(gather(one[row : row + 1]), 0) for row in range(length(one)))
            else:
                yield from one


def _unframed(element: Element) -> Element:
    """Records as an object array of bytes; anything else as it is."""
    return element.to_array() if isinstance(element, RaggedBytes) else element


def _noted(elements: Iterable[Element], into: list[Element]) -> Iterator[Element]:
    for element in elements:
        into.append(element)
        yield element
