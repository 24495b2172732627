"""What the contracts have in common: one path that predicts, a few that tell of health, and JSON errors.

Owns the paths of a contract and the way of a request through one. A contract is a subclass that says which codec reads
a request with given headers. The codecs of the bodies that TensorFlow Serving has too are handed in by the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.dialects.base import (
    JSON,
    Headers,
    HttpError,
    Page,
    Reply,
    Streaming,
    Target,
    Unary,
    error_reply,
)
from estimator_serving.serving.errors import InvalidArgumentError, NotFoundError, ServingError, UnavailableError
from estimator_serving.serving.predictor import Codec, Predictor
from estimator_serving.serving.request import Context, ModelSpec
from estimator_serving.serving.routing import Route

# Codecs by the verb of TensorFlow Serving's URL: predict, classify, regress.
Codecs = Mapping[str, Codec]


class Terms(NamedTuple):
    """What every contract of a server is made with.

    codecs: how bodies are read and written that look like TensorFlow Serving's.
    model: the model that is asked, None if a request has to name it.
    unready: why requests cannot be answered now, empty when they can.
    headers: what each answer carries.
    """

    codecs: Codecs
    model: str | None
    unready: Callable[[], str]
    headers: Headers = ()


class Contract:
    """A dialect that predicts at one path.

    path: where predictions are asked by POST. health_paths: where health is asked by GET.
    """

    header_names = frozenset({b"content-type"})

    def __init__(self, predictor: Predictor, terms: Terms, path: str, health_paths: tuple[str, ...]) -> None:
        self.prefix = path.lower()
        self.pages: tuple[Page, ...] = tuple(
            Page(one, "Whether predictions can be answered", is_health=True) for one in health_paths
        )
        self.codecs = terms.codecs
        self.headers = terms.headers
        self._predictor = predictor
        self._unready = terms.unready
        self._path = path
        self._health_paths = health_paths
        self._target = Target(ModelSpec(terms.model) if terms.model is not None else None)

    def asked(
        self, spec: ModelSpec | None, headers: Mapping[bytes, bytes], context: Context
    ) -> tuple[ModelSpec, Codec]:
        """Which model a request with these headers asks, and what reads it; `parse` is handed that model.

        spec: the contract's own model. Raises ServingError, and HttpError for a media type that is not taken.
        """
        raise NotImplementedError

    def claims(self, method: bytes, path: bytes) -> Target | None:
        return self._target if method == b"POST" and path == self._path.encode() else None

    def infer(
        self, target: Target, route: Route | None, headers: Mapping[bytes, bytes], body: bytes, context: Context
    ) -> Reply:
        spec, codec = self.asked(target.spec, headers, context)
        context.require(Right.PREDICT, spec.name)
        if route is None or spec != route.spec:
            # A header names something else than the path did, by which the front chose.
            if route is not None:
                route.close()
            route = self._predictor.router.choose(spec)
        answer = self._predictor.predict(codec, body, route, context)
        return Reply(200, JSON, answer.payload, (*self.headers, (b"x-model-version", b"%d" % answer.version)))

    def describe(self, method: str, path: str, headers: Mapping[bytes, bytes], context: Context) -> Reply:
        if path in self._health_paths and method == "GET":
            if reason := self._unready():
                raise UnavailableError(context.shown(reason))
            return Reply(200, JSON, b'{"status":"ready"}', self.headers)
        if path == self._path:
            raise HttpError(405, f"{path} takes only POST, not {method}.", ((b"allow", b"POST"),))
        raise NotFoundError(f"Nothing is served at {path}; ask for predictions by POST {self._path}.")

    def operations(self) -> Mapping[str, Any]:
        """None: the models' inferences stand in the docs under the URLs of the dialect whose bodies these are."""
        return {}

    def refuse(self, error: ServingError | HttpError) -> Reply:
        return error_reply(error, self.headers)

    def services(self) -> Mapping[str, Unary | Streaming]:
        return {}


def media_type(headers: Mapping[bytes, bytes], default: str, taken: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """The Content-Type of a request and its parameters, in lower case; the default where it has none.

    Raises HttpError (415) for a type that is not taken, and for a charset other than UTF-8.
    """
    text = headers.get(b"content-type", b"").decode("latin-1")
    name, *rest = (part.strip().lower() for part in (text or default).split(";"))
    parameters = {key.strip(): value.strip().strip('"') for key, _, value in (part.partition("=") for part in rest)}
    if name not in taken:
        raise HttpError(415, f"The Content-Type {name} is not taken; send {' or '.join(taken)}.")
    if parameters.get("charset", "utf-8") not in ("utf-8", "utf8", "us-ascii"):
        raise HttpError(415, f"The charset {parameters['charset']} is not taken; send UTF-8.")
    return name, parameters


def select_signature(spec: ModelSpec, parameters: Any, key: str) -> ModelSpec:
    """The model with the signature that a body's parameters name, if they name one.

    Any other parameter is refused, because the model would not see it. key: where the body has the parameters. Raises
    InvalidArgumentError.
    """
    if parameters is None:
        return spec
    if not isinstance(parameters, dict):
        raise InvalidArgumentError(f'"{key}" is no JSON object; leave it out, or name a signature in it.')
    unknown = sorted(parameters.keys() - {"signature_name"})
    if unknown:
        raise InvalidArgumentError(
            f'"{key}" has {", ".join(unknown)}, which this model does not take; it may have only signature_name.'
        )
    name = parameters.get("signature_name", spec.signature_name)
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(f'"signature_name" in "{key}" is {orjson.dumps(name).decode()}; send a name.')
    return spec._replace(signature_name=name)
