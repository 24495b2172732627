"""The proof a servable carries: sample requests, and what it must answer to them.

Owns the two files of `assets.extra`: TensorFlow Serving's warmup requests, and the same requests with the answers they
had at export. Writes messages only; how a server reads them is not known here.
Source: TensorFlow Serving, SavedModel warmup (a TFRecord of PredictionLog).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import (
    CLASSIFY_CLASSES,
    CLASSIFY_METHOD,
    CLASSIFY_SCORES,
    PREDICT_METHOD,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    Signature,
)
from estimator_serving.wire.tensors import encode_tensor

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

REQUESTS_FILE = "tf_serving_warmup_requests"
RESPONSES_FILE = "expected_responses"
_ROWS = (1, 4)
"""How many rows the first, the second, … sample request has; later ones have as many as the last."""


def sample_logs(
    signatures: Mapping[str, Signature], inputs: Arrays, answer: Callable[[Arrays], Arrays], count: int
) -> dict[str, list[bytes]]:
    """The records of both files by name; no file where no signature takes these inputs.

    Args:
        signatures: by key.
        inputs: sample rows by receiver alias; a signature of one input takes the only one.
        answer: the graph's outputs, by graph name, for some of these rows.
        count: requests a signature gets.
    """
    logs = list(_logs(signatures, inputs, answer, count))
    if not logs:
        return {}
    asked = [_without_answer(log) for log in logs]
    return {REQUESTS_FILE: _serialized(asked), RESPONSES_FILE: _serialized(logs)}


def _logs(
    signatures: Mapping[str, Signature], inputs: Arrays, answer: Callable[[Arrays], Arrays], count: int
) -> Iterator[serving_pb.PredictionLog]:
    starts = np.cumsum([0, *(_rows_of(index) for index in range(count))]).tolist()
    for start, end in itertools.pairwise(starts):
        rows = {alias: array[start:end] for alias, array in inputs.items()}
        outputs = answer(rows)
        for key in sorted(signatures):
            signature = signatures[key]
            # An alternative's tensors are others than those of the samples.
            if signature.method_name in _WRITERS and _takes(signature, inputs):
                named = {alias: outputs[info.value_name] for alias, info in signature.outputs.items()}
                yield _WRITERS[signature.method_name](key, signature, rows, named)


def _rows_of(index: int) -> int:
    return _ROWS[min(index, len(_ROWS) - 1)]


def _takes(signature: Signature, inputs: Arrays) -> bool:
    return signature.method_name != PREDICT_METHOD or signature.inputs.keys() == inputs.keys()


def _predict_log(key: str, signature: Signature, rows: Arrays, outputs: Arrays) -> serving_pb.PredictionLog:
    log = serving_pb.PredictionLog()
    request, response = log.predict_log.request, log.predict_log.response
    for message in (request, response):
        message.model_spec.signature_name = key
    for alias in signature.inputs:
        request.inputs[alias].CopyFrom(encode_tensor(rows[alias]))
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(encode_tensor(array))
    return log


def _classify_log(key: str, _: Signature, rows: Arrays, outputs: Arrays) -> serving_pb.PredictionLog:
    log = serving_pb.PredictionLog()
    request, response = log.classify_log.request, log.classify_log.response
    _put_examples(request, response, key, rows)
    some = next(iter(outputs.values()))
    labels = outputs.get(CLASSIFY_CLASSES, np.full(some.shape, ""))
    scores = outputs.get(CLASSIFY_SCORES, np.zeros(some.shape, np.float32))
    for row_labels, row_scores in zip(labels.tolist(), scores.tolist(), strict=True):
        classes = response.result.classifications.add()
        for label, score in zip(row_labels, row_scores, strict=True):
            classes.classes.add(label=label, score=score)
    return log


def _regress_log(key: str, _: Signature, rows: Arrays, outputs: Arrays) -> serving_pb.PredictionLog:
    log = serving_pb.PredictionLog()
    request, response = log.regress_log.request, log.regress_log.response
    _put_examples(request, response, key, rows)
    for value in outputs[REGRESS_OUTPUTS].reshape(len(outputs[REGRESS_OUTPUTS]), -1)[:, 0].tolist():
        response.result.regressions.add(value=value)
    return log


def _put_examples(request: Any, response: Any, key: str, rows: Arrays) -> None:
    for message in (request, response):
        message.model_spec.signature_name = key
    (examples,) = rows.values()
    request.input.example_list.examples.extend(examples.tolist())


_WRITERS = {PREDICT_METHOD: _predict_log, CLASSIFY_METHOD: _classify_log, REGRESS_METHOD: _regress_log}


def _without_answer(log: serving_pb.PredictionLog) -> serving_pb.PredictionLog:
    asked = serving_pb.PredictionLog()
    asked.CopyFrom(log)
    for field in ("predict_log", "classify_log", "regress_log"):
        if asked.HasField(field):
            getattr(asked, field).ClearField("response")
    return asked


def _serialized(logs: list[serving_pb.PredictionLog]) -> list[bytes]:
    return [log.SerializeToString(deterministic=True) for log in logs]
