"""TensorFlow Serving's URLs: which model, version and verb a request line names, and the answer to it.

Owns the URL grammar, the error body and what browsers are told. Knows no server: everything here goes from a method, a
path and a body to a status and a body. Deviations from TensorFlow Serving, each on purpose: a query string is ignored,
a label counts in a status URL too, a method other than GET, POST and OPTIONS is 405, /v1/models lists the models, a
header of each inference says which version answered.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
from google.protobuf import json_format

from estimator_serving.serving.dialects.http_status import HTTP_STATUS
from estimator_serving.serving.dialects.tfs import describe
from estimator_serving.serving.dialects.tfs.json_codec import codecs
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import Code, InvalidArgumentError, ServingError, as_serving_error, shorten
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.request import PATIENT, Context, ModelSpec
from estimator_serving.wire.pb import POOL

PREFIX = "/v1/"
VERBS = ("classify", "regress", "predict")
VERSION_MAX = 2**63 - 1
_OK = HTTP_STATUS[Code.OK]
METHOD_NOT_ALLOWED = 405

Headers = tuple[tuple[bytes, bytes], ...]

CORS: Headers = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)
# Overload passes quickly, or an operator has to act; either way a second is soon enough to ask again.
_RETRY: Headers = ((b"retry-after", b"1"),)
_RETRY_STATUSES = frozenset({HTTP_STATUS[Code.UNAVAILABLE], HTTP_STATUS[Code.RESOURCE_EXHAUSTED]})

_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFER = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>{'|'.join(VERBS)})", re.IGNORECASE)
_DESCRIBE = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION_OR_LABEL}(?P<metadata>/metadata)?", re.IGNORECASE)


class Reply(NamedTuple):
    """An HTTP status, a JSON body, and headers beyond those that describe it."""

    status: int
    body: bytes
    headers: Headers = ()


class InferTarget(NamedTuple):
    """What the URL of an inference names."""

    verb: str
    spec: ModelSpec


@lru_cache(maxsize=1024)
def _known_target(path: bytes) -> InferTarget | None:
    return _match_target(path)


def infer_target(path: bytes) -> InferTarget | None:
    """The target of a POST, None for a path outside the grammar. `path` is as it came, percent-encoded, without query.

    Raises InvalidArgumentError for a version that does not fit int64.
    """
    # Paths repeat; a long one is not kept, or made-up names would fill the memory.
    return _known_target(path) if len(path) <= 256 else _match_target(path)


def _match_target(path: bytes) -> InferTarget | None:
    match = _INFER.fullmatch(path.decode("latin-1"))
    # The expression ignores case, the verbs do not: TensorFlow Serving answers :PREDICT with 400.
    if match is None or match["verb"] not in VERBS:
        return None
    return InferTarget(match["verb"], _spec(match))


class Rest:
    """The REST API over one predictor. Every answer is a Reply, errors included."""

    def __init__(self, predictor: Predictor, options: Options = DEFAULT, *, cors: bool = False) -> None:
        self.is_quick = predictor.is_quick
        self._predictor = predictor
        self._codecs = codecs(options)
        self._headers: Headers = CORS if cors else ()

    def infer(self, target: InferTarget, body: bytes, context: Context = PATIENT) -> Reply:
        """The answer to an inference."""
        try:
            answer = self._predictor.predict(self._codecs[target.verb], body, target.spec, context)
            return Reply(_OK, answer.payload, self._headers + _version_header(answer.version))
        except ServingError as error:
            return self.refuse(error)

    def describe(self, method: str, path: str, origin: str = "") -> Reply:
        """The answer to a GET of models, status or metadata, and to every request under /v1/ that means nothing here.

        origin: the request's header of that name, by which a browser asks before it sends.
        """
        if method == "OPTIONS":
            return Reply(_OK if origin.startswith(("http://", "https://")) else 400, b"", self._headers)
        match = _DESCRIBE.fullmatch(path)
        if method not in ("GET", "POST"):
            return self._forbid(method, path)
        try:
            if method == "POST" or match is None:
                raise InvalidArgumentError(
                    f"Malformed request: {method} {path}. Models are at /v1/models/NAME[/versions/N|/labels/L], asked "
                    "by GET, or by POST with :predict, :classify or :regress behind it."
                )
            answer = _describe(self._predictor.manager, match)
            return Reply(_OK, orjson.dumps(answer, option=orjson.OPT_INDENT_2), self._headers)
        except Exception as error:
            return self.refuse(as_serving_error(error))

    def refuse(self, error: ServingError) -> Reply:
        """The status of an error's code, and the body {"error": text}."""
        return self.refuse_with(HTTP_STATUS[error.code], error.message)

    def refuse_with(self, status: int, text: str, headers: Headers = ()) -> Reply:
        """An error that HTTP has a status for and the canonical codes have not."""
        retry = _RETRY if status in _RETRY_STATUSES else ()
        return Reply(status, error_body(shorten(text)), self._headers + headers + retry)

    def _forbid(self, method: str, path: str) -> Reply:
        allowed = b"POST, OPTIONS" if _INFER.fullmatch(path) else b"GET, OPTIONS"
        text = f"Malformed request: {method} {path}. Here one may {allowed.decode()}."
        return self.refuse_with(METHOD_NOT_ALLOWED, text, ((b"allow", allowed),))


@lru_cache(maxsize=1024)
def _version_header(version: int) -> Headers:
    return ((b"x-model-version", b"%d" % version),)


def error_body(text: str) -> bytes:
    """{"error": text}."""
    # A text may quote a request; what of it is no Unicode must not break the answer.
    return orjson.dumps({"error": text.encode(errors="replace").decode()})


def _spec(match: re.Match[str]) -> ModelSpec:
    version = None if match["version"] is None else _version(match["version"])
    label = None if match["label"] is None else unquote(match["label"])
    return ModelSpec(unquote(match["name"]), version, label)


def _version(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    # The length comes first: Python refuses to convert integers of thousands of digits.
    if len(significant) > len(str(VERSION_MAX)) or int(significant) > VERSION_MAX:
        raise InvalidArgumentError(f"Failed to convert version: {digits} to numeric.")
    return int(significant)


def _describe(manager: Manager, match: re.Match[str]) -> dict[str, Any]:
    if match["name"] is None:
        if match["version"] or match["label"] or match["metadata"]:
            raise InvalidArgumentError("Missing model name in request. Ask for /v1/models/NAME.")
        return {"models": manager.names()}
    return (_metadata if match["metadata"] else _status)(manager, _spec(match))


def _status(manager: Manager, spec: ModelSpec) -> dict[str, Any]:
    return _to_dict(describe.model_status(manager, spec))


def _metadata(manager: Manager, spec: ModelSpec) -> dict[str, Any]:
    answered, signatures = describe.signature_defs(manager, spec)
    return {
        "model_spec": _to_dict(answered),
        # The name twice is TensorFlow Serving's: the metadata field, then the message's own field.
        "metadata": {describe.SIGNATURE_DEF_FIELD: _to_dict(signatures)},
    }


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, descriptor_pool=POOL
    )
