"""KServe's protocol v1, which shares its URLs with TensorFlow Serving."""

import pytest

PLAIN = {"model_version_status"}


def test_alive(serve):
    assert serve("plus_one", enable_kserve_v1=True).get("/").json() == {"status": "alive"}


def test_the_status_of_a_model_also_says_whether_it_is_ready(serve):
    answer = serve("plus_one", enable_kserve_v1=True).get("/v1/models/m").json()
    assert answer.keys() == PLAIN | {"name", "ready"}
    assert (answer["name"], answer["ready"]) == ("m", True)
    assert answer["model_version_status"][0]["state"] == "AVAILABLE"


def test_models_and_predictions_are_tensorflow_servings(serve):
    http = serve("plus_one", enable_kserve_v1=True)
    assert http.get("/v1/models").json() == {"models": ["m"]}
    assert http.post("/v1/models/m:predict", json={"instances": [1, 2]}).json() == {"predictions": [2.0, 3.0]}


@pytest.mark.parametrize("path", ["/v1/models/m:explain", "/v1/models/m/versions/1:explain"])
def test_explanations_are_refused_with_a_sentence(serve, path):
    answer = serve("plus_one", enable_kserve_v1=True).post(path, json={"instances": [1]})
    assert answer.status_code == 501
    assert answer.json()["error"] == f"{path} asks for an explanation, and this server only predicts; POST to :predict."


def test_an_unknown_model_is_not_found(serve):
    answer = serve("plus_one", enable_kserve_v1=True).get("/v1/models/other")
    assert (answer.status_code, "other" in answer.json()["error"]) == (404, True)


def test_another_method_at_the_root(serve):
    answer = serve("plus_one", enable_kserve_v1=True).post("/", content=b"")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["error"]


def test_without_its_flag_nothing_changes(serve):
    http = serve("plus_one")
    assert http.get("/").status_code == 404
    assert http.get("/v1/models/m").json().keys() == PLAIN
    assert http.post("/v1/models/m:explain", json={"instances": [1]}).status_code == 400
