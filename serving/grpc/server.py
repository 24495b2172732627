"""The gRPC front: generic handlers over functions of bytes, in grpc's synchronous server.

Owns message sizes, the pools of threads, how long a caller waits, and the one place that turns errors into statuses.
Knows no message and no dialect by name: bytes go to the dialects as they came, so there are no generated stubs.
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
from typing import Any, NoReturn

import grpc

from estimator_serving.serving.dialects.base import Dialect, Streaming, Unary
from estimator_serving.serving.errors import FULL_TEXT, STOPPING_TEXT, as_serving_error
from estimator_serving.serving.grpc.health import SERVICE as HEALTH_SERVICE
from estimator_serving.serving.grpc.health import Health
from estimator_serving.serving.grpc.reflection import Reflection
from estimator_serving.serving.request import DEADLINE_S_MAX, Context

_STATUS_BY_CODE = {status.value[0]: status for status in grpc.StatusCode}
# grpc says "no deadline" as one in the far future.
_NO_DEADLINE_S = 1e9
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
# Streams that may be open. Each holds a thread, in a pool apart from the one that answers unary calls.
STREAMS_MAX = 256
_IDLE_POLL_S = 0.05
# For what operators and tools ask, which must not wait behind predictions.
_SIDE_THREADS = 4


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """The rpcs of all dialects by full name, until `close`: calls that come later are answered UNAVAILABLE.

    So are calls that come while their rpc says it is full: before their bytes are read, and without a thread, which
    costs a fraction of an answer. A server that takes in more than it can do has no time left for what it can.
    """

    def __init__(self, methods: Mapping[str, Unary | Streaming], streams: _Streams) -> None:
        self._handlers = {name: _handler(method, streams) for name, method in methods.items()}
        self._is_closed = False

    def close(self) -> None:
        self._is_closed = True

    def service(self, details: Any) -> Any:
        """grpc asks this when a call comes in."""
        known = self._handlers.get(details.method)
        if known is None:
            return None
        handler, is_full = known
        return _CLOSED if self._is_closed else _FULL if is_full() else handler


class _Streams:
    """The streams that are open, each with how many of its requests are not answered yet.

    A stream may be open for days and do nothing, which must not hold up the server's end.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(STREAMS_MAX, thread_name_prefix="grpc-stream")
        self._unanswered: dict[grpc.ServicerContext, int] = {}
        self._lock = threading.Lock()

    def is_full(self) -> bool:
        return len(self._unanswered) >= STREAMS_MAX

    def answer(self, method: Streaming, payloads: Iterator[bytes], call: grpc.ServicerContext) -> Iterator[bytes]:
        """The responses of one stream."""

        def count(change: int) -> None:
            with self._lock:
                self._unanswered[call] += change

        def counted() -> Iterator[bytes]:
            for payload in payloads:
                count(1)
                yield payload

        with self._lock:
            self._unanswered[call] = 0
        try:
            for response in method.answer(counted(), _context(call)):
                yield response
                count(-1)
        except grpc.RpcError:
            return  # the client has gone, so nobody would get the status
        except Exception as error:
            _fail(call, error)
        finally:
            with self._lock:
                del self._unanswered[call]

    def cancel_idle(self) -> None:
        """End the streams that have answered all that they were asked."""
        with self._lock:
            idle = [call for call, unanswered in self._unanswered.items() if unanswered <= 0]
        for call in idle:
            call.cancel()


