"""The seam between the fronts and the protocols: what a dialect is asked, by whom, and on which thread.

A dialect is one protocol that clients speak, over HTTP, over gRPC, or over both. It owns the meaning of URLs, bodies,
error bodies and rpcs. A front owns sockets, threads, limits, time and compression. The server hands its dialects to the
fronts; a front knows none of them by name, and no dialect imports another one or a front.

HTTP, for one request:

1. The front asks its dialects in order: `claims(method, path)`. The first Target wins, and the request is an inference.
   The same lines come again and again, so the front remembers the answers. They may depend on nothing else.
2. The front reads the body under its limits and inflates it. A target with a spec gets its route: the version that
   answers, chosen once. A small request to a quick version goes on here, on the event loop; any other on a thread of
   the pool, and so does every target without a spec (a call that loads a model, for example).
3. `infer(target, route, headers, body, context)` gives the Reply and closes the route; `predictor.predict` does both.
   `headers` holds those of the request's headers that `header_names` lists. A dialect that lists none costs nothing.
4. A request that no dialect claims, and whose path begins with a dialect's `prefix`, goes to that dialect's
   `describe(method, path, headers, context)`, without its body, on the event loop. This is where status and metadata
   are answered, and malformed requests and wrong methods refused. `pages` lists what the interactive docs shall show of
   that, and which of it is a health check; `operations()` gives the inferences of the models that are loaded at the
   moment, as OpenAPI writes them.
5. Where the server asks for keys, the front has refused every request of an unknown caller before, except health
   checks. What a known caller may do, the dialect asks by `context.require(right, model)`, before it looks at the
   model; for predictions, the front and the predictor do that.
6. Both may raise. The front answers with `refuse(error)`; an error that is neither a ServingError nor an HttpError is
   logged and becomes INTERNAL. `refuse` is also asked for what goes wrong before a dialect is: a body over the limit, a
   coding that is not taken. It must not raise.

gRPC: the front asks `services()` once, when it is made, for a table of full method names. A Unary call gets the bytes
of its request and gives those of its response. A Streaming call gets an iterator over requests, and yields responses,
which leave as they come; it holds a thread while it is open, none of those that Unary calls have. When the server ends,
it ends the streams that have yielded as many responses as they took requests. Both may raise as above. Before a call's
bytes are read, the front asks `full_for_s`; a full one is refused as UNAVAILABLE. Messages and reflection come from
`wire.services`. Keys are asked for as in HTTP, except for a Unary that is open.

A whole dialect, which answers lines of numbers (`curl -d 1,2 localhost:8501/csv/m` gives `2.0,3.0` where model m adds
one) and counts the requests of a stream:

    import numpy as np

    from estimator_serving.serving.dialects.base import Reply, Streaming, Target, Unary, error_reply
    from estimator_serving.serving.errors import InvalidArgumentError, NotFoundError
    from estimator_serving.serving.predictor import Codec
    from estimator_serving.serving.request import Document, ModelSpec, Request

    def parse(payload, spec):
        try:
            return Document(spec, np.array(payload.split(b","), np.float32), payload)
        except ValueError:
            raise InvalidArgumentError("The body is no line of numbers; send for example 1,2.5") from None

    def decode(document, servable):
        (alias,) = servable.signatures[document.spec.signature_name].inputs
        return Request(document.spec.signature_name, {alias: document.content})

    def encode(outputs, request, servable):
        return ",".join(str(value) for value in next(iter(outputs.values())).tolist()).encode()

    CODEC = Codec("Ask", "CSV", parse, decode, encode)

    class Csv:
        prefix = "/csv/"
        pages = ()
        header_names = frozenset()

        def __init__(self, predictor):
            self._predictor = predictor

        def claims(self, method, path):
            is_ours = method == b"POST" and path.startswith(b"/csv/")
            return Target(ModelSpec(path.removeprefix(b"/csv/").decode())) if is_ours else None

        def infer(self, target, route, headers, body, context):
            return Reply(200, b"text/csv", self._predictor.predict(CODEC, body, route, context).payload)

        def describe(self, method, path, headers, context):
            raise NotFoundError(f"{method} {path} means nothing; POST a line of numbers to /csv/MODEL.")

        def operations(self):
            return {}

        def refuse(self, error):
            return error_reply(error)

        def services(self):
            return {
                "/csv.Csv/Length": Unary(lambda payload, context: b"%d" % len(payload)),
                "/csv.Csv/Count": Streaming(lambda payloads, context: (b"%d" % i for i, _ in enumerate(payloads, 1))),
            }
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from estimator_serving.serving.dialects.http_status import HTTP_STATUS
from estimator_serving.serving.errors import Code, ServingError, shorten
from estimator_serving.serving.request import Context, ModelSpec
from estimator_serving.serving.routing import Route

JSON = b"application/json"
# Overload passes quickly, or an operator has to act. Either way, a client should ask again in a second.
_RETRY_AFTER = (b"retry-after", b"1")
_RETRY_STATUSES = frozenset({429, 503})
_UNAUTHENTICATED = 401
_CHALLENGE = (b"www-authenticate", b'Bearer realm="estimator-serving"')

# Headers of a reply, in their order; names are in lower case.
Headers = tuple[tuple[bytes, bytes], ...]

# What answers carry where browsers may ask from other sites.
CORS: Headers = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type, Authorization, X-Api-Key"),
    (b"access-control-expose-headers", b"X-Model-Version"),
)


class Reply(NamedTuple):
    """An HTTP response.

    headers: those beside content-type, content-length, date and connection, which the front writes.
    """

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()


class HttpError(Exception):
    """A refusal that HTTP has a status for and the canonical codes have not: 405, 408, 413, 415 and others.

    The exception's text is the one for the client. headers: what the reply carries beside it.
    """

    def __init__(self, status: int, text: str, headers: Headers = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class Target(NamedTuple):
    """What an inference's method and path name.

    spec: the model; None for a call that runs no model, which always goes to a thread.
    action: what is asked of it, in the dialect's own words.
    """

    spec: ModelSpec | None
    action: str = ""


class Page(NamedTuple):
    """A GET that the interactive docs show.

    path: with its variables in braces, as Starlette takes it: "/v1/models/{name}".
    is_health: whether it is a health check, which needs no key unless the operator wants it to.
    """

    path: str
    summary: str
    is_health: bool = False


def _never() -> bool:
    return False


def _takes_all() -> float | None:
    return None


class Unary(NamedTuple):
    """An rpc of one request and one response, both as bytes.

    full_for_s: None to take calls now; otherwise this one is refused before it is read, and for so many seconds there
        is no hurry to read another one. Asked on grpc's own thread, so it must be quick.
    is_side: whether it is answered apart from the predictions, so that it waits behind none; it must be quick, then.
    is_open: whether it is a health check, which needs no key unless the operator wants it to.
    has_quick: whether `answer` may be called on the thread that reads calls, now; must be quick. It gets a context that
        says so, and raises NotQuickError for a call that would hold the thread.
    """

    answer: Callable[[bytes, Context], bytes]
    full_for_s: Callable[[], float | None] = _takes_all
    is_side: bool = False
    is_open: bool = False
    has_quick: Callable[[], bool] = _never


class Streaming(NamedTuple):
    """An rpc whose requests and responses are streams of bytes.

    full_for_s: as for Unary, asked once for each stream. end: called when the server has ended.
    """

    answer: Callable[[Iterator[bytes], Context], Iterator[bytes]]
    full_for_s: Callable[[], float | None] = _takes_all
    end: Callable[[], None] = lambda: None


class Dialect(Protocol):
    """One protocol. The module's docstring says when each method is called, and has a whole implementation.

    prefix: the beginning of its URLs, in lower case. The case of a request's path does not matter here.
    header_names: in lower case, the request headers that `infer` reads.
    """

    @property
    def prefix(self) -> str: ...

    @property
    def pages(self) -> Sequence[Page]: ...

    @property
    def header_names(self) -> frozenset[bytes]: ...

    def claims(self, method: bytes, path: bytes) -> Target | None:
        """What an inference names; None for any other request, malformed ones included.

        path: as it came, percent-encoded, without the query.
        """

    def infer(
        self, target: Target, route: Route | None, headers: Mapping[bytes, bytes], body: bytes, context: Context
    ) -> Reply:
        """The reply to what `claims` took. Closes the route, which is None if the target has no spec."""

    def describe(self, method: str, path: str, headers: Mapping[bytes, bytes], context: Context) -> Reply:
        """The reply to any other request below the prefix. `path` as for `claims`; `headers` are all that came."""

    def operations(self) -> Mapping[str, Any]:
        """The inferences of the models that are loaded now: path -> OpenAPI's path item, with a body that works."""

    def refuse(self, error: ServingError | HttpError) -> Reply:
        """The reply that says what is wrong, in this dialect's form."""

    def services(self) -> Mapping[str, Unary | Streaming]:
        """The rpcs, by full method name: "/package.Service/Method"."""


def error_body(text: str) -> bytes:
    """{"error": text}, the error body of TensorFlow Serving and of the Open Inference Protocol alike."""
    # A text may quote a request, and half a character from there must not break the answer.
    return orjson.dumps({"error": text.encode(errors="replace").decode()})


def error_reply(
    error: ServingError | HttpError, headers: Headers = (), statuses: Mapping[Code, int] = HTTP_STATUS
) -> Reply:
    """A `refuse` for dialects whose errors are {"error": text}.

    headers: what each reply of the dialect carries. statuses: the HTTP status of each canonical code.
    """
    if isinstance(error, HttpError):
        status, headers = error.status, headers + error.headers
    else:
        status = statuses[error.code]
    if status in _RETRY_STATUSES:
        headers += (_RETRY_AFTER,)
    if status == _UNAUTHENTICATED:
        headers += (_CHALLENGE,)
    return Reply(status, JSON, error_body(shorten(str(error))), headers)
