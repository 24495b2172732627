# ruff: noqa: E501  (the tables read by line: one case, one line)
"""What only gRPC asks: Classify, Regress, metadata and status messages, malformed specs and tensors."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb, tensorflow_pb
from estimator_serving.wire.tensors import encode_tensor

X2 = encode_example({"x": [2.0]})
X3 = encode_example({"x": [3.0], "y": [0.25]})
MODELS = "tensorflow.serving.ModelService"


def spec(name: str, version: int | None = None, signature: str = "") -> serving_pb.ModelSpec:
    message = serving_pb.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        message.version.value = version
    return message


def predict(
    model: str = "half", version: int | None = None, signature: str = "", **inputs
) -> serving_pb.PredictRequest:
    request = serving_pb.PredictRequest(model_spec=spec(model, version, signature))
    for alias, value in inputs.items():
        tensor = value if isinstance(value, tensorflow_pb.TensorProto) else encode_tensor(value)
        request.inputs[alias].CopyFrom(tensor)
    return request


def filtered(*aliases: str) -> serving_pb.PredictRequest:
    request = predict("two", a=np.ones(1, np.float32), b=np.ones(1, np.int64))
    request.output_filter.extend(aliases)
    return request


def example_list(*examples: bytes) -> serving_pb.Input:
    return serving_pb.Input(example_list=serving_pb.ExampleList(examples=examples))


def with_context(context: bytes, *examples: bytes) -> serving_pb.Input:
    message = serving_pb.ExampleListWithContext(examples=examples, context=context)
    return serving_pb.Input(example_list_with_context=message)


def classify(examples: serving_pb.Input | None, signature: str = "") -> serving_pb.ClassificationRequest:
    return serving_pb.ClassificationRequest(model_spec=spec("examples", signature=signature), input=examples)


def regress(examples: serving_pb.Input | None, signature: str = "regression") -> serving_pb.RegressionRequest:
    return serving_pb.RegressionRequest(model_spec=spec("examples", signature=signature), input=examples)


X = np.ones(1, np.float32)
BAD_CONTENT = tensorflow_pb.TensorProto(dtype=1, tensor_content=b"abc")
BAD_CONTENT.tensor_shape.dim.add(size=1)
NEGATIVE = tensorflow_pb.TensorProto(dtype=1)
NEGATIVE.tensor_shape.dim.add(size=-1)

# method, request, code, part of the text
REFUSALS = [
    ("Predict", serving_pb.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Predict", predict("", x=X), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("Predict", predict("nope", x=X), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("Predict", predict("half", 99, x=X), "NOT_FOUND", "Servable not found for request: Specific(half, 99)"),
    ("Predict", predict("half", -1, x=X), "NOT_FOUND", "Servable not found for request: Specific(half, -1)"),
    ("Predict", predict(signature="no", x=X), "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
    ("Predict", predict(), "INVALID_ARGUMENT", "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."),
    ("Predict", predict(a=X, b=X), "INVALID_ARGUMENT", "input size does not match signature: 2!=1 len({a,b}) != len({x}). Sent extra: {a,b}. Missing but required: {x}."),
    ("Predict", predict(z=X), "INVALID_ARGUMENT", "Signature input alias: x(feed name: x:0) not found in request and no default value provided."),
    ("Predict", predict(x=X.astype(np.float64)), "INVALID_ARGUMENT", "Expects arg[0] to be float but double is provided. Input: x"),
    ("Predict", predict(x=np.array(["1"], object)), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided. Input: x"),
    ("Predict", predict("two", a=X, b=X), "INVALID_ARGUMENT", "Expects arg[1] to be int64 but float is provided. Input: b"),
    ("Predict", predict(x=BAD_CONTENT), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=NEGATIVE), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensorflow_pb.TensorProto()), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", filtered("nope"), "INVALID_ARGUMENT", "output tensor alias not found in signature: nope Outputs expected to be in the set {total,twice}."),
    ("Predict", filtered("total", "total"), "INVALID_ARGUMENT", "duplicate output tensor alias: total"),
    ("Classify", classify(None), "INVALID_ARGUMENT", "Input is empty."),
    ("Classify", classify(example_list()), "INVALID_ARGUMENT", "Input is empty."),
    ("Classify", classify(with_context(X2)), "INVALID_ARGUMENT", "Input is empty."),
    ("Classify", classify(example_list(X2), "no"), "INVALID_ARGUMENT", "No signature was found with the name: no"),
    ("Classify", classify(example_list(X2), "predict"), "INVALID_ARGUMENT", "No classification inputs found in SignatureDef"),
    ("Classify", classify(example_list(X2, b"\xff\xff")), "INVALID_ARGUMENT", "Could not parse example input"),
    ("Classify", classify(example_list(encode_example({}))), "INVALID_ARGUMENT", "Feature: x (data type: float) is required"),
    ("Regress", regress(example_list(X2), "scores_only"), "INVALID_ARGUMENT", "No regression outputs found in SignatureDef"),
    ("Regress", regress(None), "INVALID_ARGUMENT", "Input is empty."),
    ("MultiInference", serving_pb.MultiInferenceRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(model_spec=spec("half")), "INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(model_spec=spec("half"), metadata_field=["x"]), "INVALID_ARGUMENT", "Metadata field x is not supported"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(model_spec=spec("nope"), metadata_field=["signature_def"]), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("GetModelStatus", serving_pb.GetModelStatusRequest(model_spec=spec("nope")), "NOT_FOUND", "Could not find any versions of model nope"),
    ("GetModelStatus", serving_pb.GetModelStatusRequest(model_spec=spec("half", 99)), "NOT_FOUND", "Could not find version 99 of model half"),
    ("GetModelStatus", serving_pb.GetModelStatusRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "request_", "code", "text"), REFUSALS)
def test_refusal(fronts, method, request_, code, text):
    service = MODELS if method == "GetModelStatus" else "tensorflow.serving.PredictionService"
    model = request_.model_spec.name if hasattr(request_, "model_spec") else ""
    front = fronts[model if model in ("two", "examples") else "half"]
    with pytest.raises(grpc.RpcError) as raised:
        front.call(method, request_, service)
    assert raised.value.code().name == code
    assert text in raised.value.details()


def test_label(fronts):
    request = predict(x=X)
    request.model_spec.version_label = "stable"
    with pytest.raises(grpc.RpcError, match="Unrecognized servable version label: stable"):
        fronts["half"].call("Predict", request)


def test_output_filter(fronts):
    assert set(fronts["two"].call("Predict", filtered("twice")).outputs) == {"twice"}


def test_repeated_last_value(fronts):
    tensor = tensorflow_pb.TensorProto(dtype=1, float_val=[1.0])
    tensor.tensor_shape.dim.add(size=3)
    assert list(fronts["half"].call("Predict", predict(x=tensor)).outputs["y"].float_val) == [2.5, 2.5, 2.5]


def rows(response: serving_pb.ClassificationResponse) -> list:
    return [[(one.label, one.score) for one in row.classes] for row in response.result.classifications]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (classify(example_list(X2, X3)), [[("no", 2.0), ("yes", 0.5)], [("no", 3.0), ("yes", 0.25)]]),
        (classify(example_list(X2), "scores_only"), [[("", 2.0), ("", 0.5)]]),
        (classify(example_list(X2), "classes_only"), [[("no", 0.0), ("yes", 0.0)]]),
        (classify(with_context(X3, X2)), [[("no", 2.0), ("yes", 0.25)]]),
    ],
)
def test_classify(fronts, request_, expected):
    response = fronts["examples"].call("Classify", request_)
    assert rows(response) == expected
    assert response.model_spec.version.value == 123


def test_regress(fronts):
    response = fronts["examples"].call("Regress", regress(example_list(X2, X3)))
    assert [one.value for one in response.result.regressions] == [2.5, 3.25]
    assert response.model_spec.signature_name == "regression"


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
    (status,) = fronts["half"].call("GetModelStatus", request, MODELS).model_version_status
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
