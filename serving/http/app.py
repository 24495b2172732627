"""The HTTP front: an ASGI application, and a thread in which uvicorn runs it.

Owns what is HTTP's: reading bodies under limits, which thread answers, and how long a client waits for it. Inferences
are answered in front of the application of the pages (`pages`), which would take longer than the model does. What a URL
or a body means is the dialects' business.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from estimator_serving.serving.access.authorizer import Authorizer, Grant
from estimator_serving.serving.dialects.base import Dialect, HttpError, Reply
from estimator_serving.serving.errors import ServingError, UnavailableError
from estimator_serving.serving.http import encoding
from estimator_serving.serving.http.claims import Claim, Claims
from estimator_serving.serving.http.gate import CERTIFICATE_KEY, GRANT_KEY, Gate
from estimator_serving.serving.http.limits import Limits
from estimator_serving.serving.http.pages import HEALTH_PATHS, build_pages
from estimator_serving.serving.http.protocol import ENDS_TEXT, InferProtocol, remote_of
from estimator_serving.serving.http.slow import Slow, SlowInference
from estimator_serving.serving.metrics import Exposition
from estimator_serving.serving.models import memory
from estimator_serving.serving.request import Context
from estimator_serving.serving.routing import Route, Router

# How long a client that keeps a connection open has to ask once more when the server ends.
LINGER_S = 0.3
# How long a client has to answer the end of TLS.
TLS_END_S = 0.5
# Waiting connections the kernel holds while the loop is busy.
BACKLOG = 2048


# A client whose machine is gone is noticed after this silence, and so many probes at this pause.
_PROBING = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def keep_alive(listener: socket.socket) -> None:
    """Let the kernel probe the connections that this socket accepts, so that a client that vanished holds none."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBING.items():
        if hasattr(socket, name):  # other systems name fewer
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole, or its answer ready."""


class RestApp:
    """The ASGI application: inferences here, everything else in `pages`. All of it runs on the event loop's thread."""

    def __init__(self, claims: Claims, gate: Gate, pages: ASGIApp, slow: Slow) -> None:
        self._claims = claims
        self._gate = gate
        self._pages = pages
        self._slow = slow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._pages(scope, receive, send)
        method, path = scope["method"].encode(), scope["raw_path"]
        claim = self._claims.find(method, path)
        body = _Body(scope, receive)
        try:
            grant = self._gate.admit(method, path, scope["headers"], scope.get(CERTIFICATE_KEY, ()), claim)
        except ServingError as error:
            return await _send(self._claims.refuse(error, path), body, send)
        if claim is None:
            # A HEAD is answered as a GET is; uvicorn, whose scope still says HEAD, leaves the body out.
            method_of_page = "GET" if scope["method"] == "HEAD" else scope["method"]
            return await self._pages({**scope, "method": method_of_page, GRANT_KEY: grant}, receive, send)
        route: Route | None = None  # ours to close until `_answer` has it
        try:
            is_compressed = encoding.is_compressed(scope["headers"])
            await self._receive(body)
            spec = claim.target.spec
            if spec is not None:
                route = self._claims.router.choose(spec)
            chosen, route = route, None
            reply = await self._answer(claim, chosen, body.content(), is_compressed, grant, scope, receive)
        except ClientGoneError:
            return None
        except asyncio.CancelledError:  # by uvicorn, when the grace period is over
            reply = claim.dialect.refuse(UnavailableError(ENDS_TEXT))
        except (HttpError, ServingError) as error:
            reply = claim.dialect.refuse(error)
        finally:
            self._slow.held_bytes -= body.held_bytes
            if route is not None:
                route.close()
        return await _send(reply, body, send)

    async def _receive(self, body: _Body) -> None:
        """Read a body under the limits. Raises HttpError (413) and UnavailableError as soon as one is exceeded."""
        bytes_max = self._slow.body_bytes_max
        if body.announced_bytes > bytes_max:
            raise encoding.too_large(bytes_max)
        while not body.is_whole:
            # Not in one step: what others add or take away during the wait would be lost.
            size = await body.receive()
            self._slow.held_bytes += size
            if body.held_bytes > bytes_max:
                raise encoding.too_large(bytes_max)
            self._slow.check_room()

    async def _answer(
        self, claim: Claim, route: Route | None, body: bytes, is_compressed: bool, grant: Grant | None, scope: Scope,
        receive: Receive,
    ) -> Reply:  # fmt: skip
        """The reply, from here if that is quick, else from a thread. Closes the route. Raises ClientGoneError."""
        headers, remote = scope["headers"], remote_of(scope.get("client"))
        if route is not None and not is_compressed and route.is_quick(len(body)):
            if route.is_full:
                self._claims.pause_if_full()
            return claim.infer(route, headers, body, Context(remote=remote, grant=grant, is_reader=True))
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        inference = SlowInference(
            self._slow, claim, route, keep_alive=True, finish=lambda _inference, reply: answered.set_result(reply)
        )
        inference.start(headers, body, remote, grant, is_compressed=is_compressed)
        leaving = asyncio.ensure_future(receive())  # after the body comes only one message: the client has gone
        try:
            waited: set[asyncio.Future[Any]] = {answered, leaving}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if answered.done():
                return answered.result()
            raise ClientGoneError
        finally:
            inference.leave()
            leaving.cancel()


