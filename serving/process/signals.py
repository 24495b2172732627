"""The signals of a server process: SIGTERM and SIGINT ask it to stop, SIGHUP asks it to poll for changes.

Owns the handlers and the wait for them. The states, moved by the handlers, which Python runs on the main thread:

    running ──SIGTERM, SIGINT, stop()──▶ stop wanted ──SIGTERM, SIGINT──▶ ended at once, with 128 + the signal

SIGHUP changes no state; it is noted, and `wait` polls once for all that came since.

The system may give a signal to any thread, and then nothing interrupts a main thread that waits for a lock. So `wait`
reads from a socket, to which Python writes a byte wherever the signal arrives. The flags need no lock: each is written
on the main thread, or once by `stop`.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any


class Signals:
    """Takes over the signals of this process, for good. To be made and waited for on the main thread."""

    def __init__(self) -> None:
        self.stop_wanted = False
        self._poll_wanted = False
        self._woken, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle)

    def stop(self) -> None:
        """Ask to stop, as SIGTERM does. May be called on any thread."""
        self.stop_wanted = True
        self._waking.send(b"\0")

    def wait(self, poll: Callable[[], None]) -> None:
        """Return when a stop is wanted; until then, call `poll` in a thread whenever SIGHUP has come."""
        while not self.stop_wanted:
            self._woken.recv(64)
            if self._poll_wanted:
                self._poll_wanted = False
                # In a thread, because it may wait for a load, and a signal has to be heard meanwhile.
                threading.Thread(target=poll, name="poll", daemon=True).start()

    def _handle(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self._poll_wanted = True
        elif self.stop_wanted:
            os._exit(128 + number)
        else:
            self.stop_wanted = True
