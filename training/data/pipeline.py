"""Shuffle, repeat, batch and their kin: the way of rows to batches.

Rows in memory are worked on as whole columns with numpy, rows of files that are streamed as blocks of columns, and rows
of a generator one by one. Owns those ways. Does not know where rows come from, feature columns, estimators or tensors.
Names and the order of batches are tf.data's; where a rule differs, the method says so.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
import torch

from estimator_serving.training.data.elements import (
    Element,
    batches_of,
    groups,
    length,
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
    """One element that holds all rows; in a stream, a block of them."""
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
        whole, gather = self._is_whole, self._gather or (unframed if self._is_whole else stacked)

        def passes() -> Iterator[Pass]:
            if whole:
                yield map(gather, batches_of(self._passes(), batch_size, drop_remainder))
            else:
                rows = itertools.chain.from_iterable(self._passes())
                yield map(gather, groups(rows, batch_size, drop_remainder))

        return self._with(passes, Unit.BATCHES)

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

    def torch_loader(self) -> torch.utils.data.DataLoader[Any]:
        """The batches as a DataLoader of torch, which `fit`, `evaluate` and `predict` of a Keras model take.

        They refuse the data set itself: Keras knows its own classes, TensorFlow's and torch's, and lets no other
        package add one. A data set cannot be a DataLoader, because its elements are numpy's and Keras computes with
        torch's.

        Batch the data set first. Each epoch is one pass over it; one that repeats for ever needs `steps_per_epoch`.
        """
        return torch.utils.data.DataLoader(_Batches(self), batch_size=None)

    def __iter__(self) -> Iterator[Element]:
        gather = self._gather
        for one in self._passes():
            if self._is_whole and gather is None:
                yield from (taken(one, row) for row in range(length(one)))
            elif self._is_whole and gather is not None:
                yield from (taken(gather(one[row : row + 1]), 0) for row in range(length(one)))
            else:
                yield from one


class _Batches(torch.utils.data.IterableDataset[Any]):
    """The elements of a data set, as torch reads them."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self._elements = elements

    def __iter__(self) -> Iterator[Element]:
        return iter(self._elements)


def unframed(element: Element) -> Element:
    """Records as an object array of bytes; anything else as it is."""
    return element.to_array() if isinstance(element, RaggedBytes) else element


def _noted(elements: Iterable[Element], into: list[Element]) -> Iterator[Element]:
    for element in elements:
        into.append(element)
        yield element
