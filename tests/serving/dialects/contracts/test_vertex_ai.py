"""Vertex AI's contract: its environment, its routes and its bodies."""

import httpx
import pytest
from running import HOST, WAIT_S, running

from estimator_serving.serving import config
from estimator_serving.serving.config import ConfigError

ON = {"enable_vertex_ai": True}
WORDS = ["--enable_vertex_ai"]


@pytest.fixture(scope="module")
def http(serve):
    return serve("plus_one", **ON)


@pytest.mark.parametrize(
    "body",
    [{"instances": [1, 2]}, {"instances": [1, 2], "parameters": None}, {"instances": [1, 2], "parameters": {}},
     {"instances": [1, 2], "parameters": {"signature_name": "serving_default"}}, {"instances": [{"x": 1}, {"x": 2}]}],
)  # fmt: skip
def test_instances_become_predictions(http, body):
    answer = http.post("/predict", json=body)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [2.0, 3.0]})
    assert answer.headers["x-model-version"] == "1"


def test_feature_dictionaries(serve):
    answer = serve("sum", **ON).post("/predict", json={"instances": [{"x": 1, "y": 2}, {"x": 1}]})
    assert answer.json() == {"predictions": [[3.0], [1.5]]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"instances": [1], "parameters": {"temperature": 1}},
            '"parameters" has temperature, which this model does not',
        ),
        ({"instances": [1], "parameters": [1]}, '"parameters" is no JSON object'),
        (
            {"instances": [1], "parameters": {"signature_name": 5}},
            '"signature_name" in "parameters" is 5; send a name.',
        ),
        ({"instances": [1], "parameters": {"signature_name": "no"}}, 'Serving signature name: "no" not found'),
        ({"instances": ["1"]}, "is not of expected type: float"),
        ({"instances": [1e39]}, "is not of expected type: float"),
        ({"instances": []}, "No values in 'instances' array"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ([1], "Is not object"),
    ],
)
def test_bodies_that_are_refused(http, body, text):
    answer = http.post("/predict", json=body)
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


def test_another_media_type(http):
    answer = http.post("/predict", content=b"1", headers={"content-type": "text/csv"})
    assert answer.status_code == 415
    assert answer.json()["error"] == "The Content-Type text/csv is not taken; send application/json."


def test_health(http):
    answer = http.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_health_before_there_is_a_model(tmp_path):
    with running(tmp_path, port=0, **ON) as server:
        answer = httpx.get(f"http://{HOST}:{server.rest_port}/health", timeout=WAIT_S)
    assert answer.status_code == 503
    assert "has no version yet" in answer.json()["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/predict", 405), ("GET", "/predictions", 404)])
def test_other_requests(http, method, path, status):
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_routes_of_the_platform(serve):
    routes = {
        "vertex_ai_health_route": "/v1/endpoints/1/deployedModels/Two",
        "vertex_ai_predict_route": "/v1/E/2:predict",
    }
    http = serve("plus_one", **ON, **routes)
    assert http.post("/v1/E/2:predict", json={"instances": [1]}).json() == {"predictions": [2.0]}
    assert http.get("/v1/endpoints/1/deployedModels/Two").json() == {"status": "ready"}
    assert http.get("/v1/E/2:predict").status_code == 405
    assert http.post("/v1/models/m:predict", json={"instances": [1]}).json() == {"predictions": [2.0]}


def test_without_its_flag(serve):
    http = serve("plus_one")
    assert http.post("/predict", json={"instances": [1]}).status_code == 404
    assert http.get("/health").status_code == 404


def test_the_platforms_environment():
    environment = {
        "AIP_HTTP_PORT": "9090", "AIP_HEALTH_ROUTE": "/alive", "AIP_PREDICT_ROUTE": "/ask",
        "AIP_STORAGE_URI": "file:///models/a%20b", "MODEL_BASE_PATH": "/image",
    }  # fmt: skip
    given = config.parse(WORDS, environment)
    assert (given.rest_api_port, given.bind_address) == (9090, "0.0.0.0")
    assert (given.vertex_ai_health_route, given.vertex_ai_predict_route) == ("/alive", "/ask")
    assert given.model_base_path == "/models/a b"
    assert config.parse([*WORDS, "--rest_api_port=1"], environment).rest_api_port == 1


def test_a_flag_takes_the_place_of_storage_that_cannot_be_read():
    given = config.parse([*WORDS, "--model_base_path=/m"], {"AIP_STORAGE_URI": "gs://bucket/model"})
    assert given.model_base_path == "/m"


def test_its_environment_means_nothing_without_the_flag():
    given = config.parse(["--model_base_path=/m"], {"AIP_HTTP_PORT": "9090", "AIP_STORAGE_URI": "gs://b"})
    assert (given.rest_api_port, given.model_base_path) == (8501, "/m")


@pytest.mark.parametrize(("variable", "port"), [({}, 8080), ({"REST_API_PORT": "7"}, 7), ({"AIP_HTTP_PORT": "8"}, 8)])
def test_its_port(variable, port):
    assert config.parse([*WORDS, "--model_base_path=/m"], variable).rest_api_port == port


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"AIP_STORAGE_URI": "gs://bucket/model"}, "AIP_STORAGE_URI=gs://bucket/model is on another machine"),
        ({"AIP_STORAGE_URI": "file://host/model"}, "give that directory as --model_base_path"),
        ({"AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT='http' cannot be used; give a value of type int."),
        ({"MODEL_BASE_PATH": "/m", "AIP_HEALTH_ROUTE": "health"}, "--vertex_ai_health_route=health cannot be used"),
        ({"MODEL_BASE_PATH": "/m", "AIP_PREDICT_ROUTE": "/{x}"}, "--vertex_ai_predict_route=/{x} cannot be used"),
        ({"MODEL_CONFIG_FILE": "/c"}, "--enable_vertex_ai answers for one model"),
    ],
)
def test_an_environment_that_cannot_be_used(environment, text):
    with pytest.raises(ConfigError) as refused:
        config.parse(WORDS, environment)
    assert text in str(refused.value)
