"""TensorFlow Serving's URLs: which model, version and verb a request line names, and the answers that run no model.

Owns the URL grammar, status and metadata as JSON, and what browsers and malformed requests are told. Knows no server:
everything here goes from a method and a path to a Target or a Reply. Deviations from TensorFlow Serving, each on
purpose: a query string is ignored, a label counts in a status URL too, a method other than GET, POST and OPTIONS is
405, and /v1/models lists the models.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import orjson
from google.protobuf import json_format

from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.dialects.base import JSON, HttpError, Page, Reply, Target
from estimator_serving.serving.dialects.tfs import describe
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.request import PATIENT, Context, ModelSpec
from estimator_serving.wire.pb import POOL

PREFIX = "/v1/"
VERBS = ("classify", "regress", "predict")
VERSION_MAX = 2**63 - 1
PAGES = (
    Page("/v1/models", "Names of the models"),
    Page("/v1/models/{name}", "States of a model's versions"),
    Page("/v1/models/{name}/versions/{version}", "State of one version"),
    Page("/v1/models/{name}/metadata", "Signatures of the newest version"),
    Page("/v1/models/{name}/versions/{version}/metadata", "Signatures of one version"),
)

# What KServe's clients ask beside that, where the operator lets them.
KSERVE_PAGES = (Page("/", "Whether the server is alive, as KServe v1 asks", is_health=True),)

_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFER = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>{'|'.join(VERBS)})", re.IGNORECASE)
_EXPLAIN = re.compile(rf"/v1/models/[^/:]+{_VERSION_OR_LABEL}:explain", re.IGNORECASE)
_DESCRIBE = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION_OR_LABEL}(?P<metadata>/metadata)?", re.IGNORECASE)


def find_target(method: bytes, path: bytes) -> Target | None:
    """What an inference names; None for any other request, a version that does not fit int64 included."""
    match = _INFER.fullmatch(path.decode("latin-1")) if method == b"POST" else None
    # The expression ignores case, the verbs do not: TensorFlow Serving answers :PREDICT with 400.
    if match is None or match["verb"] not in VERBS:
        return None
    try:
        return Target(_read_spec(match), match["verb"])
    except InvalidArgumentError:
        return None


def describe_models(
    manager: Manager, method: str, path: str, origin: str, context: Context = PATIENT, *, kserve: bool = False
) -> Reply:
    """The answer to a GET of models, status or metadata; what is no such GET is refused.

    origin: the request's header of that name, by which a browser asks before it sends. kserve: whether the status of a
    model also says its name and whether it is ready, as KServe v1's does.

    Raises ServingError, and HttpError for a method that the path does not take.
    """
    if method == "OPTIONS":
        return Reply(200 if origin.startswith(("http://", "https://")) else 400, JSON, b"")
    infers = _INFER.fullmatch(path)
    if method not in ("GET", "POST"):
        allowed = "POST, OPTIONS" if infers else "GET, HEAD, OPTIONS"
        text = f"Malformed request: {method} {path}. Here one may {allowed}."
        raise HttpError(405, text, ((b"allow", allowed.encode()),))
    if method == "POST" and infers and infers["verb"] in VERBS:
        _read_spec(infers)  # raises: it is why this request was no target
    match = _DESCRIBE.fullmatch(path)
    if method == "POST" or match is None:
        raise InvalidArgumentError(
            f"Malformed request: {method} {path}. Models are at /v1/models/NAME[/versions/N|/labels/L], asked "
            "by GET, or by POST with :predict, :classify or :regress behind it."
        )
    answer: dict[str, Any]
    if match["name"] is None:
        if match["version"] or match["label"] or match["metadata"]:
            raise InvalidArgumentError("Missing model name in request. Ask for /v1/models/NAME.")
        answer = {"models": [name for name in manager.names() if context.may(Right.METADATA, name)]}
    elif match["metadata"]:
        spec = _read_spec(match)
        context.require(Right.METADATA, spec.name)
        answered, signatures = describe.signature_defs(manager, spec)
        # The name twice is TensorFlow Serving's: the metadata field, then the message's own field.
        metadata = {describe.SIGNATURE_DEF_FIELD: _to_dict(signatures)}
        answer = {"model_spec": _to_dict(answered), "metadata": metadata}
    else:
        spec = _read_spec(match)
        context.require(Right.METADATA, spec.name)
        answer = _to_dict(describe.model_status(manager, spec))
        if kserve:
            states = [entry["state"] for entry in answer["model_version_status"]]
            answer |= {"name": spec.name, "ready": "AVAILABLE" in states}
    return Reply(200, JSON, orjson.dumps(answer, option=orjson.OPT_INDENT_2))


def describe_kserve(method: str, path: str) -> Reply | None:
    """What KServe v1 asks at URLs that mean nothing to TensorFlow Serving, None for other URLs.

    Raises UnimplementedError for explanations.
    """
    if (method, path) == ("GET", "/"):
        return Reply(200, JSON, b'{"status":"alive"}')
    if method == "POST" and _EXPLAIN.fullmatch(path):
        raise UnimplementedError(f"{path} asks for an explanation, and this server only predicts; POST to :predict.")
    return None


def _read_spec(match: re.Match[str]) -> ModelSpec:
    """The model that a path names. Raises InvalidArgumentError for a version that does not fit int64."""
    version, label = match["version"], match["label"]
    if version is not None:
        significant = version.lstrip("0") or "0"
        # The length comes first: Python refuses to convert integers of thousands of digits.
        if len(significant) > len(str(VERSION_MAX)) or int(significant) > VERSION_MAX:
            raise InvalidArgumentError(f"Failed to convert version: {version} to numeric.")
    return ModelSpec(
        unquote(match["name"]),
        None if version is None else int(version.lstrip("0") or "0"),
        None if label is None else unquote(label),
    )


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, descriptor_pool=POOL
    )
