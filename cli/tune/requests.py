"""The requests that `tune` sends: from a file, from a version's warm-up records, or made up from its signature.

Owns where they come from, how many rows they have, and their form over REST and gRPC. Sends nothing.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from estimator_serving.serving.dialects.openapi import sample_inputs
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.metrics import BatchMetrics
from estimator_serving.serving.models.loader import Batching, open_servable
from estimator_serving.serving.models.warmup import WARMUP_FILE
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.examples import decode_example
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.prediction_logs import LOG_FIELDS, request_of
from estimator_serving.wire.records import RecordError, read_records
from estimator_serving.wire.signatures import CLASSIFY_METHOD, DEFAULT_SIGNATURE_KEY, PREDICT_METHOD, REGRESS_METHOD
from estimator_serving.wire.tensors import decode_tensor, encode_tensor

# The name under which the server has the model while it is measured.
MODEL_NAME = "tuned"
PROTOCOLS = ("rest", "grpc")
# Enough for requests that differ, as those of many clients do.
REQUESTS_MAX = 100
_VERBS = {PREDICT_METHOD: "predict", CLASSIFY_METHOD: "classify", REGRESS_METHOD: "regress"}
# A JSON body has its content in one of these members.
_MEMBERS = {"instances", "inputs", "examples"}


class Requests(NamedTuple):
    """What is sent, in turns.

    Attributes:
        payloads: over REST whole HTTP requests, over gRPC serialized messages.
        grpc_method: the path of the gRPC method; empty for REST.
        rows: of one request, on average; 1 if requests have no rows.
        signature: the signature that is asked.
        origin: where the requests come from, in words.
        unbatched_because: why requests of this signature never share a run; empty if they do.
    """

    payloads: list[bytes]
    grpc_method: str
    rows: int
    signature: str
    origin: str
    unbatched_because: str


def make_requests(
    directory: Path, *, protocol: str, signature: str | None = None, file: Path | None = None, rows: int | None = None
) -> Requests:
    """The requests for a version directory, each with `rows` rows (None for as many as come).

    Raises ValueError for a model that cannot be opened, a signature that is not there, and a file of other requests.
    """
    batching = Batching(BatchParameters(), False, BatchMetrics().of_version)
    try:
        servable = open_servable(MODEL_NAME, 1, directory, intra_op_threads=1, batching=batching)
    except ServingError as error:
        raise ValueError(str(error)) from error
    if signature is not None and signature not in servable.signatures:
        raise ValueError(
            f"There is no signature {signature!r}; --signature takes {', '.join(sorted(servable.signatures))}."
        )
    body = _read_body(file) if file is not None else None
    if body is not None:
        if protocol != "rest":
            raise ValueError(
                f"{file} is a JSON body, which is sent over REST; leave --protocol out, or give a file of records."
            )
        return _of_body(body, f"the body in {file}", servable, signature, rows)
    path = file or directory / WARMUP_FILE
    if file is not None or path.is_file():
        messages, key = read_records_of(path, servable, signature)
        if messages:
            origin = f"{len(messages)} record{'s' * (len(messages) > 1)} of {path}"
            return _of_messages(messages, origin, protocol, servable, key, rows)
        if file is not None:
            raise ValueError(f"{file} has no record for {signature or 'a signature of this model'}; give another file.")
    key = signature or _default_signature(servable)
    return _of_messages([make_up(servable, key)], "a row that was made up", protocol, servable, key, rows)


def why_unbatched(servable: Servable, key: str) -> str:
    """Why requests of a signature never share a run, in words; empty if they do."""
    if servable.has_rows(key):
        return ""
    signature = servable.signatures[key]
    for kind, infos in (("input", signature.inputs), ("output", signature.outputs)):
        for alias, info in infos.items():
            if info.shape is not None and info.shape[:1] != (-1,):
                return f"the {kind} {alias} of the signature {key} has no free first dimension ({list(info.shape)})"
    return f"the first dimensions of the inputs and outputs of the signature {key} have different names in the model"


def _default_signature(servable: Servable) -> str:
    if DEFAULT_SIGNATURE_KEY in servable.signatures or len(servable.signatures) != 1:
        return DEFAULT_SIGNATURE_KEY
    return next(iter(servable.signatures))


def make_up(servable: Servable, key: str) -> Any:
    """A request of one row."""
    signature = servable.signatures.get(key)
    if signature is None:
        raise ValueError(f"There is no signature {key!r}; give --signature {' or '.join(sorted(servable.signatures))}.")
    inputs = sample_inputs(servable, key) if signature.method_name in LOG_FIELDS else None
    if inputs is None or (signature.method_name != PREDICT_METHOD and len(inputs) != 1):
        raise ValueError(
            f"No request can be made up for the signature {key}; give one with --request FILE, or another signature."
        )
    return request_of(signature.method_name, key, inputs)


# -- records ----------------------------------------------------------------------------------------------------------


def read_records_of(path: Path, servable: Servable, signature: str | None) -> tuple[list[Any], str]:
    """The request messages of a file of PredictionLogs for one signature, and that signature.

    Without a wanted one it is the default signature if a record asks it, else that of the first record.
    """
    found: dict[str, list[Any]] = {}
    try:
        for number, record in enumerate(itertools.islice(read_records(path), 10 * REQUESTS_MAX), start=1):
            log = serving_pb.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind in LOG_FIELDS.values():
                request = getattr(log, kind).request
                key = request.model_spec.signature_name or DEFAULT_SIGNATURE_KEY
                if key not in servable.signatures:
                    known = ", ".join(sorted(servable.signatures))
                    raise ValueError(f"Record {number} of {path} asks the signature {key!r}; the model has {known}.")
                found.setdefault(key, []).append(request)
    except (RecordError, DecodeError) as error:
        raise ValueError(
            f"{path} holds neither a JSON body nor records of PredictionLog ({error}); give --request one of them."
        ) from None
    key = signature or (DEFAULT_SIGNATURE_KEY if DEFAULT_SIGNATURE_KEY in found else next(iter(found), ""))
    return found.get(key, [])[:REQUESTS_MAX], key


def _of_messages(
    messages: Sequence[Any], origin: str, protocol: str, servable: Servable, key: str, rows: int | None
) -> Requests:
    has_rows = servable.has_rows(key)
    _check_rows(rows, has_rows, key)
    counts = []
    for message in messages:
        message.model_spec.name = MODEL_NAME
        message.model_spec.ClearField("version")
        message.model_spec.ClearField("version_label")
        counts.append(resize(message, rows) if has_rows else 1)
    if not all(counts):
        raise ValueError(f"A request of {origin} has no rows; give --rows, or a file of other requests.")
    verb = {"PredictRequest": "predict", "ClassificationRequest": "classify"}.get(type(messages[0]).__name__, "regress")
    why = why_unbatched(servable, key)
    mean = max(1, round(sum(counts) / len(counts)))
    if protocol == "grpc":
        method = f"/tensorflow.serving.PredictionService/{verb.capitalize()}"
        return Requests([one.SerializeToString() for one in messages], method, mean, key, origin, why)
    signature = servable.signatures[key]
    shapes = [info.shape for info in (*signature.inputs.values(), *signature.outputs.values())]
    # The server writes an answer in rows only if it has some.
    bodies = [as_json(message, has_rows and None not in shapes) for message in messages]
    return Requests([_http(verb, body) for body in bodies], "", mean, key, origin, why)


def resize(message: Any, rows: int | None) -> int:
    """Gives a request so many rows, its own by turns; returns how many it has."""
    if isinstance(message, serving_pb.PredictRequest):
        arrays = {alias: decode_tensor(message.inputs[alias]) for alias in message.inputs}
        came = min((len(array) for array in arrays.values() if array.ndim), default=0)
        if rows is not None and came:
            for alias, array in arrays.items():
                message.inputs[alias].CopyFrom(encode_tensor(array[np.arange(rows) % len(array)]))
    else:
        kind = message.input.WhichOneof("kind") or "example_list"
        examples = getattr(message.input, kind).examples
        came, serialized = len(examples), list(examples)
        if rows is not None and came:
            examples[:] = [serialized[row % came] for row in range(rows)]
    return rows if rows is not None and came else came


# -- JSON -------------------------------------------------------------------------------------------------------------


def _read_body(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None for a file of records."""
    if not file.is_file():
        raise ValueError(f"There is no file {file}; give --request a JSON body or records of PredictionLog.")
    content = file.read_bytes()
    # The length in front of a record has eight bytes, most of them NUL, which JSON does not have.
    if b"\0" in content[:12]:
        return None
    try:
        body = json.loads(content)
    except ValueError as error:
        raise ValueError(
            f"{file} holds neither a JSON body nor records of PredictionLog ({error}); give --request one of them."
        ) from None
    if not isinstance(body, dict) or len(_MEMBERS & body.keys()) != 1:
        raise ValueError(
            f'{file} is not the body of a request; write for example {{"instances": [[1.0, 2.0]]}}, with one of '
            "instances, inputs and examples."
        )
    return body


