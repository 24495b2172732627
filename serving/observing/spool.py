"""What is written beside the requests: taken at once, written later by a thread of its own.

Owns the bounded queue between those who answer requests and a disk, and the rule that the disk never holds them up:
what does not fit is dropped, and a disk that fails is complained about once, until it works again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

BYTES_MAX = 64 * 1024 * 1024
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
        self._is_failing = False
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
        while items := self._next_items():
            try:
                self._write(items)
            except OSError as error:
                self._complain(error)
            except Exception:
                # This thread must outlive whatever a request made it trip over.
                _log.exception("The %s could not write %d entries.", self._name, len(items))
            else:
                self._is_failing = False

    def _next_items(self) -> list[T]:
        """What to write next; nothing once it is closed and all is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._is_closed)
            taken = [self._items.popleft() for _ in range(min(len(self._items), _ITEMS_AT_ONCE))]
            self._bytes -= sum(size for _, size in taken)
        return [item for item, _ in taken]

    def _complain(self, error: OSError) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.warning(
                "The %s cannot write (%s); entries are lost until it can. Serving goes on: free the disk, or mend the "
                "path.", self._name, error,
            )  # fmt: skip
