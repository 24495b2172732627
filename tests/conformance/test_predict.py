"""The table's predict cases, each asked as REST rows, REST columns and over gRPC, with the same answer expected."""

from __future__ import annotations

import base64
import json

import grpc
import numpy as np
import pytest
from tfs_cases import PREDICT, Case, Failure
from tfs_requests import text

from estimator_serving.serving.dialects.http_status import HTTP_STATUS
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.tensors import decode_tensor, encode_tensor


def as_json(array: np.ndarray) -> object:
    """Values as a client writes them: bytes as {"b64": …}, what is not finite as the bare tokens."""
    if array.dtype == object:
        encoded = [{"b64": base64.b64encode(one).decode()} for one in array.ravel()]
        return np.array(encoded, object).reshape(array.shape).tolist()
    return array.tolist()


def as_array(value: object, like: np.ndarray) -> np.ndarray:
    if like.dtype != object:
        return np.array(value, like.dtype)
    flat = [
        base64.b64decode(one["b64"]) if isinstance(one, dict) else one.encode()
        for one in np.array(value, object).ravel()
    ]
    return text(*flat).reshape(like.shape)


def check_rest(response: object, case: Case, key: str) -> None:
    if isinstance(case.expected, Failure):
        assert response.status_code == HTTP_STATUS[case.expected.code], response.text
        assert case.expected.text in json.loads(response.content)["error"]
        return
    assert response.status_code == 200, response.text
    answer = json.loads(response.content)[key]
    for alias, array in case.expected.items():
        values = answer
        if isinstance(answer, dict):
            values = answer[alias]
        elif isinstance(answer[0], dict):
            values = [row[alias] for row in answer]
        np.testing.assert_array_equal(as_array(values, array), array)


def signature(case: Case) -> dict[str, str]:
    return {"signature_name": case.signature} if case.signature else {}


ROW_CASES = [
    case for case in PREDICT if len({len(array) for array in case.inputs.values()}) == 1 and case.model != "text"
]


@pytest.mark.parametrize("case", ROW_CASES, ids=lambda case: case.id)
def test_rest_rows(fronts, case):
    columns = {alias: as_json(array) for alias, array in case.inputs.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    check_rest(
        fronts[case.model].post("predict", json.dumps(signature(case) | {"instances": rows})), case, "predictions"
    )


@pytest.mark.parametrize("case", [case for case in ROW_CASES if len(case.inputs) == 1], ids=lambda case: case.id)
def test_rest_plain_rows(fronts, case):
    rows = as_json(next(iter(case.inputs.values())))
    check_rest(
        fronts[case.model].post("predict", json.dumps(signature(case) | {"instances": rows})), case, "predictions"
    )


@pytest.mark.parametrize("case", PREDICT, ids=lambda case: case.id)
def test_rest_columns(fronts, case):
    columns = {alias: as_json(array) for alias, array in case.inputs.items()}
    check_rest(fronts[case.model].post("predict", json.dumps(signature(case) | {"inputs": columns})), case, "outputs")


@pytest.mark.parametrize("as_content", [False, True], ids=["typed values", "tensor_content"])
@pytest.mark.parametrize("case", PREDICT, ids=lambda case: case.id)
def test_grpc(fronts, case, as_content):
    request = serving_pb.PredictRequest()
    request.model_spec.name = case.model
    request.model_spec.signature_name = case.signature
    for alias, array in case.inputs.items():
        request.inputs[alias].CopyFrom(encode_tensor(array, as_content=as_content))
    if isinstance(case.expected, Failure):
        with pytest.raises(grpc.RpcError) as raised:
            fronts[case.model].call("Predict", request)
        assert raised.value.code().value[0] == case.expected.code
        assert case.expected.text in raised.value.details()
        return
    response = fronts[case.model].call("Predict", request)
    assert response.model_spec.version.value == 123
    assert response.model_spec.signature_name == (case.signature or "serving_default")
    for alias, array in case.expected.items():
        np.testing.assert_array_equal(decode_tensor(response.outputs[alias]), array)
