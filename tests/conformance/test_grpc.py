"""The table's gRPC messages: typed tensors field by field, MultiInference, metadata and status, malformed requests."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from servables import session_runner
from tfs_cases import GRPC_ANSWERS, GRPC_REFUSALS
from tfs_requests import MODEL_SERVICE, X2, X3, multi, spec

from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import CLASSIFY_METHOD, REGRESS_METHOD
from estimator_serving.wire.tensors import decode_tensor

# Each has a server of its own.
MODELS = ("half", "two", "examples", "types", "uint16", "bfloat16", "defaults")


def server_of(request) -> str:
    """The model's own server, or any for a model that is nowhere."""
    specs = [task.model_spec for task in request.tasks] if hasattr(request, "tasks") else [request.model_spec]
    names = [one.name for one in specs if one.name in MODELS]
    return names[0] if names else "half"


@pytest.mark.parametrize(("method", "request_", "code", "text"), GRPC_REFUSALS)
def test_refusal(fronts, method, request_, code, text):
    service = MODEL_SERVICE if method == "GetModelStatus" else "tensorflow.serving.PredictionService"
    front = fronts[server_of(request_)]
    with pytest.raises(grpc.RpcError) as raised:
        front.call(method, request_, service)
    assert raised.value.code().name == code
    assert text in raised.value.details()


@pytest.mark.parametrize(("id_", "model", "request_", "expected"), GRPC_ANSWERS, ids=lambda value: str(value)[:40])
def test_answer(fronts, id_, model, request_, expected):
    response = fronts[model].call("Predict", request_)
    for alias, array in expected.items():
        answered = decode_tensor(response.outputs[alias])
        assert answered.shape == array.shape
        np.testing.assert_array_equal(answered, array)
    if request_.output_filter:
        assert set(response.outputs) == set(expected)


def test_multi_inference(fronts):
    """Several signatures, one after the other in the answer, whatever their kind."""
    tasks = [
        ("examples", "regression", REGRESS_METHOD),
        ("examples", "", CLASSIFY_METHOD),
        ("examples", "scores_only", CLASSIFY_METHOD),
    ]
    response = fronts["examples"].call("MultiInference", multi(tasks, X2, X3))
    specs = [
        (one.model_spec.name, one.model_spec.version.value, one.model_spec.signature_name) for one in response.results
    ]
    assert specs == [
        ("examples", 123, "regression"),
        ("examples", 123, "serving_default"),
        ("examples", 123, "scores_only"),
    ]
    assert [one.WhichOneof("result") for one in response.results] == [
        "regression_result", "classification_result", "classification_result"
    ]  # fmt: skip
    assert [one.value for one in response.results[0].regression_result.regressions] == [2.5, 3.25]
    classes = response.results[1].classification_result.classifications
    assert [[(one.label, one.score) for one in row.classes] for row in classes] == [
        [("no", 2.0), ("yes", 0.5)], [("no", 3.0), ("yes", 0.25)]
    ]  # fmt: skip


def test_multi_inference_is_one_run(fronts, monkeypatch):
    runner = session_runner(fronts["examples"].server.manager.servables()[0])
    runs, run = [], runner.graph
    monkeypatch.setattr(runner, "graph", lambda names, *rest: runs.append(names) or run(names, *rest))
    tasks = [("examples", "", CLASSIFY_METHOD), ("examples", "regression", REGRESS_METHOD)]
    fronts["examples"].call("MultiInference", multi(tasks, X2))
    assert runs == [["classes", "scores", "total"]]


def test_metadata(fronts):
    request = serving_pb.GetModelMetadataRequest(model_spec=spec("examples"), metadata_field=["signature_def"])
    response = fronts["examples"].call("GetModelMetadata", request)
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = serving_pb.SignatureDefMap.FromString(packed.value).signature_def
    assert signatures["regression"].method_name == "tensorflow/serving/regress"
    assert (response.model_spec.version.value, response.model_spec.signature_name) == (123, "")


@pytest.mark.parametrize("version", [None, 123])
def test_status(fronts, version):
    request = serving_pb.GetModelStatusRequest(model_spec=spec("half", version))
    (status,) = fronts["half"].call("GetModelStatus", request, MODEL_SERVICE).model_version_status
    assert (status.version, status.state, status.status.error_code) == (123, 30, 0)


def test_bytes_that_are_no_message(fronts):
    invoke = fronts["half"].channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError, match="are not a tensorflow.serving.PredictRequest") as raised:
        invoke(b"\xff\xff\xff", timeout=30)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_method(fronts):
    with pytest.raises(grpc.RpcError) as raised:
        fronts["half"].channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")(b"", timeout=30)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
