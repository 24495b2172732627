"""The HTTP front: an ASGI application, and uvicorn running it in a thread of its own.

Owns what is HTTP's alone: reading bodies under a cap, which thread answers, health, metrics and pages. Inference is
answered in front of FastAPI, which would take longer than the model does; FastAPI carries everything else. What a URL
or a body means is the dialect's business.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from estimator_serving.serving import metrics
from estimator_serving.serving.errors import InvalidArgumentError, as_serving_error
from estimator_serving.serving.http_protocol import InferProtocol
from estimator_serving.serving.metrics import Exposition
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.tfs import rest

_log = logging.getLogger(__name__)

JSON_HEADER = (b"content-type", b"application/json")
KEEP_ALIVE_S = 75
CONNECTIONS_MAX = 1024
# Waiting connections the kernel holds while the loop is busy.
BACKLOG = 2048


class BodyTooLargeError(Exception):
    """A request body over the cap."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole."""


class RestApp:
    """The ASGI application: inference here, everything else in `pages`."""

    def __init__(self, predictor: Predictor, pages: ASGIApp, slow: Executor, *, body_bytes_max: int) -> None:
        self._predictor = predictor
        self._pages = pages
        self._slow = slow
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._pages(scope, receive, send)
        try:
            target = rest.infer_target(scope["raw_path"])
        except InvalidArgumentError as error:
            return await _send(send, rest.error_reply(error))
        if target is None:
            return await self._pages(scope, receive, send)
        return await self._infer(target, scope, receive, send)

    async def _infer(self, target: rest.InferTarget, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body") or len(body) > self._body_bytes_max or message["type"] != "http.request":
            try:
                body = await _read_rest(scope, message, receive, self._body_bytes_max)
            except ClientGoneError:
                return
            except BodyTooLargeError:
                text = f"The request body is larger than {self._body_bytes_max} bytes; send fewer rows at once."
                await _send(send, rest.Reply(413, rest.error_body(text)), close=True)
                return
        if self._predictor.is_quick(target.spec, len(body)):
            reply = rest.infer(self._predictor, target, body)
        else:
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._slow, rest.infer, self._predictor, target, body)
        await _send(send, reply)


async def _read_rest(scope: Scope, message: Message, receive: Receive, bytes_max: int) -> bytes:
    """The whole body, of which `message` is the first part.

    Raises BodyTooLargeError as soon as that is known, ClientGoneError.
    """
    if _content_length(scope) > bytes_max:
        raise BodyTooLargeError
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise BodyTooLargeError
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()
    raise ClientGoneError


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _send(send: Send, reply: rest.Reply, *, close: bool = False) -> None:
    headers = [JSON_HEADER, (b"content-length", b"%d" % len(reply.body))]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _path(scope: Scope) -> str:
    """The path as it came: percent-encoded, without the query."""
    path: bytes = scope["raw_path"]
    return path.decode("latin-1")


def build_pages(predictor: Predictor, exposition: Exposition, unready: Callable[[], str]) -> FastAPI:
    """Status, metadata, health, metrics and the interactive docs.

    unready: why requests cannot be answered now, empty when they can.
    """

    async def unrouted(request: Request, error: Any) -> Response:
        """Under /v1/ the dialect's own grammar decides: encoded slashes, other cases, malformed requests."""
        if _path(request.scope).lower().startswith(rest.PREFIX):
            return _describe(predictor, request)
        text = f"Nothing is served at {request.url.path} for {request.method}; models are under /v1/models."
        return _json(rest.Reply(error.status_code, rest.error_body(text)))

    app = FastAPI(
        title="estimator-serving",
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={404: unrouted, 405: unrouted, 500: _broken},
    )

    @app.get("/healthz", summary="Whether the process answers at all")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether predictions can be answered, and why not")
    async def readyz() -> Response:
        reason = unready()
        return _json(rest.Reply(503, rest.error_body(reason)) if reason else rest.Reply(200, b'{"status":"ready"}'))

    @app.get("/metrics", summary="Prometheus metrics")
    @app.get("/monitoring/prometheus/metrics", summary="Prometheus metrics, at TensorFlow Serving's path")
    async def prometheus() -> Response:
        return Response(exposition.render(), headers={"content-type": metrics.CONTENT_TYPE})

    _add_descriptions(app, predictor)
    return app


def _add_descriptions(app: FastAPI, predictor: Predictor) -> None:
    async def describe(request: Request) -> Response:
        return _describe(predictor, request)

    for path, summary in (
        ("/v1/models/{name}", "States of a model's versions"),
        ("/v1/models/{name}/versions/{version}", "State of one version"),
        ("/v1/models/{name}/metadata", "Signatures of the newest version"),
        ("/v1/models/{name}/versions/{version}/metadata", "Signatures of one version"),
    ):
        app.add_api_route(path, describe, methods=["GET"], summary=summary, openapi_extra=_parameters(path))


def _describe(predictor: Predictor, request: Request) -> Response:
    return _json(rest.describe_model(predictor.manager, request.method, _path(request.scope)))


def _parameters(path: str) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return {"parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]}


async def _broken(_request: Request, error: Exception) -> Response:
    return _json(rest.error_reply(as_serving_error(error)))


def _json(reply: rest.Reply) -> Response:
    return Response(reply.body, reply.status, media_type="application/json")


class RestServer:
    """uvicorn in a thread. The port is bound when this is made, so that a taken one is known before models load.

    Raises OSError when the address cannot be bound.
    """

    def __init__(
        self, predictor: Predictor, exposition: Exposition, unready: Callable[[], str], *,
        address: str, port: int, threads: int, body_bytes_max: int, grace_s: float,
    ) -> None:  # fmt: skip
        self._slow = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        pages = build_pages(predictor, exposition, unready)
        app = RestApp(predictor, pages, self._slow, body_bytes_max=body_bytes_max)
        self._socket = _bind(address, port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, http=cast(Any, partial(InferProtocol, predictor)), ws="none", lifespan="off", log_config=None,
                access_log=False, proxy_headers=False,
                server_header=False, backlog=BACKLOG, limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(grace_s)),
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

    def stop(self) -> None:
        """Accept no more, let requests in flight finish within the grace period."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._slow.shutdown(wait=False, cancel_futures=True)
        self._socket.close()


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
