# ruff: noqa: E501  (the tables read by line: one case, one line)
"""Bad requests as tables, each with the row of the robustness list that it stands for, and what must come back.

Owns what is sent, byte for byte, and which codes and words are right. How a case is asked is the tests' business. Knows
no server and imports none.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import NamedTuple
from urllib.parse import quote

import grpc
import numpy as np
from oip_requests import binary_request, json_request, message
from tfs_requests import X2, X, classify, example_list, predict, regress, tensor

from estimator_serving.wire.pb import inference_pb, tensorflow_pb
from estimator_serving.wire.services import SERVICES

REQUEST_BYTES_MAX = 8 << 20
MATRIX = np.ones((1, 3), np.float32)
JSON_LENGTH = "Inference-Header-Content-Length"
PREDICTION = "tensorflow.serving.PredictionService"
INFERENCE = "inference.GRPCInferenceService"


class Rest(NamedTuple):
    """A POST, or a GET where `body` is None. text: a part of the error."""

    row: int
    id: str
    path: str
    body: bytes | str | None
    statuses: tuple[int, ...]
    text: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012  # nobody writes to it


class Raw(NamedTuple):
    """Bytes for a connection of the REST port, which is read to its end; `starts` is how the answer begins."""

    row: int
    id: str
    content: bytes
    starts: tuple[bytes, ...]


class Rpc(NamedTuple):
    """A message for an rpc, as bytes. text: a part of the details."""

    row: int
    id: str
    method: str
    payload: bytes
    codes: tuple[grpc.StatusCode, ...]
    text: str = ""


def v1(model: str = "matrix", verb: str = "predict") -> str:
    return f"/v1/models/{model}:{verb}"


def v2(model: str = "matrix") -> str:
    return f"/v2/models/{model}/infer"


GOOD = {v1(): json.dumps({"instances": [[1, 2, 3]]}), v2(): json_request({"x": MATRIX}).decode()}


def both(row: int, id_: str, change, statuses: tuple[int, ...] = (400,), text: str = "", **headers: str) -> list[Rest]:
    """A case for each dialect; `change` makes the bad body of a good one."""
    return [Rest(row, f"{id_} {path[:3]}", path, change(body), statuses, text, headers) for path, body in GOOD.items()]


def columns(**inputs) -> str:
    return json.dumps({"inputs": inputs})


def named(*inputs: dict, **members) -> str:
    return json.dumps({"inputs": list(inputs), **members})


def x(name="x", shape=(1, 3), datatype="FP32", **others) -> dict:
    return {"name": name, "shape": list(shape), "datatype": datatype} | (others or {"data": [1, 2, 3]})


def typed(alias: str, datatype: str, data: list) -> str:
    return named({"name": alias, "shape": [len(data)], "datatype": datatype, "data": data})


BINARY, BINARY_JSON = binary_request({"x": MATRIX})


def binary(size: object = 12, more: bytes = b"", **others) -> tuple[bytes, dict[str, str]]:
    head = named(x(parameters={"binary_data_size": size}, **others)).encode()
    return head + MATRIX.tobytes() + more, {JSON_LENGTH: str(len(head))}


def binary_case(id_: str, *given, **others) -> Rest:
    body, headers = binary(*given, **others)
    return Rest(13, id_, v2(), body, (400,), "", headers)


ZEROS = gzip.compress(bytes(2 * REQUEST_BYTES_MAX), 1)
DEFLATED_ZEROS = zlib.compress(bytes(2 * REQUEST_BYTES_MAX), 1)
PACKED = {path: gzip.compress(body.encode()) for path, body in GOOD.items()}

REST = [
    *both(1, "empty body", lambda _: b""),
    Rest(1, "empty body, classify", v1("examples", "classify"), b"", (400,)),
    Rest(1, "empty body, regress", v1("examples", "regress"), b"", (400,)),
    *both(2, "bad JSON", lambda _: "{", text="offset"),
    Rest(2, "trailing garbage v1, as TensorFlow Serving", v1(), GOOD[v1()] + "x", (200,)),
    Rest(2, "trailing garbage v2", v2(), GOOD[v2()] + "x", (400,), "offset"),
    *both(2, "BOM", lambda good: b"\xef\xbb\xbf" + good.encode(), text="offset"),
    *both(2, "UTF-16", lambda good: good.encode("utf-16"), text="offset"),
    *both(2, "invalid UTF-8", lambda _: b'{"id": "\xff"}', text="offset"),
    *both(2, "lone surrogate", lambda _: '{"id": "\\ud800"}', text="offset"),
    *both(2, "no object", lambda _: "[1]"),
    *both(3, "nested arrays", lambda _: "[" * 100_000, text="nesting too deep"),
    *both(3, "nested objects", lambda _: '{"a":' * 100_000, text="nesting too deep"),
    *both(3, "nested and closed", lambda _: '{"inputs": ' + "[" * 50_000 + "]" * 50_000 + "}", text="nesting too deep"),
    *both(4, "gzip bomb", lambda _: ZEROS, (413,), **{"Content-Encoding": "gzip"}),
    *both(4, "deflate bomb", lambda _: DEFLATED_ZEROS, (413,), **{"Content-Encoding": "deflate"}),
    *both(4, "truncated gzip", lambda good: gzip.compress(good.encode())[:-9], **{"Content-Encoding": "gzip"}),
    *both(4, "no gzip", lambda good: good.encode(), **{"Content-Encoding": "gzip"}),
    *both(4, "double gzip", lambda good: gzip.compress(gzip.compress(good.encode())), **{"Content-Encoding": "gzip"}),
    *both(4, "gzip twice in words", lambda good: gzip.compress(good.encode()), (400, 415), **{"Content-Encoding": "gzip, gzip"}),
    *both(4, "fine gzip", lambda good: gzip.compress(good.encode()), (200,), **{"Content-Encoding": "gzip"}),
    *both(5, "unknown encoding", lambda good: good, (415,), **{"Content-Encoding": "br"}),
    *(Rest(12, f"header length {value[:9]}", v2(), BINARY, (400,), "", {JSON_LENGTH: value}) for value in ("-1", "abc", "0", "99999", "1.0", "+1", "0x10", "9" * 5000)),
    binary_case("size negative", -1), binary_case("size over the rest", 13), binary_case("size under the rest", 8),
    binary_case("size a string", "12"), binary_case("size a float", 12.0), binary_case("size true", True), binary_case("size 2^70", 2**70),
    binary_case("surplus tail", 12, b"more"), binary_case("size and data", 12, data=[1, 2, 3]), binary_case("wrong datatype", 12, datatype="INT32"),
    Rest(14, "count v2", v2(), named(x(data=[1, 2])), (400,), "data has 2 values"),
    Rest(14, "ragged v2", v2(), named(x(data=[[1, 2], [3]])), (400,), "'x'"),
    Rest(14, "depth v2", v2(), named(x(data=[[[1, 2, 3]]])), (400,), "'x'"),
    Rest(14, "scalar v2", v2(), named(x(data=1)), (400,), "'x'"),
    Rest(14, "ragged v1", v1(), columns(x=[[1, 2, 3], [4, 5]]), (400,), "xpect"),
    Rest(14, "ragged rows v1", v1(), json.dumps({"instances": [[1, 2, 3], [4, 5]]}), (400,)),
    Rest(14, "depth v1", v1(), columns(x=[[[1, 2, 3]]]), (400,), "x"),
    Rest(14, "scalar v1", v1(), columns(x=1), (400,), "x"),
    *(Rest(15, f"{value} in {alias} v1", v1("types"), columns(**{alias: [value, value]}), (400,)) for alias, value in (
        ("f", "3"), ("f", None), ("f", True), ("f", 1e39), ("i32", 1.5), ("i32", True), ("u8", 300), ("u8", -1), ("i64", 2**63), ("i32", 2**31), ("b", 0), ("b", "true"), ("s", 1), ("d", "1"))),
    *(Rest(15, f"{value} in {datatype} v2", v2("types"), typed(alias, datatype, [value, value]), (400,), "data[0]") for alias, datatype, value in (
        ("f", "FP32", "3"), ("f", "FP32", None), ("f", "FP32", True), ("f", "FP32", 1e39), ("i32", "INT32", 1.5), ("i32", "INT32", True), ("u8", "UINT8", 300), ("u8", "UINT8", -1),
        ("i64", "INT64", 2**63), ("i64", "INT64", 2**64), ("b", "BOOL", 0), ("b", "BOOL", 1), ("s", "BYTES", 1), ("s", "BYTES", None), ("d", "FP64", "1"))),
    *both(16, "1e400", lambda good: good.replace("1", "1e400", 1) if "instances" in good else good.replace("1.0", "1e400", 1)),
    Rest(16, "NaN in v2", v2(), GOOD[v2()].replace("1.0", "NaN", 1), (400,)),
    Rest(16, "Infinity in v2", v2(), GOOD[v2()].replace("1.0", "-Infinity", 1), (400,)),
    Rest(16, "NaN in v1, as TensorFlow Serving", v1(), columns(x=[[1, 2, 3]]).replace("1", "NaN", 1), (200,), "NaN"),
    Rest(16, "NaN out v1", v1("log"), columns(x=[-1.0]), (200,), "NaN"),
    Rest(16, "NaN out v2", v2("log"), named(x(shape=[1], data=[-1.0])), (200,), "NaN"),
    *(Rest(17, f"shape {str(shape)[:20]}", v2(), named(x(shape=shape)), (400,)) for shape in (
        [-1, 3], [0, 3], [2**62, 4], [2**31 - 1, 3], [2**62, 2**62], [1] * 100, [1.0, 3], ["1", 3], [True, 3], [None], [[1, 3]])),
    Rest(17, "shape no list", v2(), named({"name": "x", "shape": 3, "datatype": "FP32", "data": [1, 2, 3]}), (400,)),
    Rest(18, "batch 0 v1", v1(), columns(x=[]), (200, 400)),
    Rest(18, "batch 0 v2", v2(), named(x(shape=[0, 3], data=[])), (200,)),
    Rest(20, "duplicate keys v1", v1(), '{"instances": [[1, 2, 3]], "instances": [[1, 2, 3]]}', (400,)),
    Rest(20, "duplicate keys v2", v2(), GOOD[v2()].replace('"name": "x"', '"name": "x", "name": "x"'), (400,), "twice"),
    Rest(20, "unknown input v1", v1(), columns(z=[[1, 2, 3]]), (400,)),
    Rest(20, "unknown input v2", v2(), named(x(name="z")), (400,), "'z'"),
    Rest(20, "missing input v1", v1("types"), columns(f=[1, 2]), (400,)),
    Rest(20, "missing input v2", v2("types"), typed("f", "FP32", [1, 2]), (400,)),
    Rest(20, "surplus input v2", v2(), named(x(), x(name="z")), (400,)),
    Rest(20, "duplicate input v2", v2(), named(x(), x()), (400,), "already exists"),
    Rest(20, "unknown output v2", v2(), named(x(), outputs=[{"name": "no"}]), (400,), "'no'"),
    Rest(20, "duplicate output v2", v2(), named(x(), outputs=[{"name": "y"}, {"name": "y"}]), (400,), "twice"),
    Rest(20, "neither instances nor inputs", v1(), "{}", (400,)),
    Rest(20, "instances and inputs", v1(), '{"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}', (400,)),
    Rest(20, "no input v2", v2(), named(), (400,)),
    Rest(21, "no such datatype", v2(), named(x(datatype="FLOAT")), (400,), "FP32"),
    Rest(21, "another datatype", v2(), named(x(datatype="INT32")), (400,)),
    Rest(21, "FP16 as JSON", v2("types"), typed("h", "FP16", [1, 2]), (400,), "binary"),
    Rest(21, "BF16 as JSON", v2("bfloat16"), named({"name": "x", "shape": [1], "datatype": "BF16", "data": [1]}), (400,), "binary"),
    *(Rest(22, f"{where[:24]}", f"/v1/models/{where}:predict", GOOD[v1()], (400, 404)) for where in (
        "nobody", "matrix/versions/9", "matrix/versions/abc", "matrix/versions/-1", "matrix/versions/0", f"matrix/versions/{2**64}", "matrix/labels/no")),
    *(Rest(22, f"v2 {where[:24]}", f"/v2/models/{where}/infer", GOOD[v2()], (400, 404)) for where in (
        "nobody", "matrix/versions/9", "matrix/versions/abc", "matrix/versions/-1", "matrix/versions/0", f"matrix/versions/{2**64}")),
    Rest(22, "signature v1", v1(), '{"signature_name": "no", "instances": [[1, 2, 3]]}', (400, 404)),
    Rest(22, "signature v2", v2(), named(x(), parameters={"signature_name": "no"}), (400, 404)),
    Rest(24, "text that is not UTF-8 v1", v1("text"), columns(s=[{"b64": "//4="}]), (400,)),
    Rest(24, "bad base64 v1", v1("text"), columns(s=[{"b64": "?"}]), (400,)),
    Rest(24, "NULs are kept v1", v1("text"), json.dumps({"signature_name": "serving_default", "inputs": {"s": ["a\0b"]}}), (200, 400), "a\\u0000b"),
    *(Rest(27, f"{path[:30]!r}", path, None, (400, 404)) for path in (
        "/", "/nowhere", "/v1", "/v1/", "/v1/models/", "/v2/nowhere", "/v1/models/matrix/", "//v1/models/matrix", "/v1//models/matrix", "/v1%2Fmodels/matrix", "/v1/../etc/passwd",
        "/v1/models/..%2f..%2fetc", "/v1/models/%00", "/v2/models/..%2f..", "/etc/passwd", "/static/../../etc/passwd", "/v1/models/matrix%00")),
    Rest(27, "another method v1", "/v1/models/matrix", "{}", (400, 404, 405)),
    Rest(27, "another method v2", "/v2/models/matrix", "{}", (400, 404, 405)),
    Rest(27, "GET of an inference v1", v1(), None, (400, 404, 405)),
    Rest(27, "GET of an inference v2", v2(), None, (400, 404, 405)),
    *(Rest(28, f"{name[:20]!r} {form[:3]}", form.format(quote(name, safe="")), GOOD[v1()], (400, 404, 414)) for form in (v1("{}"), v2("{}"))
        for name in ("../x", "../../etc/passwd", "/etc", "a\x00b", "m" * 10_240, "größe", "a\nb: forged", "<script>", "%2e%2e")),
    Rest(28, "load ../x", f"/v2/repository/models/{quote('../x', safe='')}/load", "{}", (400, 404)),
    Rest(28, "load with files", "/v2/repository/models/matrix/load", json.dumps({"parameters": {"config": "{}", "file:1/model.onnx": "eA=="}}), (400, 501)),
    *(Rest(33, f"{front[:3]} index", front, body, (400,)) for front, body in (
        (v1("gather"), columns(i=[99])), (v2("gather"), named({"name": "i", "shape": [1], "datatype": "INT64", "data": [99]})))),
    *(Rest(51, id_, "/v2/systemsharedmemory/region/r/register", json.dumps(given), (400, 404)) for id_, given in (
        ("unknown region", {"key": "/nobody-made-this", "offset": 0, "byte_size": 8}), ("a path", {"key": "/../etc/passwd", "offset": 0, "byte_size": 8}),
        ("a negative offset", {"key": "/x", "offset": -1, "byte_size": 8}), ("no size", {"key": "/x", "offset": 0, "byte_size": 0}), ("2^64", {"key": "/x", "offset": 2**64, "byte_size": 2**64}))),
    Rest(51, "a region nobody registered", v2(), named(x(parameters={"shared_memory_region": "no", "shared_memory_byte_size": 12})), (400, 404)),
]  # fmt: skip

HEAD = b"POST /v1/models/matrix:predict HTTP/1.1\r\nHost: x\r\n"
BODY = GOOD[v1()].encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BAD, FINE = (b"HTTP/1.1 400 ",), (b"HTTP/1.1 200 ",)
TOO_LARGE = (b"HTTP/1.1 413 ",)

RAW = [
    Raw(6, "announced over the cap", HEAD + b"Content-Length: %d\r\n\r\n" % (REQUEST_BYTES_MAX + 1), TOO_LARGE),
    Raw(6, "chunks over the cap", HEAD + CHUNKED + b"".join((b"100000\r\n", bytes(1 << 20), b"\r\n")) * 9, TOO_LARGE),
    Raw(7, "both lengths", HEAD + LENGTH + CHUNKED + b"0\r\n\r\n" + GET, BAD),
    Raw(7, "two lengths", HEAD + LENGTH + b"Content-Length: 19\r\n\r\n" + BODY + GET, BAD),
    *(Raw(7, f"length {value.decode()[:12]}", HEAD + b"Content-Length: " + value + b"\r\n\r\n" + BODY + GET, BAD) for value in (
        b"+27", b"-1", b"27, 27", b"0x1b", b"99999999999999999999999", b"27 28", b"")),
    *(Raw(7, f"chunk size {size.decode()[:12]}", HEAD + CHUNKED + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + GET, BAD) for size in (
        b"+1b", b"0x1b", b"fffffffffffffffff", b"-1", b"1b zz", b"")),
    Raw(7, "chunk without its end", HEAD + CHUNKED + b"1b\r\n" + BODY + b"XX0\r\n\r\n" + GET, BAD),
    Raw(7, "chunked last but one", HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + GET, BAD),
    Raw(7, "space before the colon", HEAD + LENGTH.replace(b":", b" :") + b"\r\n" + BODY + GET, BAD),
    Raw(7, "folded header", HEAD + b"X: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY + GET, BAD),
    Raw(7, "NUL in a header", HEAD + b"X: a\x00b\r\n" + LENGTH + b"\r\n" + BODY + GET, BAD),
    Raw(7, "short length", HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\n" + BODY, BAD),
    Raw(8, "a hundred thousand chunks", HEAD + b"Connection: close\r\n" + CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY.ljust(100_000)) + b"0\r\n\r\n", FINE),
    Raw(27, "64 KB URL", b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (b"HTTP/1.1 414 ",)),
    Raw(27, "absolute form", b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", (b"HTTP/1.1 200 ", b"HTTP/1.1 404 ")),
    Raw(27, "asterisk", b"GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", (b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")),
    Raw(27, "HEAD", LAST.replace(b"GET", b"HEAD"), FINE),
    Raw(27, "OPTIONS", LAST.replace(b"GET /healthz", b"OPTIONS /v1/models/matrix"), BAD),
    Raw(27, "CONNECT", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", (b"HTTP/1.1 405 ",)),
    Raw(27, "no such method", LAST.replace(b"GET", b"BREW"), (b"HTTP/1.1 400 ", b"HTTP/1.1 405 ")),
    Raw(27, "HTTP/0.9", b"GET /healthz\r\n\r\n", BAD),
    Raw(27, "HTTP/9.9", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", BAD),
    Raw(27, "no Host", b"GET /healthz HTTP/1.1\r\n\r\n", BAD),
    Raw(27, "two Hosts", b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", BAD),
    Raw(27, "HTTP/1.0 with keep-alive", b"GET /healthz HTTP/1.0\r\n\r\n", FINE),
    Raw(27, "a control character", b"GET /v1/\x01 HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    Raw(27, "a header of 64 KB", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 65_536 + b"\r\n\r\n", (b"HTTP/1.1 431 ",)),
    Raw(27, "10,000 headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 10_000 + b"\r\n", (b"HTTP/1.1 431 ",)),
    Raw(27, "no HTTP", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(100), BAD),
]  # fmt: skip

INVALID = (grpc.StatusCode.INVALID_ARGUMENT,)
MISSING = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
OK = (grpc.StatusCode.OK,)
EXHAUSTED = (grpc.StatusCode.RESOURCE_EXHAUSTED,)
CLIENTS_FAULT = (
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)  # fmt: skip


def tfs(row: int, id_: str, request, codes=INVALID, text: str = "") -> Rpc:
    """A Predict, Classify or Regress, by its request."""
    name = {"PredictRequest": "Predict", "ClassificationRequest": "Classify", "RegressionRequest": "Regress"}[
        type(request).__name__
    ]
    return Rpc(row, id_, f"/{PREDICTION}/{name}", request.SerializeToString(), codes, text)


def oip(
    row: int,
    id_: str,
    change,
    codes=INVALID,
    *,
    contents: bool = False,
    text: str = "",
    model: str = "matrix",
    inputs=None,
) -> Rpc:
    """A ModelInfer; `change` spoils a good request, which has raw contents unless `contents`."""
    request = message(model, {"x": MATRIX} if inputs is None else inputs, typed=contents)
    change(request)
    return Rpc(row, id_, f"/{INFERENCE}/ModelInfer", request.SerializeToString(), codes, text)


def set_raw(content: bytes):
    def change(request):
        request.raw_input_contents[0] = content

    return change


def set_shape(*dims: int):
    def change(request):
        request.inputs[0].shape[:] = dims

    return change


def of_text(*values: bytes) -> dict[str, np.ndarray]:
    array = np.empty(len(values), object)
    array[:] = values
    return {"s": array}


def at_version(version: int | None = None, label: str = "", name: str = "matrix", signature: str = ""):
    request = predict(name, version, signature, x=MATRIX)
    if label:
        request.model_spec.version_label = label
    return request


def with_inputs(count: int):
    request = predict("matrix", x=MATRIX)
    for index in range(count):
        request.inputs[f"made up {index}"].dtype = 1
    return request


UNKNOWN_FIELDS = b"\x2a\x02\x08\x01" + b"\x32\x02id" + b"\x3a\x03\x0a\x01c" + b"\xf2\x3f\x01x"
MANY_DIMS = tensorflow_pb.TensorShapeProto.FromString(b"\x12\x02\x08\x01" * 1_000_000)
PREDICT_PAYLOAD = predict("matrix", x=MATRIX).SerializeToString()
INFER_PAYLOAD = message("matrix", {"x": MATRIX}).SerializeToString()
RANDOM = random.Random(13)
GARBAGE = [RANDOM.randbytes(RANDOM.randrange(1, 200)) for _ in range(3)]
UNARY = [(service, name) for service, methods in SERVICES.items() for name in methods if not methods[name].is_stream]


def damaged(good: bytes, count: int) -> list[bytes]:
    """Cut short, or with one byte changed."""
    made = []
    for _ in range(count):
        at = RANDOM.randrange(len(good))
        made += [good[:at], good[:at] + RANDOM.randbytes(1) + good[at + 1 :]]
    return made


RPC = [
    *(Rpc(1, f"no bytes, {name}", f"/{PREDICTION}/{name}", b"", MISSING) for name in ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")),
    Rpc(1, "no bytes, ModelInfer", f"/{INFERENCE}/ModelInfer", b"", MISSING),
    *(Rpc(6, f"over the cap, {name}", method, bytes(REQUEST_BYTES_MAX + 1), EXHAUSTED) for name, method in (
        ("Predict", f"/{PREDICTION}/Predict"), ("ModelInfer", f"/{INFERENCE}/ModelInfer"))),
    oip(14, "raw count", set_raw(bytes(8))), oip(14, "typed count", lambda r: r.inputs[0].contents.fp32_contents.pop(), contents=True),
    tfs(14, "surplus values, as TensorFlow", predict("matrix", x=tensor(1, 1, 3, float_val=[1, 2, 3, 4])), OK),
    tfs(14, "rank", predict("matrix", x=np.ones(3, np.float32))), tfs(14, "dimension", predict("matrix", x=np.ones((1, 4), np.float32))),
    tfs(15, "int64 for float", predict("matrix", x=np.ones((1, 3), np.int64))), oip(15, "INT64 for FP32", lambda _: None, inputs={"x": np.ones((1, 3), np.int64)}),
    tfs(16, "NaN in", predict("matrix", x=MATRIX * np.nan), OK), oip(16, "NaN in", lambda _: None, OK, inputs={"x": MATRIX * np.nan}),
    *(tfs(17, f"dims {str(dims)[:20]}", predict("matrix", x=tensor(1, *dims, float_val=[1]))) for dims in (
        [2**40], [2**31, 2**31], [-1], [2**62, 2**62], [1] * 33, [1] * 100, [0, 2**62], [2**27])),
    *(oip(17, f"dims {str(dims)[:20]}", set_shape(*dims)) for dims in ([2**40, 3], [2**31, 2**31], [-1, 3], [2**62, 2**62], [1] * 33, [1] * 1000, [0, 2**62], [])),
    tfs(18, "batch 0", predict("matrix", x=np.ones((0, 3), np.float32)), OK), oip(18, "batch 0", lambda _: None, OK, inputs={"x": np.ones((0, 3), np.float32)}),
    tfs(18, "no columns", predict("half", x=np.ones((2, 0), np.float32)), OK),
    tfs(18, "no examples", classify(example_list())),
    tfs(20, "unknown input", predict("matrix", z=MATRIX)), tfs(20, "missing input", predict("matrix")), tfs(20, "ten thousand inputs", with_inputs(10_000)),
    oip(20, "unknown input", lambda r: setattr(r.inputs[0], "name", "z")), oip(20, "missing input", lambda r: (r.inputs.pop(), r.raw_input_contents.pop())),
    oip(20, "duplicate input", lambda r: (r.inputs.append(r.inputs[0]), r.raw_input_contents.append(MATRIX.tobytes()))),
    oip(20, "unknown output", lambda r: r.outputs.add(name="no")), oip(20, "duplicate output", lambda r: (r.outputs.add(name="y"), r.outputs.add(name="y"))),
    oip(21, "no such datatype", lambda r: setattr(r.inputs[0], "datatype", "FLOAT")), oip(21, "FP16 in typed contents", lambda r: setattr(r.inputs[0], "datatype", "FP16"), contents=True),
    tfs(22, "unknown model", at_version(name="nobody"), MISSING), tfs(22, "unknown version", at_version(9), MISSING), tfs(22, "version -1", at_version(-1), MISSING),
    tfs(22, "version 0", at_version(0), MISSING), tfs(22, "unknown signature", at_version(signature="no"), CLIENTS_FAULT),
    *(tfs(22, f"label {label[:9]!r}", at_version(label=label), CLIENTS_FAULT) for label in ("stable", "../x", "a\nb", "l" * 10_000)),
    oip(22, "unknown model", lambda r: setattr(r, "model_name", "nobody"), MISSING),
    *(oip(22, f"version {version[:6]}", lambda r, version=version: setattr(r, "model_version", version), MISSING) for version in ("9", "abc", "-1", "0", str(2**64))),
    oip(22, "unknown signature", lambda r: r.parameters["signature_name"].__setattr__("string_param", "no"), MISSING),
    oip(23, "contents and raw", lambda r: r.inputs[0].contents.fp32_contents.append(1)),
    oip(23, "surplus raw", lambda r: r.raw_input_contents.append(b"more")), oip(23, "missing raw", lambda r: r.raw_input_contents.pop()),
    *(oip(23, f"raw off by {n}", set_raw(MATRIX.tobytes() + bytes(n))) for n in (1, 2, 3)), oip(23, "raw short by 1", set_raw(MATRIX.tobytes()[:-1])),
    oip(23, "two contents", lambda r: r.inputs[0].contents.int_contents.append(1), contents=True),
    oip(23, "wrong contents", lambda r: (r.inputs[0].contents.Clear(), r.inputs[0].contents.int_contents.extend([1, 2, 3])), contents=True),
    *(oip(24, id_, set_raw(content), model="text", inputs=of_text(b"ab")) for id_, content in (
        ("truncated length", b"\x02\x00"), ("overrun", b"\xff\xff\xff\x7fab"), ("extra element", b"\x02\x00\x00\x00ab\x00\x00\x00\x00"), ("cut", b"\x02\x00\x00\x00a"))),
    oip(24, "NULs are kept", lambda _: None, OK, model="text", inputs=of_text(b"a\0b")), oip(24, "no UTF-8", lambda _: None, model="text", inputs=of_text(b"\xff\xfe")),
    *(tfs(24, f"string content {id_}", predict("text", s=tensor(7, 2, tensor_content=content))) for id_, content in (
        ("overrun", b"\x02\x02ab"), ("surplus", b"\x01\x01abc"), ("4 GB", b"\xff\xff\xff\xff\x0f\x00"), ("ends in a length", b"\x80"), ("a length of 7 bytes", b"\x80\x80\x80\x80\x80\x80\x01\x00"))),
    *(Rpc(25, f"garbage {number}, {name}", f"/{service}/{name}", payload, (*CLIENTS_FAULT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS))
        for service, name in UNARY for number, payload in enumerate(GARBAGE)),
    *(Rpc(25, f"damaged Predict {number}", f"/{PREDICTION}/Predict", payload, CLIENTS_FAULT + OK) for number, payload in enumerate(damaged(PREDICT_PAYLOAD, 10))),
    *(Rpc(25, f"damaged ModelInfer {number}", f"/{INFERENCE}/ModelInfer", payload, CLIENTS_FAULT + OK) for number, payload in enumerate(damaged(INFER_PAYLOAD, 10))),
    Rpc(25, "unknown fields", f"/{PREDICTION}/Predict", PREDICT_PAYLOAD + UNKNOWN_FIELDS, OK),
    tfs(25, "a million dimensions", predict("matrix", x=tensorflow_pb.TensorProto(dtype=1, tensor_shape=MANY_DIMS)), text="tensor parsing error: x"),
    oip(25, "a million dimensions", lambda r: r.inputs[0].shape.extend([1] * 1_000_000)),
    Rpc(25, "groups in groups", f"/{PREDICTION}/Predict", b"\x0b" * 50_000, INVALID),
    tfs(25, "an Example of groups in groups", classify(example_list(X2, b"\x0b" * 10_000)), text="Could not parse example input"),
    tfs(25, "an Example of garbage", regress(example_list(b"\xff\xffgarbage"))),
    tfs(26, "content and values", predict("matrix", x=tensor(1, 1, 3, tensor_content=MATRIX.tobytes(), float_val=[7])), OK),
    tfs(26, "one value for a shape", predict("matrix", x=tensor(1, 1, 3, float_val=[1])), OK),
    *(tfs(26, f"dtype {dtype}", predict("matrix", x=tensorflow_pb.TensorProto(dtype=dtype, tensor_content=b"x"))) for dtype in (20, 21, 101, 119, 0, -1, 999)),
    tfs(26, "unknown rank", predict("matrix", x=tensorflow_pb.TensorProto(dtype=1, tensor_shape=tensorflow_pb.TensorShapeProto(unknown_rank=True), float_val=[1]))),
    *(tfs(28, f"{name[:20]!r}", predict(name, x=X), MISSING) for name in ("../x", "../../etc/passwd", "/etc", "a\x00b", "m" * 10_240, "größe", "a\nb: forged", "<script>", "%2e%2e")),
    *(Rpc(28, f"load {name[:9]!r}", f"/{INFERENCE}/RepositoryModelLoad", inference_pb.RepositoryModelLoadRequest(model_name=name).SerializeToString(), CLIENTS_FAULT)
        for name in ("../x", "/etc", "a\nb", "m" * 10_240)),
    tfs(33, "index", predict("gather", i=np.int64([99]))),
    oip(33, "index", lambda _: None, model="gather", inputs={"i": np.int64([99])}),
    Rpc(51, "unknown region", f"/{INFERENCE}/SystemSharedMemoryRegister", inference_pb.SystemSharedMemoryRegisterRequest(name="r", key="/nobody-made-this", offset=0, byte_size=8).SerializeToString(), MISSING),
    Rpc(51, "beyond", f"/{INFERENCE}/SystemSharedMemoryRegister", inference_pb.SystemSharedMemoryRegisterRequest(name="r", key="/x", offset=2**63, byte_size=2**63).SerializeToString(), MISSING),
    oip(51, "a region nobody registered", lambda r: (r.raw_input_contents.pop(), r.inputs[0].parameters["shared_memory_region"].__setattr__("string_param", "no"),
        r.inputs[0].parameters["shared_memory_byte_size"].__setattr__("int64_param", 12)), MISSING),
]  # fmt: skip
