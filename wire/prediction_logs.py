"""PredictionLog: one request with its answer, as TensorFlow Serving logs and replays them.

Owns the conversion from the arrays of a signature call to the messages. Knows neither files nor servers.
Source: tensorflow_serving/apis/prediction_log.proto, and TensorFlow Serving's rules for classify and regress answers.
"""

from __future__ import annotations

from collections.abc import Mapping
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
)
from estimator_serving.wire.tensors import decode_tensor, encode_tensor

Arrays = Mapping[str, npt.NDArray[Any]]

# Method of a signature -> the field of a PredictionLog that logs it.
LOG_FIELDS = {PREDICT_METHOD: "predict_log", CLASSIFY_METHOD: "classify_log", REGRESS_METHOD: "regress_log"}


def request_of(method_name: str, signature_key: str, inputs: Arrays) -> Any:
    """The request message for a signature.

    Args:
        method_name: `tensorflow/serving/predict`, `classify` or `regress`.
        signature_key: the name of the signature.
        inputs: arrays by alias. Classify and regress take one: an object array of serialized Examples.
    """
    log = serving_pb.PredictionLog()
    request = getattr(log, LOG_FIELDS[method_name]).request
    request.model_spec.signature_name = signature_key
    if method_name == PREDICT_METHOD:
        for alias, array in inputs.items():
            request.inputs[alias].CopyFrom(encode_tensor(array))
    else:
        (examples,) = inputs.values()
        request.input.example_list.examples.extend(examples.tolist())
    return request


def log_of(method_name: str, signature_key: str, inputs: Arrays, outputs: Arrays | None = None) -> Any:
    """The PredictionLog of a call; without `outputs`, of a request alone, as warmup files hold them.

    Args:
        outputs: arrays by alias. Classify has `classes` and `scores` [batch, n], one of which may be missing; regress
            has `outputs` with one value for each row.
    """
    log = serving_pb.PredictionLog()
    entry = getattr(log, LOG_FIELDS[method_name])
    entry.request.CopyFrom(request_of(method_name, signature_key, inputs))
    if outputs is None:
        return log
    entry.response.model_spec.signature_name = signature_key
    if method_name == PREDICT_METHOD:
        for alias, array in outputs.items():
            entry.response.outputs[alias].CopyFrom(encode_tensor(array))
    elif method_name == CLASSIFY_METHOD:
        some = next(iter(outputs.values()))
        labels = outputs.get(CLASSIFY_CLASSES, np.full(some.shape, ""))
        scores = outputs.get(CLASSIFY_SCORES, np.zeros(some.shape, np.float32))
        for row_labels, row_scores in zip(labels.tolist(), scores.tolist(), strict=True):
            classifications = entry.response.result.classifications.add()
            for label, score in zip(row_labels, row_scores, strict=True):
                classifications.classes.add(label=label, score=score)
    else:
        for value in outputs[REGRESS_OUTPUTS].reshape(len(outputs[REGRESS_OUTPUTS]), -1)[:, 0].tolist():
            entry.response.result.regressions.add(value=value)
    return log


def outputs_of(method_name: str, response: Any) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a response message, by alias: the inverse of what `log_of` writes.

    Classify gives `classes`, an object array of str, and `scores`, float32, both [batch, n]; regress gives `outputs`,
    float32 [batch]. Strings of predict are object arrays of bytes.
    """
    if method_name == PREDICT_METHOD:
        return {alias: decode_tensor(response.outputs[alias]) for alias in sorted(response.outputs)}
    if method_name == REGRESS_METHOD:
        return {REGRESS_OUTPUTS: np.array([one.value for one in response.result.regressions], np.float32)}
    rows = [list(one.classes) for one in response.result.classifications]
    width = max(map(len, rows), default=0)
    classes = np.full((len(rows), width), "", object)
    scores = np.zeros((len(rows), width), np.float32)
    for row, entries in enumerate(rows):
        for column, entry in enumerate(entries):
            classes[row, column], scores[row, column] = entry.label, entry.score
    return {CLASSIFY_CLASSES: classes, CLASSIFY_SCORES: scores}
