"""The HTTP front: an ASGI application, and uvicorn running it in a thread of its own.

Owns what is HTTP's alone: reading bodies under caps, which thread answers and for how long it is waited for, health,
metrics and pages. Inference is
answered in front of FastAPI, which would take longer than the model does; FastAPI carries everything else. What a URL
or a body means is the dialect's business.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from estimator_serving.serving import metrics
from estimator_serving.serving.dialects.tfs import rest
from estimator_serving.serving.dialects.tfs.rest import Reply, Rest
from estimator_serving.serving.errors import (
    DeadlineExceededError,
    ServingError,
    UnavailableError,
    as_serving_error,
    shorten,
)
from estimator_serving.serving.http import encoding as http_encoding
from estimator_serving.serving.http.encoding import BodyTooLargeError, UnknownCodingError
from estimator_serving.serving.http.protocol import InferProtocol, Limits, remote_of
from estimator_serving.serving.metrics import Exposition
from estimator_serving.serving.request import Context

_log = logging.getLogger(__name__)

JSON_HEADER = (b"content-type", b"application/json")
KEEP_ALIVE_S = 75
# How long a client that keeps a connection open has to ask once more when the server ends.
LINGER_S = 0.3
# Waiting connections the kernel holds while the loop is busy.
BACKLOG = 2048
# Bodies that are being received or worked on may together take this part of the memory.
HELD_SHARE = 0.25


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole, or its answer ready."""


class RestApp:
    """The ASGI application: inference here, everything else in `pages`."""

    def __init__(
        self, api: Rest, pages: ASGIApp, slow: Executor, *, body_bytes_max: int, timeout_s: float, held_bytes_max: int
    ) -> None:
        self._api = api
        self._pages = pages
        self._slow = slow
        self._body_bytes_max = body_bytes_max
        self._timeout_s = timeout_s
        self._held_bytes_max = held_bytes_max
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._pages(scope, receive, send)
        try:
            target = rest.infer_target(scope["raw_path"])
        except ServingError as error:
            return await _send(send, self._api.refuse(error))
        if target is None:
            return await self._pages(scope, receive, send)
        return await self._infer(target, scope, receive, send)

    async def _infer(self, target: rest.InferTarget, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope["headers"], receive)
        try:
            compressed = http_encoding.is_compressed(scope["headers"])
            await self._receive(body)
            reply = await self._answer(target, bytes(body.content), compressed, scope, receive)
        except ClientGoneError:
            return
        except (BodyTooLargeError, UnknownCodingError, ServingError) as error:
            reply = self._refuse(error)
        finally:
            self._held_bytes -= body.held_bytes
        await _send(send, reply, close=not body.is_whole)

    async def _receive(self, body: _Body) -> None:
        """Read a body under the caps. Raises BodyTooLargeError as soon as that is known."""
        if body.announced_bytes > self._body_bytes_max:
            raise BodyTooLargeError
        while not body.is_whole:
            self._held_bytes += await body.receive()
            if len(body.content) > self._body_bytes_max:
                raise BodyTooLargeError
            if self._held_bytes > self._held_bytes_max:
                raise UnavailableError("The requests under way fill the memory set aside for them; ask again.")

    async def _answer(
        self, target: rest.InferTarget, body: bytes, compressed: bool, scope: Scope, receive: Receive
    ) -> Reply:
        remote = remote_of(scope.get("client"))
        if not compressed and self._api.is_quick(target.spec, len(body)):
            return self._api.infer(target, body, Context(remote=remote))
        gone = threading.Event()
        context = Context(time.monotonic() + self._timeout_s, gone.is_set, remote)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._slow, self._run, target, body, compressed, context)
        leaving = asyncio.ensure_future(receive())  # after the body comes only one message: the client has gone
        try:
            waited: set[asyncio.Future[Any]] = {running, leaving}
            await asyncio.wait(waited, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            gone.set()
            if leaving.done():
                raise ClientGoneError
            raise DeadlineExceededError(
                f"Timed out waiting for notification: no answer within {self._timeout_s:g} seconds; send less at once, "
                "or serve with a longer --rest_api_timeout_in_ms."
            )
        finally:
            leaving.cancel()

    def _run(self, target: rest.InferTarget, body: bytes, compressed: bool, context: Context) -> Reply:
        try:
            content = http_encoding.inflate(body, self._body_bytes_max) if compressed else body
            return self._api.infer(target, content, context)
        except (BodyTooLargeError, ServingError) as error:
            return self._refuse(error)

    def _refuse(self, error: Exception) -> Reply:
        if isinstance(error, BodyTooLargeError):
            text = f"The request body is larger than {self._body_bytes_max} bytes, or grows out of proportion when "
            return self._api.refuse_with(413, text + "it is inflated; send fewer rows at once.")
        if isinstance(error, UnknownCodingError):
            text = f"The Content-Encoding {error} is not taken; send the body as it is, or as gzip."
            return self._api.refuse_with(415, text, ((b"accept-encoding", http_encoding.ACCEPTED),))
        assert isinstance(error, ServingError)
        return self._api.refuse(error)


class _Body:
    """A request's body while it comes."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> None:
        self.announced_bytes = _content_length(headers)
        self.content = bytearray()
        self.is_whole = False
        self.held_bytes = 0
        self._receive = receive

    async def receive(self) -> int:
        """Add the next part; returns its length. Raises ClientGoneError."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        part = message.get("body", b"")
        self.content += part
        self.held_bytes += len(part)
        self.is_whole = not message.get("more_body")
        return len(part)


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _send(send: Send, reply: Reply, *, close: bool = False) -> None:
    headers = [JSON_HEADER, (b"content-length", b"%d" % len(reply.body)), *reply.headers]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _path(scope: Scope) -> str:
    """The path as it came: percent-encoded, without the query."""
    path: bytes = scope["raw_path"]
    return path.decode("latin-1")


def build_pages(api: Rest, exposition: Exposition, unready: Callable[[], str], trouble: Callable[[], str]) -> FastAPI:
    """Status, metadata, health, metrics and the interactive docs.

    unready: why requests cannot be answered now, empty when they can; trouble: what an operator has to mend although
    they can, empty for nothing.
    """

    async def unrouted(request: Request, error: Any) -> Response:
        """Under /v1/ the dialect's own grammar decides: encoded slashes, other cases, malformed requests."""
        if _path(request.scope).lower().startswith(rest.PREFIX):
            return _describe(api, request)
        text = f"Nothing is served at {request.url.path} for {request.method}; models are under /v1/models."
        return _json(Reply(error.status_code, rest.error_body(shorten(text)), _headers_of(error)))

    async def broken(_request: Request, error: Exception) -> Response:
        return _json(api.refuse(as_serving_error(error)))

    app = FastAPI(
        title="estimator-serving",
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={404: unrouted, 405: unrouted, 500: broken},
    )

    @app.get("/healthz", summary="Whether the process answers at all")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether predictions can be answered, and why not")
    async def readyz() -> Response:
        reason = unready()
        if reason:
            return _json(Reply(503, rest.error_body(reason)))
        warned = {"warning": text} if (text := trouble()) else {}
        return _json(Reply(200, orjson.dumps({"status": "ready"} | warned)))

    async def prometheus() -> Response:
        return Response(exposition.render(), headers={"content-type": metrics.CONTENT_TYPE})

    for path in exposition.paths:
        app.add_api_route(path, prometheus, methods=["GET"], summary="Prometheus metrics")
    _add_descriptions(app, api)
    return app


def _add_descriptions(app: FastAPI, api: Rest) -> None:
    async def describe(request: Request) -> Response:
        return _describe(api, request)

    for path, summary in (
        ("/v1/models", "Names of the models"),
        ("/v1/models/{name}", "States of a model's versions"),
        ("/v1/models/{name}/versions/{version}", "State of one version"),
        ("/v1/models/{name}/metadata", "Signatures of the newest version"),
        ("/v1/models/{name}/versions/{version}/metadata", "Signatures of one version"),
    ):
        app.add_api_route(path, describe, methods=["GET"], summary=summary, openapi_extra=_parameters(path))


def _describe(api: Rest, request: Request) -> Response:
    return _json(api.describe(request.method, _path(request.scope), request.headers.get("origin", "")))


def _parameters(path: str) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return {"parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]}


def _headers_of(error: Any) -> rest.Headers:
    """The headers FastAPI gives an error: which methods a path allows."""
    return tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())


def _json(reply: Reply) -> Response:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, reply.status, headers, media_type="application/json")


