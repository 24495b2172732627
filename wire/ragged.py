"""Many byte strings as one array: all bytes one after the other, and where each string begins.

Owns taking, joining and mixing such rows without an object for each of them. Does not know what a row holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from estimator_serving.wire import native


@dataclass(frozen=True)
class RaggedBytes:
    """Rows of bytes.

    values: uint8[n], the bytes of all rows. row_splits: int64[rows + 1]; row i lies in
    values[row_splits[i]:row_splits[i + 1]]. The first split need not be 0.
    """

    values: npt.NDArray[np.uint8]
    row_splits: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[bytes] | npt.NDArray[np.object_]) -> RaggedBytes:
        """These rows."""
        joined = native.join_rows(rows) if isinstance(rows, list | np.ndarray) else None
        if joined is not None:
            return cls.from_native(joined)
        row_splits = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(one) for one in rows], out=row_splits[1:])
        return cls(np.frombuffer(b"".join(rows), np.uint8), row_splits)

    @classmethod
    def from_native(cls, rows: tuple[bytes, bytes]) -> RaggedBytes:
        """The rows that a function of wire.native gives."""
        return cls(np.frombuffer(rows[0], np.uint8), np.frombuffer(rows[1], np.int64))

    @classmethod
    def joined(cls, parts: Sequence[RaggedBytes]) -> RaggedBytes:
        """The rows of all parts, one part after the other."""
        own = [part.packed() for part in parts]
        starts = np.cumsum([0, *(len(part.values) for part in own)])
        splits = [part.row_splits[1:] + start for part, start in zip(own, starts, strict=False)]
        return cls(np.concatenate([part.values for part in own]), np.concatenate([[0], *splits]).astype(np.int64))

    def packed(self) -> RaggedBytes:
        """The same rows, with only their own bytes and splits that begin at 0."""
        first, last = int(self.row_splits[0]), int(self.row_splits[-1])
        return RaggedBytes(self.values[first:last], self.row_splits - first)

    def to_array(self) -> npt.NDArray[np.object_]:
        """An object array of bytes."""
        rows = np.empty(len(self), object)
        rows[:] = list(self)
        return rows

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def __iter__(self) -> Iterator[bytes]:
        own = self.packed()
        data = own.values.tobytes()
        return (data[first:last] for first, last in itertools.pairwise(own.row_splits.tolist()))

    @overload
    def __getitem__(self, rows: int) -> bytes: ...
    @overload
    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> RaggedBytes: ...
    def __getitem__(self, rows: int | slice | npt.NDArray[Any]) -> bytes | RaggedBytes:
        """One row, a slice of the rows (without a step it is a view), or the rows with these numbers or this mask."""
        if isinstance(rows, slice):
            first, stop, step = rows.indices(len(self))
            if step == 1:
                return RaggedBytes(self.values, self.row_splits[first : max(first, stop) + 1])
            rows = np.arange(first, stop, step)
        if isinstance(rows, np.ndarray):
            order = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64, copy=False)
            return RaggedBytes.from_native(native.take_rows(self.values, np.ascontiguousarray(self.row_splits), order))
        return self.values[self.row_splits[rows] : self.row_splits[rows + 1]].tobytes()


def mixed(blocks: Iterable[RaggedBytes], buffer_size: int, seed: int) -> Iterator[RaggedBytes]:
    """The rows of all blocks in an order that a buffer of `buffer_size` rows makes random."""
    mixer = native.row_mixer(buffer_size, seed)
    for block in blocks:
        yield RaggedBytes.from_native(native.mix_rows(mixer, block.values, np.ascontiguousarray(block.row_splits)))
    yield RaggedBytes.from_native(native.drain_rows(mixer))


def interleaved(streams: Iterable[Iterator[RaggedBytes]], cycle_length: int) -> Iterator[RaggedBytes]:
    """Rows of `cycle_length` streams in turns, one of each; a stream that ends gives its place to the next.

    The order is that of tf.data's interleave: a place is left out in the turn in which its stream ends.
    """
    waiting = iter(streams)
    places: list[Iterator[RaggedBytes] | None] = [None] * cycle_length
    held: list[RaggedBytes] = [RaggedBytes.of([])] * cycle_length
    has_more = True
    while True:
        for place, stream in enumerate(places):
            if stream is None and has_more:
                stream = places[place] = next(waiting, None)
                has_more = stream is not None
            while stream is not None and not len(held[place]):
                if (block := next(stream, None)) is None:
                    stream = places[place] = None
                else:
                    held[place] = block
        active = [place for place in range(cycle_length) if len(held[place])]
        if not active:
            if not has_more:
                return
            continue
        # A place that has just become empty misses one turn, and no more.
        turns = 1 if has_more and None in places else min(len(held[place]) for place in active)
        rows = RaggedBytes.joined([held[place][:turns] for place in active])
        yield rows[np.arange(len(rows)).reshape(len(active), turns).T.ravel()]
        for place in active:
            held[place] = held[place][turns:]
