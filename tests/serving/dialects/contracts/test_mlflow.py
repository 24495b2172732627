"""MLflow's scoring contract: four forms of payload, CSV, and its small pages."""

import json
from importlib import metadata

import pytest

from estimator_serving.serving.config import Config, ConfigError

ON = {"enable_mlflow_scoring": True}
ROW = {"f": 0.5, "i": -3, "u": 255, "b": True, "s": "a,b"}
ANSWER = {"fo": 0.5, "io": -3, "uo": 255, "bo": True, "so": "a,b"}


def ask(http, body, media_type="application/json"):
    content = body if isinstance(body, str) else json.dumps(body)
    return http.post("/invocations", content=content, headers={"content-type": media_type})


@pytest.fixture(scope="module")
def typed(serve):
    return serve("typed", **ON)


@pytest.fixture(scope="module")
def total(serve):
    return serve("sum", **ON)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())], "index": [7]}},
        {"dataframe_records": [ROW], "params": None},
        {"dataframe_records": [ROW], "params": {"signature_name": "serving_default"}},
        {"instances": [ROW]},
    ],
)
def test_rows_in_every_form(typed, body):
    answer = ask(typed, body)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [ANSWER]})


def test_tensors_by_name(typed):
    answer = ask(typed, {"inputs": {name: [value] for name, value in ROW.items()}})
    assert answer.json() == {"predictions": {name: [value] for name, value in ANSWER.items()}}


@pytest.mark.parametrize("body", [{"inputs": [1, 2]}, {"instances": [1, 2]}, {"instances": [{"x": 1}, {"x": 2}]}])
def test_one_tensor(serve, body):
    assert ask(serve("plus_one", **ON), body).json() == {"predictions": [2.0, 3.0]}


def test_csv(typed):
    answer = ask(typed, 'u,f,i,b,s\r\n255,0.5,-3,True,"a,b"\r\n', "text/csv; charset=utf-8")
    assert answer.json() == {"predictions": [ANSWER]}


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ({"dataframe_split": {"columns": ["y", "x"], "data": [[2, 1], [None, 1]]}}, "application/json"),
        ({"dataframe_records": [{"x": 1, "y": 2.0}, {"x": 1}]}, "application/json"),
        ("x,y\n1,2\n1,\n", "text/csv"),
    ],
)
def test_columns_are_features(total, body, media_type):
    answer = ask(total, body, media_type)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [[3.0], [1.5]]})


def test_a_signature_by_params(total):
    body = {"dataframe_records": [{"x": 1, "y": 2}], "params": {"signature_name": "classification"}}
    assert ask(total, body).json() == {"predictions": [{"scores": [1.0, 2.0], "classes": ["no", "yes"]}]}


