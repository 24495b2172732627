"""How many of torch's threads a training uses: one, if its steps are too small to be shared out.

The theory. To hand a matrix product to a second thread and to wait for it takes about 20 µs with threads that sleep
while they wait (openmp.py says why they do), and other programs may need the core. So the operations of a small step
take less time on one thread. The choice follows from the shapes of the first batch and from nothing that is measured,
because the number of threads may change the last bit of a sum: a training that is started again makes the same choice
and ends with the same numbers.

Only the model_fns that may be replayed are looked into: counting stands between PyTorch and its operators, where
torch.compile does not expect it in a user's function.

Owns counting the multiplications and additions of a call, and the bound. Does not know models or batches.
"""

from __future__ import annotations

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


@contextmanager
def enough_for(forward: Flops | None) -> Iterator[None]:
    """Compute with one thread, if steps with so many operations in their forward pass are small; not if unknown."""
    threads = torch.get_num_threads()
    if forward is not None and forward.total * _STEP_OF_FORWARD < _SMALL_STEP_FLOPS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
