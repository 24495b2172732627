"""Ends runs of a model that nobody waits for any more.

Owns one thread for the process. It checks every POLL_S whether the callers of the running models still wait, and
sleeps while nothing runs. ONNX Runtime ends a run between two nodes, and between two rounds of a Loop: a model that
hangs gives its thread back.

    asleep ──watching, if the busy flag is down (lock)──▶ polling ──nothing runs: the flag goes down──▶ asleep

The set of runs is a dict that every thread changes without a lock, since one operation on a dict is atomic. The order
makes that safe: a run is entered before the flag is read, and the thread takes the flag down before it reads the dict
again.
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

POLL_S = 0.05
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
            with self._lock:
                self._busy.set()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._poll, name="watchdog", daemon=True)
                    self._thread.start()
        try:
            yield
        finally:
            del self._runs[key]

    def _poll(self) -> None:
        while self._busy.wait():
            time.sleep(POLL_S)
            for context, run in list(self._runs.values()):
                try:
                    context.check()
                except ServingError as error:
                    now_s = time.monotonic()
                    late = isinstance(error, DeadlineExceededError) and not run.terminate
                    if late and now_s - self._complained_s >= COMPLAINT_S:
                        self._complained_s = now_s
                        _log.warning("A run of a model took longer than its callers wait, and is being ended.")
                    run.terminate = True
            if not self._runs:
                self._busy.clear()
                # A run may have begun before the flag went down, and seen it still up.
                if self._runs:
                    self._busy.set()
