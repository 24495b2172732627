"""The gRPC front: generic handlers over functions of bytes, in grpc's synchronous server.

Owns message sizes, the pools of threads, how long a caller waits, and the one place that turns errors into statuses.
Knows no message: the bytes go to the dialects as they came, which also spares generated stubs.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from estimator_serving.serving.errors import FULL_TEXT, STOPPING_TEXT, as_serving_error
from estimator_serving.serving.grpc.health import SERVICE as HEALTH_SERVICE
from estimator_serving.serving.grpc.health import Health
from estimator_serving.serving.grpc.reflection import Reflection
from estimator_serving.serving.request import DEADLINE_S_MAX, Context

Answer = Callable[[bytes, Context], bytes]

_STATUS_BY_CODE = {status.value[0]: status for status in grpc.StatusCode}
# grpc says "no deadline" as one in the far future.
_NO_DEADLINE_S = 1e9
# Calls that wait for a thread; grpc answers any more with RESOURCE_EXHAUSTED at once.
WAITING_CALLS_MAX = 1000
# How long calls that are on their way have to come when the server ends.
LINGER_S = 0.2
# For what operators and tools ask, which must not wait behind predictions.
_SIDE_THREADS = 4


class _Door(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """A service's handlers, until it closes: calls that come later are answered UNAVAILABLE.

    So are those that come while `is_full` says, by the method's name, that there is no room for any: before their bytes
    are read, and without a thread, which costs a fraction of an answer. A server that takes in all it cannot do has no
    time left for what it can.
    """

    def __init__(self, handlers: Any, is_full: Callable[[str], bool]) -> None:
        self._handlers = handlers
        self._is_full = is_full
        self._is_closed = False

    def close(self) -> None:
        self._is_closed = True

    def service(self, details: Any) -> Any:
        """grpc asks this when a call comes in."""
        handler = self._handlers.service(details)
        if handler and self._is_closed:
            return _CLOSED
        return _FULL if handler and self._is_full(details.method.rpartition("/")[2]) else handler


class _Inline(ThreadPoolExecutor):
    """Runs what it is given at once, on the thread that gives it. grpc takes no other kind of executor."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        function(*arguments, **named)
        # grpc would wait for the end of a future under the lock that this thread holds.
        return None


def _turning_away(text: str) -> Any:
    def turn_away(_payloads: Any, call: grpc.ServicerContext) -> Any:
        call.abort(grpc.StatusCode.UNAVAILABLE, text)

    turn_away.experimental_thread_pool = _Inline(1)  # type: ignore[attr-defined]
    # As a stream, because the one message of a unary call is read before its handler is asked.
    return grpc.stream_unary_rpc_method_handler(turn_away)


_CLOSED = _turning_away(STOPPING_TEXT)
_FULL = _turning_away(FULL_TEXT)


class GrpcServer:
    """The server. The port is bound when this is made, so that a taken one is known before models load.

    port: None for a Unix socket alone.
    unready: why requests cannot be answered now, empty when they can; answered by grpc.health.v1 where `health` is set.
    is_full: whether calls of a method are to be answered UNAVAILABLE for want of room.
    credentials: grpc's, for the port; None for plain text. A Unix socket is always plain.
    arguments: further options of grpc's core; they win over ours.

    Raises OSError when the address or the socket cannot be bound.
    """

    def __init__(
        self,
        methods: Mapping[str, Mapping[str, Answer]],
        *,
        address: str,
        port: int | None,
        threads: int,
        message_bytes_max: int,
        grace_s: float,
        unready: Callable[[], str] = str,
        is_full: Callable[[str], bool] = lambda _method: False,
        health: bool = False,
        credentials: Any = None,
        socket_path: str = "",
        arguments: Collection[tuple[str, int | str]] = (),
    ) -> None:
        self._grace_s = grace_s
        self._side_pool = ThreadPoolExecutor(_SIDE_THREADS, thread_name_prefix="grpc-side")
        self._health = Health(unready, _health_names(methods)) if health else None
        self._reflection = Reflection([*methods, *([HEALTH_SERVICE] if health else [])])
        self._doors = [_Door(_handlers(service, answers), is_full) for service, answers in methods.items()]
        handlers: list[Any] = [*self._doors]
        handlers += self._reflection.handlers(self._side_pool)
        if self._health:
            handlers.append(self._health.handlers(self._side_pool))
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            handlers=handlers,
            maximum_concurrent_rpcs=threads + WAITING_CALLS_MAX,
            options=list((_options(message_bytes_max) | dict(arguments)).items()),
        )
        self.port = 0 if port is None else self._bind(address, port, credentials)
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
        for door in self._doors:
            door.close()
        time.sleep(LINGER_S)
        self._server.stop(self._grace_s).wait()
        self._side_pool.shutdown(wait=False)

    def _bind(self, address: str, port: int, credentials: Any) -> int:
        host = f"[{address}]" if ":" in address else address
        return self._add(f"{host}:{port}", credentials)

    def _add(self, target: str, credentials: Any) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(target)  # type: ignore[no-any-return]
            return self._server.add_secure_port(target, credentials)  # type: ignore[no-any-return]
        except RuntimeError as error:
            raise OSError(str(error)) from error


def _options(message_bytes_max: int) -> dict[str, int | str]:
    return {
        "grpc.max_receive_message_length": message_bytes_max,
        "grpc.max_send_message_length": message_bytes_max,
        # Otherwise a second server on the same port would take half the calls instead of failing.
        "grpc.so_reuseport": 0,
    }


def _free_socket(path: str) -> None:
    """Remove a Unix socket that a server left behind when it was killed.

    Raises OSError where another server listens on it, or where the path is something else: grpc would take a socket
    away from its owner.
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


def _health_names(services: Collection[str]) -> list[str]:
    """The whole server, and each service by its full name and by the short one that TensorFlow Serving takes."""
    return ["", *services, *(name.rpartition(".")[2] for name in services)]


def _handlers(service: str, answers: Mapping[str, Answer]) -> Any:
    return grpc.method_handlers_generic_handler(service, {name: _handler(answer) for name, answer in answers.items()})


def _handler(answer: Answer) -> Any:
    def behavior(payload: bytes, call: grpc.ServicerContext) -> bytes:
        try:
            return answer(payload, _context(call))
        except Exception as error:
            known = as_serving_error(error)
            return call.abort(_STATUS_BY_CODE[known.code], known.message)  # type: ignore[no-any-return]

    return grpc.unary_unary_rpc_method_handler(behavior)


def _context(call: grpc.ServicerContext) -> Context:
    remaining_s = call.time_remaining()
    deadline_s = None if remaining_s > _NO_DEADLINE_S else time.monotonic() + min(remaining_s, DEADLINE_S_MAX)
    return Context(deadline_s, lambda: not call.is_active(), call.peer)
