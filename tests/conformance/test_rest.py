# ruff: noqa: E501  (the tables read by line: one case, one line)
"""REST requests as text and the answers to them: URLs, bodies, numbers as they are printed, errors."""

from __future__ import annotations

import base64
import json

import pytest

from estimator_serving.wire.examples import encode_example

X2 = base64.b64encode(encode_example({"x": [2.0]})).decode()
DEEP = "[" * 65 + "1" + "]" * 65

# model, verb, body, the answer's text without white space
ANSWERS = [
    ("half", "predict", '{"instances": [1.0, 2.0, 5.0]}', '{"predictions":[2.5,3.0,4.5]}'),
    ("half", "predict", '{"instances": [1, 2]}', '{"predictions":[2.5,3.0]}'),
    ("half", "predict", '{"instances": [{"x": 1}, {"x": 2}]}', '{"predictions":[2.5,3.0]}'),
    ("half", "predict", '{"inputs": [1, 2]}', '{"outputs":[2.5,3.0]}'),
    ("half", "predict", '{"inputs": {"x": [1, 2]}}', '{"outputs":[2.5,3.0]}'),
    ("half", "predict", '{"inputs": {"x": [1, 2], "extra": 1}}', '{"outputs":[2.5,3.0]}'),
    ("half", "predict", '{"inputs": 5}', '{"outputs":4.5}'),
    ("half", "predict", '{"inputs": []}', '{"outputs":[]}'),
    ("half", "predict", '{"instances": [[]]}', '{"predictions":[[]]}'),
    ("half", "predict", '{"instances": [1], "other": {"key": null}}', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [1], "signature_name": "serving_default"}', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [1]} trailing', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [-3.8]}', '{"predictions":[0.100000024]}'),
    ("half", "predict", '{"instances": [33554428, 1e400, NaN, -Inf]}', '{"predictions":[16777216.0,Infinity,NaN,-Infinity]}'),
    ("half", "predict", '{"instances": [-3.33333333]}', '{"predictions":[0.333333373]}'),
    ("two", "predict", '{"instances": [{"a": 1, "b": 2}]}', '{"predictions":[{"total":3.0,"twice":4}]}'),
    ("two", "predict", '{"inputs": {"a": [1], "b": [2]}}', '{"outputs":{"total":[3.0],"twice":[4]}}'),
    ("text", "predict", '{"instances": ["a", {"b64": "YmM="}]}',
     '{"predictions":[{"same":"a","raw_bytes":{"b64":"YQ=="},"score":1.5},{"same":"bc","raw_bytes":{"b64":"YmM="},"score":2.5}]}'),
    ("text", "predict", '{"inputs": {"s": {"b64": "YmM"}}}', '{"outputs":{"same":"bc","raw_bytes":{"b64":"YmM="},"score":[1.5,2.5]}}'),
    ("scalar", "predict", '{"inputs": [1, 2]}', '{"outputs":3.0}'),
    ("examples", "predict", '{"signature_name": "predict", "instances": [{"b64": "' + X2 + '"}]}', '{"predictions":[{"lengths":0,"total":[2.5]}]}'),
    ("examples", "predict", '{"signature_name": "predict", "instances": [{"x": 2, "tags": ["a", "b"]}, {"x": [3.5], "y": 1}]}',
     '{"predictions":[{"lengths":2,"total":[2.5]},{"lengths":0,"total":[4.5]}]}'),
    ("examples", "classify", '{"examples": [{"x": 2.0}, {"x": 3.0, "y": 0.25}]}', '{"results":[[["no",2.0],["yes",0.5]],[["no",3.0],["yes",0.25]]]}'),
    ("examples", "classify", '{"examples": [{"x": 2}]}', '{"results":[[["no",2.0],["yes",0.5]]]}'),
    ("examples", "classify", '{"context": {"y": 0.75, "x": 9.0}, "examples": [{"x": 2.0}]}', '{"results":[[["no",2.0],["yes",0.75]]]}'),
    ("examples", "classify", '{"signature_name": "scores_only", "examples": [{"x": 2.0, "unknown": "is ignored"}]}', '{"results":[[["",2.0],["",0.5]]]}'),
    ("examples", "classify", '{"signature_name": "classes_only", "examples": [{"x": [2.0]}]}', '{"results":[[["no",0.0],["yes",0.0]]]}'),
    ("examples", "regress", '{"signature_name": "regression", "examples": [{"x": 2.0}, {"x": 0.1, "y": 0.0}]}', '{"results":[2.5,0.1]}'),
    ("examples_unknown", "classify", '{"examples": [{"x": 2.0}]}', '{"results":[[["no",2.0],["yes",0.5]]]}'),
]  # fmt: skip

