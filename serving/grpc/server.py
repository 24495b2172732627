"""The gRPC front: functions of bytes behind grpc's core. Unary calls are `calls`', streams grpc's synchronous server's.

Owns message sizes, the pools of threads, and which calls are refused. Knows no message and no dialect by name: bytes go
to the dialects as they came, so there are no generated stubs.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from estimator_serving.serving.access.authorizer import NOBODY, Authorizer
from estimator_serving.serving.dialects.base import Dialect, Streaming, Unary
from estimator_serving.serving.errors import (
    FULL_TEXT,
    STOPPING_TEXT,
    Code,
    UnauthenticatedError,
    as_serving_error,
)
from estimator_serving.serving.grpc.calls import CallQueue, Held, Method, Refusal, deadline_in
from estimator_serving.serving.grpc.gate import Gate
from estimator_serving.serving.grpc.health import SERVICE as HEALTH_SERVICE
from estimator_serving.serving.grpc.health import Health
from estimator_serving.serving.grpc.reflection import Reflection
from estimator_serving.serving.models.poll import Poll
from estimator_serving.serving.request import Context

_STATUS_BY_CODE = {status.value[0]: status for status in grpc.StatusCode}
# Calls that wait for a thread; grpc answers any more with RESOURCE_EXHAUSTED at once.
WAITING_CALLS_MAX = 1000
# How long calls that are on their way have to come when the server ends.
LINGER_S = 0.2
# A connection whose client's machine is gone ends after this silence and this wait for an answer. Clients may ping as
# often as once a second, calls or none; grpc's default closes the connection of one that pings every 10 seconds.
_KEEP_ALIVE: dict[str, int | str] = {
    "grpc.keepalive_time_ms": 120_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.min_ping_interval_without_data_ms": 1000,
}
# For what operators and tools ask, each kind apart: none of them waits behind predictions, or behind the others.
_SIDE_THREADS = 4
# Streams hold a thread while they are open; more than these are refused.
_STREAMS_MAX = 256
_IDLE_POLL_S = 0.05
# How long a stream may stay open after its key was withdrawn or has expired.
_KEYS_PERIOD_S = 0.5
# Reflection's, of which a tool opens one for a moment.
_REFLECTIONS_MAX = 8


class _Streamed(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """What grpc's own server asks about: streams, by full name, and unary calls that come when it ends.

    handlers: by full name, the handler of an rpc, and what gives the handler that refuses a call now, None for none.
    unary: the full names of the other rpcs. gate: keeps unknown callers out. is_closed: whether calls are answered
    UNAVAILABLE.
    """

    def __init__(
        self,
        handlers: Mapping[str, tuple[Any, Callable[[], Any]]],
        unary: Collection[str],
        gate: Gate,
        is_closed: Callable[[], bool],
    ) -> None:
        self._handlers = handlers
        self._unary = unary
        self._gate = gate
        self._is_closed = is_closed

    def service(self, details: Any) -> Any:
        """grpc asks this when a call comes in."""
        known = self._handlers.get(details.method)
        if known is None:
            return _CLOSED if details.method in self._unary else None
        if reason := self._gate.refusal(details.invocation_metadata):
            return _refusing(reason, grpc.StatusCode.UNAUTHENTICATED)
        handler, refusal = known
        return _CLOSED if self._is_closed() else refusal() or handler


class _Pool(ThreadPoolExecutor):
    """Threads that tell how many calls wait for one of them."""

    @property
    def waiting(self) -> int:
        return self._work_queue.qsize()


class _Streams:
    """Threads for streams, and those that are open, each with how many of its requests are not answered yet.

    A stream that finds no thread free is refused at once; it is counted when its thread takes it up, so a few more than
    there are threads may wait for a moment. A stream may be open for days and do nothing, which must not hold up the
    server's end.

    kind: what they are called where one too many is refused.
    """

    def __init__(self, most: int, name: str, kind: str) -> None:
        self.pool = _Pool(most, thread_name_prefix=name)
        self._most = most
        text = f"{most} {kind} are open, and the server takes no more; end one of them, or ask again later."
        self._crowded = _refusing(text, grpc.StatusCode.RESOURCE_EXHAUSTED)
        self._unanswered: dict[grpc.ServicerContext, int] = {}
        self._lock = threading.Lock()

    def refusal(self) -> Any:
        return self._crowded if len(self._unanswered) + self.pool.waiting >= self._most else None

    def counted(self, answer: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """A stream's behaviour, run on these threads."""

        def run(payloads: Iterator[Any], call: grpc.ServicerContext) -> Iterator[Any]:
            def taken() -> Iterator[Any]:
                for payload in payloads:
                    self._count(call, 1)
                    yield payload

            with self._lock:
                self._unanswered[call] = 0
            try:
                for response in answer(taken(), call):
                    yield response
                    self._count(call, -1)
            finally:
                with self._lock:
                    del self._unanswered[call]

        run.experimental_thread_pool = self.pool  # type: ignore[attr-defined]
        return run

    def cancel_idle(self) -> None:
        """End the streams that have answered all that they were asked."""
        with self._lock:
            idle = [call for call, unanswered in self._unanswered.items() if unanswered <= 0]
        for call in idle:
            call.cancel()

    def _count(self, call: grpc.ServicerContext, change: int) -> None:
        with self._lock:
            self._unanswered[call] += change


