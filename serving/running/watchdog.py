"""Ends runs of a model that nobody waits for any more.

Owns one thread for the process, which looks after the callers of what is running and sleeps while nothing is. ONNX
Runtime ends a run between two nodes, and between two rounds of a Loop: a model that hangs gives its thread back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from estimator_serving.serving.errors import DeadlineExceededError, ServingError
from estimator_serving.serving.request import Context

_log = logging.getLogger(__name__)

LOOK_S = 0.05
# Pause between two complaints: a model that always hangs would fill the log.
COMPLAINT_S = 10.0


class Stoppable(Protocol):
    """Set `terminate`, and the run that was given this ends: onnxruntime.RunOptions."""

    terminate: bool


class Watchdog:
    """Watches runs whose callers may stop waiting. Its thread starts with the first of them."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[Context, Stoppable]] = {}
        self._busy = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._complained_s = -COMPLAINT_S

    @contextmanager
    def watching(self, run: Stoppable, context: Context) -> Iterator[None]:
        """Terminate the run if the block is still in it when its deadline passes or its caller leaves."""
        key = id(run)
        self._runs[key] = (context, run)
        if not self._busy.is_set():
            self._wake()
        try:
            yield
        finally:
            del self._runs[key]

    def _wake(self) -> None:
        with self._lock:
            self._busy.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        while self._busy.wait():
            time.sleep(LOOK_S)
            self._terminate_unwanted()
            if not self._runs:
                self._busy.clear()
                # A run may have begun between the look and the clearing, and seen the flag still set.
                if self._runs:
                    self._busy.set()

    def _terminate_unwanted(self) -> None:
        for context, run in list(self._runs.values()):
            try:
                context.check()
            except ServingError as error:
                if isinstance(error, DeadlineExceededError) and not run.terminate:
                    self._complain()
                run.terminate = True

    def _complain(self) -> None:
        now_s = time.monotonic()
        if now_s - self._complained_s >= COMPLAINT_S:
            self._complained_s = now_s
            _log.warning("A run of a model took longer than its callers wait, and is being ended.")