# model, verb, body, the beginning of the error or a part of it
REFUSALS = [
    ("half", "predict", "", "JSON Parse error: The document is empty"),
    ("half", "predict", "{", "JSON Parse error: Invalid value. at offset: 1"),
    ("half", "predict", '{"instances": [01]}', "JSON Parse error"),
    ("half", "predict", b'{"instances": ["\xff"]}', "JSON Parse error: Invalid encoding in string. at offset: 16"),
    ("half", "predict", b'\xef\xbb\xbf{"instances": [1]}', "JSON Parse error"),
    ("half", "predict", '{"instances": [1]}'.encode("utf-16"), "JSON Parse error"),
    ("half", "predict", '{"instances": ' + DEEP + "}", "nesting too deep"),
    ("half", "predict", "[" * 100_000, "nesting too deep"),
    ("half", "predict", '{"a":' * 100_000, "nesting too deep"),
    ("half", "predict", "[1]", "JSON Value: [1] Is not object"),
    ("half", "predict", '{"instances": [1], "signature_name": 1}', "'signature_name' key must be a string value."),
    ("half", "predict", '{"instances": [1], "signature_name": "no"}', 'Serving signature name: "no" not found in signature def'),
    ("half", "predict", '{"instances": [1], "inputs": [1]}', "expecting only one of 'inputs' or 'instances' keys"),
    ("half", "predict", "{}", "Missing 'inputs' or 'instances' key"),
    ("half", "predict", '{"instances": 1}', "Expecting 'instances' to be an list/array"),
    ("half", "predict", '{"instances": []}', "No values in 'instances' array"),
    ("half", "predict", '{"instances": ["1"]}',
     "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"1\" Type: String is not of expected type: float (input x)"),
    ("half", "predict", '{"instances": [1, true]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: true Type: True"),
    ("half", "predict", '{"instances": [1, null]}', "JSON Value: null Type: Null is not of expected type: float"),
    ("half", "predict", '{"instances": [[1, 2], [1]]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1"),
    ("half", "predict", '{"instances": [[1, 2], [[1, 2]]]}', "Expecting shape [2] but got: [1,2]"),
    ("half", "predict", '{"instances": [[[1], 2]]}', "JSON Value: 2 found at incorrect level: 1 in the JSON DOM. Expected at level: 2"),
    ("half", "predict", '{"instances": [[1, [2]]]}', "Encountered list at unexpected level: 1 expected < 1"),
    ("half", "predict", '{"inputs": [[1, 2], [3]]}', "Encountered list at unexpected size: 1 at level: 1 expected size: 2 (input x)"),
    ("half", "predict", '{"instances": [{"x": 1}, 2]}', "Expecting object but got number at item 1 of input list"),
    ("half", "predict", '{"instances": [1, {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
    ("half", "predict", '{"instances": [{"z": 1}]}', "JSON object: does not have named input: x"),
    ("half", "predict", '{"instances": [{"x": "a"}]}', "Failed to process element: 0 key: x of 'instances' list."),
    ("half", "predict", '{"inputs": {"z": 1}}', "Missing named input: x in 'inputs' object."),
    ("half", "predict", '{"inputs": {"b64": "YQ=="}}', "is not of expected type: float"),
    ("two", "predict", '{"instances": [1]}', "instances is a plain list, but expecting list of objects"),
    ("two", "predict", '{"inputs": [1]}', "inputs is a plain value/list, but expecting an object"),
    ("two", "predict", '{"instances": [{"a": 1, "b": 2}, {"a": 1}]}', "JSON object: does not have named input: b"),
    ("two", "predict", '{"instances": [{"a": 1, "b": 2, "c": 3}]}', "keys must be equal to: a,b"),
    ("two", "predict", '{"instances": [{"a": 1, "b": 2.0}]}', "Type: Number is not of expected type: int64"),
    ("two", "predict", '{"instances": [{"a": 1, "b": 9223372036854775808}]}', "is not of expected type: int64"),
    ("text", "predict", '{"instances": [{"b64": 1}]}', "not formatted correctly for base64 data"),
    ("text", "predict", '{"instances": [{"b64": "?"}]}', "Unable to base64 decode"),
    ("text", "predict", '{"instances": [1]}', "is not of expected type: string (input s)"),
    ("text", "predict", '{"instances": ["\\ud800"]}', "is not valid Unicode"),
    ("scalar", "predict", '{"instances": [1]}', "Tensor name: y has no shape information "),
    ("text", "predict", '{"instances": ["a"]}', "Tensor name: score has inconsistent batch size: 2 expecting: 1"),
    ("examples", "predict", '{"signature_name": "predict", "instances": [{"nope": 2}]}', "The feature 'nope' is not one of tags, x, y"),
    ("examples", "predict", '{"signature_name": "predict", "instances": [{"x": "a"}]}', "The feature 'x' is of type float"),
    ("examples", "predict", '{"signature_name": "predict", "instances": [{"x": 1}, {"y": 1}]}', "Feature: x (data type: float) is required but could not be found."),
    ("examples_unknown", "predict", '{"signature_name": "predict", "instances": [{"x": 2}]}', "does not say which features"),
    ("examples", "classify", '{"instances": [1]}', "When method is classify, key 'examples' is expected and was not found"),
    ("examples", "regress", "{}", "When method is regress, key 'examples' is expected and was not found"),
    ("examples", "classify", '{"examples": 1}', "Expecting 'examples' value to be an list/array"),
    ("examples", "classify", '{"examples": []}', "'examples' value is an empty array"),
    ("examples", "classify", '{"examples": [1]}', "Example must be JSON object but got JSON Number"),
    ("examples", "classify", '{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
    ("examples", "classify", '{"examples": [{"x": [1.0, "a"]}]}', "Unexpected element type in feature: x expecting type: float"),
    ("examples", "classify", '{"examples": [{"x": 1, "tags": [1.5]}]}', "Key: tags, Index: 0.  Data types don't match."),
    ("examples", "classify", '{"examples": [{"x": []}]}', "x"),
    ("examples", "classify", '{"examples": [{"y": 1.0}]}', "Feature: x (data type: float) is required but could not be found."),
    ("examples", "classify", '{"signature_name": "no", "examples": [{"x": 1}]}', "No signature was found with the name: no"),
    ("examples", "classify", '{"signature_name": "regression", "examples": [{"x": 1}]}', 'Expected classification signature outputs to contain at least one of "classes" or "scores".'),
    ("examples", "classify", '{"signature_name": "flat_scores", "examples": [{"x": 1}]}', "Expected Tensor shape: [batch_size num_classes] but got [1]"),
    ("examples", "regress", '{"signature_name": "wide_regression", "examples": [{"x": 1}]}', "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1, 2]"),
    ("half", "classify", '{"examples": [{"x": 1}]}', "No classification inputs found in SignatureDef"),
    ("half", "regress", '{"examples": [{"x": 1}]}', "No regression inputs found in SignatureDef"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "verb", "body", "expected"), ANSWERS)
def test_answer(fronts, model, verb, body, expected):
    response = fronts[model].post(verb, body)
    assert (response.status_code, response.text) == (200, expected)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("model", "verb", "body", "expected"), REFUSALS)
def test_refusal(fronts, model, verb, body, expected):
    front = fronts[model]
    response = front.post(verb, body)
    assert response.status_code == 400
    assert expected in response.json()["error"]
    assert front.http.get(f"/v1/models/{model}").status_code == 200


URLS = [
    ("GET", "/v1/models/versions/1", 400, "Missing model name in request."),
    ("GET", "/v1/models/nope", 404, "Could not find any versions of model nope"),
    ("GET", "/v1/models/half/versions/99", 404, "Could not find version 99 of model half"),
    ("GET", "/v1/models/half/versions/abc", 400, "Malformed request: GET /v1/models/half/versions/abc"),
    ("GET", "/v1/models/half/version/1", 400, "Malformed request: GET"),
    ("GET", "/v1/models/half/", 400, "Malformed request: GET"),
    ("GET", "/v1/models/half:predict", 400, "Malformed request: GET"),
    ("GET", "/v1/models/half/versions/99999999999999999999", 400, "Failed to convert version: 99999999999999999999 to numeric."),
    ("GET", "/v1/models/half/versions/" + "9" * 5000, 400, "Failed to convert version"),
    ("GET", "/v1/models/half/labels/stable/metadata", 400, "Unrecognized servable version label: stable"),
    ("GET", "/v1/models/nope/metadata", 404, "Servable not found for request: Latest(nope)"),
    ("GET", "/v1/models/a%2Fb", 404, "Could not find any versions of model a/b"),
    ("GET", "/v1/models/..%2F..%2Fetc%00", 404, "Could not find any versions of model ../../etc\x00"),
    ("GET", "/v1/elsewhere", 400, "Malformed request: GET /v1/elsewhere"),
    ("GET", "/elsewhere", 404, "Nothing is served at /elsewhere"),
    ("POST", "/v1/models/half", 400, "Malformed request: POST /v1/models/half"),
    ("POST", "/v1/models/half:PREDICT", 400, "Malformed request: POST /v1/models/half:PREDICT"),
    ("POST", "/v1/models/half/versions/1/labels/a:predict", 400, "Malformed request: POST"),
    ("POST", "/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
    ("POST", "/v1/models/half/versions/99:predict", 404, "Servable not found for request: Specific(half, 99)"),
    ("POST", "/v1/models/half/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
    ("POST", "/v1/models/half/versions/99999999999999999999:predict", 400, "Failed to convert version"),
    ("PUT", "/v1/models/half", 405, "Malformed request: PUT /v1/models/half"),
    ("DELETE", "/v1/models/half:predict", 405, "Malformed request: DELETE"),
    ("DELETE", "/healthz", 405, "Nothing is served at /healthz for DELETE"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "error"), URLS)
def test_url(fronts, method, path, status, error):
    response = fronts["half"].http.request(method, path, content=b'{"instances": [1]}')
    assert response.status_code == status
    assert response.json()["error"].startswith(error)


@pytest.mark.parametrize(
    "path",
    ["/v1/models/half:predict", "/v1/models/half/versions/123:predict", "/v1/models/half/versions/000123:predict",
     "/V1/Models/half:predict", "/v1/models/h%61lf:predict", "/v1/models/half:predict?x=y"],
)  # fmt: skip
def test_predict_url(fronts, path):
    assert fronts["half"].http.post(path, content='{"instances": [1]}').json() == {"predictions": [2.5]}


@pytest.mark.parametrize("path", ["/v1/models/half", "/v1/models/half/versions/123", "/v1/models/half?x=y"])
def test_status(fronts, path):
    entry = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert fronts["half"].http.get(path).json() == {"model_version_status": [entry]}


def test_metadata(fronts):
    answer = fronts["matrix"].http.get("/v1/models/matrix/metadata").json()
    assert answer["model_spec"] == {"name": "matrix", "signature_name": "", "version": "123"}
    assert answer["metadata"]["signature_def"]["signature_def"]["serving_default"] == {
        "inputs": {"x": tensor_info("x", "-1", "3")},
        "outputs": {"y": tensor_info("y", "-1", "2")},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def tensor_info(name: str, *sizes: str) -> dict:
    dims = [{"size": size, "name": ""} for size in sizes]
    return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": f"{name}:0"}


def test_metadata_of_unknown_rank(fronts):
    answer = fronts["half"].http.get("/v1/models/half/versions/123/metadata").json()
    info = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["x"]
    assert info["tensor_shape"] == {"dim": [], "unknown_rank": True}


def test_body_too_large(fronts):
    front = fronts["half"]
    body = b'{"instances": [' + b"1," * (40 * 2**20) + b"1]}"
    assert front.post("predict", body).status_code == 413
    chunks = (body[start : start + 2**20] for start in range(0, len(body), 2**20))
    assert front.http.post("/v1/models/half:predict", content=chunks).status_code == 413
    assert front.post("predict", '{"instances": [1]}').status_code == 200


def test_body_in_chunks(fronts):
    chunks = iter([b'{"inst', b'ances": ', b"[1]", b"}"])
    assert fronts["half"].http.post("/v1/models/half:predict", content=chunks).json() == {"predictions": [2.5]}


def test_health(fronts):
    http = fronts["half"].http
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("path", ["/metrics", "/monitoring/prometheus/metrics"])
def test_metrics(fronts, path):
    front = fronts["half"]
    front.post("predict", '{"instances": [1]}')
    front.http.post("/v1/models/made-up:predict", content="{}")
    text = front.http.get(path).text
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"}' in text
    assert ':tensorflow:serving:request_latency_count{API="Predict",entrypoint="REST",model_name="half"}' in text
    assert (
        'estimator_serving_requests_total{code="NOT_FOUND",entrypoint="REST",method="Predict",model="unknown",signature="",version=""}'
        in text
    )
    assert "made-up" not in text


def test_openapi_lists_the_pages(fronts):
    paths = json.loads(fronts["half"].http.get("/openapi.json").content)["paths"]
    assert {"/healthz", "/readyz", "/metrics", "/v1/models/{name}", "/v1/models/{name}/metadata"} <= paths.keys()
