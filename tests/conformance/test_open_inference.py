"""The table's predict cases through the Open Inference fronts: the same arrays, and the same codes of failures."""

from __future__ import annotations

import json

import grpc
import numpy as np
import oip_requests
import pytest
from oip_requests import SERVICE
from tfs_cases import PREDICT, Case, Failure

from estimator_serving.serving.dialects.http_status import HTTP_STATUS


def check(case: Case, outputs: dict[str, np.ndarray]) -> None:
    for alias, array in case.expected.items():
        np.testing.assert_array_equal(outputs[alias], array)
        assert outputs[alias].dtype == array.dtype


def check_rest(case: Case, response: object) -> None:
    if isinstance(case.expected, Failure):
        assert response.status_code == HTTP_STATUS[case.expected.code], response.text
        assert json.loads(response.content)["error"]
        return
    assert response.status_code == 200, response.text
    length = response.headers.get("inference-header-content-length")
    check(case, oip_requests.read_answer(response.content, int(length) if length else None))


def is_json(case: Case) -> bool:
    """Whether JSON has a form for it: no FP16, and neither NaN nor infinities."""
    return all(
        array.dtype != np.float16 and (array.dtype.kind != "f" or np.isfinite(array).all())
        for array in case.inputs.values()
    )


JSON_CASES = [case for case in PREDICT if is_json(case)]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("case", JSON_CASES, ids=lambda case: case.id)
def test_json(fronts, case, nested):
    body = oip_requests.json_request(case.inputs, case.signature, nested=nested)
    check_rest(case, fronts[case.model].http.post(f"/v2/models/{case.model}/infer", content=body))


@pytest.mark.parametrize("case", PREDICT, ids=lambda case: case.id)
def test_binary(fronts, case):
    body, length = oip_requests.binary_request(case.inputs, case.signature)
    headers = {"Inference-Header-Content-Length": str(length)}
    check_rest(case, fronts[case.model].http.post(f"/v2/models/{case.model}/infer", content=body, headers=headers))


@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
@pytest.mark.parametrize("case", PREDICT, ids=lambda case: case.id)
def test_grpc(fronts, case, typed):
    if typed and any(array.dtype == np.float16 for array in case.inputs.values()):
        pytest.skip("FP16 has no typed contents")
    request = oip_requests.message(case.model, case.inputs, case.signature, typed=typed)
    if isinstance(case.expected, Failure):
        with pytest.raises(grpc.RpcError) as raised:
            fronts[case.model].call("ModelInfer", request, SERVICE)
        assert raised.value.code().value[0] == case.expected.code
        assert raised.value.details()
        return
    response = fronts[case.model].call("ModelInfer", request, SERVICE)
    assert (response.model_name, response.model_version) == (case.model, "123")
    check(case, oip_requests.read_message(response))


def test_bfloat16(fronts):
    inputs = {"x": np.array([1.5, -2], oip_requests.DTYPES["BF16"]), "a": np.array([1, 2], np.float32)}
    response = fronts["bfloat16"].call("ModelInfer", oip_requests.message("bfloat16", inputs), SERVICE)
    outputs = oip_requests.read_message(response)
    np.testing.assert_array_equal(outputs["y"], inputs["x"])
    np.testing.assert_array_equal(outputs["b"], -inputs["a"])
    body, length = oip_requests.binary_request(inputs)
    answer = fronts["bfloat16"].http.post(
        "/v2/models/bfloat16/infer", content=body, headers={"Inference-Header-Content-Length": str(length)}
    )
    read = oip_requests.read_answer(answer.content, int(answer.headers["inference-header-content-length"]))
    np.testing.assert_array_equal(read["y"], inputs["x"])


def test_uint16(fronts):
    inputs = {"x": np.array([0, 65535], np.uint16)}
    for typed in (False, True):
        response = fronts["uint16"].call("ModelInfer", oip_requests.message("uint16", inputs, typed=typed), SERVICE)
        np.testing.assert_array_equal(oip_requests.read_message(response)["y"], inputs["x"])
    answer = fronts["uint16"].http.post("/v2/models/uint16/infer", content=oip_requests.json_request(inputs))
    np.testing.assert_array_equal(oip_requests.read_answer(answer.content)["y"], inputs["x"])


def test_not_finite_in_json(fronts):
    """What is not finite comes out as the bare tokens that Triton writes."""
    body = oip_requests.json_request({"x": np.array([0, -1, 1], np.float32)})
    answer = fronts["log"].http.post("/v2/models/log/infer", content=body)
    assert '"data":[-Infinity,NaN,0.0]' in answer.text


# --- the requests that the specification and Triton's documentation show, with values as many as their shapes say ---

INPUTS = {"input0": np.array([[1, 2], [3, 4]], np.uint32), "input1": np.array([True, False, True])}


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]], ids=["flat", "nested"])
def test_the_specifications_example(fronts, data):
    body = {
        "id": "42",
        "inputs": [
            {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": data},
            {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True, False, True]},
        ],
        "outputs": [{"name": "output0"}],
    }
    answer = fronts["mymodel"].http.post("/v2/models/mymodel/infer", json=body)
    assert answer.json() == {
        "id": "42",
        "model_name": "mymodel",
        "model_version": "123",
        "outputs": [{"name": "output0", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}],
    }


def test_an_answer_in_json_and_binary_at_once(fronts):
    """One input as JSON and one behind it; one output in each form."""
    inputs = [
        {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "parameters": {"binary_data_size": 16}},
        {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True, False, True]},
    ]
    outputs = [{"name": "output1", "parameters": {"binary_data": True}}, {"name": "output0"}]
    head = json.dumps({"id": "one", "inputs": inputs, "outputs": outputs}).encode()
    answer = fronts["mymodel"].http.post(
        "/v2/models/mymodel/infer",
        content=head + INPUTS["input0"].tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    read = oip_requests.read_answer(answer.content, int(answer.headers["inference-header-content-length"]))
    assert list(read) == ["output1", "output0"]
    np.testing.assert_array_equal(read["output1"], ~INPUTS["input1"])
    np.testing.assert_array_equal(read["output0"], INPUTS["input0"])


def test_what_other_clients_send_beside_the_protocol(fronts):
    """Nulls (MLServer), and the model's name in the body (KServe)."""
    tensor = {"name": "input0", "shape": [1, 2], "datatype": "UINT32", "data": [1, 2], "parameters": None}
    other = {"name": "input1", "shape": [1], "datatype": "BOOL", "data": [True], "parameters": {"content_type": "np"}}
    body = {"id": None, "parameters": None, "model_name": "mymodel", "inputs": [tensor, other], "outputs": None}
    answer = fronts["mymodel"].http.post("/v2/models/mymodel/infer", json=body)
    assert answer.status_code == 200
    assert "id" not in answer.json()


def test_only_what_was_asked_for_is_answered(fronts):
    request = oip_requests.message("mymodel", INPUTS)
    request.outputs.add(name="output1")
    response = fronts["mymodel"].call("ModelInfer", request, SERVICE)
    assert list(oip_requests.read_message(response)) == ["output1"]