DEFAULT_LIMITS = Limits()


class _Uvicorn(uvicorn.Server):
    """uvicorn, which at its end would close a connection while the next request is on its way: that reads as a reset.

    Here each open connection may ask once more, and is told that it closes; uvicorn ends those that stay silent.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in self.server_state.connections:
            cast(InferProtocol, connection).leave()
        end_s = time.monotonic() + LINGER_S
        while self.server_state.connections and time.monotonic() < end_s:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)


class RestServer:
    """uvicorn in a thread. The port is bound when this is made, so that a taken one is known before models load.

    Raises OSError when the address cannot be bound.
    """

    def __init__(
        self, api: Rest, exposition: Exposition, unready: Callable[[], str], *,
        address: str, port: int, threads: int, body_bytes_max: int, grace_s: float, timeout_s: float,
        trouble: Callable[[], str] = str, limits: Limits = DEFAULT_LIMITS,
    ) -> None:  # fmt: skip
        self._slow = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        app = RestApp(
            api, build_pages(api, exposition, unready, trouble), self._slow,
            body_bytes_max=body_bytes_max, timeout_s=timeout_s,
            held_bytes_max=max(body_bytes_max, int(HELD_SHARE * _memory_bytes())),
        )  # fmt: skip
        self._socket = _bind(address, port)
        self._server = _Uvicorn(
            uvicorn.Config(
                app, http=cast(Any, partial(InferProtocol, api, limits)), ws="none", lifespan="off", log_config=None,
                log_level="warning", access_log=False, proxy_headers=False, server_header=False, backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(grace_s)),
                callback_notify=self._sweep, timeout_notify=0,  # 0: at each of its ticks, which come once a second
            )
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

    async def _sweep(self) -> None:
        """Look for clients that take too long."""
        now_s = time.monotonic()
        for connection in list(self._server.server_state.connections):
            cast(InferProtocol, connection).check_time(now_s)

    def stop(self) -> None:
        """Accept no more, let requests in flight finish within the grace period."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._slow.shutdown(wait=False, cancel_futures=True)
        self._socket.close()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound
