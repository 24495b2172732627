"""How many of torch's threads a training uses: one, if its steps are too small to be shared out.

The theory. To hand a matrix product to a second thread and to wait for it takes about 20 µs with threads that sleep
while they wait (openmp.py says why they do), and other programs may need the core. So the operations of a small step
take less time on one thread. The choice follows from the shapes of the first batch and from nothing that is measured,
because the number of threads may change the last bit of a sum. A training that is started again must make the same
choice to end with the same numbers, but its first batch may be another one, such as the short last batch of an epoch.
So checkpoints keep what was counted at the start. Only a first batch that is several times as large chooses anew: its
rows are more than they were.

Only the model_fns that may be replayed are looked into: counting stands between PyTorch and its operators, where
torch.compile does not expect it in a user's function.

torch keeps a number for each thread of the process; a new thread takes the one that any thread has set last. So of
several trainings at once, those that begin later find the 1 of the others. What torch had before the first of them is
remembered until the last ends.

Owns counting the multiplications and additions of a call, and the bound. Does not know models or batches.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_SMALL_STEP_FLOPS = 20e6
"""About half a millisecond of one thread."""
_STEP_OF_FORWARD = 3
"""The gradients take twice the forward pass."""
_MORE_ROWS = 4
"""Batches with the same number of rows differ less, also where their sequences have other lengths."""


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types neither it nor its constructor
    """Adds up the multiplications and additions of the matrix products that run under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # for the reason that the recorder in replay.py gives

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        count = flop_registry.get(function.overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=made)
        return made


def at_the_start(counted: int, restored: int | None) -> int:
    """What a training goes by: the operations of its first batch, or those in the checkpoint that it goes on from."""
    return counted if restored is None or counted > _MORE_ROWS * restored else restored


class _Threads:
    """torch's number of threads in trainings that may go on at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on_one = 0
        self._given = 1

    @contextmanager
    def enough_for(self, forward_flops: int | None) -> Iterator[None]:
        """Compute with one thread, if steps with so many operations in their forward pass are small; not if unknown."""
        is_small = forward_flops is not None and forward_flops * _STEP_OF_FORWARD < _SMALL_STEP_FLOPS
        with self._lock:
            if self._on_one == 0:
                self._given = torch.get_num_threads()
            given = self._given
            self._on_one += is_small
            _set(1 if is_small else given)
        try:
            yield
        finally:
            with self._lock:
                self._on_one -= is_small
                _set(given)


def _set(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


enough_for = _Threads().enough_for
