# ruff: noqa: E501  (the tables read by line: one case, one line)
"""TensorFlow Serving's API as a table of requests and answers, for every front that has the request.

Owns what is asked and what must come back, taken from TensorFlow Serving's behaviour and never from this server's. How
a row is asked is the conformance tests' business; `rows` says which fronts each one goes through.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from tfs_requests import (
    TYPES,
    X2,
    X,
    classify,
    example_list,
    f32,
    filtered,
    i64,
    multi,
    predict,
    regress,
    spec,
    tensor,
    text,
    types_request,
    with_context,
)

from estimator_serving.serving.errors import Code
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb, tensorflow_pb
from estimator_serving.wire.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from estimator_serving.wire.tensors import encode_tensor

# --- Predict, as arrays: REST in rows and in columns, gRPC in typed values and in tensor_content ---


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


BAD = Code.INVALID_ARGUMENT
NAN, INF = math.nan, math.inf
TAGGED = encode_example({"x": [2.0], "tags": ["a", "b"]})
X3Y1 = encode_example({"x": [3.0], "y": [1.0]})

PREDICT = [
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
    Case("examples", "examples", {"examples": text(TAGGED, X3Y1)}, {"total": f32(2.5, 4).reshape(2, 1), "lengths": i64(2, 0)}, "predict"),
    Case(
        "classification signature",
        "examples",
        {"inputs": text(TAGGED)},
        {"scores": f32(2, 0.5).reshape(1, 2), "classes": text(b"no", b"yes").reshape(1, 2)},
    ),
    Case("wrong rank", "matrix", {"x": f32(1, 2, 3)}, Failure(BAD, "Invalid rank for input: x Got: 1 Expected: 2")),
    Case("wrong dimension", "matrix", {"x": np.ones((2, 4), np.float32)}, Failure(BAD, "Got invalid dimensions for input: x")),
    Case("shapes that do not add", "two", {"a": f32(1, 2), "b": i64(1, 2, 3)}, Failure(BAD, "The model's Add node cannot run")),
    Case("garbage Example", "examples", {"examples": text(TAGGED, b"\xff\xffgarbage")}, Failure(BAD, "Could not parse example input"), "predict"),
    Case("required feature missing", "examples", {"examples": text(encode_example({"y": [1.0]}))}, Failure(BAD, "Feature: x (data type: float) is required"), "predict"),
    Case("feature of wrong kind", "examples", {"examples": text(encode_example({"x": [1]}))}, Failure(BAD, "Key: x, Index: 0.  Data types don't match."), "predict"),
    Case("feature of wrong length", "examples", {"examples": text(encode_example({"x": [1.0, 2.0]}))}, Failure(BAD, "Key: x, Index: 0.  Number of float values != expected."), "predict"),
    Case("examples in a matrix", "examples", {"examples": text(TAGGED).reshape(1, 1)}, Failure(BAD, "Input examples has shape [1, 1]; expected a vector"), "predict"),
    Case("text that is not UTF-8", "text", {"s": text(b"\xff\xfe")}, Failure(BAD, "Input s holds a string that is not UTF-8")),
    Case("rank 6", "half", {"x": np.ones((1, 1, 2, 1, 1, 2), np.float32)}, {"y": np.full((1, 1, 2, 1, 1, 2), 2.5, np.float32)}),
    Case("subnormal", "half", {"x": f32(1e-45)}, {"y": f32(2)}),
    Case("six digits and nine", "half", {"x": f32(-3.8, 0.2, 1 / 3)}, {"y": f32(-3.8, 0.2, 1 / 3) * np.float32(0.5) + np.float32(2)}),
    Case("empty text", "text", {"s": text(b"", b"")}, {"same": text(b"", b""), "raw_bytes": text(b"", b"")}),
    Case("text with a NUL", "text", {"s": text(b"a\x00b", b"\x00")}, {"same": text(b"a\x00b", b"\x00")}),
    Case("int64 below zero", "two", {"a": f32(0), "b": i64(-(2**62))}, {"total": f32(-(2**62)), "twice": i64(-(2**63))}),
    Case("no columns", "half", {"x": np.empty((2, 0), np.float32)}, {"y": np.empty((2, 0), np.float32)}),
    Case("empty Example", "examples", {"examples": text(b"")}, Failure(BAD, "Feature: x (data type: float) is required"), "predict"),
    Case("every type at once", "types", TYPES, {f"{alias}_out": array for alias, array in TYPES.items()}),
]  # fmt: skip

# --- requests as messages ---


def types_json(**changed: list) -> str:
    """The columns of the model of every type, ones but for these."""
    return json.dumps({"inputs": TYPES_ONES | changed})


def types_answer(**changed: list) -> str:
    ones = TYPES_ONES | {alias: [1.0, 1.0] for alias in ("f", "d", "h")} | changed
    return json.dumps({"outputs": {f"{alias}_out": values for alias, values in ones.items()}}, separators=(",", ":"))


BF16 = np.array([1.5, -2], ml_dtypes.bfloat16)
TYPES_ONES = {alias: [1, 1] for alias in TYPES} | {"b": [True, True], "s": ["1", "1"]}
BAD_CONTENT = tensorflow_pb.TensorProto(dtype=1, tensor_content=b"abc")
BAD_CONTENT.tensor_shape.dim.add(size=1)
NEGATIVE = tensorflow_pb.TensorProto(dtype=1)
NEGATIVE.tensor_shape.dim.add(size=-1)

# --- Classify and Regress, as features: REST in JSON, gRPC in tf.Examples ---


class ExamplesCase(NamedTuple):
    """Features as Python values; `expected` as rows of (label, score) or as values, or the failure of both fronts."""

    id: str
    method: str
    examples: list[dict[str, Any]]
    expected: list[Any] | Failure
    signature: str = ""
    context: dict[str, Any] | None = None


EXAMPLES = [
    ExamplesCase("classify one", "Classify", [{"x": [2.0]}], [[("no", 2.0), ("yes", 0.5)]]),
    ExamplesCase("classify two", "Classify", [{"x": [2.0]}, {"x": [3.0], "y": [0.25]}], [[("no", 2.0), ("yes", 0.5)], [("no", 3.0), ("yes", 0.25)]]),
    ExamplesCase("scores alone have empty labels", "Classify", [{"x": [2.0]}], [[("", 2.0), ("", 0.5)]], "scores_only"),
    ExamplesCase("classes alone have score 0", "Classify", [{"x": [2.0]}], [[("no", 0.0), ("yes", 0.0)]], "classes_only"),
    ExamplesCase("context fills in", "Classify", [{"x": [2.0]}, {"x": [1.0]}], [[("no", 2.0), ("yes", 0.75)], [("no", 1.0), ("yes", 0.75)]], "", {"y": [0.75]}),
    ExamplesCase("the Example wins over its context", "Classify", [{"x": [2.0], "y": [0.25]}], [[("no", 2.0), ("yes", 0.25)]], "", {"x": [9.0], "y": [9.0]}),
    ExamplesCase("a context repeated too often", "Classify", [{}] * 300, Failure(BAD, "A context of 10"), "", {"tags": ["x" * 1_000_000]}),
    ExamplesCase("features nobody asked for", "Classify", [{"x": [2.0], "unknown": ["text"]}], [[("no", 2.0), ("yes", 0.5)]]),
    ExamplesCase("a list of words", "Classify", [{"x": [2.0], "tags": ["a", "b"]}], [[("no", 2.0), ("yes", 0.5)]]),
    ExamplesCase("regress", "Regress", [{"x": [2.0]}, {"x": [3.0], "y": [0.25]}], [2.5, 3.25], "regression"),
    ExamplesCase("regress with context", "Regress", [{"x": [2.0]}], [3.0], "regression", {"y": [1.0]}),
    ExamplesCase("regress without the last axis", "Regress", [{"x": [2.0]}, {"x": [3.0]}], [2.0, 3.0], "flat_regression"),
    ExamplesCase("no such signature to classify", "Classify", [{"x": [2.0]}], Failure(BAD, "No signature was found with the name: no"), "no"),
    ExamplesCase("no such signature to regress", "Regress", [{"x": [2.0]}], Failure(BAD, "No signature was found with the name: no"), "no"),
    ExamplesCase("two inputs", "Classify", [{"x": [2.0]}], Failure(BAD, "Expected one input Tensor."), "two_inputs"),
    ExamplesCase("three outputs", "Classify", [{"x": [2.0]}], Failure(BAD, "Expected one or two output Tensors, found 3"), "many"),
    ExamplesCase("an input of another name", "Classify", [{"x": [2.0]}], Failure(BAD, "No classification inputs found in SignatureDef"), "predict"),
    ExamplesCase("neither classes nor scores", "Classify", [{"x": [2.0]}], Failure(BAD, 'Expected classification signature outputs to contain at least one of "classes" or "scores".'), "regression"),
    ExamplesCase("regress on two outputs", "Regress", [{"x": [2.0]}], Failure(BAD, "Expected one output Tensor")),
    ExamplesCase("regress on scores", "Regress", [{"x": [2.0]}], Failure(BAD, "No regression outputs found in SignatureDef"), "scores_only"),
    ExamplesCase("scores of rank 1", "Classify", [{"x": [2.0]}], Failure(BAD, "Expected Tensor shape: [batch_size num_classes] but got [1]"), "flat_scores"),
    ExamplesCase("scores of integers", "Classify", [{"x": [2.0]}], Failure(BAD, "Expected scores Tensor of DT_FLOAT. Got: int64"), "integer_scores"),
    ExamplesCase("classes that are numbers", "Classify", [{"x": [2.0]}], Failure(BAD, "Expected classes Tensor of DT_STRING. Got: float"), "number_classes"),
    ExamplesCase("scores of another batch", "Classify", [{"x": [2.0]}, {"x": [3.0]}], Failure(BAD, "Expected scores output batch size of 2. Got: 1"), "fixed_scores"),
    ExamplesCase("more classes than scores", "Classify", [{"x": [2.0]}], Failure(BAD, "Tensors class and score should match in dim_size(1). Got 2 vs. 1"), "uneven"),
    ExamplesCase("regression of two columns", "Regress", [{"x": [2.0]}], Failure(BAD, "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1, 2]"), "wide_regression"),
    ExamplesCase("regression of integers", "Regress", [{"x": [2.0]}], Failure(BAD, "Expected output Tensor of DT_FLOAT.  Got: int64"), "integer_regression"),
    ExamplesCase("regression of another batch", "Regress", [{"x": [2.0]}, {"x": [3.0]}], Failure(BAD, "Input batch size did not match output batch size: 2 vs. 1"), "fixed_regression"),
    ExamplesCase("required feature missing", "Classify", [{"y": [1.0]}], Failure(BAD, "Feature: x (data type: float) is required but could not be found.")),
    ExamplesCase("feature of wrong length", "Classify", [{"x": [1.0, 2.0]}], Failure(BAD, "Key: x, Index: 0.  Number of float values != expected.  Values size: 2 but output shape: [1]")),
    ExamplesCase("feature of wrong kind", "Classify", [{"x": ["1"]}], Failure(BAD, "Key: x, Index: 0.  Data types don't match.")),
    ExamplesCase("the row that is wrong", "Classify", [{"x": [1.0]}, {"x": [1.0], "tags": [1.5]}], Failure(BAD, "Key: tags, Index: 1.  Data types don't match.")),
]  # fmt: skip


# --- what both fronts refuse, each with a code of its own ---


class BothCase(NamedTuple):
    """One mistake: the REST verb, the path behind the model's name and the body; the rpc and its message."""

    id: str
    rest: tuple[str, str, str]
    grpc: tuple[str, Any]
    status: int
    code: str
    text: str


