"""SageMaker's contract: its media types, its attributes and its port."""

import json

import pytest

from estimator_serving.serving import config

ON = {"enable_sagemaker": True}
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
LINES, CSV = "application/jsonlines", "text/csv"
INSTANCES = {"instances": [1]}


def ask(http, body, media_type="application/json", attributes=None, **headers):
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    given = {"content-type": media_type, **headers} | ({ATTRIBUTES: attributes} if attributes else {})
    return http.post("/invocations", content=content, headers=given)


@pytest.fixture(scope="module")
def http(serve):
    return serve("plus_one", **ON)


@pytest.fixture(scope="module")
def swap(serve):
    return serve("swap", **ON)


@pytest.fixture(scope="module")
def total(serve):
    return serve("sum", **ON)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ({"instances": [[1, 2], [3, 4]]}, "application/json"),
        ([[1, 2], [3, 4]], "application/json; charset=utf-8"),
        ([{"x": [1, 2]}, {"x": [3, 4]}], "application/json"),
        ("[1, 2]\n[3, 4]\n", LINES),
        ('{"x": [1, 2]}\r\n\r\n{"x": [3, 4]}', "application/jsons"),
        ("1,2\n3,4\n", CSV),
        ("1.0, 2\r\n\r\n3,4e0", CSV),
    ],
)
def test_rows_in_every_form(swap, body, media_type):
    answer = ask(swap, body, media_type)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [[2.0, 1.0], [4.0, 3.0]]})
    assert answer.headers["x-model-version"] == "1"


@pytest.mark.parametrize(
    ("body", "media_type"), [([1, 2], "application/json"), ({"x": [1, 2]}, "application/json"), ("[1,2]", LINES)]
)
def test_one_bare_instance(swap, body, media_type):
    assert ask(swap, body, media_type).json() == {"predictions": [[2.0, 1.0]]}


@pytest.mark.parametrize(
    ("body", "media_type"), [("1\n2\n", CSV), ("1\n2\n", LINES), ("x\n1\n2", "text/csv;header=present")]
)
def test_one_value_a_row(http, body, media_type):
    assert ask(http, body, media_type).json() == {"predictions": [2.0, 3.0]}


def test_columns_stay_columns(http):
    assert ask(http, {"inputs": [1, 2]}).json() == {"outputs": [2.0, 3.0]}


def test_a_request_without_a_media_type_is_json(http):
    assert http.post("/invocations", content=b'{"instances": [1]}').json() == {"predictions": [2.0]}


@pytest.mark.parametrize(
    ("body", "media_type"),
    [([{"x": 1, "y": 2}, {"x": 1}], "application/json"), ("y,x\n2,1\n,1\n", "text/csv; header=present")],
)
def test_features_by_name(total, body, media_type):
    assert ask(total, body, media_type).json() == {"predictions": [[3.0], [1.5]]}


@pytest.mark.parametrize("media_type", [LINES, "application/json", "text/csv; header=present"])
def test_the_method_is_chosen_by_an_attribute(total, media_type):
    body = "x,y\n1,2" if media_type.startswith(CSV) else '{"x": 1, "y": 2}'
    answer = ask(total, body, media_type, "tfs-method=classify,tfs-signature-name=classification")
    assert answer.json() == {"results": [[["no", 1.0], ["yes", 2.0]]]}


def test_attributes_are_echoed(http):
    answer = ask(http, INSTANCES, attributes="trace-id=7,tfs-model-version=1,tfs-model-name=m")
    assert answer.headers[ATTRIBUTES] == "trace-id=7,tfs-model-version=1,tfs-model-name=m"
    assert answer.json() == {"predictions": [2.0]}


def test_an_answer_of_one_json_line(http):
    answer = ask(http, INSTANCES, accept="application/jsonlines, */*")
    assert (answer.headers["content-type"], answer.text) == (LINES, '{"predictions":[2.0]}')
    assert ask(http, INSTANCES, accept="*/*").headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("attributes", "status", "text"),
    [
        ("tfs-model-name=other", 404, "Servable not found for request: Latest(other)"),
        ("tfs-model-version=2", 404, "Servable not found for request: Specific(m, 2)"),
        ("tfs-model-version=one", 400, "tfs-model-version=one is no version; send its number."),
        ("tfs-method=explain", 400, "tfs-method=explain is no method; send predict, classify, regress."),
        ("tfs-metod=predict", 400, "The attribute tfs-metod is unknown; send tfs-model-name"),
        ("tfs-signature-name=no", 400, 'Serving signature name: "no" not found'),
    ],
)
def test_attributes_that_are_refused(http, attributes, status, text):
    answer = ask(http, [[1]], attributes=attributes)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text


def test_several_models(serve):
    http = serve("plus_one", "swap", **ON)
    assert ask(http, [[1, 2]], attributes="tfs-model-name=swap").json() == {"predictions": [[2.0, 1.0]]}
    answer = ask(http, [[1, 2]])
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("This server has the models plus_one, swap; name one")


@pytest.mark.parametrize(
    ("body", "media_type", "text"),
    [
        ("", "application/json", "JSON Parse error: The document is empty"),
        ("[[1]", "application/json", "JSON Parse error"),
        ([], "application/json", "No values in 'instances' array"),
        (["a"], "application/json", "Type: String is not of expected type: float"),
        ({"instances": [1e39]}, "application/json", "is not of expected type: float"),
        ("[1e400]", "application/json", "Number too big to be stored in double"),
        ('{"instances": [1e400]}', "application/json", "Number too big to be stored in double"),
        ({"instances": [[1], [1, 2]]}, "application/json", "Expecting tensor size: 1 but got: 2"),
        ("", LINES, "No values in 'instances' array"),
        ("1\n1,2\n", LINES, "Line 2 is no JSON value; send one on each line."),
        ("NaN\n", LINES, "Line 1 is no JSON value"),
        ("", CSV, "The CSV has no rows"),
        ("1\na\n", CSV, "is not of expected type: float"),
        ("1\n1,2\n", CSV, "Row 1 has 2 values; each row needs 1"),
        (b"\xff\n", CSV, "The CSV is not UTF-8 (at byte 0)"),
    ],
)
def test_bodies_that_are_refused(http, body, media_type, text):
    answer = ask(http, body, media_type)
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


def test_csv_without_names_for_a_model_of_features(total):
    answer = ask(total, "1,2\n", CSV)
    assert answer.status_code == 400
    assert "takes features by name, and this CSV names no columns" in answer.json()["error"]


@pytest.mark.parametrize(
    "media_type", ["application/x-npy", "application/x-www-form-urlencoded", "text/csv; charset=latin1"]
)
def test_media_types_that_are_refused(http, media_type):
    answer = ask(http, "1", media_type)
    assert (answer.status_code, "is not taken; send" in answer.json()["error"]) == (415, True)


def test_ping(http):
    assert (http.get("/ping").status_code, http.get("/ping").json()) == (200, {"status": "ready"})


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/invocations", 405), ("PUT", "/ping", 405), ("GET", "/invocations2", 404)]
)
def test_other_requests(http, method, path, status):
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_without_its_flag(serve):
    http = serve("plus_one")
    assert http.get("/ping").status_code == 404
    assert ask(http, [[1]]).status_code == 404


@pytest.mark.parametrize(
    ("environment", "port"), [({}, 8080), ({"SAGEMAKER_BIND_TO_PORT": "9"}, 9), ({"REST_API_PORT": "7"}, 7)]
)
def test_its_port(environment, port):
    assert config.parse(["--enable_sagemaker", "--model_base_path=/m"], environment).rest_api_port == port
