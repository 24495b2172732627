"""grpc.health.v1: whether this server answers, asked once (Check) or followed (Watch).

Owns the names that may be asked for and the watchers. The state itself comes from a function of the server, so that
nothing stored here can go stale.

Two threads meet here: grpc's own, which add and remove watchers, and the one that follows the state and tells them. A
lock guards the set of watchers, and is never held while one is told. Each watcher has a second lock for that, because
grpc cannot take a message, or the end, of a stream before it has sent the message before: the call that brings it would
wait for ever, or grpc's own thread would end. Once `stop` has been called, the state is "not serving".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

SERVICE = "grpc.health.v1.Health"
# How long a change may take to reach the watchers.
WATCH_PERIOD_S = 0.25

_Send = Callable[[Any], None]
_STATE = health_pb2.HealthCheckResponse


@dataclass(eq=False)
class _Watcher:
    """One open Watch stream: the service it follows, how to send to it, and the lock held while it is told."""

    name: str
    send: _Send
    ended: bool = False
    sending: threading.Lock = field(default_factory=threading.Lock)


class Health:
    """Check and Watch. `start` before the first call, `stop` when no more calls are wanted.

    admit: ends a call of an unknown caller; None to answer everybody.
    """

    def __init__(
        self,
        unready: Callable[[], str],
        names: Collection[str],
        admit: Callable[[grpc.ServicerContext], None] | None = None,
    ) -> None:
        self._admit = admit or (lambda _call: None)
        self._unready = unready
        self._names = frozenset(names)
        self._watchers: set[_Watcher] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="health", daemon=True)

    def handlers(self, pool: ThreadPoolExecutor) -> Any:
        """grpc's handlers, run in a separate pool, so that they answer while every other thread is busy."""
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
        self._tell_all()

    def check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Any:
        """The state of a service now; NOT_FOUND for an unknown name."""
        self._admit(context)
        if request.service not in self._names:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            known = ", ".join(sorted(name or '""' for name in self._names))
            context.set_details(f"There is no service {request.service}; ask for one of {known}.")
            return _STATE()
        return self._state_of(request.service)

    def watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send_response_callback: _Send
    ) -> None:
        """Send the state now and at each change, until the client or the server ends. Holds no thread meanwhile."""
        self._admit(context)
        watcher = _Watcher(request.service, send_response_callback)
        with self._lock:
            self._watchers.add(watcher)

        def forget() -> None:
            with self._lock:
                self._watchers.discard(watcher)

        if context.add_callback(forget):
            self._tell(watcher)
        else:
            forget()

    def _tell(self, watcher: _Watcher) -> None:
        """Send the state as it is when the stream is free; after `stop`, end the stream too."""
        with watcher.sending:
            if watcher.ended:
                return
            watcher.ended = self._stopped.is_set()
            watcher.send(self._state_of(watcher.name))
            if watcher.ended:
                watcher.send(None)

    def _tell_all(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            self._tell(watcher)

    def _state_of(self, name: str) -> Any:
        if name not in self._names:
            return _STATE(status=_STATE.SERVICE_UNKNOWN)
        serving = not self._stopped.is_set() and not self._unready()
        return _STATE(status=_STATE.SERVING if serving else _STATE.NOT_SERVING)

    def _follow(self) -> None:
        """The thread that tells the watchers of each change of the server's state."""
        last = self._state_of("").status
        while not self._stopped.wait(WATCH_PERIOD_S):
            now = self._state_of("").status
            if now != last:
                self._tell_all()
            last = now


def _run_in(pool: ThreadPoolExecutor, behavior: Callable[..., Any]) -> Callable[..., Any]:
    """A behaviour as grpc runs it in a pool without holding a thread: grpc reads these two attributes of it."""

    def run(*arguments: Any, **keywords: Any) -> Any:
        return behavior(*arguments, **keywords)

    run.experimental_thread_pool = pool  # type: ignore[attr-defined]
    run.experimental_non_blocking = True  # type: ignore[attr-defined]
    return run
