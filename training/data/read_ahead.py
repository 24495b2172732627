"""Elements made in a thread, a few before the reader needs them.

Owns the thread, from the first element that is asked for. It ends with the data, after an error, or within `_POLL_S`
when nobody reads any more. The queue is the only thing both threads touch, beside the event that says so.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

# How often the thread of a full queue checks whether it is still read.
_POLL_S = 0.1


class _Failure(NamedTuple):
    error: BaseException


_END = object()


def read_ahead(elements: Iterable[Any], count: int) -> Iterator[Any]:
    """The same elements, up to `count` of them ready before they are asked for.

    An error in the thread is raised here, where its element would have come. The thread starts with the first element
    that is asked for, and ends when this iterator is closed or garbage-collected.
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
    except BaseException as error:  # raised again in the reader's thread
        _put(ready, _Failure(error), abandoned)


def _put(ready: queue.Queue[Any], element: Any, abandoned: threading.Event) -> bool:
    """Whether the element is in the queue; False if nobody reads any more."""
    while not abandoned.is_set():
        try:
            ready.put(element, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False