def _of_body(
    body: dict[str, Any], origin: str, servable: Servable, signature: str | None, rows: int | None
) -> Requests:
    key = str(signature or body.get("signature_name") or _default_signature(servable))
    if key not in servable.signatures:
        raise ValueError(f"There is no signature {key!r}; the model has {', '.join(sorted(servable.signatures))}.")
    body["signature_name"] = key
    has_rows = servable.has_rows(key)
    _check_rows(rows, has_rows, key)
    (member,) = _MEMBERS & body.keys()
    content = body[member]
    columns = content.values() if isinstance(content, dict) else [content]
    # A body whose rows cannot be counted is sent as it is.
    came = min((len(column) if isinstance(column, list) else 0 for column in columns), default=0)
    if rows is not None and came:
        if isinstance(content, dict):
            body[member] = {alias: _cycled(column, rows) for alias, column in content.items()}
        else:
            body[member] = _cycled(content, rows)
    verb = _VERBS.get(servable.signatures[key].method_name, "predict") if member == "examples" else "predict"
    sent = rows if rows is not None and came else came
    return Requests([_http(verb, body)], "", max(1, sent), key, origin, why_unbatched(servable, key))


def _cycled(rows: Sequence[Any], count: int) -> list[Any]:
    return list(itertools.islice(itertools.cycle(rows), count))


