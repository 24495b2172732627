"""Every rpc and REST call of TensorFlow Serving, made with TensorFlow's own client packages.

Run by a Python that has tensorflow 2.15 and tensorflow-serving-api 2.15.1, against running servers:

    python tensorflow_client.py --examples REST GRPC --tensors REST GRPC

`--examples` serves a classifier of the Titanic's passengers as `titanic`, `--tensors` a model `types` that gives back
what it is sent, one tensor of each type. Knows nothing of this project's code. Prints one line a call and ends with the
first that fails.
"""

import argparse
import base64
import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

NAME = "titanic"
PASSENGERS = [
    {"age": 22.0, "fare": 7.25, "sibsp": 1.0, "parch": 0.0, "class": "3rd", "gender": "male", "embarked": "S"},
    {"age": 38.0, "fare": 71.28, "sibsp": 1.0, "parch": 0.0, "class": "1st", "gender": "female", "embarked": "C"},
]
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
TIMEOUT_S = 30


def feature(value):
    if isinstance(value, str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def example(values):
    return tf.train.Example(features=tf.train.Features(feature={key: feature(one) for key, one in values.items()}))


TYPES = {
    "f": np.array([1.5, -0.1], np.float32), "d": np.array([1e300, 0.1]), "h": np.array([0.5, 65504], np.float16),
    "i8": np.array([-128, 127], np.int8), "i16": np.array([-(2**15), 2**15 - 1], np.int16),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32), "i64": np.array([-(2**63), 2**63 - 1]),
    "u8": np.array([0, 255], np.uint8), "u32": np.array([7, 2**32 - 1], np.uint32),
    "u64": np.array([7, 2**64 - 1], np.uint64), "b": np.array([True, False]), "s": np.array([b"a", b""], object),
}  # fmt: skip
EXAMPLES = [example(one) for one in PASSENGERS]
SERIALIZED = [one.SerializeToString() for one in EXAMPLES]


