"""The table's REST texts and the answers to them: URLs, bodies, numbers as they are printed, errors."""

from __future__ import annotations

import json

import pytest
from tfs_cases import REST_ANSWERS, REST_REFUSALS, URLS


@pytest.mark.parametrize(("model", "verb", "body", "expected"), REST_ANSWERS)
def test_answer(fronts, model, verb, body, expected):
    response = fronts[model].post(verb, body)
    assert (response.status_code, response.text) == (200, expected)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("model", "verb", "body", "expected"), REST_REFUSALS)
def test_refusal(fronts, model, verb, body, expected):
    front = fronts[model]
    response = front.post(verb, body)
    assert response.status_code == 400
    assert expected in response.json()["error"]
    assert front.http.get(f"/v1/models/{model}").status_code == 200


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
    assert ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",model_name="half"}' in text
    assert (
        'estimator_serving_requests_total{code="NOT_FOUND",entrypoint="REST",method="Predict",model="unknown",signature="",version=""}'
        in text
    )
    assert "made-up" not in text


def test_openapi_lists_the_pages(fronts):
    paths = json.loads(fronts["half"].http.get("/openapi.json").content)["paths"]
    assert {"/healthz", "/readyz", "/metrics", "/v1/models/{name}", "/v1/models/{name}/metadata"} <= paths.keys()
