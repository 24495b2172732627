"""A bound on the runs of one version at once, so that a slow model leaves the cores to the others.

Owns the turns: as many requests run as there are slots, the others wait in the order in which they came, and beyond a
number of both none is taken. Knows no model; another Runner does the runs.

    here ──a slot is free──▶ running ──▶ its slot goes to the one that waited longest
      └─────────────────────▶ waiting ──its turn──▶ running
                                 └─ nobody waits for it any more: it never runs

Quick versions take no turns: their runs are over sooner than a thread is woken.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

from estimator_serving.serving.errors import FULL_TEXT, UnavailableError
from estimator_serving.serving.request import Context, Outputs, Request
from estimator_serving.serving.running.runner import Runner, Waiting

# How often a waiting request checks whether its client is still there.
CANCELLED_POLL_S = 0.5
# Requests of one version that may be here at once, unless more than half as many may run. Each holds a thread; with
# fewer here than what a model may occupy (`crowd`), a request is refused before it takes one.
REQUESTS_MAX = 40


class TurnsRunner:
    """Lets `slots` requests of another Runner run at once. A Runner itself; see there.

    requests_max: those that run and wait, together.
    """

    def __init__(self, inner: Runner, slots: int, requests_max: int) -> None:
        self.inner = inner
        self._slots = self._free = slots
        self._run_s = 0.0
        self._requests_max = requests_max
        self._here = 0
        self._lock = threading.Lock()
        # Each waiting thread sleeps on a lock of its own, which is released at its turn.
        self._waiting: deque[threading.Lock] = deque()

    @property
    def is_quick(self) -> bool:
        return self.inner.is_quick

    @property
    def is_full(self) -> bool:
        """Takes no lock, because an answer that is a moment old is as good."""
        return self._here >= self._requests_max

    def run(self, request: Request, context: Context) -> Outputs:
        """As the inner runner, and raises UnavailableError where too many are here already."""
        if self.inner.is_quick:
            return self.inner.run(request, context)
        turn = None
        with self._lock:
            if self._here >= self._requests_max:
                raise UnavailableError(FULL_TEXT)
            self._here += 1
            if self._free:
                self._free -= 1
            else:
                turn = threading.Lock()
                turn.acquire()
                self._waiting.append(turn)
        try:
            if turn is not None:
                self._wait(turn, context)
            began_s = time.monotonic()
            try:
                return self.inner.run(request, context)
            finally:
                self._run_s = time.monotonic() - began_s
                self._pass_on()
        finally:
            with self._lock:
                self._here -= 1

    def waiting(self) -> Mapping[str, Waiting]:
        return self.inner.waiting()

    @property
    def backlog_s(self) -> float:
        return len(self._waiting) / self._slots * self._run_s

    def refusal(self) -> UnavailableError:
        return self.inner.refusal()

    def count_refusal(self) -> None:
        self.inner.count_refusal()

    def _wait(self, turn: threading.Lock, context: Context) -> None:
        """Return with a slot in hand. Raises as Context.check, without one."""
        while True:
            sleep_s = CANCELLED_POLL_S
            if context.deadline_s is not None:
                sleep_s = max(0.0, min(sleep_s, context.deadline_s - time.monotonic()))
            if turn.acquire(timeout=sleep_s):
                return
            try:
                context.check()
            except Exception:
                with self._lock:
                    is_waiting = turn in self._waiting
                    if is_waiting:
                        self._waiting.remove(turn)
                if not is_waiting:  # its turn came meanwhile
                    self._pass_on()
                raise

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
