"""The proof: sample requests and their answers, as TensorFlow Serving's PredictionLogs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.exporter.servable.proof import REQUESTS_FILE, RESPONSES_FILE, sample_logs
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD, Signature, TensorInfo
from estimator_serving.wire.tensors import decode_tensor

EXAMPLES = {"examples": TensorInfo("input_example_tensor:0", dtypes.string, (-1,))}
INPUTS = {"inputs": EXAMPLES["examples"]}
SCORES = TensorInfo("p:0", dtypes.float32, (-1, 2))
WORDS = TensorInfo("w:0", dtypes.string, (-1, 2))
ROWS = {"examples": np.array([b"%d" % row for row in range(16)], object)}

SIGNATURES = {
    "predict": Signature(EXAMPLES, {"p": SCORES, "words": WORDS}, PREDICT_METHOD),
    "classify": Signature(INPUTS, {"scores": SCORES, "classes": WORDS}, CLASSIFY_METHOD),
    "regress": Signature(INPUTS, {"outputs": TensorInfo("v:0", dtypes.float32, (-1, 1))}, REGRESS_METHOD),
}


def answer(rows):
    """Numbers that say which rows they are of."""
    (examples,) = rows.values()
    numbers = np.float32([[int(one), -int(one)] for one in examples])
    words = np.array([["no", "é"]] * len(examples), object)
    return {"p": numbers, "w": words, "v": numbers[:, :1]}


def read(records):
    return [serving_pb.PredictionLog.FromString(one) for one in records]


def logs_of(count=2, signatures=SIGNATURES, inputs=ROWS):
    files = sample_logs(signatures, inputs, answer, count)
    return read(files.get(REQUESTS_FILE, ())), read(files.get(RESPONSES_FILE, ()))


def test_every_signature_is_asked_for_one_row_and_then_for_four():
    requests, responses = logs_of()
    assert [log.WhichOneof("log_type") for log in responses] == ["classify_log", "predict_log", "regress_log"] * 2
    assert [len(log.classify_log.request.input.example_list.examples) for log in requests[::3]] == [1, 4]
    assert list(requests[3].classify_log.request.input.example_list.examples) == [b"1", b"2", b"3", b"4"]
    keys = [getattr(log, log.WhichOneof("log_type")).request.model_spec.signature_name for log in requests]
    assert keys == ["classify", "predict", "regress"] * 2


def test_requests_are_the_responses_without_their_answers():
    requests, responses = logs_of(3)
    for request, response in zip(requests, responses, strict=True):
        kind = response.WhichOneof("log_type")
        assert getattr(response, kind).HasField("response")
        getattr(response, kind).ClearField("response")
        assert request == response


def test_a_predict_log_holds_tensors():
    _, (log,) = logs_of(1, {"predict": SIGNATURES["predict"]})
    assert decode_tensor(log.predict_log.request.inputs["examples"]).tolist() == [b"0"]
    outputs = {alias: decode_tensor(one).tolist() for alias, one in log.predict_log.response.outputs.items()}
    assert outputs == {"p": [[0.0, 0.0]], "words": [[b"no", "é".encode()]]}
    assert log.predict_log.response.model_spec.signature_name == "predict"


def test_a_classify_log_holds_every_class_with_its_score():
    _, (_, log) = logs_of(2, {"classify": SIGNATURES["classify"]})
    rows = log.classify_log.response.result.classifications
    assert [[(one.label, one.score) for one in row.classes] for row in rows][1] == [("no", 2.0), ("é", -2.0)]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [({"scores": SCORES}, [("", 0.0), ("", 0.0)]), ({"classes": WORDS}, [("no", 0.0), ("é", 0.0)])],
)
def test_a_classify_signature_may_lack_scores_or_classes(outputs, expected):
    _, (log,) = logs_of(1, {"classify": Signature(INPUTS, outputs, CLASSIFY_METHOD)})
    (row,) = log.classify_log.response.result.classifications
    assert [(one.label, one.score) for one in row.classes] == expected


def test_a_regress_log_holds_one_number_a_row():
    _, (_, log) = logs_of(2, {"regress": SIGNATURES["regress"]})
    assert [one.value for one in log.regress_log.response.result.regressions] == [1.0, 2.0, 3.0, 4.0]


def test_what_no_log_can_hold_has_no_proof():
    other = {"single:predict": Signature({"x": SCORES}, {"p": SCORES}, PREDICT_METHOD)}
    assert sample_logs(other, ROWS, answer, 2) == {}
    training = {"train": Signature(EXAMPLES, {"p": SCORES}, "tensorflow/supervised/training")}
    assert sample_logs(training, ROWS, answer, 2) == {}
    assert sample_logs({}, ROWS, answer, 2) == {}
    assert sample_logs(SIGNATURES, ROWS, answer, 0) == {}


@given(st.integers(1, 4), st.sets(st.sampled_from(sorted(SIGNATURES)), min_size=1))
def test_every_request_has_rows_of_its_own(count, keys):
    requests, responses = logs_of(count, {key: SIGNATURES[key] for key in keys})
    assert len(requests) == len(responses) == count * len(keys)
    asked = []
    for log in requests:
        if log.HasField("regress_log"):
            asked += log.regress_log.request.input.example_list.examples
    assert len(asked) == len(set(asked))


def test_the_same_rows_give_the_same_bytes():
    backwards = dict(reversed(SIGNATURES.items()))
    assert sample_logs(SIGNATURES, ROWS, answer, 2) == sample_logs(backwards, ROWS, answer, 2)
