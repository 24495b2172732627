"""Calling a function again and again in a thread, until it is stopped. Knows nothing of what the function does."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Poll:
    """Calls `poll` after each pause of `wait_s`, on a thread named `name`.

    Does nothing if `wait_s` is zero or negative.
    poll: must raise nothing, or the thread ends.
    """

    def __init__(self, name: str, poll: Callable[[], None], wait_s: float) -> None:
        self._poll = poll
        self._wait_s = wait_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        if self._wait_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Let the call at hand come to its end, and make no other."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def pause(self, seconds: float) -> None:
        """Sleep in the middle of a call; ends early when it is stopped."""
        self._stopped.wait(seconds)

    def _run(self) -> None:
        while not self._stopped.wait(self._wait_s):
            self._poll()