class _Inline(ThreadPoolExecutor):
    """Runs what it is given at once, on the thread that gives it. grpc takes no other kind of executor."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        function(*arguments, **named)
        # grpc would wait for the end of a future under the lock that this thread holds.
        return None


_INLINE = _Inline(1)


def _refusing(text: str, status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Any:
    def refuse(_payloads: Any, call: grpc.ServicerContext) -> Any:
        call.abort(status, text)

    refuse.experimental_thread_pool = _INLINE  # type: ignore[attr-defined]
    # As a stream, because the one message of a unary call is read before its handler is asked.
    return grpc.stream_unary_rpc_method_handler(refuse)


_CROWDED_TEXT = "The server has as many calls at work and waiting as it takes; ask again later."
_CLOSED = _refusing(STOPPING_TEXT)
_FULL = _refusing(FULL_TEXT)


class GrpcServer:
    """The server. The port is bound when this is made, so that a taken one is known before models load.

    dialects: whose rpcs are served.
    port: None to listen only on a Unix socket.
    held_bytes_max: of the messages of calls that are worked on or wait, together.
    unready: why requests cannot be answered now, empty when they can; answered by grpc.health.v1 where `health` is set.
    credentials: grpc's, for the port; None for plain text. A Unix socket is always plain.
    arguments: further options of grpc's core; they win over ours.
    authorizer: knows the callers, None to let everybody in. auth_for_health: whether health checks need a key, too.
    shares_port: whether other processes of this server listen on the port, too.

    Raises OSError when the address or the socket cannot be bound.
    """

    def __init__(
        self,
        dialects: Sequence[Dialect],
        *,
        address: str,
        port: int | None,
        threads: int,
        message_bytes_max: int,
        grace_s: float,
        held_bytes_max: int = 1 << 40,
        unready: Callable[[], str] = str,
        health: bool = False,
        credentials: Any = None,
        socket_path: str = "",
        arguments: Collection[tuple[str, int | str]] = (),
        authorizer: Authorizer | None = None,
        auth_for_health: bool = False,
        shares_port: bool = False,
    ) -> None:
        self._grace_s = grace_s
        self._gate = Gate(authorizer)
        self._keys = Poll("grpc-keys", self._gate.end_streams, 0 if authorizer is None else _KEYS_PERIOD_S)
        self._auth_for_health = auth_for_health
        methods = {name: method for dialect in dialects for name, method in dialect.services().items()}
        services = list(dict.fromkeys(name.split("/")[1] for name in methods))
        # The whole server, and each service by its full name and by the short one that TensorFlow Serving takes.
        names = ["", *services, *(name.rpartition(".")[2] for name in services)]
        self._pool = _Pool(threads, thread_name_prefix="grpc")
        self._status_pool, self._health_pool = (
            _Pool(_SIDE_THREADS, thread_name_prefix=name) for name in ("grpc-status", "grpc-health")
        )
        self._streams = _Streams(_STREAMS_MAX, "grpc-stream", "streams")
        self._reflections = _Streams(_REFLECTIONS_MAX, "grpc-reflection", "streams of reflection")
        self._is_closed = False
        self._health = Health(unready, names, self._admit if auth_for_health else None) if health else None
        self._reflection = Reflection([*services, *([HEALTH_SERVICE] if health else [])], self._admit)
        reflecting = self._reflection.handlers(self._reflections.counted)
        unary = {name: self._unary(method) for name, method in methods.items() if isinstance(method, Unary)}
        streaming = {name: method for name, method in methods.items() if isinstance(method, Streaming)}
        self._ends = [method.end for method in streaming.values()]
        streams = {name: self._stream(method) for name, method in streaming.items()}
        streams |= {name: (handler, self._reflections.refusal) for name, handler in reflecting.items()}
        handlers: list[Any] = [_Streamed(streams, unary.keys(), self._gate, lambda: self._is_closed)]
        if self._health:
            handlers.append(self._health.handlers(self._health_pool))
        options: dict[str, int | str] = _KEEP_ALIVE | {
            "grpc.max_receive_message_length": message_bytes_max,
            "grpc.max_send_message_length": message_bytes_max,
            # Otherwise a second server on the same port would take half the calls instead of failing.
            "grpc.so_reuseport": int(shares_port),
        }
        calls = CallQueue(unary, Held(held_bytes_max))
        self._server = calls.serve(self._pool, handlers, list((options | dict(arguments)).items()))
        host = f"[{address}]" if ":" in address else address
        self.port = 0 if port is None else self._add(f"{host}:{port}", credentials)
        if socket_path:
            _free_socket(socket_path)
            self._add(f"unix:{socket_path}", None)

    def start(self) -> None:
        self._server.start()
        self._keys.start()
        if self._health:
            self._health.start()

    def stop(self) -> None:
        """Accept no more, let calls in flight finish within the grace period."""
        if self._health:
            self._health.stop()
        self._reflection.stop()
        # grpc cancels what it has received and not handed over yet; so nothing may be on its way when it stops.
        self._is_closed = True
        time.sleep(LINGER_S)
        stopped = self._server.stop(self._grace_s)
        while not stopped.wait(_IDLE_POLL_S):
            self._streams.cancel_idle()
        self._keys.stop()
        for pool in (self._pool, self._status_pool, self._health_pool, self._streams.pool, self._reflections.pool):
            pool.shutdown(wait=False)
        for end in self._ends:
            end()

    def _stream(self, method: Streaming) -> tuple[Any, Callable[[], Any]]:
        """grpc's handler of a stream, and what refuses it."""

        def answer(payloads: Iterator[bytes], call: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                deadline_s = deadline_in(call.time_remaining())
                context = Context(deadline_s, lambda: not call.is_active(), call.peer, self._gate.admit_stream(call))
                yield from method.answer(payloads, context)
            except grpc.RpcError:
                return  # the client has gone, so nobody would get the status
            except Exception as error:
                known = as_serving_error(error)
                call.abort(_STATUS_BY_CODE[known.code], known.message)

        handler = grpc.stream_stream_rpc_method_handler(self._streams.counted(answer))
        return handler, lambda: self._streams.refusal() if method.full_for_s() is None else _FULL

    def _unary(self, method: Unary) -> Method:
        """An rpc whose calls are refused, before their bytes are read and without a thread, when the server ends, when
        the rpc says it is full, or when too many calls wait: a server that takes in more than it can do has no time
        left for what it can."""
        pool = self._status_pool if method.is_side else self._pool
        is_open = method.is_open and not self._auth_for_health
        full_for_s = method.full_for_s

        def refusal(metadata: Any) -> Refusal | None:
            if not is_open and (reason := self._gate.refusal(metadata)):
                return Refusal(Code.UNAUTHENTICATED, reason)
            if self._is_closed:
                return Refusal(Code.UNAVAILABLE, STOPPING_TEXT)
            pause_s = full_for_s()
            if pause_s is not None:
                return Refusal(Code.UNAVAILABLE, FULL_TEXT, pause_s)
            return Refusal(Code.RESOURCE_EXHAUSTED, _CROWDED_TEXT) if pool.waiting >= WAITING_CALLS_MAX else None

        return Method(method, pool, refusal, (lambda _call: NOBODY) if is_open else self._gate.admit)

    def _admit(self, call: grpc.ServicerContext) -> None:
        """End a call of an unknown caller."""
        try:
            self._gate.admit_stream(call)
        except UnauthenticatedError as error:
            call.abort(_STATUS_BY_CODE[error.code], error.message)

    def _add(self, target: str, credentials: Any) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(target)  # type: ignore[no-any-return]
            return self._server.add_secure_port(target, credentials)  # type: ignore[no-any-return]
        except RuntimeError as error:
            raise OSError(str(error)) from error


def _free_socket(path: str) -> None:
    """Remove a Unix socket that a server left behind when it was killed.

    Raises OSError if another server listens on it, or if the path is something else: grpc would take a socket away from
    its owner.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
