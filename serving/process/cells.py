"""Memory that the processes of one server share: which state of the versions is in force, and what each thread runs.

Owns the layout. The memory is anonymous, made before any process is forked, and outlives each of them: what a process
that crashed ran is still noted there. Every cell is a whole number of 64 bits, written at once.

    cell 0             the generation of the state that is in force, written by the supervisor only
    LIFE cells each    for each worker a mutex that it holds as long as it lives
    2 * NOTES each     for each worker pairs: a thread's identifier, and the ticket of the version that it runs, or 0

The mutexes are robust ones: when their owner ends, however it does, Linux notes that in the mutex, before it closes the
owner's connections. So when a client whose request ended one worker sends it to the next one at once, that one can see
that a worker has just ended while it ran this version, and waits until the supervisor has found out why.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from estimator_serving.serving.running.session import Bare

# Threads of one worker that are told apart; any more share a place, and the last one to write counts.
NOTES = 1024
_CELL_BYTES = 8
# More than any C library's mutex takes.
LIFE = 8
# Set in the lock of a robust mutex whose owner has ended (linux/futex.h), which is one of the mutex's first two words.
_OWNER_DIED = 0x40000000_40000000
# How long a run waits at most for what is found out about a worker's end, and how often it looks.
HOLD_S = 5.0
_LOOK_S = 0.001


class Cells:
    """The memory, for so many workers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, _CELL_BYTES * (1 + (LIFE + 2 * NOTES) * workers))
        self._cells = memoryview(self._memory).cast("Q")
        self.lives = self._cells[1 : 1 + LIFE * workers]

    @property
    def generation(self) -> int:
        return self._cells[0]

    @generation.setter
    def generation(self, number: int) -> None:
        self._cells[0] = number

    def notes(self, worker: int) -> memoryview[int]:
        """The notes of one worker."""
        first = 1 + LIFE * self.workers + 2 * NOTES * worker
        return self._cells[first : first + 2 * NOTES]

    def running(self, worker: int) -> dict[int, int]:
        """The ticket of each thread of a worker that runs something, by the thread's identifier."""
        cells = self.notes(worker).tolist()
        return {cells[place]: cells[place + 1] for place in range(0, len(cells), 2) if cells[place + 1]}

    def live(self, worker: int) -> None:
        """Hold the worker's mutex, on this thread, which has to last as long as the process."""
        library = ctypes.CDLL(None)
        mutex = ctypes.byref(ctypes.c_char.from_buffer(self._memory, _CELL_BYTES * (1 + LIFE * worker)))
        attributes = (ctypes.c_char * (_CELL_BYTES * LIFE))()
        library.pthread_mutexattr_init(attributes)
        library.pthread_mutexattr_setpshared(attributes, 1)
        library.pthread_mutexattr_setrobust(attributes, 1)
        library.pthread_mutex_init(mutex, attributes)
        library.pthread_mutex_lock(mutex)

    def has_died(self, worker: int) -> bool:
        """Whether a worker has ended, and was not forgotten yet."""
        return bool(self.lives[LIFE * worker] & _OWNER_DIED)

    def forget(self, worker: int) -> None:
        """Forget a worker that has ended, and what it ran."""
        for cells in (self.notes(worker), self.lives[LIFE * worker : LIFE * (worker + 1)]):
            for place in range(len(cells)):
                cells[place] = 0


class Notes:
    """What the threads of this process, a worker, run."""

    def __init__(self, cells: Cells, worker: int) -> None:
        self._all = cells
        self._cells = cells.notes(worker)
        self._alive = memoryview(bytes(cells.lives)).cast("Q")
        self._places = itertools.count()
        self._local = threading.local()

    @contextmanager
    def during(self, ticket: int) -> Iterator[None]:
        """Note that this thread works on a ticket until the block ends."""
        place = self._place()
        before, self._cells[place] = self._cells[place], ticket
        try:
            yield
        finally:
            self._cells[place] = before

    def clear(self) -> None:
        """Note that no thread runs anything that counts."""
        for place in range(1, len(self._cells), 2):
            self._cells[place] = 0

    def noted(self, ticket: int, check: Callable[[], None], bare: Bare) -> Bare:
        """A graph whose runs are noted as those of a ticket.

        check: asked before every run; raises where the ticket shall not run any more.
        """
        cells, lives, find_place = self._cells, self._all.lives, self._place

        def run(names: list[str], feeds: Mapping[str, Any], options: Any) -> list[Any]:
            if lives != self._alive:
                self._wait(ticket)
            # Always: the version may have been taken out of service between the choice of it and now.
            check()
            place = find_place()
            before = cells[place]
            cells[place] = ticket
            try:
                return bare(names, feeds, options)
            finally:
                cells[place] = before

        return run

    def _wait(self, ticket: int) -> None:
        """Wait while a worker has ended in this ticket and it is not known why."""
        ends_s = time.monotonic() + HOLD_S
        while time.monotonic() < ends_s:
            seen = bytes(self._all.lives)
            died = [worker for worker in range(self._all.workers) if self._all.has_died(worker)]
            if not died:
                self._alive = memoryview(seen).cast("Q")
            if not any(ticket in self._all.running(worker).values() for worker in died):
                return
            time.sleep(_LOOK_S)

    def _place(self) -> int:
        """Where this thread's ticket stands."""
        try:
            return self._local.place  # type: ignore[no-any-return]
        except AttributeError:
            pair = 2 * (next(self._places) % NOTES)
            self._cells[pair] = threading.get_ident()
            self._local.place = pair + 1
            return pair + 1