def _check_rows(rows: int | None, has_rows: bool, key: str) -> None:
    if rows is not None and not has_rows:
        raise ValueError(f"Requests of the signature {key} have no rows; leave --rows out.")


def as_json(message: Any, in_rows: bool) -> dict[str, Any]:
    """The body that asks what a message asks."""
    body: dict[str, Any] = {"signature_name": message.model_spec.signature_name or DEFAULT_SIGNATURE_KEY}
    if not isinstance(message, serving_pb.PredictRequest):
        kind = message.input.WhichOneof("kind")
        given = getattr(message.input, kind)
        body["examples"] = [_features(example) for example in given.examples]
        if kind == "example_list_with_context":
            body["context"] = _features(given.context)
        return body
    columns = {alias: _plain(decode_tensor(message.inputs[alias])) for alias in sorted(message.inputs)}
    if not in_rows:
        return body | {"inputs": columns}
    if len(columns) == 1:
        return body | {"instances": next(iter(columns.values()))}
    return body | {"instances": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _features(example: bytes) -> dict[str, Any]:
    """The features of a serialized Example, as a body has them."""
    return {
        name: [_text(value) if isinstance(value, bytes) else value for value in values]
        for name, values in decode_example(example).items()
    }


def _plain(array: npt.NDArray[Any]) -> Any:
    if array.dtype != object:
        return array.tolist()
    flat = np.empty(array.size, object)
    flat[:] = [_text(value) for value in array.ravel()]
    return flat.reshape(array.shape).tolist()


def _text(value: bytes) -> Any:
    """Text as clients write it, other bytes in base64."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    return text if text.isprintable() else {"b64": base64.b64encode(value).decode()}


def _http(verb: str, body: Mapping[str, Any]) -> bytes:
    content = json.dumps(body, ensure_ascii=False).encode()
    head = (
        f"POST /v1/models/{MODEL_NAME}:{verb} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    )
    return "\r\n".join((*head, "", "")).encode() + content
