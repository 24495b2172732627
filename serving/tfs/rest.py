"""TensorFlow Serving's URLs: which model, version and verb a request line names, and the answer to it.

Owns the URL grammar and the error body. Knows no server: everything here is a function from a method, a path and a body
to a status and a body. Deviations from TensorFlow Serving, each on purpose: a query string is ignored, a label counts
in a status URL too, a method other than GET and POST is 405.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
from google.protobuf import json_format

from estimator_serving.serving.errors import Code, InvalidArgumentError, ServingError, as_serving_error
from estimator_serving.serving.http_status import HTTP_STATUS
from estimator_serving.serving.manager import Manager
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.request import ModelSpec
from estimator_serving.serving.tfs import describe
from estimator_serving.serving.tfs.json_codec import CODECS
from estimator_serving.wire.pb import POOL

PREFIX = "/v1/"
_OK = HTTP_STATUS[Code.OK]
VERSION_MAX = 2**63 - 1

_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFER = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>classify|regress|predict)", re.IGNORECASE
)
_DESCRIBE = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION_OR_LABEL}(?P<metadata>/metadata)?", re.IGNORECASE)


class Reply(NamedTuple):
    """An HTTP status and a JSON body."""

    status: int
    body: bytes


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
    if match is None or match["verb"] not in CODECS:
        return None
    return InferTarget(match["verb"], _spec(match))


def infer(predictor: Predictor, target: InferTarget, body: bytes) -> Reply:
    """The answer to an inference."""
    try:
        return Reply(_OK, predictor.predict(CODECS[target.verb], body, target.spec))
    except ServingError as error:
        return error_reply(error)


def describe_model(manager: Manager, method: str, path: str) -> Reply:
    """The answer to a GET of status or metadata, and to every request under /v1/ that means nothing here."""
    try:
        match = _DESCRIBE.fullmatch(path)
        if method != "GET" or match is None:
            return _malformed(method, path)
        if match["name"] is None:
            raise InvalidArgumentError("Missing model name in request. Ask for /v1/models/NAME.")
        answer = _metadata if match["metadata"] else _status
        return Reply(_OK, orjson.dumps(answer(manager, _spec(match)), option=orjson.OPT_INDENT_2))
    except Exception as error:
        return error_reply(as_serving_error(error))


def error_reply(error: ServingError) -> Reply:
    """The status of an error's code, and the body {"error": text}."""
    return Reply(HTTP_STATUS[error.code], error_body(error.message))


def error_body(text: str) -> bytes:
    # A text may quote a request; what of it is no Unicode must not break the answer.
    return orjson.dumps({"error": text.encode(errors="replace").decode()})


def _malformed(method: str, path: str) -> Reply:
    return Reply(400 if method in ("GET", "POST") else 405, error_body(f"Malformed request: {method} {path}"))


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
