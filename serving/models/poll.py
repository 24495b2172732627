"""Doing something again and again in a thread, until it is to stop. Knows nothing of what is done."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Poll:
    """Calls `look` after each pause, on a thread named `name`; never where the pause is not above zero.

    look: must raise nothing, or the thread ends.
    """

    def __init__(self, name: str, look: Callable[[], None], wait_s: float) -> None:
        self._look = look
        self._wait_s = wait_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        if self._wait_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Let the look at hand come to its end, and take no other."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def pause(self, seconds: float) -> None:
        """Sleep in the middle of a look, unless it is to stop."""
        self._stopped.wait(seconds)

    def _run(self) -> None:
        while not self._stopped.wait(self._wait_s):
            self._look()