class _Inline(ThreadPoolExecutor):
    """Runs what it is given at once, on the thread that gives it. grpc takes no other kind of executor."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        function(*arguments, **named)
        # grpc would wait for the end of a future under the lock that this thread holds.
        return None


def _refusing(text: str) -> Any:
    def refuse(_payloads: Any, call: grpc.ServicerContext) -> Any:
        call.abort(grpc.StatusCode.UNAVAILABLE, text)

    refuse.experimental_thread_pool = _Inline(1)  # type: ignore[attr-defined]
    # As a stream, because the one message of a unary call is read before its handler is asked.
    return grpc.stream_unary_rpc_method_handler(refuse)


_CLOSED = _refusing(STOPPING_TEXT)
_FULL = _refusing(FULL_TEXT)


class GrpcServer:
    """The server. The port is bound when this is made, so that a taken one is known before models load.

    dialects: whose rpcs are served.
    port: None to listen only on a Unix socket.
    unready: why requests cannot be answered now, empty when they can; answered by grpc.health.v1 where `health` is set.
    credentials: grpc's, for the port; None for plain text. A Unix socket is always plain.
    arguments: further options of grpc's core; they win over ours.

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
        unready: Callable[[], str] = str,
        health: bool = False,
        credentials: Any = None,
        socket_path: str = "",
        arguments: Collection[tuple[str, int | str]] = (),
    ) -> None:
        self._grace_s = grace_s
        self._side_pool = ThreadPoolExecutor(_SIDE_THREADS, thread_name_prefix="grpc-side")
        methods = {name: method for dialect in dialects for name, method in dialect.services().items()}
        services = list(dict.fromkeys(name.split("/")[1] for name in methods))
        # The whole server, and each service by its full name and by the short one that TensorFlow Serving takes.
        names = ["", *services, *(name.rpartition(".")[2] for name in services)]
        self._streams = _Streams()
        self._methods = _Methods(methods, self._streams)
        self._health = Health(unready, names) if health else None
        self._reflection = Reflection([*services, *([HEALTH_SERVICE] if health else [])])
        handlers: list[Any] = [self._methods, *self._reflection.handlers(self._side_pool)]
        if self._health:
            handlers.append(self._health.handlers(self._side_pool))
        options: dict[str, int | str] = _KEEP_ALIVE | {
            "grpc.max_receive_message_length": message_bytes_max,
            "grpc.max_send_message_length": message_bytes_max,
            # Otherwise a second server on the same port would take half the calls instead of failing.
            "grpc.so_reuseport": 0,
        }
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            handlers=handlers,
            maximum_concurrent_rpcs=threads + WAITING_CALLS_MAX,
            options=list((options | dict(arguments)).items()),
        )
        host = f"[{address}]" if ":" in address else address
        self.port = 0 if port is None else self._add(f"{host}:{port}", credentials)
        if socket_path:
            _free_socket(socket_path)
            self._add(f"unix:{socket_path}", None)

    def start(self) -> None:
        self._server.start()
        if self._health:
            self._health.start()

    def stop(self) -> None:
        """Accept no more, let calls in flight finish within the grace period."""
        if self._health:
            self._health.stop()
        self._reflection.stop()
        # grpc cancels what it has received and not handed over yet; so nothing may be on its way when it stops.
        self._methods.close()
        time.sleep(LINGER_S)
        stopped = self._server.stop(self._grace_s)
        while not stopped.wait(_IDLE_POLL_S):
            self._streams.cancel_idle()
        self._streams.pool.shutdown(wait=False)
        self._side_pool.shutdown(wait=False)

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


def _handler(method: Unary | Streaming, streams: _Streams) -> tuple[Any, Callable[[], bool]]:
    """grpc's handler of one rpc, and whether to refuse calls now."""
    if isinstance(method, Streaming):

        def answer_stream(payloads: Iterator[bytes], call: grpc.ServicerContext) -> Iterator[bytes]:
            return streams.answer(method, payloads, call)

        answer_stream.experimental_thread_pool = streams.pool  # type: ignore[attr-defined]
        is_full = method.is_full
        return grpc.stream_stream_rpc_method_handler(answer_stream), lambda: streams.is_full() or is_full()
    unary = method.answer

    def answer(payload: bytes, call: grpc.ServicerContext) -> bytes:
        try:
            return unary(payload, _context(call))
        except Exception as error:
            return _fail(call, error)

    return grpc.unary_unary_rpc_method_handler(answer), method.is_full


def _context(call: grpc.ServicerContext) -> Context:
    remaining_s = call.time_remaining()
    deadline_s = None if remaining_s > _NO_DEADLINE_S else time.monotonic() + min(remaining_s, DEADLINE_S_MAX)
    return Context(deadline_s, lambda: not call.is_active(), call.peer)


def _fail(call: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status of an error."""
    known = as_serving_error(error)
    call.abort(_STATUS_BY_CODE[known.code], known.message)
    raise AssertionError("abort raises")
