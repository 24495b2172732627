"""Transfer: how the gradients of several processes meet, in shared memory on one machine or through a process group.

The theory of the shared memory. It has an area for each rank and one for the result. Each process writes its gradients
into its own area; then each computes the mean of one share of them, in the order of the ranks, so that all get the same
numbers; then each reads the result. Between these parts all wait for each other, over the channel, which notices a
process that is gone. What does not fit into an area goes in several rounds. A wait takes longer than adding up a
megabyte; so each process adds up small gradients by itself, which saves one of the two waits.

The memory is a file without a name (memfd), which the other processes open through the chief's entry in /proc. It ends
with the last process that has it, however they end, and does not depend on the size of /dev/shm. A process on another
machine or in another container does not find the file, or finds another one without the chief's token.

Owns moving tensors. Does not know gradients, kinds or trainings.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor

from estimator_serving.training.distribute.channel import Channel

dist: Any = torch.distributed  # torch types only some of it

_GROUP_ELEMENTS = 1 << 24
_SMALL_BYTES = 1 << 20
_LARGE_BYTES = 1 << 24
_TOKEN_BYTES = 16


class Transfer(Protocol):
    """Both are called by all processes in the same order, with equal dtypes and lengths."""

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace flat tensors of one dtype by their means over the ranks."""

    def gather(self, values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """The flat `values` of each rank on the CPU, of which rank r has lengths[r]."""


class GroupTransfer:
    """Through torch.distributed's process group (gloo, or nccl on CUDA), between any machines."""

    def __init__(self, ranks: int, device: torch.device) -> None:
        self._ranks, self._device = ranks, device

    def mean(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            for start in range(0, len(tensor), _GROUP_ELEMENTS):
                dist.all_reduce(tensor[start : start + _GROUP_ELEMENTS])
            tensor.mul_(1.0 / self._ranks)

    def gather(self, values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        padded = torch.zeros(max(lengths), dtype=values.dtype, device=self._device)
        padded[: len(values)] = values
        everyones = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(everyones, padded)
        return [each[:length].cpu() for each, length in zip(everyones, lengths, strict=True)]


class MemoryTransfer:
    """Through memory that all processes of one machine share. `wait` returns when every process has called it."""

    def __init__(self, memory: mmap.mmap, rank: int, ranks: int, wait: Callable[[], object]) -> None:
        whole = torch.frombuffer(memory, dtype=torch.uint8)
        small, large = whole.split_with_sizes([2 * ranks * _SMALL_BYTES, (ranks + 1) * _LARGE_BYTES])
        self._turns = itertools.cycle(small.view(2, ranks, _SMALL_BYTES))
        *self._areas, self._result = large.view(ranks + 1, _LARGE_BYTES)
        self._rank, self._ranks, self._wait = rank, ranks, wait

    def mean(self, tensors: Sequence[Tensor]) -> None:
        dtype = tensors[0].dtype
        lengths = [len(tensor) for tensor in tensors]
        count = sum(lengths)
        if count * dtype.itemsize <= _SMALL_BYTES:
            everyones = self.gather(torch.cat([*tensors]), [count] * self._ranks)
            _mean(everyones, everyones[0])
            torch._foreach_copy_([*tensors], torch.split(everyones[0], lengths))
            return
        areas, result = [each.view(dtype) for each in self._areas], self._result.view(dtype)
        for pieces in _rounds(tensors, len(result)):
            lengths = [len(piece) for piece in pieces]
            count = sum(lengths)
            torch.cat(pieces, out=areas[self._rank][:count])
            self._wait()
            share = slice(count * self._rank // self._ranks, count * (self._rank + 1) // self._ranks)
            _mean([area[share] for area in areas], result[share])
            self._wait()
            # The others write the result again behind the next wait, which this process reaches after it has read it.
            torch._foreach_copy_(pieces, torch.split(result[:count], lengths))

    def gather(self, values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        everyones = [torch.empty(length, dtype=values.dtype) for length in lengths]
        room = _SMALL_BYTES // values.dtype.itemsize
        for start in range(0, max(lengths), room):
            # Two sets of areas take turns: a set is written again behind a wait for the other one.
            areas = next(self._turns).view(values.dtype)
            own = values[start : start + room]
            areas[self._rank, : len(own)] = own
            self._wait()
            for area, whole in zip(areas, everyones, strict=True):
                piece = whole[start : start + room]
                piece.copy_(area[: len(piece)])
        return everyones


def shared_memory(channel: Channel, ranks: int) -> MemoryTransfer | None:
    """Memory that all processes of the channel share, or None where one of them cannot map it."""
    memory, wanted, size = None, ("", b""), 2 * ranks * _SMALL_BYTES + (ranks + 1) * _LARGE_BYTES
    with contextlib.ExitStack() as stack:
        if channel.rank == 0:
            with contextlib.suppress(OSError, AttributeError):  # not every system has memfd_create
                file = stack.enter_context(open(os.memfd_create("estimator-serving-gradients"), "r+b", buffering=0))
                file.truncate(size)
                memory = mmap.mmap(file.fileno(), size)
                memory[:_TOKEN_BYTES] = secrets.token_bytes(_TOKEN_BYTES)
                wanted = f"/proc/{os.getpid()}/fd/{file.fileno()}", memory[:_TOKEN_BYTES]
        path, token = channel.from_chief(wanted)
        if channel.rank and path:
            with contextlib.suppress(OSError, ValueError), open(path, "r+b", buffering=0) as theirs:
                memory = mmap.mmap(theirs.fileno(), size)
        mapped = memory is not None and memory[:_TOKEN_BYTES] == token
        if not all(channel.exchange(mapped)):
            return None
    assert memory is not None
    return MemoryTransfer(memory, channel.rank, ranks, lambda: channel.exchange(None))


def _mean(by_rank: Sequence[Tensor], result: Tensor) -> None:
    """Write the mean into `result`, which may be the first tensor, always added up in the order of the ranks."""
    part = 1.0 / len(by_rank)
    torch.mul(by_rank[0], part, out=result)
    for other in by_rank[1:]:
        result.add_(other, alpha=part)


def _rounds(tensors: Sequence[Tensor], room: int) -> Iterator[list[Tensor]]:
    """The tensors in order, cut where a round has `room` elements."""
    pieces: list[Tensor] = []
    free = room
    for tensor in tensors:
        while len(tensor) > free:
            yield [*pieces, tensor[:free]]
            tensor, pieces, free = tensor[free:], [], room
        pieces.append(tensor)
        free -= len(tensor)
    if pieces:
        yield pieces
