"""Calls between a supervisor and the processes that it started: each end calls the other's methods by name.

Owns framing, threads and errors of such calls. Both ends are the same program, run by the same user and forked from one
process, so messages are pickled. A call that comes in runs on a thread of its own; methods that are `quick` run on the
thread that reads, in the order in which they came. When the other end is gone, calls that wait for it end with
GoneError, and `ended` is called once.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import socket
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from multiprocessing.connection import Connection
from typing import Any

from estimator_serving.serving.errors import UnavailableError, as_serving_error

_log = logging.getLogger(__name__)

# How long an end that reads nothing may hold up the other one.
SEND_S = 10

Methods = Mapping[str, Callable[..., Any]]


class GoneError(UnavailableError):
    """The other process has ended, or does not answer."""


class Channel:
    """One end. `start` reads until the other end is gone.

    methods: what the other end may call. quick: those of them that wait for nothing.
    """

    def __init__(
        self,
        end: socket.socket,
        methods: Methods,
        quick: Collection[str] = (),
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        end.setblocking(True)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S, 0))
        self._connection = Connection(end.detach())
        self._methods = methods
        self._quick = frozenset(quick)
        self._ended = ended
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._is_gone = False
        self._thread = threading.Thread(target=self._read, name="channel", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of the other end; its result or its error is the future's."""
        number, future = next(self._numbers), Future[Any]()
        self._waiting[number] = future
        if not self._send(("call", number, method, arguments)) or self._is_gone:
            self._fail(number)
        return future

    def call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Call a method of the other end and wait for its result.

        Raises what it raised, and GoneError where the other end is gone or does not answer within the time.
        """
        try:
            return self.begin(method, *arguments).result(timeout_s)
        except FutureTimeoutError:
            raise GoneError(f"The process that was asked to {method} does not answer; ask again later.") from None

    def _send(self, message: Any) -> bool:
        with self._sending:
            try:
                self._connection.send_bytes(pickle.dumps(message))
            except OSError:
                return False
        return True

    def _fail(self, number: int) -> None:
        future = self._waiting.pop(number, None)
        if future is not None:
            future.set_exception(GoneError("The process that was asked has ended; ask again later."))

    def _read(self) -> None:
        try:
            while True:
                kind, number, *content = pickle.loads(self._connection.recv_bytes())
                if kind == "call":
                    method, arguments = content
                    if method in self._quick:
                        self._answer(number, method, arguments)
                    else:
                        threading.Thread(
                            target=self._answer, args=(number, method, arguments), name=method, daemon=True
                        ).start()
                elif (future := self._waiting.pop(number, None)) is not None:
                    value, error = content
                    if error is None:
                        future.set_result(value)
                    else:
                        future.set_exception(error)
        except (EOFError, OSError):
            pass
        finally:
            self._is_gone = True
            for number in list(self._waiting):
                self._fail(number)
            self._ended()

    def _answer(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        value, error = None, None
        try:
            value = self._methods[method](*arguments)
        except Exception as failure:
            error = as_serving_error(failure)
        self._send(("answer", number, value, error))
