"""The table's rows that both fronts have beside Predict: Classify, Regress, and mistakes with a code of their own."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
from tfs_cases import BOTH, EXAMPLES, Failure
from tfs_requests import example_list, spec, with_context

from estimator_serving.serving.dialects.http_status import HTTP_STATUS
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb

REQUESTS = {"Classify": serving_pb.ClassificationRequest, "Regress": serving_pb.RegressionRequest}


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.id)
def test_examples_over_rest(fronts, case):
    body = {"examples": case.examples} | ({"context": case.context} if case.context else {})
    body |= {"signature_name": case.signature} if case.signature else {}
    response = fronts["examples"].post(case.method.lower(), json.dumps(body))
    if isinstance(case.expected, Failure):
        assert response.status_code == HTTP_STATUS[case.expected.code]
        assert case.expected.text in response.json()["error"]
        return
    assert response.status_code == 200, response.text
    expected = [[list(one) for one in row] if isinstance(row, list) else row for row in case.expected]
    assert response.json() == {"results": expected}


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.id)
def test_examples_over_grpc(fronts, case):
    examples = [encode_example(one) for one in case.examples]
    asked = with_context(encode_example(case.context), *examples) if case.context else example_list(*examples)
    request = REQUESTS[case.method](model_spec=spec("examples", signature=case.signature), input=asked)
    if isinstance(case.expected, Failure):
        with pytest.raises(grpc.RpcError) as raised:
            fronts["examples"].call(case.method, request)
        assert raised.value.code().value[0] == case.expected.code
        assert case.expected.text in raised.value.details()
        return
    response = fronts["examples"].call(case.method, request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("examples", 123)
    assert response.model_spec.signature_name == (case.signature or "serving_default")
    assert read(response.result) == case.expected


def read(result) -> list:
    if isinstance(result, serving_pb.RegressionResult):
        return [one.value for one in result.regressions]
    return [[(one.label, one.score) for one in row.classes] for row in result.classifications]


@pytest.mark.parametrize("case", BOTH, ids=lambda case: case.id)
def test_mistake_over_rest(fronts, case):
    verb, path, body = case.rest
    response = fronts["half"].http.post(f"{path}:{verb}", content=body)
    assert response.status_code == case.status
    assert case.text in response.json()["error"]


@pytest.mark.parametrize("case", BOTH, ids=lambda case: case.id)
def test_mistake_over_grpc(fronts, case):
    with pytest.raises(grpc.RpcError) as raised:
        fronts["half"].call(*case.grpc)
    assert raised.value.code().name == case.code
    assert case.text in raised.value.details()


def test_float32_of_the_features_is_exact(fronts):
    """What a float feature is sent as over REST and gRPC is one float32."""
    values = [0.1, 1e-45, 3.4e38]
    body = json.dumps({"signature_name": "flat_regression", "examples": [{"x": value} for value in values]})
    by_rest = fronts["examples"].post("regress", body).json()["results"]
    np.testing.assert_array_equal(np.float32(by_rest), np.float32(values))