SPLIT = {"columns": ["f", "f"], "data": [[1, 2]]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([1], "Is not object"),
        ({}, "must have exactly one of dataframe_split, dataframe_records, instances, inputs; it has nothing"),
        ({"data": [1]}, "it has data."),
        ({"instances": [ROW], "inputs": [ROW]}, "it has instances and inputs."),
        ({"instances": [ROW], "extra": 1}, "The body has extra beside instances"),
        ({"instances": [ROW], "params": {"top_k": 1}}, '"params" has top_k, which this model does not take'),
        ({"dataframe_split": [1]}, 'dataframe_split needs "columns"'),
        ({"dataframe_split": {"columns": ["f"], "data": []}}, 'dataframe_split needs "columns"'),
        ({"dataframe_split": SPLIT}, "There are two columns f; send each once."),
        ({"dataframe_split": {"columns": [0], "data": [[1]]}}, "Column 0 is called 0; name it as an input"),
        ({"dataframe_split": {"columns": ["f"], "data": [[1], [1, 2]]}}, "Row 1 has 2 values; each row needs 1"),
        ({"dataframe_split": {"columns": ["f"], "data": [1]}}, "Row 0 is no list; each row needs 1"),
        ({"dataframe_records": []}, "dataframe_records needs a list of at least one object"),
        ({"dataframe_records": [[1]]}, "dataframe_records needs a list of at least one object"),
        ({"dataframe_records": [ROW | {"z": 1}]}, "keys must be equal to"),
        ({"dataframe_records": [{"f": 1}]}, "does not have named input: "),
        ({"dataframe_records": [ROW | {"u": 256}]}, "Type: Number is not of expected type: uint8"),
        ({"dataframe_records": [ROW | {"u": -1}]}, "Type: Number is not of expected type: uint8"),
        ({"dataframe_records": [ROW | {"i": 2**63}]}, "is not of expected type: int64"),
        ({"dataframe_records": [ROW | {"i": 1.5}]}, "is not of expected type: int64"),
        ({"dataframe_records": [ROW | {"f": "0.5"}]}, "Type: String is not of expected type: float"),
        ({"dataframe_records": [ROW | {"f": 1e39}]}, "is not of expected type: float"),
        ({"dataframe_records": [ROW | {"f": None}]}, "Type: Null is not of expected type: float"),
        ({"dataframe_records": [ROW | {"b": 1}]}, "is not of expected type: bool"),
        ({"dataframe_records": [ROW | {"s": 1}]}, "is not of expected type: string"),
        ('{"dataframe_records": [{"f": 1, "f": 2}]}', "twice"),
        ("{", "JSON Parse error"),
    ],
)
def test_bodies_that_are_refused(typed, body, text):
    answer = ask(typed, body)
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"dataframe_records": [{"x": 1, "z": 1}]}, "The feature 'z' is not one of x, y"),
        ({"dataframe_records": [{"x": "1"}]}, "The feature 'x' is of type float"),
        ({"dataframe_records": [{"x": 1e39}]}, "Feature: x has 1e+39, which float32 does not hold"),
        ({"dataframe_records": [{"y": 1}]}, "Feature: x (data type: float) is required"),
    ],
)
def test_features_that_are_refused(total, body, text):
    answer = ask(total, body)
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "The CSV has no rows"),
        ("f,i,u,b,s\n", "The CSV has no rows"),
        ('f,i,u,b,s\n1,1,1,true,"', "The body is no CSV"),
        ("f,i,u,b,s\n1,1,1,true", "Row 0 has 4 values; each row needs 5"),
        ("f,i,u,b,s\n1,1,256,true,a", "is not of expected type: uint8"),
        ("f,i,u,b,s\n1,1.5,1,true,a", "is not of expected type: int64"),
        ("f,i,u,b,s\nx,1,1,true,a", "is not of expected type: float"),
        ("f,i,u,b,s\n1_0,1,1,true,a", "is not of expected type: float"),
        ("f,i,u,b,s\n,1,1,true,a", "is not of expected type: float"),
        ("f,i,u,b,s\n1,1,1,yes,a", "is not of expected type: bool"),
    ],
)
def test_csv_that_is_refused(typed, body, text):
    answer = ask(typed, body, "text/csv")
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize("media_type", ["application/xml", "application/json; charset=utf-16"])
def test_media_types_that_are_refused(typed, media_type):
    answer = ask(typed, {"instances": [ROW]}, media_type)
    assert (answer.status_code, "is not taken; send" in answer.json()["error"]) == (415, True)


def test_health_and_version(typed):
    for path in ("/ping", "/health"):
        assert (typed.get(path).status_code, typed.get(path).json()) == (200, {"status": "ready"})
    assert typed.get("/version").text == metadata.version("estimator-serving")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/invocations", 405), ("POST", "/ping", 405), ("GET", "/invocations/1", 404)]
)
def test_other_requests(typed, method, path, status):
    answer = typed.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_without_its_flag(serve):
    http = serve("plus_one")
    assert [http.get(path).status_code for path in ("/ping", "/health", "/version")] == [404] * 3
    assert ask(http, {"instances": [1]}).status_code == 404


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"enable_sagemaker": True}, "--enable_sagemaker and --enable_mlflow_scoring both answer at /invocations"),
        (
            {"enable_vertex_ai": True, "vertex_ai_predict_route": "/invocations"},
            "--enable_mlflow_scoring and --vertex_ai_predict_route both answer at /invocations",
        ),
        ({"model_config_file": "/c"}, "--enable_mlflow_scoring answers for one model"),
    ],
)
def test_flags_that_exclude_each_other(settings, text):
    with pytest.raises(ConfigError) as refused:
        Config(**{"model_base_path": "/m"} | ON | settings)
    assert text in str(refused.value)