async def _send(reply: Reply, body: _Body, send: Send) -> None:
    """Send a reply; a connection whose request was not read as a whole is closed then."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    if not body.is_whole:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


class _Body:
    """A request's body while it comes.

    announced_bytes: what its Content-Length says, 0 if that is missing. held_bytes: received so far.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        self.announced_bytes = int(lengths[0]) if lengths and lengths[0].isdigit() else 0
        self.is_whole = False
        self.held_bytes = 0
        self._parts: list[bytes] = []
        self._receive = receive

    async def receive(self) -> int:
        """Add the next part; returns its length. Raises ClientGoneError."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        part = message.get("body", b"")
        self._parts.append(part)
        self.held_bytes += len(part)
        self.is_whole = not message.get("more_body")
        return len(part)

    def content(self) -> bytes:
        return b"".join(self._parts)


DEFAULT_LIMITS = Limits()


class _Uvicorn(uvicorn.Server):
    """uvicorn with another end: it would close a connection whose next request is on its way, and the client would see
    a reset.

    Here each open connection may ask once more, and is told that it closes; uvicorn ends those that stay silent.
    """

    def __init__(self, config: uvicorn.Config, limits: Limits) -> None:
        super().__init__(config)
        self._limits = limits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.is_ssl:
            # A handshake may take as long as a head; asyncio would wait for a minute. And a client that does not answer
            # the end of TLS, as most do not, would hold up the server's end.
            loop: Any = asyncio.get_running_loop()
            loop.create_server = partial(
                loop.create_server, ssl_handshake_timeout=self._limits.head_s, ssl_shutdown_timeout=TLS_END_S
            )
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in self.server_state.connections:
            cast(InferProtocol, connection).leave()
        end_s = time.monotonic() + LINGER_S
        while self.server_state.connections and time.monotonic() < end_s:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            cast(InferProtocol, connection).give_up()


class RestServer:
    """uvicorn in a thread. The port is bound when this is made, so that a taken one is known before models load.

    dialects: in the order in which they are asked. router: chooses the version for each request. docs: whether the
    interactive docs are served. processes: how many of this server listen on the port; 0 for this one alone. tls: the
    context of new connections, None for plain text. authorizer: knows the callers, None to let everybody in.
    auth_for_health: whether health checks need a key, too.

    Raises OSError when the address cannot be bound.
    """

    def __init__(
        self, dialects: Sequence[Dialect], router: Router, exposition: Exposition, unready: Callable[[], str], *,
        address: str, port: int, threads: int, body_bytes_max: int, grace_s: float, timeout_s: float,
        trouble: Callable[[], str] = str, limits: Limits = DEFAULT_LIMITS, docs: bool = True,
        tls: ssl.SSLContext | None = None, authorizer: Authorizer | None = None, auth_for_health: bool = False,
        processes: int = 0,
    ) -> None:  # fmt: skip
        claims = Claims(dialects, router)
        health = [*HEALTH_PATHS, *(page.path for one in dialects for page in one.pages if page.is_health)]
        gate = Gate(authorizer, () if auth_for_health else health)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        slow = Slow(
            self._threads, timeout_s, body_bytes_max, memory.held_bytes_max(body_bytes_max, max(1, processes))
        )  # fmt: skip
        pages = build_pages(claims, exposition, unready, trouble, docs=docs, has_keys=authorizer is not None)
        app = RestApp(claims, gate, pages, slow)
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if processes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keep_alive(self._socket)
        try:
            self._socket.bind((address, port))
        except OSError:
            self._socket.close()
            raise

        async def sweep() -> None:
            """Look for clients that take too long."""
            now_s = time.monotonic()
            for connection in list(self._server.server_state.connections):
                cast(InferProtocol, connection).check_time(now_s)

        self._server = _Uvicorn(
            uvicorn.Config(
                app, http=cast(Any, partial(InferProtocol, claims, gate, limits, slow)), ws="none", lifespan="off",
                log_config=None, log_level="warning", access_log=False, proxy_headers=False, server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=round(limits.idle_s), timeout_graceful_shutdown=max(1, round(grace_s)),
                callback_notify=sweep, timeout_notify=0,  # 0: at each of its ticks, which come once a second
                ssl_context_factory=(lambda _config, _default: tls) if tls else None,
            ),
            limits,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="rest", daemon=True)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Answer requests; returns once connections are accepted."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)

    def stop(self) -> None:
        """Accept no more, let requests in flight finish within the grace period."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._socket.close()