class Server:
    """One server's two fronts."""

    def __init__(self, rest, address):
        self.rest = rest
        channel = grpc.insecure_channel(address)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def ask(self, path, body=None):
        """(status, JSON) of a GET, or of a POST with a body."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.rest + path, data), timeout=TIMEOUT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def infer(self, verb, body, at=""):
        status, answer = self.ask(f"/v1/models/{NAME}{at}:{verb}", body)
        assert status == 200, answer
        return answer


def fill(request, signature="", version=None):
    request.model_spec.name = NAME
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.CopyFrom(wrappers_pb2.Int64Value(value=version))
    return request


def predict_request(tensors, signature="", version=None):
    request = fill(predict_pb2.PredictRequest(), signature, version)
    for alias, value in tensors.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def refused(code, text, call, request):
    error = call.future(request, timeout=TIMEOUT_S).exception()
    assert error is not None, f"not refused: {request}"
    assert error.code() is code, error
    assert text in error.details(), error.details()


def close(left, right):
    np.testing.assert_allclose(np.asarray(left, np.float64), np.asarray(right, np.float64), rtol=1e-5, atol=1e-6)


# --- the calls; each returns nothing and raises where the answer is not TensorFlow Serving's ---


def get_model_status(server, _tensors):
    response = server.models.GetModelStatus(fill(get_model_status_pb2.GetModelStatusRequest()), timeout=TIMEOUT_S)
    (status,) = response.model_version_status
    assert status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert status.status.error_code == error_codes_pb2.OK
    code, answer = server.ask(f"/v1/models/{NAME}")
    (entry,) = answer["model_version_status"]
    assert (code, entry["version"], entry["state"]) == (200, str(status.version), "AVAILABLE")
    assert entry["status"] == {"error_code": "OK", "error_message": ""}
    assert server.ask(f"/v1/models/{NAME}/versions/{status.version}")[1] == answer
    refused(
        grpc.StatusCode.NOT_FOUND, "Could not find version 9", server.models.GetModelStatus,
        fill(get_model_status_pb2.GetModelStatusRequest(), version=9),
    )  # fmt: skip


def get_model_metadata(server, _tensors):
    request = fill(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]))
    response = server.predictions.GetModelMetadata(request, timeout=TIMEOUT_S)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == CLASSIFY
    assert default.inputs["inputs"].dtype == tf.string.as_datatype_enum
    code, answer = server.ask(f"/v1/models/{NAME}/metadata")
    assert code == 200
    by_rest = answer["metadata"]["signature_def"]["signature_def"]
    assert by_rest.keys() == signatures.signature_def.keys()
    assert by_rest["serving_default"]["inputs"]["inputs"]["dtype"] == "DT_STRING"
    refused(
        grpc.StatusCode.INVALID_ARGUMENT, "must specify at least one metadata_field",
        server.predictions.GetModelMetadata, fill(get_model_metadata_pb2.GetModelMetadataRequest()),
    )  # fmt: skip


def classify(server, _tensors):
    request = fill(classification_pb2.ClassificationRequest())
    request.input.example_list.examples.extend(EXAMPLES)
    response = server.predictions.Classify(request, timeout=TIMEOUT_S)
    rows = [[(one.label, one.score) for one in row.classes] for row in response.result.classifications]
    assert response.model_spec.signature_name == "serving_default"
    assert response.model_spec.version.value > 0
    results = server.infer("classify", {"examples": PASSENGERS})["results"]
    assert [[label for label, _ in row] for row in rows] == [[label for label, _ in row] for row in results]
    close([[score for _, score in row] for row in rows], [[score for _, score in row] for row in results])
    close([sum(score for _, score in row) for row in rows], [1, 1])


def regress(server, _tensors):
    request = fill(regression_pb2.RegressionRequest(), "regression")
    request.input.example_list.examples.extend(EXAMPLES)
    response = server.predictions.Regress(request, timeout=TIMEOUT_S)
    values = [one.value for one in response.result.regressions]
    close(values, server.infer("regress", {"signature_name": "regression", "examples": PASSENGERS})["results"])
    assert 0 <= values[0] < values[1] <= 1  # a man of the third class, a woman of the first


def context(server, _tensors):
    """What both passengers share, said once; an Example's own value wins."""
    shared = {"sibsp": 1.0, "parch": 9.0}
    rest = [{key: value for key, value in one.items() if key != "sibsp"} for one in PASSENGERS]
    request = fill(regression_pb2.RegressionRequest(), "regression")
    request.input.example_list_with_context.context.CopyFrom(example(shared))
    request.input.example_list_with_context.examples.extend(example(one) for one in rest)
    with_context = [one.value for one in server.predictions.Regress(request, timeout=TIMEOUT_S).result.regressions]
    plain = {"signature_name": "regression", "examples": PASSENGERS}
    close(with_context, server.infer("regress", plain)["results"])
    close(with_context, server.infer("regress", plain | {"context": shared, "examples": rest})["results"])


def multi_inference(server, _tensors):
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in (("classification", CLASSIFY), ("regression", REGRESS)):
        task = request.tasks.add(method_name=method)
        fill(task, signature)
    request.input.example_list.examples.extend(EXAMPLES)
    classified, regressed = server.predictions.MultiInference(request, timeout=TIMEOUT_S).results
    assert classified.WhichOneof("result") == "classification_result"
    assert regressed.WhichOneof("result") == "regression_result"
    assert (classified.model_spec.signature_name, regressed.model_spec.signature_name) == (
        "classification", "regression"
    )  # fmt: skip
    scores = [row.classes[1].score for row in classified.classification_result.classifications]
    close(scores, [one.value for one in regressed.regression_result.regressions])


def predict_examples(server, _tensors):
    response = server.predictions.Predict(predict_request({"examples": SERIALIZED}, "predict"), timeout=TIMEOUT_S)
    outputs = {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}
    assert outputs["probabilities"].shape == (2, 2)
    assert outputs["probabilities"].dtype == np.float32
    rows = [{"b64": base64.b64encode(one).decode()} for one in SERIALIZED]
    for body in ({"instances": rows}, {"instances": [{"examples": one} for one in rows]}, {"instances": PASSENGERS}):
        answer = server.infer("predict", {"signature_name": "predict"} | body)["predictions"]
        close([row["probabilities"] for row in answer], outputs["probabilities"])
    for body in ({"inputs": rows}, {"inputs": {"examples": rows}}):
        answer = server.infer("predict", {"signature_name": "predict"} | body)["outputs"]
        close(answer["probabilities"], outputs["probabilities"])
    version = response.model_spec.version.value
    answer = server.infer("predict", {"signature_name": "predict", "instances": rows}, f"/versions/{version}")
    close(answer["predictions"][0]["probabilities"], outputs["probabilities"][0])


