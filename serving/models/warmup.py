"""Requests replayed on a version before it takes traffic: to warm it up, and to check that it answers as exported.

Owns the two files of records under assets.extra, TensorFlow Serving's rules for warmup records, and the comparison of
answers. Knows messages, no codec: the function that answers a request is handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from estimator_serving.serving.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnimplementedError,
    as_serving_error,
)
from estimator_serving.serving.request import DEFAULT_SIGNATURE, Array
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import RecordError, read_records
from estimator_serving.wire.signatures import PARITY_TOLERANCE, TOLERANCE_PROPERTY
from estimator_serving.wire.tensors import decode_tensor

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
EXPECTED_FILE = Path("assets.extra", "expected_responses")
RECORDS_MAX = 1000

# Answers one request: rpc name, request message, the version -> response message.
Replay = Callable[[str, Any, Servable], Any]
# log_type of a PredictionLog -> the rpc it is a log of.
_RPC_BY_LOG = {
    "predict_log": "Predict",
    "classify_log": "Classify",
    "regress_log": "Regress",
    "multi_inference_log": "MultiInference",
}


class _Logged(NamedTuple):
    rpc: str
    request: Any
    response: Any


def warm_up(directory: Path, servable: Servable, replay: Replay, iterations: int = 1) -> int:
    """Replay a version's warmup requests, each so many times; returns how many records there were.

    Names and versions in the records are ignored, and so are responses.

    Raises:
        InvalidArgumentError: more than 1000 records, or one that is no PredictionLog.
        UnimplementedError: a record of another kind than predict, classify, regress and multi_inference.
        DataLossError: the file is no TFRecord, or was cut or changed.
        ServingError: what a replayed request failed with.
    """
    count = 0
    for count, logged in enumerate(_read(directory / WARMUP_FILE), start=1):
        for _ in range(iterations):
            _replay(logged, servable, replay, directory / WARMUP_FILE, count)
    return count


def compare(directory: Path, servable: Servable, replay: Replay, provider: str, metadata: Mapping[str, str]) -> int:
    """Replay a version's expected requests and compare the answers; returns how many records there were.

    Floats may differ by tolerance * max(1, |expected|), where the tolerance is the model's own for this execution
    provider; text and whole numbers have to be equal.

    Raises:
        FailedPreconditionError: an answer differs; the text names signature, output, row, both values and tolerance.
        ServingError: as `warm_up`.
    """
    path = directory / EXPECTED_FILE
    tolerance: float | None = None
    count = 0
    for count, logged in enumerate(_read(path), start=1):
        if tolerance is None:
            text = metadata.get(TOLERANCE_PROPERTY)
            try:
                own = {key: float(value) for key, value in json.loads(text).items()} if text else {}
            except (ValueError, TypeError, AttributeError):
                raise InvalidArgumentError(
                    f"The model's {TOLERANCE_PROPERTY} is {text!r}; expected a JSON object of numbers by execution "
                    "provider."
                ) from None
            tolerance = own.get(provider, PARITY_TOLERANCE.get(provider, max(PARITY_TOLERANCE.values())))
        response = _replay(logged, servable, replay, path, count)
        difference = _difference(logged, response, tolerance)
        if difference:
            raise FailedPreconditionError(
                f"Model {servable.name} version {servable.version} does not answer as it was exported: {difference}, "
                f"tolerance {tolerance:g} ({provider}); export it again, or mend what changed on this machine."
            )
    return count


def _read(path: Path) -> Iterator[_Logged]:
    """The records of a file, none where there is no file."""
    if not path.exists():
        return
    if not path.is_file():
        raise InvalidArgumentError(f"{path} is no plain file; write the records to a file of that name.")
    try:
        for number, record in enumerate(read_records(path), start=1):
            if number > RECORDS_MAX:
                raise InvalidArgumentError(
                    f"Number of warmup records exceeds the maximum ({RECORDS_MAX}) at {path}; keep the first ones."
                )
            try:
                log = serving_pb.PredictionLog.FromString(record)
            except DecodeError:
                raise InvalidArgumentError(
                    f"Failed to parse warmup record: record {number} of {path} is no PredictionLog; write it again."
                ) from None
            kind = log.WhichOneof("log_type")
            if kind is None:
                # Kinds that are not served are not in our message either; their numbers stand among the unknown fields.
                unknown = [entry.field_number for entry in UnknownFieldSet(log)]  # type: ignore[attr-defined]
                raise UnimplementedError(
                    f"Unsupported log_type for warmup: {unknown[0] if unknown else 0} in record {number} of {path}; "
                    f"there are {', '.join(_RPC_BY_LOG)}."
                )
            entry = getattr(log, kind)
            yield _Logged(_RPC_BY_LOG[kind], entry.request, entry.response)
    except RecordError as error:
        raise DataLossError(f"{error} Please verify your warmup data is in TFRecord format.") from None


def _replay(logged: _Logged, servable: Servable, replay: Replay, path: Path, number: int) -> Any:
    is_multi = isinstance(logged.request, serving_pb.MultiInferenceRequest)
    for spec in [task.model_spec for task in logged.request.tasks] if is_multi else [logged.request.model_spec]:
        spec.name = servable.name
        spec.ClearField("version")
        spec.ClearField("version_label")
    try:
        return replay(logged.rpc, logged.request, servable)
    except Exception as error:
        known = as_serving_error(error)
        raise type(known)(f"Record {number} of {path} cannot be replayed: {known.message}") from error


# --- comparison ---


def _difference(logged: _Logged, response: Any, tolerance: float) -> str:
    """Where a response differs from the logged one, as words; empty where it does not."""
    expected, given = _outputs(logged.request, logged.response), _outputs(logged.request, response)
    for (signature, output), wanted in expected.items():
        at = f"signature {signature}, output {output}"
        got = given.get((signature, output))
        if got is None:
            return f"{at} is missing"
        if got.shape != wanted.shape:
            return f"{at}, shape {list(got.shape)} instead of {list(wanted.shape)}"
        if wanted.dtype.kind not in "fc" or got.dtype.kind not in "fc":
            differs = np.asarray(wanted != got, dtype=bool)
        else:
            wide = np.result_type(wanted.dtype, np.float64)
            a, b = wanted.astype(wide), got.astype(wide)
            with np.errstate(invalid="ignore", over="ignore"):
                close = np.abs(a - b) <= tolerance * np.maximum(1, np.abs(a))
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            # Whatever the tolerance times infinity says, infinity is close only to itself.
            differs = np.asarray(~(same | (close & np.isfinite(a) & np.isfinite(b))))
        far = np.flatnonzero(differs)
        if far.size:
            index = np.unravel_index(far[0], wanted.shape)
            row = f"row {index[0]}: " if index else ""
            return f"{at}, {row}expected {_shown(wanted[index])}, got {_shown(got[index])}"
    return ""


def _shown(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, bytes | str)
        else f"{value:.9g}"
        if isinstance(value, np.floating)
        else str(value)
    )


def _outputs(request: Any, response: Any) -> dict[tuple[str, str], Array]:
    """A response's values as arrays, by signature and output name."""
    if isinstance(response, serving_pb.MultiInferenceResponse):
        return {
            key: array
            for task, result in zip(request.tasks, response.results, strict=False)
            for key, array in _results(task.model_spec.signature_name, result).items()
        }
    name = request.model_spec.signature_name
    if isinstance(response, serving_pb.PredictResponse):
        return {
            (name or DEFAULT_SIGNATURE, alias): decode_tensor(response.outputs[alias]) for alias in response.outputs
        }
    return _results(name, response)


def _results(signature: str, holder: Any) -> dict[tuple[str, str], Array]:
    """What a ClassificationResponse, a RegressionResponse or one result of a MultiInferenceResponse holds."""
    signature = signature or DEFAULT_SIGNATURE
    result = holder.result if hasattr(holder, "result") else getattr(holder, holder.WhichOneof("result"))
    if isinstance(result, serving_pb.RegressionResult):
        return {(signature, "value"): np.array([entry.value for entry in result.regressions], np.float32)}
    rows = [[(entry.label, entry.score) for entry in row.classes] for row in result.classifications]
    width = len(rows[0]) if rows else 0
    flat = [entry for row in rows for entry in row]
    shape = (len(rows), width) if len(flat) == len(rows) * width else (len(flat),)
    return {
        (signature, "label"): np.array([label for label, _ in flat], object).reshape(shape),
        (signature, "score"): np.array([score for _, score in flat], np.float32).reshape(shape),
    }
