"""What is no inference: health, metrics, the interactive docs, and the dialects' pages.

Owns these pages and what a URL that is no dialect's is told. What a dialect's pages say is the dialect's business.

Starlette answers them. FastAPI, which is Starlette with descriptions, writes the OpenAPI document and the interactive
docs, and is imported when somebody opens these: it takes as long as the rest of a server's start, and 20 MB.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from estimator_serving.serving import metrics
from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.dialects.base import JSON, Dialect, HttpError, Reply, error_body
from estimator_serving.serving.dialects.openapi import ERRORS
from estimator_serving.serving.errors import ServingError, as_serving_error, shorten
from estimator_serving.serving.http.claims import Claims
from estimator_serving.serving.http.gate import GRANT_KEY
from estimator_serving.serving.metrics import Exposition
from estimator_serving.serving.request import Context

HEALTH_PATHS = ("/healthz", "/readyz")
_DOCS, _OPENAPI = "/docs", "/openapi.json"
_TITLE = "estimator-serving"


@dataclass(frozen=True)
class _Page:
    """A URL that GET and HEAD answer. described: what FastAPI's `add_api_route` takes for the OpenAPI document."""

    path: str
    answer: Callable[[Request], Any]
    summary: str
    described: dict[str, Any] = field(default_factory=dict)


def build_pages(
    claims: Claims, exposition: Exposition, unready: Callable[[], str], trouble: Callable[[], str], *, docs: bool,
    has_keys: bool = False,
) -> Starlette:  # fmt: skip
    """The application for every request that is no inference. A HEAD reaches it as a GET.

    docs: whether /docs and /openapi.json are served. has_keys: whether callers need keys.
    unready: why requests cannot be answered now, empty when they can; trouble: what an operator has to mend although
    they can, empty for nothing.
    """

    async def unrouted(request: Request, error: Any) -> Response:
        """Below its prefix a dialect's own grammar decides: encoded slashes, other cases, malformed requests."""
        dialect = claims.below(_path(request))
        if dialect is not None:
            return _describe(dialect, request)
        prefixes = ", ".join(dialect.prefix for dialect in claims.dialects)
        text = f"Nothing is served at {request.url.path} for {request.method}; models are under {prefixes}."
        # A page allows GET, and so HEAD.
        headers = ((b"allow", b"GET, HEAD"),) if error.status_code == 405 else ()
        return _response(Reply(error.status_code, JSON, error_body(shorten(text)), headers))

    async def broken(_request: Request, error: Exception) -> Response:
        return _response(claims.refuse(as_serving_error(error)))

    async def refused(request: Request, error: Any) -> Response:
        return _response(claims.refuse(error, request.scope["raw_path"]))

    pages = _operators_pages(exposition, unready, trouble)
    for dialect in claims.dialects:
        pages += _dialects_pages(dialect)
    routes = [Route(page.path, page.answer) for page in pages]
    app = Starlette(
        routes=routes + _documents(pages, claims, has_keys) if docs else routes,
        exception_handlers={404: unrouted, 405: unrouted, 500: broken, ServingError: refused},
    )
    app.router.redirect_slashes = False
    return app


def _operators_pages(exposition: Exposition, unready: Callable[[], str], trouble: Callable[[], str]) -> list[_Page]:
    """What load balancers and Prometheus ask for: the probes and the metrics."""

    async def healthz(_request: Request) -> Response:
        return _response(Reply(200, JSON, b'{"status":"ok"}'))

    async def readyz(request: Request) -> Response:
        context, reason = _context(request), unready()
        if reason:
            return _response(Reply(503, JSON, error_body(context.shown(reason))))
        warned = {"warning": text} if (text := trouble()) and context.may(Right.METADATA) else {}
        return _response(Reply(200, JSON, orjson.dumps({"status": "ready"} | warned)))

    def prometheus(request: Request) -> Response:  # on a thread, because other processes may have to be asked
        _context(request).require(Right.METRICS)
        return Response(exposition.render(), headers={"content-type": metrics.CONTENT_TYPE})

    text = {"responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}, "response_class": Response}
    return [
        _Page("/healthz", healthz, "Whether the process answers at all", {"response_model": dict[str, str]}),
        _Page("/readyz", readyz, "Whether predictions can be answered, and why not", {"responses": ERRORS}),
        *(_Page(path, prometheus, "Prometheus metrics", text) for path in exposition.paths),
    ]


def _dialects_pages(dialect: Dialect) -> list[_Page]:
    """They answer as any URL below the dialect's prefix does, and show in the interactive docs."""

    async def describe(request: Request) -> Response:
        return _describe(dialect, request)

    pages = []
    for page in dialect.pages:
        names = [part[1:-1] for part in page.path.split("/") if part.startswith("{")]
        named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        described = {"openapi_extra": {"parameters": named}, "responses": ERRORS}
        pages.append(_Page(page.path, describe, page.summary, described))
    return pages


def _documents(pages: Sequence[_Page], claims: Claims, has_keys: bool) -> list[Route]:
    """The OpenAPI document and the interactive docs."""

    @functools.cache
    def described_pages() -> dict[str, Any]:
        from fastapi import FastAPI

        app = FastAPI(title=_TITLE)
        for page in pages:
            app.add_api_route(page.path, page.answer, methods=["GET"], summary=page.summary, **page.described)
        return app.openapi()

    def openapi(request: Request) -> Response:  # on a thread, as the next one
        _context(request).require(Right.METADATA)
        document = _describe_all(described_pages(), claims, has_keys)
        return Response(orjson.dumps(document), headers={"content-type": JSON.decode()})

    def interactive(request: Request) -> Response:
        from fastapi.openapi.docs import get_swagger_ui_html

        _context(request).require(Right.METADATA)
        return get_swagger_ui_html(openapi_url=_OPENAPI, title=_TITLE)

    return [Route(_OPENAPI, openapi), Route(_DOCS, interactive)]


def _describe_all(pages: dict[str, Any], claims: Claims, has_keys: bool) -> dict[str, Any]:
    """The OpenAPI document of this moment: the pages, and the inferences of the models that are loaded."""
    paths = dict(pages["paths"])
    for dialect in claims.dialects:
        paths |= dialect.operations()
    document = pages | {"paths": paths}
    if has_keys:
        components = document.get("components", {})
        document["components"] = components | {"securitySchemes": _SECURITY_SCHEMES}
        document["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    return document


# Any one of them.
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "clientCertificate": {"type": "mutualTLS"},
}


def _context(request: Request) -> Context:
    return Context(grant=request.scope.get(GRANT_KEY))


def _path(request: Request) -> str:
    """The path as it came: percent-encoded, without the query."""
    path: bytes = request.scope["raw_path"]
    return path.decode("latin-1")


def _describe(dialect: Dialect, request: Request) -> Response:
    try:
        return _response(
            dialect.describe(request.method, _path(request), dict(request.scope["headers"]), _context(request))
        )
    except HttpError as error:
        return _response(dialect.refuse(error))
    except Exception as error:
        return _response(dialect.refuse(as_serving_error(error)))


def _response(reply: Reply) -> Response:
    # As a header, because Starlette would add a charset to a media type of text.
    headers = {name.decode(): value.decode() for name, value in ((b"content-type", reply.content_type), *reply.headers)}
    return Response(reply.body, reply.status, headers)
