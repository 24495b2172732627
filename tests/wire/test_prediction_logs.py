"""PredictionLog: what is written for a call is read back, for each method of a signature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire.prediction_logs import LOG_FIELDS, log_of, outputs_of, request_of
from estimator_serving.wire.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD

FLOATS = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5)
EXAMPLES = {"inputs": np.array([b"one", b"\xff\0"], object)}


def written(method, outputs, inputs=EXAMPLES):
    return getattr(log_of(method, "key", inputs, outputs), LOG_FIELDS[method])


@given(FLOATS)
def test_regressions_come_back(values):
    array = np.float32(values).reshape(-1, 1)
    entry = written(REGRESS_METHOD, {"outputs": array})
    np.testing.assert_array_equal(outputs_of(REGRESS_METHOD, entry.response)["outputs"], array[:, 0])


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(width=32, allow_nan=False)), min_size=1, max_size=4))
def test_classes_and_scores_come_back(pairs):
    classes = np.array([[label for label, _ in pairs]], object)
    scores = np.float32([[score for _, score in pairs]])
    got = outputs_of(CLASSIFY_METHOD, written(CLASSIFY_METHOD, {"classes": classes, "scores": scores}).response)
    assert got["classes"].tolist() == classes.tolist()
    np.testing.assert_array_equal(got["scores"], scores)


@given(FLOATS)
def test_predictions_come_back(values):
    entry = written(PREDICT_METHOD, {"y": np.float32(values)}, {"x": np.float32(values)})
    np.testing.assert_array_equal(outputs_of(PREDICT_METHOD, entry.response)["y"], np.float32(values))
    assert list(entry.request.inputs) == ["x"]


def test_missing_classes_or_scores_are_empty_or_0():
    scores = outputs_of(CLASSIFY_METHOD, written(CLASSIFY_METHOD, {"classes": np.array([["a"]])}).response)["scores"]
    assert scores.tolist() == [[0.0]]


@pytest.mark.parametrize("method", [CLASSIFY_METHOD, REGRESS_METHOD])
def test_a_request_carries_the_examples_as_they_are(method):
    request = request_of(method, "key", EXAMPLES)
    assert list(request.input.example_list.examples) == [b"one", b"\xff\0"]
    assert request.model_spec.signature_name == "key"


def test_a_log_without_outputs_is_a_request_alone():
    log = log_of(REGRESS_METHOD, "key", EXAMPLES)
    assert log.regress_log.HasField("request")
    assert not log.regress_log.HasField("response")
