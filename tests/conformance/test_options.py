"""What flags change in the answers of both fronts."""

from __future__ import annotations

import grpc
import pytest
from tfs_requests import TYPES, X2, X, classify, example_list, filtered, predict, regress, types_request

from estimator_serving.wire.tensors import decode_tensor


def test_answers_as_tensor_content(fronts):
    front = fronts.with_settings("types", enable_serialization_as_tensor_content=True)
    outputs = front.call("Predict", types_request()).outputs
    for alias, array in TYPES.items():
        proto = outputs[f"{alias}_out"]
        assert bool(proto.tensor_content) == (alias != "s"), alias
        assert decode_tensor(proto).tolist() == array.tolist()


def test_answers_as_typed_values(fronts):
    outputs = fronts["types"].call("Predict", types_request()).outputs
    assert not any(proto.tensor_content for proto in outputs.values())


@pytest.mark.parametrize(
    ("method", "request_", "verb", "text"),
    [
        ("Classify", classify(example_list(X2), "regression"), "classify",
         "Expected classification signature method_name to be tensorflow/serving/classify. Was: tensorflow/serving/r"),
        ("Regress", regress(example_list(X2), "scores_only"), "regress",
         "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/c"),
    ],
)  # fmt: skip
def test_method_names_are_checked_where_asked(fronts, method, request_, verb, text):
    front = fronts.with_settings("examples", enable_signature_method_name_check=True)
    with pytest.raises(grpc.RpcError) as raised:
        front.call(method, request_)
    assert text in raised.value.details()
    signature = request_.model_spec.signature_name
    answer = front.post(verb, f'{{"signature_name": "{signature}", "examples": [{{"x": 1.0}}]}}')
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_predict_takes_every_method_name_it_knows(fronts):
    front = fronts.with_settings("two", enable_signature_method_name_check=True)
    assert front.call("Predict", filtered()).outputs
    front = fronts.with_settings("examples", enable_signature_method_name_check=True)
    answer = front.post("predict", '{"signature_name": "regression", "instances": [{"x": 1}]}')
    assert answer.json() == {"predictions": [[1.5]]}


def test_cors(fronts):
    front = fronts.with_settings("half", rest_api_enable_cors_support=True)
    assert front.post("predict", '{"instances": [1]}').headers["access-control-allow-origin"] == "*"
    assert front.call("Predict", predict(x=X)).outputs


def test_health_over_grpc(fronts):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    front = fronts.with_settings("half", enable_grpc_healthcheck_service=True)
    ask = health_pb2.HealthCheckRequest(service="ModelService")
    assert health_pb2_grpc.HealthStub(front.channel).Check(ask, timeout=10).status == 1
    with pytest.raises(grpc.RpcError) as raised:
        health_pb2_grpc.HealthStub(fronts["half"].channel).Check(ask, timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
