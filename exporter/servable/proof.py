"""The proof a servable carries: sample requests, and the answers they had at export.

Owns the two files of `assets.extra`: TensorFlow Serving's warmup requests, and the same requests with their answers,
which a server compares with its own before a version takes requests. Writes messages only; how a server reads them is
not known here.
Source: TensorFlow Serving, SavedModel warmup (a TFRecord of PredictionLog).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from estimator_serving.training.arrays import Array
from estimator_serving.wire.prediction_logs import LOG_FIELDS, log_of
from estimator_serving.wire.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD, Signature

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
            log = log_of(signature.method_name, key, rows, named)
            responses.append(log.SerializeToString(deterministic=True))
            getattr(log, LOG_FIELDS[signature.method_name]).ClearField("response")
            requests.append(log.SerializeToString(deterministic=True))
    return {REQUESTS_FILE: requests, RESPONSES_FILE: responses} if responses else {}
