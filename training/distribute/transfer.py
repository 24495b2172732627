"""Transfer: how the gradients of several processes meet, in shared memory on one machine or through a process group.

The theory of the shared memory. Each process adds up one share of the means, so that all get the same numbers. The
means have a place in the memory, and each process has an area. A process hands over what it has of the others' shares:
one other process writes it where the means of that share will be, the rest write into their areas. All wait for each
other. Then each process adds up its share, whose own part it has never moved. All wait again, and the means are whole.
They are read where they are (`borrow`) or copied. Between two processes no area is used, and a gradient of n bytes
costs n/2 bytes to hand over and n/2 to add up.

The waits go over the channel, which notices a process that is gone. Means that another process may still read are not
written over: after any exchange over the channel nobody reads them, and without one the next means go to another place.
What does not fit goes in several rounds. A wait takes longer than adding up a megabyte, so each process adds up small
gradients by itself, which saves one of the two waits.

The memory is a file without a name (memfd), which the other processes open through the chief's entry in /proc. It ends
with the last process that has it, however they end, and does not depend on the size of /dev/shm. A process on another
machine or in another container does not find the file, or finds another one without the chief's token.

Owns moving tensors. Does not know gradients, kinds or trainings.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import mmap
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor

from estimator_serving.training.distribute.channel import Channel

dist: Any = torch.distributed  # torch types only some of it

Meet = Callable[[], object]

_GROUP_ELEMENTS = 1 << 24
_LARGE_ELEMENTS = 1 << 18
_SMALL_BYTES = 1 << 20
_LARGE_BYTES = 1 << 26
_TOKEN_BYTES = 16


class Transfer(Protocol):
    """Both are called by all processes in the same order, with equal dtypes and lengths."""

    def mean(self, tensors: Sequence[Tensor], meet: Meet, borrow: bool = False) -> Sequence[Tensor]:
        """The means of dense tensors of one dtype over the ranks, in the shapes of the tensors.

        Calls `meet` once, which returns when every process has called it, and before anything of another rank is used.
        It may raise. With `borrow` the means may lie in memory that the next call changes and that other processes
        read. May change the tensors.
        """

    def gather(self, values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """The flat `values` of each rank on the CPU, of which rank r has lengths[r]."""

    def close(self) -> None:
        """Take no further part."""


class GroupTransfer:
    """Through torch.distributed's process group (gloo, or nccl on CUDA), between any machines.

    Makes the group, for which all ranks meet in the store. Raises ValueError if the program has made one.
    """

    def __init__(self, backend: str, store: Any, rank: int, ranks: int, timeout_s: float, device: torch.device) -> None:
        if dist.is_initialized():
            raise ValueError(
                "torch.distributed has a process group already. The estimator makes one for its training: remove "
                "init_process_group from the program, or destroy the group before train."
            )
        timeout = dt.timedelta(seconds=timeout_s)
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=timeout)
        self._ranks, self._device = ranks, device

    def mean(self, tensors: Sequence[Tensor], meet: Meet, borrow: bool = False) -> Sequence[Tensor]:
        """Large ones where they are; small ones side by side in one tensor, because each transfer has a fixed cost."""
        meet()
        memory = Counter(t.untyped_storage().data_ptr() for t in tensors)  # autograd may give two parameters one
        stays = [
            t.numel() >= _LARGE_ELEMENTS
            and t.is_contiguous()
            and t.device == self._device
            and memory[t.untyped_storage().data_ptr()] == 1
            for t in tensors
        ]
        small = [t for t, alone in zip(tensors, stays, strict=True) if not alone]
        joined = torch.cat([t.reshape(-1) for t in small]).to(self._device) if small else None
        moved = [t.view(-1) for t, alone in zip(tensors, stays, strict=True) if alone]
        for each in (*moved, *([] if joined is None else [joined])):
            for start in range(0, len(each), _GROUP_ELEMENTS):
                dist.all_reduce(each[start : start + _GROUP_ELEMENTS])
            each.mul_(1.0 / self._ranks)
        pieces = iter([] if joined is None else torch.split(joined.cpu(), [t.numel() for t in small]))
        return [t if alone else next(pieces).view(t.shape) for t, alone in zip(tensors, stays, strict=True)]

    def gather(self, values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        padded = torch.zeros(max(lengths), dtype=values.dtype, device=self._device)
        padded[: len(values)] = values
        everyones = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(everyones, padded)
        return [each[:length].cpu() for each, length in zip(everyones, lengths, strict=True)]

    def close(self) -> None:
        if dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


class MemoryTransfer:
    """Through memory that all processes of the channel share."""

    def __init__(self, memory: mmap.mmap, channel: Channel, ranks: int) -> None:
        whole = torch.frombuffer(memory, dtype=torch.uint8)
        small, large = whole.split_with_sizes([2 * ranks * _SMALL_BYTES, (ranks + 2) * _LARGE_BYTES])
        self._turns = itertools.cycle(small.view(2, ranks, _SMALL_BYTES))
        self._means, self._other_means, *self._areas = large.view(ranks + 2, _LARGE_BYTES)
        self._channel, self._rank, self._ranks = channel, channel.rank, ranks
        self._last_round = -1  # the channel's count of exchanges then

    def _wait(self) -> None:
        self._channel.exchange(None)

    def mean(self, tensors: Sequence[Tensor], meet: Meet, borrow: bool = False) -> Sequence[Tensor]:
        flat = [t.reshape(-1) for t in tensors]
        lengths, dtype = [len(each) for each in flat], flat[0].dtype
        count = sum(lengths)
        if count * dtype.itemsize <= _SMALL_BYTES:
            total, *others = self._exchange(torch.cat(flat), [count] * self._ranks, meet)
            total.mul_(1.0 / self._ranks)
            for other in others:
                total.add_(other, alpha=1.0 / self._ranks)
            means = torch.split(total, lengths)
        elif borrow and count * dtype.itemsize <= _LARGE_BYTES:
            means = torch.split(self._round(flat, meet), lengths)
        else:
            means = tuple(torch.empty_like(each) for each in flat)
            room = _LARGE_BYTES // dtype.itemsize
            for pieces, targets in zip(_rounds(flat, room), _rounds(means, room), strict=True):
                found = self._round(pieces, meet)
                torch._foreach_copy_(targets, torch.split(found, [len(piece) for piece in pieces]))
                meet = self._wait
        return [mean.view(t.shape) for mean, t in zip(means, tensors, strict=True)]

    def _round(self, pieces: Sequence[Tensor], wait: Meet) -> Tensor:
        """The means of what fits into an area, in the shared memory. They stay there until the next round but one, or
        until the first round after an exchange."""
        if self._last_round == self._channel.exchanges:  # the other processes may still read the last means
            self._means, self._other_means = self._other_means, self._means
        dtype, part, own = pieces[0].dtype, 1.0 / self._ranks, self._rank
        areas = [each.view(dtype) for each in self._areas]
        means: Tensor = self._means.view(dtype)
        count = sum(len(piece) for piece in pieces)
        # Which process adds up what: each a share, as slices of the means with the pieces of this process's tensors.
        shares: list[list[tuple[slice, Tensor]]] = [[] for _ in areas]
        taken = 0
        for share, cut in zip(shares, _rounds(pieces, -(-count // self._ranks)), strict=False):
            for piece in cut:
                share.append((slice(taken, taken := taken + len(piece)), piece))
        for rank, share in enumerate(shares):
            if rank != own:
                target = means if (rank + 1) % self._ranks == own else areas[own]
                for place, piece in share:
                    torch.mul(piece, part, out=target[place])
        wait()
        for place, piece in shares[own]:
            mean = means[place].add_(piece, alpha=part)
            for rank in range(own + 2, own + self._ranks):
                mean.add_(areas[rank % self._ranks][place])
        self._wait()
        self._last_round = self._channel.exchanges
        return means[:count]

    def gather(self, values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        return self._exchange(values, lengths, self._wait)

    def close(self) -> None:
        pass  # the memory ends with the last tensor in it

    def _exchange(self, values: Tensor, lengths: Sequence[int], wait: Meet) -> list[Tensor]:
        """The `values` of each rank. `wait` is the first wait."""
        everyones = [torch.empty(length, dtype=values.dtype) for length in lengths]
        room = _SMALL_BYTES // values.dtype.itemsize
        for start in range(0, max(1, *lengths), room):  # without values too, they wait once
            # Two sets of areas take turns: a set is written again behind a wait for the other one.
            areas = next(self._turns).view(values.dtype)
            own = values[start : start + room]
            areas[self._rank, : len(own)] = own
            wait()
            wait = self._wait
            for area, whole in zip(areas, everyones, strict=True):
                piece = whole[start : start + room]
                piece.copy_(area[: len(piece)])
        return everyones


def shared_memory(channel: Channel, ranks: int) -> MemoryTransfer | None:
    """Memory that all processes of the channel share, or None where one of them cannot map it."""
    memory, wanted, size = None, ("", b""), 2 * ranks * _SMALL_BYTES + (ranks + 2) * _LARGE_BYTES
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
    return MemoryTransfer(memory, channel, ranks)


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
