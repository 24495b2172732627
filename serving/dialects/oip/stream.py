"""ModelStreamInfer: a stream of requests, answered in their order, several at once.

Owns the reading ahead and the order. Knows no messages: requests and answers are bytes, and `answer` never raises.

Two threads serve a stream: one reads requests and starts them on a pool, and the one that calls the stream's generator
yields answers. The queue between them bounds what is under way, so that a client that does not read its answers is not
read from either. A stream ends when the client has sent its last request and everything is answered, or when the
generator is closed.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

# Requests of one stream that are under way at once.
AHEAD_MAX = 16
_POLL_S = 0.1


def answer_in_order(
    answer: Callable[[bytes], bytes], payloads: Iterator[bytes], pool: ThreadPoolExecutor
) -> Iterator[bytes]:
    """The answers to a stream's requests. Raises what reading the requests raises, once all before are answered."""
    under_way: queue.Queue[Future[bytes] | Exception | None] = queue.Queue(AHEAD_MAX)
    is_over = threading.Event()

    def put(item: Future[bytes] | Exception | None) -> None:
        is_put = False
        while not is_put and not is_over.is_set():
            with contextlib.suppress(queue.Full):
                under_way.put(item, timeout=_POLL_S)
                is_put = True

    def read() -> None:
        end: Exception | None = None
        try:
            for payload in payloads:
                put(pool.submit(answer, payload))
                if is_over.is_set():
                    return
        except Exception as error:
            end = error
        put(end)

    threading.Thread(target=read, name="stream", daemon=True).start()
    try:
        while (item := under_way.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item.result()
    finally:
        is_over.set()
