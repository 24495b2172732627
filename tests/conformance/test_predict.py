# ruff: noqa: E501  (the tables read by line: one case, one line)
"""One table of predict cases, each asked as REST rows, REST columns and over gRPC, with the same answer expected."""

from __future__ import annotations

import base64
import json
import math
from typing import NamedTuple

import grpc
import numpy as np
import pytest

from estimator_serving.serving.errors import Code
from estimator_serving.serving.http_status import HTTP_STATUS
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.tensors import decode_tensor, encode_tensor


class Failure(NamedTuple):
    code: Code
    text: str


class Case(NamedTuple):
    """Inputs as arrays; `expected` as arrays, or the failure both transports answer with."""

    id: str
    model: str
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray] | Failure
    signature: str = ""


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def text(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


BAD = Code.INVALID_ARGUMENT
NAN, INF = math.nan, math.inf
X2 = encode_example({"x": [2.0], "tags": ["a", "b"]})
X3Y1 = encode_example({"x": [3.0], "y": [1.0]})

CASES = [
    Case("vector", "half", {"x": f32(1, 2, 5)}, {"y": f32(2.5, 3, 4.5)}),
    Case("one value", "half", {"x": f32(1)}, {"y": f32(2.5)}),
    Case("matrix", "half", {"x": f32(1, 2, 3, 4).reshape(2, 2)}, {"y": f32(2.5, 3, 3.5, 4).reshape(2, 2)}),
    Case("rank 3", "half", {"x": np.ones((2, 1, 2), np.float32)}, {"y": np.full((2, 1, 2), 2.5, np.float32)}),
    Case("fractions", "half", {"x": f32(0.1, -0.0, 1e-30)}, {"y": f32(2.05, 2, 2)}),
    Case("large", "half", {"x": f32(3e38, -3e38)}, {"y": f32(1.5e38, -1.5e38)}),
    Case("infinities in", "half", {"x": f32(INF, -INF, NAN)}, {"y": f32(INF, -INF, NAN)}),
    Case("not finite out", "log", {"x": f32(0, -1, 1)}, {"y": f32(-INF, NAN, 0)}),
    Case("two inputs", "two", {"a": f32(1, 2), "b": i64(3, 4)}, {"total": f32(4, 6), "twice": i64(6, 8)}),
    Case("int64 limits", "two", {"a": f32(0), "b": i64(2**62 - 1)}, {"total": f32(2**62), "twice": i64(2**63 - 2)}),
    Case("matmul", "matrix", {"x": f32(1, 2, 3).reshape(1, 3)}, {"y": f32(22, 28).reshape(1, 2)}),
    Case("wide batch", "matrix", {"x": np.ones((500, 3), np.float32)}, {"y": np.tile(f32(9, 12), (500, 1))}),
    Case(
        "text",
        "text",
        {"s": text(b"plain", "größe".encode(), b"")},
        {"same": text(b"plain", "größe".encode(), b""), "raw_bytes": text(b"plain", "größe".encode(), b"")},
    ),
    Case("examples", "examples", {"examples": text(X2, X3Y1)}, {"total": f32(2.5, 4).reshape(2, 1), "lengths": i64(2, 0)}, "predict"),
    Case(
        "classification signature",
        "examples",
        {"inputs": text(X2)},
        {"scores": f32(2, 0.5).reshape(1, 2), "classes": text(b"no", b"yes").reshape(1, 2)},
    ),
    Case("wrong rank", "matrix", {"x": f32(1, 2, 3)}, Failure(BAD, "Invalid rank for input: x Got: 1 Expected: 2")),
    Case("wrong dimension", "matrix", {"x": np.ones((2, 4), np.float32)}, Failure(BAD, "Got invalid dimensions for input: x")),
    Case("shapes that do not add", "two", {"a": f32(1, 2), "b": i64(1, 2, 3)}, Failure(BAD, "The model's Add node cannot run")),
    Case("garbage Example", "examples", {"examples": text(X2, b"\xff\xffgarbage")}, Failure(BAD, "Could not parse example input"), "predict"),
    Case("required feature missing", "examples", {"examples": text(encode_example({"y": [1.0]}))}, Failure(BAD, "Feature: x (data type: float) is required"), "predict"),
    Case("feature of wrong kind", "examples", {"examples": text(encode_example({"x": [1]}))}, Failure(BAD, "Key: x, Index: 0.  Data types don't match."), "predict"),
    Case("feature of wrong length", "examples", {"examples": text(encode_example({"x": [1.0, 2.0]}))}, Failure(BAD, "Key: x, Index: 0.  Number of float values != expected."), "predict"),
    Case("examples in a matrix", "examples", {"examples": text(X2).reshape(1, 1)}, Failure(BAD, "Input examples has shape [1, 1]; expected a vector"), "predict"),
    Case("text that is not UTF-8", "text", {"s": text(b"\xff\xfe")}, Failure(BAD, "Input s holds a string that is not UTF-8")),
]  # fmt: skip


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
    case for case in CASES if len({len(array) for array in case.inputs.values()}) == 1 and case.model != "text"
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rest_columns(fronts, case):
    columns = {alias: as_json(array) for alias, array in case.inputs.items()}
    check_rest(fronts[case.model].post("predict", json.dumps(signature(case) | {"inputs": columns})), case, "outputs")


@pytest.mark.parametrize("as_content", [False, True], ids=["typed values", "tensor_content"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
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
