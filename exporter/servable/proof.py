"""The proof a servable carries: sample requests, and the answers they had at export.

Owns the two files of `assets.extra`: TensorFlow Serving's warmup requests, and the same requests with their answers,
which a server compares with its own before a version takes requests. Writes messages only; how a server reads them is
not known here.
Source: TensorFlow Serving, SavedModel warmup (a TFRecord of PredictionLog).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from estimator_serving.training.arrays import Array
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
    recorded = {
        key: signatures[key]
        for key in sorted(signatures)
        # Other methods have no log; an alternative's tensors are others than those of the samples.
        if signatures[key].method_name in (CLASSIFY_METHOD, REGRESS_METHOD)
        or (signatures[key].method_name == PREDICT_METHOD and signatures[key].inputs.keys() == inputs.keys())
    }
    if not recorded:
        return {}
    sizes = [_ROWS[min(index, len(_ROWS) - 1)] for index in range(count)]
    requests, responses = [], []
    for start, end in itertools.pairwise(itertools.accumulate(sizes, initial=0)):
        rows = {alias: array[start:end] for alias, array in inputs.items()}
        outputs = answer(rows)
        for key, signature in recorded.items():
            named = {alias: outputs[info.value_name] for alias, info in signature.outputs.items()}
            log = _log(key, signature, rows, named)
            responses.append(log.SerializeToString(deterministic=True))
            for kind in ("predict_log", "classify_log", "regress_log"):
                if log.HasField(kind):
                    getattr(log, kind).ClearField("response")
            requests.append(log.SerializeToString(deterministic=True))
    return {REQUESTS_FILE: requests, RESPONSES_FILE: responses} if responses else {}


def _log(key: str, signature: Signature, rows: Arrays, outputs: Arrays) -> serving_pb.PredictionLog:
    """The request for these rows and its answer, as the signature's method has them."""
    log = serving_pb.PredictionLog()
    if signature.method_name == PREDICT_METHOD:
        predict = log.predict_log
        predict.request.model_spec.signature_name = predict.response.model_spec.signature_name = key
        for alias in signature.inputs:
            predict.request.inputs[alias].CopyFrom(encode_tensor(rows[alias]))
        for alias, array in outputs.items():
            predict.response.outputs[alias].CopyFrom(encode_tensor(array))
        return log
    is_regress = signature.method_name == REGRESS_METHOD
    request = log.regress_log.request if is_regress else log.classify_log.request
    response = log.regress_log.response if is_regress else log.classify_log.response
    request.model_spec.signature_name = response.model_spec.signature_name = key
    (examples,) = rows.values()
    request.input.example_list.examples.extend(examples.tolist())
    if is_regress:
        values = outputs[REGRESS_OUTPUTS]
        for value in values.reshape(len(values), -1)[:, 0].tolist():
            log.regress_log.response.result.regressions.add(value=value)
        return log
    some = next(iter(outputs.values()))
    labels = outputs.get(CLASSIFY_CLASSES, np.full(some.shape, ""))
    scores = outputs.get(CLASSIFY_SCORES, np.zeros(some.shape, np.float32))
    for row_labels, row_scores in zip(labels.tolist(), scores.tolist(), strict=True):
        classes = log.classify_log.response.result.classifications.add()
        for label, score in zip(row_labels, row_scores, strict=True):
            classes.classes.add(label=label, score=score)
    return log
