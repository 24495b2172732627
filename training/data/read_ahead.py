"""Elements made in a thread, a few ahead of the reader. Owns the thread's end: with the data, by an error, unread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

# How often a full queue's thread looks whether anybody still reads.
_LOOK_S = 0.1


class _Failure(NamedTuple):
    error: BaseException


_END = object()


def read_ahead(elements: Iterable[Any], count: int) -> Iterator[Any]:
    """The same elements, up to `count` of them ready before they are asked for.

    What raises in the thread is raised here, where its element would have come. The thread starts with the first
    element asked for and ends when this iterator is closed or forgotten.
    """
    ready: queue.Queue[Any] = queue.Queue(count)
    abandoned = threading.Event()
    thread = threading.Thread(target=_fill, args=(elements, ready, abandoned), name="read-ahead", daemon=True)
    thread.start()
    try:
        while (element := ready.get()) is not _END:
            if isinstance(element, _Failure):
                raise element.error
            yield element
    finally:
        abandoned.set()


def _fill(elements: Iterable[Any], ready: queue.Queue[Any], abandoned: threading.Event) -> None:
    try:
        for element in elements:
            if not _put(ready, element, abandoned):
                return
        _put(ready, _END, abandoned)
    except BaseException as error:  # the reader's thread is where it belongs
        _put(ready, _Failure(error), abandoned)


def _put(ready: queue.Queue[Any], element: Any, abandoned: threading.Event) -> bool:
    """Whether there was a reader to take it."""
    while not abandoned.is_set():
        try:
            ready.put(element, timeout=_LOOK_S)
        except queue.Full:
            continue
        return True
    return False
