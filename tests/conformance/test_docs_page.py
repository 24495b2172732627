"""The interactive docs: every loaded model's inferences are shown, and the example bodies work when they are sent."""

from __future__ import annotations

import json

import pytest

MODELS = [
    "half", "two", "matrix", "text", "scalar", "log", "types", "uint16", "bfloat16", "defaults", "examples",
    "examples_unknown",
]  # fmt: skip


def document(front):
    return front.http.get("/openapi.json").json()


@pytest.mark.parametrize("model", MODELS)
def test_example_bodies_work(fronts, model):
    front = fronts[model]
    sent = 0
    for path, item in document(front)["paths"].items():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        for media_type, shown in content.items():
            if "example" in shown:
                answer = front.http.post(
                    path, content=json.dumps(shown["example"]), headers={"content-type": media_type}
                )
                assert answer.status_code == 200, (path, answer.text)
                sent += 1
    # JSON has no form for FP16, BF16 and complex numbers, and nobody knows the features of these Examples.
    without = {"types": 1, "bfloat16": 0, "examples_unknown": 0, "uint16": 1}
    assert sent == without.get(model, 3 if model == "examples" else 2)


def test_examples_are_shown_as_features(fronts):
    paths = document(fronts["examples"])["paths"]
    body = paths["/v1/models/examples:predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert body == {"instances": [{"x": [1.0], "y": [1.0], "tags": ["text"]}]}
    assert "/v1/models/examples:classify" in paths


def test_the_page_itself(fronts):
    assert "swagger" in fronts["half"].http.get("/docs").text


def test_a_model_that_goes_is_not_shown(fronts):
    front = fronts.with_rights("scalar")
    assert "/v2/models/scalar/infer" in document(front)["paths"]
    assert front.http.post("/v2/repository/models/scalar/unload").status_code == 200
    assert "/v2/models/scalar/infer" not in document(front)["paths"]
    assert front.http.post("/v2/repository/models/scalar/load").status_code == 200
    assert "/v2/models/scalar/infer" in document(front)["paths"]
