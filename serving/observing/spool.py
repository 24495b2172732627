"""What is written beside the requests: taken at once, written later by another thread.

Owns the bounded queue between the threads that answer requests and a disk, and the rule that the disk never holds them
up: what does not fit is dropped, and a disk that fails is reported once a minute for as long as it does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

BYTES_MAX = 64 * 1024 * 1024
# Between two complaints about one disk.
COMPLAINT_S = 60.0
# Items written at once.
_ITEMS_AT_ONCE = 256

T = TypeVar("T")


class Spool(Generic[T]):
    """Hands items to `write`, a few at a time, on one thread.

    write: may raise OSError, for all items it was given.
    """

    def __init__(self, name: str, write: Callable[[list[T]], None], *, bytes_max: int = BYTES_MAX) -> None:
        self._name = name
        self._write = write
        self._bytes_max = bytes_max
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._is_closed = False
        self._complained_s = -COMPLAINT_S
        self._lost = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T, size_bytes: int) -> bool:
        """Take an item to be written; False where it is dropped, because too much waits already."""
        with self._changed:
            if self._is_closed or self._bytes + size_bytes > self._bytes_max:
                return False
            self._items.append((item, size_bytes))
            self._bytes += size_bytes
            self._changed.notify()
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what was taken, within the time, and take no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_closed)
                taken = [self._items.popleft() for _ in range(min(len(self._items), _ITEMS_AT_ONCE))]
                self._bytes -= sum(size for _, size in taken)
            if not taken:
                return  # it is closed, and all is written
            try:
                self._write([item for item, _ in taken])
            except OSError as error:
                self._lost += len(taken)
                now_s = time.monotonic()
                if now_s - self._complained_s >= COMPLAINT_S:
                    self._complained_s = now_s
                    _log.warning(
                        "The %s cannot write (%s); %d entries were lost by now. Serving goes on: free the disk, or "
                        "mend the path.", self._name, error, self._lost,
                    )  # fmt: skip
            except Exception:
                # This thread must outlive any error in one request's entry.
                _log.exception("The %s could not write %d entries.", self._name, len(taken))
