"""What FastAPI answers: health, metrics, the interactive docs, and the dialects' pages.

Owns the routes and what a URL that is no dialect's is told. What a dialect's pages say is the dialect's business.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import PlainTextResponse

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


def build_pages(
    claims: Claims, exposition: Exposition, unready: Callable[[], str], trouble: Callable[[], str], *, docs: bool,
    has_keys: bool = False,
) -> FastAPI:  # fmt: skip
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
        # FastAPI names in a header the methods that a path allows, which are GET here and so HEAD.
        headers = tuple(
            (name.lower().encode(), value.replace("GET", "GET, HEAD").encode())
            for name, value in (error.headers or {}).items()
        )
        return _response(Reply(error.status_code, JSON, error_body(shorten(text)), headers))

    async def broken(_request: Request, error: Exception) -> Response:
        return _response(claims.refuse(as_serving_error(error)))

    async def refused(request: Request, error: Any) -> Response:
        return _response(claims.refuse(error, request.scope["raw_path"]))

    app = FastAPI(
        title="estimator-serving",
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={404: unrouted, 405: unrouted, 500: broken, ServingError: refused},
    )

    _add_operators_pages(app, exposition, unready, trouble, docs=docs)
    for dialect in claims.dialects:
        _add_pages(app, dialect)
    app.openapi = partial(_describe_all, app.openapi, claims, has_keys)  # type: ignore[method-assign]
    return app


def _add_operators_pages(
    app: FastAPI, exposition: Exposition, unready: Callable[[], str], trouble: Callable[[], str], *, docs: bool
) -> None:
    """What load balancers, Prometheus and people ask for: the probes, the metrics and the interactive docs."""

    @app.get("/healthz", summary="Whether the process answers at all")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether predictions can be answered, and why not", responses=ERRORS)
    async def readyz(request: Request) -> Response:
        context, reason = _context(request), unready()
        if reason:
            return _response(Reply(503, JSON, error_body(context.shown(reason))))
        warned = {"warning": text} if (text := trouble()) and context.may(Right.METADATA) else {}
        return _response(Reply(200, JSON, orjson.dumps({"status": "ready"} | warned)))

    def prometheus(request: Request) -> Response:  # on a thread, because other processes may have to be asked
        _context(request).require(Right.METRICS)
        return Response(exposition.render(), headers={"content-type": metrics.CONTENT_TYPE})

    async def openapi(request: Request) -> Response:
        _context(request).require(Right.METADATA)
        return Response(orjson.dumps(app.openapi()), headers={"content-type": JSON.decode()})

    async def interactive(request: Request) -> Response:
        _context(request).require(Right.METADATA)
        return get_swagger_ui_html(openapi_url=_OPENAPI, title=app.title)

    if docs:
        app.add_route(_OPENAPI, openapi)
        app.add_route(_DOCS, interactive)
    for path in exposition.paths:
        app.add_api_route(
            path, prometheus, methods=["GET"], summary="Prometheus metrics", response_class=PlainTextResponse
        )


def _describe_all(pages: Callable[[], dict[str, Any]], claims: Claims, has_keys: bool) -> dict[str, Any]:
    """The OpenAPI document of this moment: the pages, and the inferences of the models that are loaded."""
    paths = dict(pages()["paths"])
    for dialect in claims.dialects:
        paths |= dialect.operations()
    document = pages() | {"paths": paths}
    if has_keys:
        components = document.get("components", {})
        document["components"] = components | {"securitySchemes": _SECURITY_SCHEMES}
        document["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    return document


def _add_pages(app: FastAPI, dialect: Dialect) -> None:
    """Routes for a dialect's pages. They answer as any URL below its prefix does, and show in the interactive docs."""

    async def describe(request: Request) -> Response:
        return _describe(dialect, request)

    for page in dialect.pages:
        names = [part[1:-1] for part in page.path.split("/") if part.startswith("{")]
        named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        extra = {"parameters": named}
        app.add_api_route(
            page.path, describe, methods=["GET"], summary=page.summary, openapi_extra=extra, responses=ERRORS
        )


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
