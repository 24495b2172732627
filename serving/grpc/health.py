"""grpc.health.v1: whether this server answers, asked once (Check) or followed (Watch).

Owns the names that may be asked for and the watchers. The state itself is a function of the server's; nothing is stored
that could go stale.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

SERVICE = "grpc.health.v1.Health"
# How long a change may take to reach those who watch.
WATCH_PERIOD_S = 0.25

_Send = Callable[[Any], None]
_STATE = health_pb2.HealthCheckResponse


class Health:
    """Check and Watch. `start` before the first call, `stop` when no more calls are wanted."""

    def __init__(self, unready: Callable[[], str], names: Collection[str]) -> None:
        self._unready = unready
        self._names = frozenset(names)
        self._watchers: dict[_Send, str] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="health", daemon=True)

    def handlers(self, pool: ThreadPoolExecutor) -> Any:
        """grpc's handlers, run in a pool of their own: the state has an answer while every other thread is busy."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(
                    _run_in(pool, self.check), health_pb2.HealthCheckRequest.FromString, _STATE.SerializeToString
                ),
                "Watch": grpc.unary_stream_rpc_method_handler(
                    _run_in(pool, self.watch), health_pb2.HealthCheckRequest.FromString, _STATE.SerializeToString
                ),
            },
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell every watcher "not serving" and end its stream, which would otherwise hold up the server's end."""
        self._stopped.set()
        with self._lock:
            watchers = list(self._watchers.items())
        for send, name in watchers:
            send(self._answer(name))
            send(None)

    def check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Any:
        """The state of a service now; NOT_FOUND for a name that is not known."""
        if request.service not in self._names:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details(f"There is no service {request.service}; ask for one of {', '.join(self._known())}.")
            return _STATE()
        return self._answer(request.service)

    def watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send_response_callback: _Send
    ) -> None:
        """Send the state now and at each change, until the client or the server ends. Holds no thread meanwhile."""
        send = send_response_callback
        with self._lock:
            self._watchers[send] = request.service

        def forget() -> None:
            with self._lock:
                self._watchers.pop(send, None)

        if context.add_callback(forget):
            send(self._answer(request.service))
        else:
            forget()

    def _known(self) -> list[str]:
        return sorted(name or '""' for name in self._names)

    def _answer(self, name: str) -> Any:
        if name not in self._names:
            return _STATE(status=_STATE.SERVICE_UNKNOWN)
        serving = not self._stopped.is_set() and not self._unready()
        return _STATE(status=_STATE.SERVING if serving else _STATE.NOT_SERVING)

    def _follow(self) -> None:
        last = self._answer("").status
        while not self._stopped.wait(WATCH_PERIOD_S):
            now = self._answer("").status
            if now != last:
                with self._lock:
                    watchers = list(self._watchers.items())
                for send, name in watchers:
                    send(self._answer(name))
            last = now


def _run_in(pool: ThreadPoolExecutor, behavior: Callable[..., Any]) -> Callable[..., Any]:
    """grpc looks at these attributes of a behaviour: its pool, and whether it sends by itself, holding no thread."""

    def run(*arguments: Any, **keywords: Any) -> Any:
        return behavior(*arguments, **keywords)

    run.experimental_thread_pool = pool  # type: ignore[attr-defined]
    run.experimental_non_blocking = True  # type: ignore[attr-defined]
    return run