def predict_tensors(_server, tensors):
    """Every type, two values (make_tensor_proto writes content) and one (it writes a typed value), there and back."""
    for columns in (TYPES, {alias: values[:1] for alias, values in TYPES.items()}):
        request = predict_request(columns)
        request.model_spec.name = "types"
        outputs = tensors.predictions.Predict(request, timeout=TIMEOUT_S).outputs
        for alias, values in columns.items():
            answered = tf.make_ndarray(outputs[f"{alias}_out"])
            assert answered.dtype == values.dtype, alias
            np.testing.assert_array_equal(answered, values)
        words = [one.decode() for one in columns["s"]]
        body = {"inputs": {alias: values.tolist() for alias, values in columns.items() if alias != "s"} | {"s": words}}
        status, answer = tensors.ask("/v1/models/types:predict", body)
        assert status == 200, answer
        for alias, values in columns.items():
            expected = words if alias == "s" else values.tolist()
            np.testing.assert_array_equal(
                np.array(answer["outputs"][f"{alias}_out"], values.dtype), np.array(expected, values.dtype)
            )


def output_filter(server, _tensors):
    request = predict_request({"examples": SERIALIZED}, "predict")
    request.output_filter.append("logits")
    assert set(server.predictions.Predict(request, timeout=TIMEOUT_S).outputs) == {"logits"}
    request.output_filter.append("logits")
    refused(
        grpc.StatusCode.INVALID_ARGUMENT, "duplicate output tensor alias: logits", server.predictions.Predict, request
    )


def mistakes(server, _tensors):
    refusals = [
        (grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec", predict_pb2.PredictRequest()),
        (grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "no" not found', predict_request({}, "no")),
        (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(titanic, 9)", predict_request({}, "", 9)),
        (grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature", predict_request({}, "predict")),
        (
            grpc.StatusCode.INVALID_ARGUMENT, "Expects arg[0] to be string but float is provided",
            predict_request({"examples": [1.0, 2.0]}, "predict"),
        ),
        (
            grpc.StatusCode.INVALID_ARGUMENT, "Could not parse example input",
            predict_request({"examples": [b"\xff\xff"]}, "predict"),
        ),
    ]  # fmt: skip
    for code, text, request in refusals:
        refused(code, text, server.predictions.Predict, request)
    for body, text in (
        ({"instances": [1], "inputs": [1]}, "only one of 'inputs' or 'instances'"),
        ({"signature_name": "no", "instances": [1]}, 'Serving signature name: "no" not found in signature def'),
    ):
        status, answer = server.ask(f"/v1/models/{NAME}:predict", body)
        assert status == 400
        assert text in answer["error"], answer
    assert server.ask("/v1/models/nope:predict", {"instances": [1]})[0] == 404


def reload_config(server, _tensors):
    """An empty configuration is refused, and changes nothing."""
    request = model_management_pb2.ReloadConfigRequest()
    error = server.models.HandleReloadConfigRequest.future(request, timeout=TIMEOUT_S).exception()
    assert error is not None, "an empty configuration was taken"
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED), error
    assert server.ask(f"/v1/models/{NAME}")[0] == 200


CALLS = (
    get_model_status, get_model_metadata, classify, regress, context, multi_inference, predict_examples,
    predict_tensors, output_filter, mistakes, reload_config,
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", nargs=2, metavar=("REST", "GRPC"), required=True)
    parser.add_argument("--tensors", nargs=2, metavar=("REST", "GRPC"), required=True)
    given = parser.parse_args()
    server, tensors = Server(*given.examples), Server(*given.tensors)
    for call in CALLS:
        call(server, tensors)
        print("ok", call.__name__)


if __name__ == "__main__":
    main()