ONE = '{"instances": [1]}'


def labelled(label: str) -> serving_pb.PredictRequest:
    request = predict(x=X)
    request.model_spec.version_label = label
    return request


BOTH = [
    BothCase("unknown model", ("predict", "/v1/models/nope", ONE), ("Predict", predict("nope", x=X)), 404, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    BothCase("unknown version", ("predict", "/v1/models/half/versions/99", ONE), ("Predict", predict("half", 99, x=X)), 404, "NOT_FOUND", "Servable not found for request: Specific(half, 99)"),
    BothCase("version 0", ("predict", "/v1/models/half/versions/0", ONE), ("Predict", predict("half", 0, x=X)), 404, "NOT_FOUND", "Servable not found for request: Specific(half, 0)"),
    BothCase("unknown label", ("predict", "/v1/models/half/labels/L", ONE), ("Predict", labelled("L")), 400, "INVALID_ARGUMENT", "Unrecognized servable version label: L"),
    BothCase("unknown signature", ("predict", "/v1/models/half", '{"signature_name": "no", "instances": [1]}'), ("Predict", predict(signature="no", x=X)), 400, "FAILED_PRECONDITION", "erving signature "),
    BothCase("wrong dtype", ("predict", "/v1/models/half", '{"instances": ["a"]}'), ("Predict", predict(x=np.array(["a"], object))), 400, "INVALID_ARGUMENT", "float"),
    BothCase("no classifier", ("classify", "/v1/models/half", '{"examples": [{"x": 1.0}]}'), ("Classify", serving_pb.ClassificationRequest(model_spec=spec("half"), input=example_list(X2))), 400, "INVALID_ARGUMENT", "No classification inputs found in SignatureDef"),
    BothCase("no regressor", ("regress", "/v1/models/half", '{"examples": [{"x": 1.0}]}'), ("Regress", serving_pb.RegressionRequest(model_spec=spec("half"), input=example_list(X2))), 400, "INVALID_ARGUMENT", "No regression inputs found in SignatureDef"),
    BothCase("classify on an unknown model", ("classify", "/v1/models/nope", '{"examples": [{"x": 1.0}]}'), ("Classify", serving_pb.ClassificationRequest(model_spec=spec("nope"), input=example_list(X2))), 404, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
]  # fmt: skip

# --- REST alone ---

X2_BASE64 = base64.b64encode(X2).decode()
DEEP = "[" * 65 + "1" + "]" * 65

# model, verb, body, the answer's text without white space
REST_ANSWERS = [
    ("half", "predict", '{"instances": [1.0, 2.0, 5.0]}', '{"predictions":[2.5,3.0,4.5]}'),
    ("half", "predict", '{"instances": [1, 2]}', '{"predictions":[2.5,3.0]}'),
    ("half", "predict", '{"instances": [{"x": 1}, {"x": 2}]}', '{"predictions":[2.5,3.0]}'),
    ("half", "predict", '{"inputs": [1, 2]}', '{"outputs":[2.5,3.0]}'),
    ("half", "predict", '{"inputs": {"x": [1, 2]}}', '{"outputs":[2.5,3.0]}'),
    ("half", "predict", '{"inputs": 5}', '{"outputs":4.5}'),
    ("half", "predict", '{"inputs": []}', '{"outputs":[]}'),
    ("half", "predict", '{"instances": [[]]}', '{"predictions":[[]]}'),
    ("half", "predict", '{"instances": [1], "other": {"key": null}}', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [1], "signature_name": "serving_default"}', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [1]} trailing', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [-3.8]}', '{"predictions":[0.100000024]}'),
    ("half", "predict", '{"instances": [33554428, 1e300, NaN, -Inf]}', '{"predictions":[16777216.0,Infinity,NaN,-Infinity]}'),
    ("half", "predict", '{"instances": [-3.33333333]}', '{"predictions":[0.333333373]}'),
    ("two", "predict", '{"instances": [{"a": 1, "b": 2}]}', '{"predictions":[{"total":3.0,"twice":4}]}'),
    ("two", "predict", '{"inputs": {"a": [1], "b": [2]}}', '{"outputs":{"total":[3.0],"twice":[4]}}'),
    ("text", "predict", '{"instances": ["a", {"b64": "YmM="}]}',
     '{"predictions":[{"same":"a","raw_bytes":{"b64":"YQ=="},"score":1.5},{"same":"bc","raw_bytes":{"b64":"YmM="},"score":2.5}]}'),
    ("text", "predict", '{"inputs": {"s": {"b64": "YmM"}}}', '{"outputs":{"same":"bc","raw_bytes":{"b64":"YmM="},"score":[1.5,2.5]}}'),
    ("scalar", "predict", '{"inputs": [1, 2]}', '{"outputs":3.0}'),
    ("examples", "predict", '{"signature_name": "predict", "instances": [{"b64": "' + X2_BASE64 + '"}]}', '{"predictions":[{"lengths":0,"total":[2.5]}]}'),
    ("examples", "predict", '{"signature_name": "predict", "instances": [{"x": 2, "tags": ["a", "b"]}, {"x": [3.5], "y": 1}]}',
     '{"predictions":[{"lengths":2,"total":[2.5]},{"lengths":0,"total":[4.5]}]}'),
    ("examples", "classify", '{"examples": [{"x": 2.0}, {"x": 3.0, "y": 0.25}]}', '{"results":[[["no",2.0],["yes",0.5]],[["no",3.0],["yes",0.25]]]}'),
    ("examples", "classify", '{"examples": [{"x": 2}]}', '{"results":[[["no",2.0],["yes",0.5]]]}'),
    ("examples", "classify", '{"context": {"y": 0.75, "x": 9.0}, "examples": [{"x": 2.0}]}', '{"results":[[["no",2.0],["yes",0.75]]]}'),
    ("examples", "classify", '{"signature_name": "scores_only", "examples": [{"x": 2.0, "unknown": "is ignored"}]}', '{"results":[[["",2.0],["",0.5]]]}'),
    ("examples", "classify", '{"signature_name": "classes_only", "examples": [{"x": [2.0]}]}', '{"results":[[["no",0.0],["yes",0.0]]]}'),
    ("examples", "regress", '{"signature_name": "regression", "examples": [{"x": 2.0}, {"x": 0.1, "y": 0.0}]}', '{"results":[2.5,0.1]}'),
    ("examples_unknown", "classify", '{"examples": [{"x": 2.0}]}', '{"results":[[["no",2.0],["yes",0.5]]]}'),
    ("half", "predict", '{"inputs": {"x": 5}}', '{"outputs":4.5}'),
    ("half", "predict", '{"instances": [{"x": [1, 2]}]}', '{"predictions":[[2.5,3.0]]}'),
    ("half", "predict", '{"instances": [[[1]], [[2]]]}', '{"predictions":[[[2.5]],[[3.0]]]}'),
    ("half", "predict", '{"instances": [1e39, -1e39]}', '{"predictions":[Infinity,-Infinity]}'),
    ("half", "predict", '{"instances": [1e-60, -1e-60]}', '{"predictions":[2.0,2.0]}'),
    ("half", "predict", '{"instances": [Infinity, -Infinity, Inf]}', '{"predictions":[Infinity,-Infinity,Infinity]}'),
    ("half", "predict", '{"instances": [123456789012345678901234567890]}', '{"predictions":[6.17283946e+28]}'),
    ("half", "predict", ' \t\r\n{"instances": [1]}', '{"predictions":[2.5]}'),
    ("half", "predict", '{"signature_name": "", "instances": [1]}', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [1], "signature_name": "serving_default", "version": 9}', '{"predictions":[2.5]}'),
    ("half", "predict", '{"instances": [1]}{"instances": [2]}', '{"predictions":[2.5]}'),
    ("examples", "classify", '{"examples": [{"x": NaN}]}', '{"results":[[["no",NaN],["yes",0.5]]]}'),
    ("text", "predict", '{"instances": [{"s": "a"}, {"s": {"b64": "Yg=="}}]}',
     '{"predictions":[{"same":"a","raw_bytes":{"b64":"YQ=="},"score":1.5},{"same":"b","raw_bytes":{"b64":"Yg=="},"score":2.5}]}'),
    ("text", "predict", '{"inputs": ["\\u00e9\\ud83d\\ude00", "\\""]}', '{"outputs":{"same":["é😀","\\""],"raw_bytes":[{"b64":"w6nwn5iA"},{"b64":"Ig=="}],"score":[1.5,2.5]}}'),
    ("two", "predict", '{"instances": [{"b": 2, "a": 1}]}', '{"predictions":[{"total":3.0,"twice":4}]}'),
    ("defaults", "predict", '{"inputs": {"a": [1], "b": [2]}}', '{"outputs":{"total":[3.0],"twice":[4]}}'),
    ("types", "predict", types_json(i8=[300, -200], u8=[300, -1], i16=[65537, 0]), types_answer(i8=[44, 56], u8=[44, 255], i16=[1, 0])),
    ("types", "predict", types_json(i64=[-9223372036854775808, 9223372036854775807]), types_answer(i64=[-9223372036854775808, 9223372036854775807])),
    ("types", "predict", types_json(u64=[18446744073709551615, 0]), types_answer(u64=[18446744073709551615, 0])),
    ("types", "predict", types_json(d=[1, 0.1]), types_answer(d=[1.0, 0.1])),
    ("types", "predict", types_json(h=[1, 0.1]), types_answer(h=[1.0, 0.1])),
    ("examples", "classify", '{"examples": [{"x": [2.0], "tags": []}]}', '{"results":[[["no",2.0],["yes",0.5]]]}'),
    ("examples", "classify", '{"examples": [{"x": 2.0, "tags": {"b64": "YQ=="}}]}', '{"results":[[["no",2.0],["yes",0.5]]]}'),
    ("examples", "regress", '{"signature_name": "regression", "examples": [{"x": NaN}, {"x": Infinity}]}', '{"results":[NaN,Infinity]}'),
    ("examples", "predict", '{"instances": [{"b64": "' + X2_BASE64 + '"}]}', '{"predictions":[{"classes":["no","yes"],"scores":[2.0,0.5]}]}'),
]  # fmt: skip

# model, verb, body, the beginning of the error or a part of it
REST_REFUSALS = [
    ("half", "predict", "", "JSON Parse error: The document is empty"),
    ("examples", "classify", '{"examples": [{"x": true}]}', "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float"),
    ("examples", "classify", '{"examples": [{"x": [1, true]}]}', "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float"),
    ("examples", "classify", '{"examples": [{"x": 2.0}], "context": 3}', "Example must be JSON object but got JSON Number"),
    ("half", "predict", '{"signature_name": "no"}', 'Serving signature name: "no" not found in signature def'),
    ("half", "predict", '{"inputs": {"b64": "AAAA"}}', "Type: Object is not of expected type: float"),
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
    ("matrix", "predict", '{"instances": [[1, 2, 3], [1, 2]]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 3 but got: 2"),
    ("half", "predict", '{"instances": [[[1, 2]], [[1, 2, 3]]]}', "Expecting tensor size: 2 but got: 3"),
    ("half", "predict", '{"instances": [[[1], [2]], [[1, 2]]]}', "Expecting shape [2,1] but got: [1,2]"),
    ("two", "predict", '{"instances": [{"a": 1, "b": 2}, [1, 2]]}', "Expecting object but got list at item 1 of input list"),
    ("half", "predict", '{"instances": [[1, 2], [[1, 2]]]}', "Expecting shape [2] but got: [1,2]"),
    ("half", "predict", '{"instances": [[[1], 2]]}', "JSON Value: 2 found at incorrect level: 1 in the JSON DOM. Expected at level: 2"),
    ("half", "predict", '{"instances": [[1, [2]]]}', "Encountered list at unexpected level: 1 expected < 1"),
    ("half", "predict", '{"inputs": [[1, 2], [3]]}', "Encountered list at unexpected size: 1 at level: 1 expected size: 2 (input x)"),
    ("half", "predict", '{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
    ("half", "predict", '{"instances": [1, {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
    ("half", "predict", '{"instances": [{"z": 1}]}', "JSON object: does not have named input: x"),
    ("half", "predict", '{"instances": [{"x": "a"}]}', "Failed to process element: 0 key: x of 'instances' list."),
    ("half", "predict", '{"inputs": {"z": 1}}', "Missing named input: x in 'inputs' object."),
    ("half", "predict", '{"inputs": {"x": [1, 2], "extra": 1}}', "Unknown input: \"extra\" in 'inputs' object. The signature serving_default takes x."),
    ("half", "predict", '{"inputs": {"x": [1, 2], "half": 1}}', "Unknown input: \"half\" in 'inputs' object."),
    ("half", "predict", '{"instances": [1, 1e400]}', "JSON Parse error: Number too big to be stored in double. at offset: 18"),
    ("half", "predict", '{"instances": [1' + 400 * "0" + ", -1]}", "JSON Parse error: Number too big to be stored in double. at offset: 15"),
    ("half", "predict", '{"inputs": [9' + 5000 * "0" + "]}", "JSON Parse error: Number too big to be stored in double. at offset: 12"),
    ("two", "predict", '{"inputs": {"a": [1], "b": [2], "c": null}}', "Unknown input: \"c\" in 'inputs' object. The signature serving_default takes a, b."),
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
    ("text", "predict", '{"instances": ["\\ud800"]}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 16"),
    ("examples", "classify", '{"examples": [{"x": 1.0, "\\udc00": 2}]}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 26"),
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
    ("half", "predict", '{"instances": [1], "instances": [2]}', 'an object has the key "instances" twice'),
    ("half", "predict", '{"instances": [{"x": 1, "x": 2}]}', 'an object has the key "x" twice'),
    ("half", "predict", '{"instances": [NaN], "a": 1, "a": 1}', 'an object has the key "a" twice'),
    ("half", "predict", '{"instances": [1,]}', "JSON Parse error: Invalid value. at offset:"),
    ("half", "predict", '{"instances": [1]', "JSON Parse error"),
    ("half", "predict", "{'instances': [1]}", "JSON Parse error"),
    ("half", "predict", '{"instances": [+1]}', "JSON Parse error"),
    ("half", "predict", '{"instances": [.5]}', "JSON Parse error"),
    ("half", "predict", '{"instances": [0x10]}', "JSON Parse error"),
    ("half", "predict", " ", "JSON Parse error: The document is empty"),
    ("half", "predict", "null", "JSON Value: null Is not object"),
    ("half", "predict", '"a"', 'JSON Value: "a" Is not object'),
    ("half", "predict", '{"instances": [1], "signature_name": null}', "'signature_name' key must be a string value."),
    ("half", "predict", '{"instances": {"x": 1}}', "Expecting 'instances' to be an list/array"),
    ("half", "predict", '{"inputs": null}', "JSON Value: null Type: Null is not of expected type: float"),
    ("half", "predict", '{"inputs": [1, [2]]}', "Encountered list at unexpected level: 1 expected < 1"),
    ("half", "predict", '{"inputs": [[1], 2]}', "JSON Value: 2 found at incorrect level: 1 in the JSON DOM. Expected at level: 2"),
    ("half", "predict", '{"inputs": [[[1, 2]], [[3]]]}', "Encountered list at unexpected size: 1 at level: 2 expected size: 2"),
    ("half", "predict", '{"inputs": "1"}', 'JSON Value: "1" Type: String is not of expected type: float'),
    ("half", "predict", '{"instances": [[]], "inputs": 1}', "expecting only one of 'inputs' or 'instances' keys"),
    ("half", "predict", '{"instances": [{}]}', "JSON object: does not have named input: x"),
    ("half", "predict", '{"instances": [{"x": 1, "z": 2}]}', "keys must be equal to: x"),
    ("half", "predict", '{"instances": ["' + "a" * 2000 + '"]}', "Type: String is not of expected type: float"),
    ("matrix", "predict", '{"instances": [[1, 2]]}', "Got invalid dimensions for input: x"),
    ("defaults", "predict", '{"inputs": {"a": [1]}}', "Missing named input: b in 'inputs' object."),
    ("types", "predict", types_json(i32=[1.0, 2]), "Type: Number is not of expected type: int32"),
    ("types", "predict", types_json(i32=[2147483648, 2]), "is not of expected type: int32"),
    ("types", "predict", types_json(i8=[2147483648, 2]), "is not of expected type: int8"),
    ("types", "predict", types_json(u32=[-1, 2]), "is not of expected type: uint32"),
    ("types", "predict", types_json(u32=[4294967296, 2]), "is not of expected type: uint32"),
    ("types", "predict", types_json(u64=[18446744073709551616, 2]), "is not of expected type: uint64"),
    ("types", "predict", types_json(u64=[-1, 2]), "is not of expected type: uint64"),
    ("types", "predict", types_json(b=[1, 0]), "JSON Value: 1 Type: Number is not of expected type: bool"),
    ("types", "predict", types_json(b=["true", True]), "is not of expected type: bool"),
    ("types", "predict", types_json(d=["1", 2]), "is not of expected type: double"),
    ("types", "predict", types_json(h=[None, 2]), "JSON Value: null Type: Null is not of expected type: half"),
    ("types", "predict", types_json(s=[True, "a"]), "JSON Value: true Type: True is not of expected type: string"),
    ("types", "predict", types_json(s=[{"a": "b"}, "a"]), "Type: Object is not of expected type: string"),
    ("examples", "classify", '{"examples": {"x": 1}}', "Expecting 'examples' value to be an list/array"),
    ("examples", "classify", '{"examples": [[]]}', "Example must be JSON object but got JSON Array"),
    ("examples", "classify", '{"examples": [{"x": 1.0}], "context": [1]}', "Example must be JSON object but got JSON Array"),
    ("examples", "classify", '{"examples": [{"x": {"a": 1}}]}', "Feature: x has element with unexpected JSON type: Object"),
    ("examples", "classify", '{"examples": [{"x": [[1.0]]}]}', "Feature: x has element with unexpected JSON type: Array"),
    ("examples", "classify", '{"examples": [{"x": [1.0, null]}]}', "Feature: x has element with unexpected JSON type: Null"),
    ("examples", "classify", '{"examples": [{"x": [1, 2.5]}]}', "Key: x, Index: 0.  Number of float values != expected.  Values size: 2"),
    ("examples", "classify", '{"examples": [{"x": [2.5, 1]}]}', "Key: x, Index: 0.  Number of float values != expected.  Values size: 2"),
    ("examples_unknown", "classify", '{"examples": [{"x": [1, 2.5]}]}', "Unexpected element type in feature: x expecting type: int64"),
    ("examples", "classify", '{"examples": [{"tags": ["a", 1]}]}', "Unexpected element type in feature: tags expecting type: "),
    ("examples", "classify", '{"examples": [{"x": 1.0, "n": 9223372036854775808}]}', "Feature: n has uint64_t element. Only int64_t is supported."),
    ("examples", "classify", '{"examples": [{"x": {"b64": "?"}}]}', "Unable to base64 decode"),
]  # fmt: skip

# method, path, status, the beginning of the error
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
    ("GET", "/v1/models/half/versions/-1", 400, "Malformed request: GET"),
    ("GET", "/v1/models/half/versions/0", 404, "Could not find version 0 of model half"),
    ("GET", "/v1/models/half/versions/18446744073709551616", 400, "Failed to convert version"),
    ("GET", "/v1/models/half/versions/123/", 400, "Malformed request: GET"),
    ("GET", "/v1/models/half/versions/123/labels/a", 400, "Malformed request: GET"),
    ("GET", "/v1/models/half/labels/stable", 400, "Unrecognized servable version label: stable"),
    ("GET", "/v1/models/half/versions/99/metadata", 404, "Servable not found for request: Specific(half, 99)"),
    ("GET", "/v1//models/half", 400, "Malformed request: GET /v1//models/half"),
    ("GET", "/v1/models/half%2F", 404, "Could not find any versions of model half/"),
    ("GET", "/v1/models/%2Fetc%2Fpasswd", 404, "Could not find any versions of model /etc/passwd"),
    ("GET", "/v1/models/a%3Ab", 404, "Could not find any versions of model a:b"),
    ("GET", "/v1/models/a+b", 404, "Could not find any versions of model a+b"),
    ("GET", "/v1/models/a%0Ab", 404, "Could not find any versions of model a\nb"),
    ("GET", "/v1/models/%C3%BC", 404, "Could not find any versions of model ü"),
    ("GET", "/v1/models/" + "m" * 10_000, 404, "Could not find any versions of model mmm"),
    ("GET", "/v1/metadata", 400, "Malformed request: GET /v1/metadata"),
    ("POST", "/v1/models/half:explain", 400, "Malformed request: POST /v1/models/half:explain"),
    ("POST", "/v1/models/half:predict/", 400, "Malformed request: POST"),
    ("POST", "/v1/models:predict", 400, "Malformed request: POST"),
    ("POST", "/v1/models/half/versions/abc:predict", 400, "Malformed request: POST"),
    ("POST", "/v1/models/half/metadata", 400, "Malformed request: POST"),
    ("PATCH", "/v1/models/half", 405, "Malformed request: PATCH /v1/models/half"),
]  # fmt: skip

# --- gRPC alone ---


def wide(**fields) -> serving_pb.PredictRequest:
    """A tensor of 3 floats, field by field."""
    return predict(x=tensor(1, 3, **fields))


UNKNOWN_RANK = tensorflow_pb.TensorProto(dtype=1, float_val=[4.0])
UNKNOWN_RANK.tensor_shape.unknown_rank = True

# what is exercised, model, request, the outputs that must come back
GRPC_ANSWERS = [
    ("the last value repeats", "half", wide(float_val=[1, 3]), {"y": f32(2.5, 3.5, 3.5)}),
    ("one value fills", "half", wide(float_val=[1]), {"y": f32(2.5, 2.5, 2.5)}),
    ("no value is zero", "half", wide(), {"y": f32(2, 2, 2)}),
    ("surplus values are dropped", "half", wide(float_val=[1, 2, 3, 4, 5]), {"y": f32(2.5, 3, 3.5)}),
    ("values of another type are ignored", "half", wide(double_val=[1, 2, 3]), {"y": f32(2, 2, 2)}),
    ("content wins over values", "half", wide(tensor_content=f32(1, 2, 3).tobytes(), float_val=[9, 9, 9]), {"y": f32(2.5, 3, 3.5)}),
    ("no shape is a scalar", "half", predict(x=tensorflow_pb.TensorProto(dtype=1, float_val=[4])), {"y": np.array(4, np.float32)}),
    ("unknown rank is a scalar", "half", predict(x=UNKNOWN_RANK), {"y": np.array(4, np.float32)}),
    ("scalar content", "half", predict(x=tensor(1, tensor_content=f32(4).tobytes())), {"y": np.array(4, np.float32)}),
    ("no elements: content is ignored", "half", predict(x=tensor(1, 0, tensor_content=b"nonsense")), {"y": f32()}),
    ("no elements in rank 2", "half", predict(x=tensor(1, 2, 0, float_val=[1])), {"y": np.empty((2, 0), np.float32)}),
    ("uint8 narrows", "types", types_request(u8=tensor(4, 2, int_val=[300, -1])), {"u8_out": np.array([44, 255], np.uint8)}),
    ("int8 narrows", "types", types_request(i8=tensor(6, 2, int_val=[200, 300])), {"i8_out": np.array([-56, 44], np.int8)}),
    ("int16 narrows", "types", types_request(i16=tensor(5, 2, int_val=[65537])), {"i16_out": np.array([1, 1], np.int16)}),
    ("halves are bits", "types", types_request(h=tensor(19, 2, half_val=[0x3C00, 0xC000])), {"h_out": np.array([1, -2], np.float16)}),
    ("uint64 values", "types", types_request(u64=tensor(23, 2, uint64_val=[2**64 - 1])), {"u64_out": np.array([2**64 - 1] * 2, np.uint64)}),
    ("uint32 values", "types", types_request(u32=tensor(22, 2, uint32_val=[2**32 - 1, 7])), {"u32_out": np.array([2**32 - 1, 7], np.uint32)}),
    ("int64 in int_val is ignored", "types", types_request(i64=tensor(9, 2, int_val=[5, 6])), {"i64_out": i64(0, 0)}),
    ("bools", "types", types_request(b=tensor(10, 2, bool_val=[True])), {"b_out": np.array([True, True])}),
    ("no strings are empty ones", "types", types_request(s=tensor(7, 2)), {"s_out": text(b"", b"")}),
    ("the last string repeats", "types", types_request(s=tensor(7, 2, string_val=[b"z"])), {"s_out": text(b"z", b"z")}),
    ("strings in content: lengths, then bytes", "types", types_request(s=tensor(7, 2, tensor_content=b"\x01\x02abc")), {"s_out": text(b"a", b"bc")}),
    ("double content", "types", types_request(d=tensor(2, 2, tensor_content=np.array([1.5, 2.5]).tobytes())), {"d_out": np.array([1.5, 2.5])}),
    ("every type", "types", types_request(), {f"{alias}_out": array for alias, array in TYPES.items()}),
    ("every type in content", "types", predict("types", **{alias: encode_tensor(array, as_content=True) for alias, array in TYPES.items()}), {f"{alias}_out": array for alias, array in TYPES.items()}),
    ("uint16", "uint16", predict("uint16", x=np.array([0, 65535], np.uint16)), {"y": np.array([0, 65535], np.uint16)}),
    ("bfloat16 beside float, content", "bfloat16", predict("bfloat16", x=encode_tensor(BF16, as_content=True), a=f32(1, 2)), {"y": BF16, "b": f32(-1, -2)}),
    ("bfloat16 as bits of half_val", "bfloat16", predict("bfloat16", x=tensor(14, 2, half_val=[0x3FC0, 0xC000]), a=f32(1, 2)), {"y": BF16}),
    ("a default stands in", "defaults", predict("defaults", a=f32(1)), {"total": f32(6), "twice": i64(10)}),
    ("what is sent wins over its default", "defaults", predict("defaults", a=f32(1), b=i64(2)), {"total": f32(3), "twice": i64(4)}),
    ("one output", "two", filtered("twice"), {"twice": i64(2)}),
    ("outputs in any order", "two", filtered("twice", "total"), {"total": f32(2), "twice": i64(2)}),
    ("a signature that classifies answers Predict", "examples", predict("examples", inputs=text(X2)), {"scores": f32(2, 0.5).reshape(1, 2), "classes": text(b"no", b"yes").reshape(1, 2)}),
]  # fmt: skip

# method, request, code, part of the text
GRPC_REFUSALS = [
    ("Predict", serving_pb.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Predict", predict("", x=X), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("Predict", predict("nope", x=X), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("Predict", predict("half", 99, x=X), "NOT_FOUND", "Servable not found for request: Specific(half, 99)"),
    ("Predict", predict("half", -1, x=X), "NOT_FOUND", "Servable not found for request: Specific(half, -1)"),
    ("Predict", predict(signature="no", x=X), "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
    ("Predict", predict(), "INVALID_ARGUMENT", "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."),
    ("Predict", predict(a=X, b=X), "INVALID_ARGUMENT", "input size does not match signature: 2!=1 len({a,b}) != len({x}). Sent extra: {a,b}. Missing but required: {x}."),
    ("Predict", predict(z=X), "INVALID_ARGUMENT", "Signature input alias: x(feed name: x:0) not found in request and no default value provided."),
    ("Predict", predict(x=X.astype(np.float64)), "INVALID_ARGUMENT", "Expects arg[0] to be float but double is provided. Input: x"),
    ("Predict", predict(x=np.array(["1"], object)), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided. Input: x"),
    ("Predict", predict("two", a=X, b=X), "INVALID_ARGUMENT", "Expects arg[1] to be int64 but float is provided. Input: b"),
    ("Predict", predict(x=BAD_CONTENT), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=NEGATIVE), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensorflow_pb.TensorProto()), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", filtered("nope"), "INVALID_ARGUMENT", "output tensor alias not found in signature: nope Outputs expected to be in the set {total,twice}."),
    ("Predict", filtered("total", "total"), "INVALID_ARGUMENT", "duplicate output tensor alias: total"),
    ("Classify", classify(None), "INVALID_ARGUMENT", "Input is empty."),
    ("Classify", classify(example_list()), "INVALID_ARGUMENT", "Input is empty."),
    ("Classify", classify(with_context(X2)), "INVALID_ARGUMENT", "Input is empty."),
    ("Classify", classify(example_list(X2), "no"), "INVALID_ARGUMENT", "No signature was found with the name: no"),
    ("Classify", classify(example_list(X2), "predict"), "INVALID_ARGUMENT", "No classification inputs found in SignatureDef"),
    ("Classify", classify(example_list(X2, b"\xff\xff")), "INVALID_ARGUMENT", "Could not parse example input"),
    ("Classify", classify(example_list(encode_example({}))), "INVALID_ARGUMENT", "Feature: x (data type: float) is required"),
    ("Regress", regress(example_list(X2), "scores_only"), "INVALID_ARGUMENT", "No regression outputs found in SignatureDef"),
    ("Regress", regress(None), "INVALID_ARGUMENT", "Input is empty."),
    ("MultiInference", serving_pb.MultiInferenceRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(model_spec=spec("half")), "INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(model_spec=spec("half"), metadata_field=["x"]), "INVALID_ARGUMENT", "Metadata field x is not supported"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(model_spec=spec("nope"), metadata_field=["signature_def"]), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("GetModelStatus", serving_pb.GetModelStatusRequest(model_spec=spec("nope")), "NOT_FOUND", "Could not find any versions of model nope"),
    ("GetModelStatus", serving_pb.GetModelStatusRequest(model_spec=spec("half", 99)), "NOT_FOUND", "Could not find version 99 of model half"),
    ("GetModelStatus", serving_pb.GetModelStatusRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Predict", predict("half", 0, x=X), "NOT_FOUND", "Servable not found for request: Specific(half, 0)"),
    ("Predict", predict("defaults", b=np.ones(1, np.int64)), "INVALID_ARGUMENT", "input size does not match signature: 1!=2 len({b}) != len({a,b}). Sent extra: {}. Missing but required: {a}."),
    ("Predict", predict("defaults", a=X, z=X), "INVALID_ARGUMENT", "Inputs contains invalid name. Used request inputs: {a}, request input: {a,z}."),
    ("Predict", predict("defaults", b=X, z=X), "INVALID_ARGUMENT", "Signature input alias: a(feed name: a:0) not found in request and no default value provided. Inputs expected to be in the request {a,b}, or default input alias set: {b}"),
    ("Predict", predict(x=tensor(1, 2, tensor_content=bytes(9))), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(1, 2, tensor_content=bytes(4))), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(101, 1, float_val=[1])), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(20, 1)), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(21, 1)), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(999, 1)), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(1, *[1] * 100, float_val=[1])), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(1, *[1] * 100_000, float_val=[1])), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(1, 2**62, float_val=[1])), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(1, 2**31, 2**31, 2**31, float_val=[1])), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", predict(x=tensor(1, 0, 2**62)), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", types_request(b=tensor(10, 2, tensor_content=b"\x01\x02")), "INVALID_ARGUMENT", "tensor parsing error: b"),
    ("Predict", types_request(s=tensor(7, 2, tensor_content=b"\x01\x05a")), "INVALID_ARGUMENT", "tensor parsing error: s"),
    ("Predict", types_request(s=tensor(7, 2, tensor_content=b"\xff\xff\xff\xff\x07\x01a")), "INVALID_ARGUMENT", "tensor parsing error: s"),
    ("Predict", types_request(s=tensor(7, 1, string_val=[b"\xff"])), "INVALID_ARGUMENT", "Input s holds a string that is not UTF-8"),
    ("Predict", predict(x=np.ones(1, np.complex64)), "INVALID_ARGUMENT", "Expects arg[0] to be float but complex64 is provided"),
    ("Predict", filtered("twice", "nope"), "INVALID_ARGUMENT", "output tensor alias not found in signature: nope"),
    ("Classify", classify(example_list(X2), "two_inputs"), "INVALID_ARGUMENT", "Expected one input Tensor."),
    ("Classify", classify(example_list(X2), "many"), "INVALID_ARGUMENT", "Expected one or two output Tensors, found 3"),
    ("Classify", serving_pb.ClassificationRequest(input=example_list(X2)), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Classify", serving_pb.ClassificationRequest(model_spec=spec("nope"), input=example_list(X2)), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("Regress", regress(example_list(X2), "two_inputs"), "INVALID_ARGUMENT", "Expected one input Tensor."),
    ("Regress", regress(example_list(X2), "serving_default"), "INVALID_ARGUMENT", "Expected one output Tensor"),
    ("Regress", serving_pb.RegressionRequest(model_spec=spec("half"), input=example_list(X2)), "INVALID_ARGUMENT", "No regression inputs found in SignatureDef"),
    ("MultiInference", multi([], X2), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("MultiInference", multi([("", "", CLASSIFY_METHOD)], X2), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("MultiInference", multi([("examples", "", CLASSIFY_METHOD), ("", "regression", REGRESS_METHOD)], X2), "INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
    ("MultiInference", multi([("examples", "", CLASSIFY_METHOD), ("other", "regression", REGRESS_METHOD)], X2), "INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    ("MultiInference", multi([("examples", "", CLASSIFY_METHOD), ("examples", "serving_default", CLASSIFY_METHOD)], X2), "INVALID_ARGUMENT", "Duplicate evaluation of signature: serving_default"),
    ("MultiInference", multi([("examples", "no", CLASSIFY_METHOD)], X2), "INVALID_ARGUMENT", "Requested signature not found in model graph: no"),
    ("MultiInference", multi([("examples", "predict", PREDICT_METHOD)], X2), "UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict"),
    ("MultiInference", multi([("examples", "", CLASSIFY_METHOD)]), "INVALID_ARGUMENT", "Input is empty."),
    ("MultiInference", multi([("nope", "", CLASSIFY_METHOD)], X2), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("MultiInference", multi([("examples", "regression", CLASSIFY_METHOD)], X2), "INVALID_ARGUMENT", "Expected classification signature outputs to contain at least one of"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(metadata_field=["signature_def"]), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("GetModelMetadata", serving_pb.GetModelMetadataRequest(model_spec=spec("half", 9), metadata_field=["signature_def"]), "NOT_FOUND", "Servable not found for request: Specific(half, 9)"),
    ("GetModelStatus", serving_pb.GetModelStatusRequest(model_spec=serving_pb.ModelSpec()), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
]  # fmt: skip


class Row(NamedTuple):
    """One row of the table, and the fronts it goes through."""

    id: str
    fronts: frozenset[str]


def rows() -> list[Row]:
    """Every row of this module once, however many ways it is asked."""
    both, rest, grpc = frozenset({"REST", "gRPC"}), frozenset({"REST"}), frozenset({"gRPC"})
    return [
        *(Row(f"predict: {case.id}", both) for case in PREDICT),
        *(Row(f"examples: {case.id}", both) for case in EXAMPLES),
        *(Row(f"both: {case.id}", both) for case in BOTH),
        *(Row(f"REST {model}:{verb} {body!r}", rest) for model, verb, body, _ in [*REST_ANSWERS, *REST_REFUSALS]),
        *(Row(f"{method} {path}", rest) for method, path, _, _ in URLS),
        *(Row(f"gRPC {name}", grpc) for name, *_ in GRPC_ANSWERS),
        *(Row(f"gRPC {method} {request.SerializeToString()!r}", grpc) for method, request, _, _ in GRPC_REFUSALS),
    ]
