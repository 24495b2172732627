# ruff: noqa: E501  (the tables read by line: one case, one line)
"""Bad input over the Open Inference fronts: a code of the client's, a sentence that says why, and the process goes on."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from urllib.parse import quote

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oip_requests import SERVICE, binary_request, json_request, message, read_answer

from estimator_serving.wire.pb import inference_pb

X = np.ones((1, 3), np.float32)
DATA = [1.0, 2.0, 3.0]
HEADER = "Inference-Header-Content-Length"


def tensor(name="x", shape=(1, 3), datatype="FP32", **others):
    return {"name": name, "shape": list(shape), "datatype": datatype} | (
        {"data": DATA} | others if "parameters" not in others else others
    )


def body(*inputs, **members):
    return json.dumps({"inputs": list(inputs or (tensor(),))} | members)


GOOD = body()


def post(front, content, model="matrix", **headers):
    return front.http.post(
        f"/v2/models/{model}/infer",
        content=content,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def is_alive(front):
    return post(front, GOOD).status_code == 200


JSON_REFUSALS = [
    ("", "The request's body is empty"),
    (" ", "JSON Parse error"),
    ("{", "at offset: 1"),
    (GOOD + "x", f"unexpected content after document at offset: {len(GOOD)}"),
    (b"\xef\xbb\xbf" + GOOD.encode(), "byte order mark (BOM) is not supported at offset: 0"),
    (GOOD.encode("utf-16"), "JSON Parse error"),
    (b'{"id": "\xff"}', "at offset: 8"),
    ('{"id": "\\ud800"}', "no low surrogate in string"),
    ("[" * 100_000, "nesting too deep"),
    ('{"a":' * 100_000, "nesting too deep"),
    ("[1]", "An inference request is a JSON object, but got array"),
    ("null", "An inference request is a JSON object, but got null"),
    ("{}", "Unable to find 'inputs'"),
    ('{"inputs": {}}', "Unable to find 'inputs'"),
    ('{"inputs": []}', "expected 1 inputs but got 0 inputs for model 'matrix'"),
    ('{"inputs": [1]}', "An input is a JSON object, but got number"),
    ('{"inputs": [{}]}', "An input needs a name"),
    (body(tensor(name=1)), "An input needs a name"),
    (body(tensor(name="z")), "unexpected inference input 'z' for model 'matrix'. Its inputs are 'x'."),
    (body(tensor(name="z" * 10_000)), "unexpected inference input 'zzz"),
    (body(tensor(), tensor()), "input 'x' already exists in request"),
    (body(tensor(datatype="INT32")), "inference input 'x' data-type is 'INT32', but model 'matrix' expects 'FP32'"),
    (body(tensor(datatype="FLOAT")), "input 'x' has the datatype 'FLOAT', which does not exist; send FP32"),
    (body(tensor(datatype=11)), "input 'x' needs a datatype, such as FP32; got 11"),
    (body(tensor(shape=[1, 4])), "unexpected shape for input 'x' for model 'matrix'. Expected [-1,3], got [1,4]"),
    (body(tensor(shape=[3])), "Expected [-1,3], got [3]"),
    (body(tensor(shape=[])), "Expected [-1,3], got []"),
    (body(tensor(shape=[-1, 3])), "tensor 'x' has dimension -1"),
    (body(tensor(shape=[2**62, 4])), "tensor 'x' has dimension"),
    (body(tensor(shape=[2**31 - 1, 3])), "data has 3 values, and its shape [2147483647, 3] has 6442450941"),
    (body(tensor(shape=[1] * 100)), "tensor 'x' has 100 dimensions"),
    (body(tensor(shape=["1", 3])), "input 'x' needs a shape, a list of integers"),
    (body(tensor(shape=[1.0, 3])), "input 'x' needs a shape, a list of integers"),
    (body(tensor(shape=[True, 3])), "input 'x' needs a shape, a list of integers"),
    (body({"name": "x", "datatype": "FP32", "data": DATA}), "input 'x' needs a shape"),
    (body(tensor(data=[1, 2])), "data has 2 values, and its shape [1, 3] has 3"),
    (body(tensor(data=[[1, 2], [3]])), "data has 2 elements, and the shape wants 1 there"),
    (body(tensor(data=[[[1, 2, 3]]])), "data[0] has 1 elements, and the shape wants 3 there"),
    (body(tensor(data=1)), "data must be a list of values, but got number"),
    (body(tensor(data=["1", 2, 3])), 'data[0] is "1", which is no FP32'),
    (body(tensor(data=[[1, 2, None]])), "data[0][2] is null, which is no FP32"),
    (body(tensor(data=[1, 2, True])), "data[2] is true, which is no FP32"),
    (body(tensor(data=[1, 2, 1e39])), "data[2] is 1e+39, which is out of range for FP32"),
    (body().replace("1.0", "NaN"), "JSON Parse error"),
    (body().replace("1.0", "Infinity"), "JSON Parse error"),
    (body().replace("1.0", "1e400"), "JSON Parse error"),
    (body().replace("1.0", "01"), "JSON Parse error"),
    (body({"name": "x", "shape": [1, 3], "datatype": "FP32"}), "Input must set only one of the following fields"),
    (body(tensor(parameters={"binary_data_size": 12}, data=DATA)), "Input must set only one of the following fields"),
    (
        body(tensor(parameters={"binary_data_size": 12})),
        "input 'x' has binary_data_size 12, and behind the JSON are 0 left",
    ),
    (
        body(tensor(parameters={"binary_data_size": -1})),
        "input 'x' has binary_data_size -1; it must be a number of bytes",
    ),
    (body(tensor(parameters={"binary_data_size": "12"})), "input 'x' has binary_data_size \"12\""),
    (body(tensor(parameters={"binary_data_size": 2**70})), "input 'x' has binary_data_size"),
    (body(tensor(parameters={"binary_data_size": True})), "input 'x' has binary_data_size true"),
    (
        body(tensor(parameters={"content_type": "base64"}, data=["AA=="])),
        "input 'x' has the content_type base64, which only BYTES may have",
    ),
    (
        body(tensor(parameters={"a": []}, data=DATA)),
        "The parameter \"a\" of input 'x' must be a string, a number or a boolean",
    ),
    (body(tensor(parameters={"a": None}, data=DATA)), "The parameter \"a\" of input 'x' must be"),
    (body(tensor(parameters=[], data=DATA)), "The parameters of input 'x' are a JSON object, but got array"),
    (body(tensor(dat=[1])), "input 'x' has the unknown key \"dat\""),
    (body(input=[]), 'The request has the unknown key "input"'),
    (body(id=1), "The request's id must be a string, but got number"),
    (body(id="x" * 1025), "The request's id has more than 1024 characters"),
    (body(outputs={}), "'outputs' must be a list of outputs, but got object"),
    (body(outputs=[{}]), "An output needs a name"),
    (body(outputs=[{"name": "nope"}]), "unexpected inference output 'nope' for model 'matrix'"),
    (body(outputs=[{"name": "y"}, {"name": "y"}]), "output 'y' is requested twice"),
    (body(outputs=[{"name": "y", "data": []}]), "output 'y' has the unknown key"),
    (
        body(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]),
        "The parameter binary_data of output 'y' must be true or false",
    ),
    (
        body(outputs=[{"name": "y", "parameters": {"classification": 0}}]),
        "The parameter classification of output 'y' must be a number above 0",
    ),
    (
        body(outputs=[{"name": "y", "parameters": {"classification": "1"}}]),
        "The parameter classification of output 'y'",
    ),
    (
        body(outputs=[{"name": "y", "parameters": {"classification": True}}]),
        "The parameter classification of output 'y'",
    ),
    (
        body(parameters={"binary_data_output": "true"}),
        "The request's parameter binary_data_output must be true or false",
    ),
    (body(parameters={"signature_name": "no"}), "model 'matrix' has no signature 'no'"),
    (body(parameters={"signature_name": 1}), "model 'matrix' has no signature 1"),
    (body(parameters={"triton_x": 1}), "The parameter 'triton_x' is reserved"),
    (body(parameters={str(i): 1 for i in range(65)}), "A request or tensor has at most 64 parameters"),
    ('{"inputs": [], "inputs": []}', 'an object has the key "inputs" twice'),
    (GOOD.replace('"name": "x"', '"name": "x", "name": "x"'), 'an object has the key "name" twice'),
    (json.dumps({"inputs": [tensor(name=str(i)) for i in range(1025)]}), "A request has at most 1024 inputs"),
]


@pytest.mark.parametrize(("content", "text"), JSON_REFUSALS, ids=range(len(JSON_REFUSALS)))
def test_json(fronts, content, text):
    answer = post(fronts["matrix"], content)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert text in answer.json()["error"]
    assert is_alive(fronts["matrix"])


TYPE_REFUSALS = [
    ("u8", "UINT8", [0, 300], "data[1] is 300"), ("u8", "UINT8", [-1, 0], "data[0] is -1"), ("i8", "INT8", [200, 0], "data[0] is 200"),
    ("i16", "INT16", [2**15, 0], "out of range for INT16"), ("i32", "INT32", [2**31, 0], "out of range for INT32"),
    ("i64", "INT64", [2**63, 0], "out of range for INT64"), ("i64", "INT64", [2**64, 0], "which is no INT64"),
    ("u64", "UINT64", [2**64, 0], "which is no UINT64"), ("u32", "UINT32", [2**32, 0], "out of range for UINT32"),
    ("i32", "INT32", [1.5, 0], "data[0] is 1.5, which is no INT32"), ("i32", "INT32", [1.0, 0], "data[0] is 1.0, which is no INT32"),
    ("b", "BOOL", [0, 1], "data[0] is 0, which is no BOOL"), ("b", "BOOL", ["true", True], "which is no BOOL"),
    ("s", "BYTES", [1, "a"], "data[0] is 1, which is no BYTES"), ("d", "FP64", ["1", 1], "which is no FP64"),
    ("h", "FP16", [1, 2], "Sending FP16 data via JSON is not supported. Please use the binary data format for input 'h'."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "datatype", "data", "text"), TYPE_REFUSALS)
def test_no_value_wraps_or_is_converted(fronts, name, datatype, data, text):
    content = body({"name": name, "shape": [2], "datatype": datatype, "data": data})
    answer = post(fronts["types"], content, "types")
    assert answer.status_code == 400
    assert text in answer.json()["error"]


@pytest.mark.parametrize("header", ["-1", "abc", "99999", "1.0", "9" * 5000, "+1", "0x1"])
def test_json_length(fronts, header):
    answer = post(fronts["matrix"], GOOD, **{HEADER: header})
    assert answer.status_code == 400
    assert f"inference header size should be in range (0, {len(GOOD)}), got: " in answer.json()["error"]


def test_json_length_twice(fronts):
    headers = [(HEADER, str(len(GOOD))), (HEADER, str(len(GOOD)))]
    answer = fronts["matrix"].http.post("/v2/models/matrix/infer", content=GOOD, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("parameters", "tail", "text"),
    [
        ({"binary_data_size": 12}, b"", "behind the JSON are 0 left"),
        (
            {"binary_data_size": 12},
            bytes(13),
            "Behind the JSON lie 13 bytes, and the binary_data_size of the inputs add up to 12",
        ),
        ({"binary_data_size": 11}, bytes(11), "input byte size mismatch for input 'x'. Expected 12, got 11"),
        ({"binary_data_size": 16}, bytes(16), "input byte size mismatch for input 'x'. Expected 12, got 16"),
        ({"binary_data_size": 0}, b"", "Expected 12, got 0"),
    ],
)
def test_binary(fronts, parameters, tail, text):
    head = body(tensor(parameters=parameters))
    answer = post(fronts["matrix"], head.encode() + tail, **{HEADER: str(len(head))})
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_binary_size_of_another_dtype(fronts):
    content, length = binary_request({"x": X.astype(np.float64)})
    assert post(fronts["matrix"], content, **{HEADER: str(length)}).status_code == 400


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\1\0", "incomplete string length indicator"),
        (struct.pack("<I", 0x7FFFFFFF) + b"a", "incomplete string data"),
        (struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b", "unexpected number of string elements"),
        (struct.pack("<I", 1) + b"\xff", "is not UTF-8"),
    ],
)
def test_strings(fronts, content, text):
    head = body({"name": "s", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(content)}})
    answer = post(fronts["text"], head.encode() + content, "text", **{HEADER: str(len(head))})
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_nothing_but_bytes(fronts):
    answer = post(fronts["matrix"], X.tobytes(), **{HEADER: "0"})
    assert answer.status_code == 200
    for model, content, text in (
        ("matrix", b"", "The request's body is empty"),
        ("matrix", bytes(8), "Expected 12, got 8"),
        ("two", bytes(8), "expected exactly one input for model 'two'"),
    ):
        answer = post(fronts[model], content, model, **{HEADER: "0"})
        assert answer.status_code == 400
        assert text in answer.json()["error"]


def test_nothing_but_the_bytes_of_an_example(fronts):
    from estimator_serving.wire.examples import encode_example

    answer = post(fronts["examples"], encode_example({"x": [2.0]}), "examples", **{HEADER: "0"})
    length = int(answer.headers[HEADER])
    assert json.loads(answer.content[:length])["model_name"] == "examples"


@pytest.mark.parametrize(
    ("content", "coding", "status"),
    [
        (gzip.compress(GOOD.encode()), "gzip", 200), (zlib.compress(GOOD.encode()), "deflate", 200),
        (gzip.compress(GOOD.encode())[:-9], "gzip", 400), (gzip.compress(gzip.compress(GOOD.encode())), "gzip", 400),
        (gzip.compress(GOOD.encode()), "gzip, gzip", 400), (gzip.compress(bytes(80 << 20)), "gzip", 413),
        (GOOD.encode(), "br", 415), (GOOD.encode(), "nonsense", 415), (bytes(65 << 20), "identity", 413),
    ],
    ids=range(9),
)  # fmt: skip
def test_compressed(fronts, content, coding, status):
    answer = post(fronts["matrix"], content, content_encoding=coding)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert status == 200 or answer.json()["error"]
    assert status != 415 or answer.headers["accept-encoding"] == "gzip, deflate"
    assert is_alive(fronts["matrix"])


@pytest.mark.parametrize("accepted", ["gzip", "deflate", "br, gzip;q=0.5", "*", "identity", "", "gzip;q=0", "q=;;,"])
def test_compressed_answers(fronts, accepted):
    answer = post(fronts["matrix"], json_request({"x": X}), accept_encoding=accepted)
    coding = answer.headers.get("content-encoding", "")
    assert coding == {"gzip": "gzip", "deflate": "deflate", "br, gzip;q=0.5": "gzip", "*": "gzip"}.get(accepted, "")
    assert read_answer(answer.content)["y"].tolist() == [[9, 12]]


URLS = [
    ("POST", "/v2/models/nope/infer", 404, "Request for unknown model: 'nope' is not found"),
    ("POST", "/v2/models/matrix/versions/7/infer", 404, "Request for unknown model: 'matrix' version 7 is not found"),
    ("POST", "/v2/models/matrix/versions/0/infer", 404, "Request for unknown model: 'matrix' version 0 is not found"),
    ("POST", "/v2/models/matrix/versions/abc/infer", 404, "Not Found"),
    ("POST", "/v2/models/matrix/versions/-1/infer", 404, "Not Found"),
    ("POST", f"/v2/models/matrix/versions/{2**64}/infer", 400, "failed to get model version from specified version string"),
    ("POST", f"/v2/models/matrix/versions/{'9' * 5000}/infer", 400, "failed to get model version"),
    ("GET", "/v2/models/matrix/infer", 405, "Method Not Allowed"),
    ("DELETE", "/v2/models/matrix", 405, "Method Not Allowed"),
    ("PUT", "/v2", 405, "Method Not Allowed"),
    ("HEAD", "/v2/health/live", 200, ""),
    ("OPTIONS", "/v2/health/live", 405, "Method Not Allowed"),
    ("GET", "/v2/repository/index", 405, "Method Not Allowed"),
    ("POST", "/v2/models/matrix", 405, "Method Not Allowed"),
    ("GET", "/v2/", 200, ""),
    ("GET", "/v2/nope", 404, "Not Found"),
    ("GET", "/v2x", 404, "Not Found"),
    ("GET", "/v2/models/", 404, "Not Found"),
    ("GET", "/v2/models/matrix/", 404, "Not Found"),
    ("GET", "/v2//models/matrix", 404, "Not Found"),
    ("GET", "/v2/models/a%2Fb", 404, "Request for unknown model: 'a/b' is not found"),
    ("GET", "/v2/models/%00", 404, "Request for unknown model"),
    ("GET", "/v2/models/" + "x" * 40_000, 414, "The URL has more than"),
    ("GET", "/v2/models/matrix/ready", 200, ""),
    ("GET", "/v2/models/nope/ready", 404, "Request for unknown model: 'nope' is not found"),
    ("GET", "/v2/models/matrix/versions/7/config", 404, "Request for unknown model: 'matrix' version 7"),
    ("GET", "/v2/models/matrix/versions/000123/stats", 200, ""),
    ("POST", "/v2/models/matrix/generate", 404, "Not Found"),
    ("POST", "/v2/repository/elsewhere/index", 501, "'repository_name' specification is not supported"),
    ("POST", "/v2/repository/models/nope/load", 403, "--enable_repository_control"),
    ("GET", "/v2/systemsharedmemory/status", 501, "--enable_system_shared_memory"),
    ("GET", "/v2/cudasharedmemory/status", 501, "CUDA shared memory is not served"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "text"), URLS, ids=range(len(URLS)))
def test_url(fronts, method, path, status, text):
    content = None if method in ("GET", "HEAD") else GOOD if path.endswith("infer") else "{}"
    answer = fronts["matrix"].http.request(method, path, content=content)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert text in answer.json().get("error", "") if method != "HEAD" else True
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "a\x00b", "m" * 10_000, "größe", "a\nb: forged", "<script>"], ids=repr
)
def test_strange_names(fronts, name, caplog):
    front = fronts.with_rights("matrix")
    for path in (
        "models/{}/infer",
        "repository/models/{}/load",
        "repository/models/{}/unload",
        "systemsharedmemory/region/{}/register",
    ):
        answer = front.http.post(
            "/v2/" + path.format(quote(name, safe="")),
            content='{"key": "../../etc/passwd", "byte_size": 1}'
            if "region" in path
            else GOOD
            if "infer" in path
            else "",
        )
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]
    with pytest.raises(grpc.RpcError) as raised:
        front.call("ModelInfer", message(name, {"x": X}), SERVICE)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert not any("\n" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("path", ["logging", "trace/setting", "repository/index", "repository/models/matrix/load"])
@pytest.mark.parametrize(
    "content", ["[]", "{", "1", '{"a": 1, "a": 2}', '{"ready": 1, "log_info": 1, "x": 1, "parameters": 1}']
)
def test_bodies_of_other_calls(fronts, path, content):
    answer = fronts.with_rights("matrix").http.post(f"/v2/{path}", content=content)
    assert answer.status_code in (400, 501)
    assert answer.json()["error"]


# --- gRPC ---


def request(**changed):
    made = message("matrix", {"x": X})
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def with_input(**fields):
    made = inference_pb.ModelInferRequest(model_name="matrix")
    made.inputs.add(**({"name": "x", "datatype": "FP32", "shape": [1, 3]} | fields))
    return made


def raw(made, *contents):
    made.raw_input_contents.extend(contents)
    return made


def contents(**fields):
    return inference_pb.InferTensorContents(**fields)


TWICE = raw(request(), bytes(12))
TWICE.inputs.add(name="x", datatype="FP32", shape=[1, 3])
GRPC_REFUSALS = [
    (request(model_name=""), "INVALID_ARGUMENT", "The request names no model"),
    (request(model_name="nope"), "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
    (request(model_version="7"), "NOT_FOUND", "Request for unknown model: 'matrix' version 7 is not found"),
    (request(model_version="abc"), "INVALID_ARGUMENT", "failed to get model version from specified version string 'abc'"),
    (request(model_version="-1"), "INVALID_ARGUMENT", "failed to get model version"),
    (request(model_version="٣"), "INVALID_ARGUMENT", "failed to get model version"),
    (request(model_version=str(2**64)), "INVALID_ARGUMENT", "failed to get model version"),
    (request(id="x" * 1025), "INVALID_ARGUMENT", "The request's id has more than 1024 characters"),
    (raw(with_input(contents=contents(fp32_contents=DATA)), bytes(12)), "INVALID_ARGUMENT", "contents field must not be specified when using raw_input_contents for 'x'"),
    (raw(request(), bytes(12)), "INVALID_ARGUMENT", "raw_input_contents has 2 entries for 1 inputs"),
    (TWICE, "INVALID_ARGUMENT", "input 'x' already exists"),
    (raw(with_input(), bytes(11)), "INVALID_ARGUMENT", "Expected 12, got 11"),
    (raw(with_input(), bytes(15)), "INVALID_ARGUMENT", "Expected 12, got 15"),
    (with_input(), "INVALID_ARGUMENT", "unexpected number of elements 0 in fp32_contents of input 'x', expecting 3"),
    (with_input(contents=contents(fp32_contents=[1])), "INVALID_ARGUMENT", "unexpected number of elements 1"),
    (with_input(contents=contents(fp64_contents=DATA)), "INVALID_ARGUMENT", "has contents in fp64_contents; send only fp32_contents"),
    (with_input(contents=contents(fp32_contents=DATA, int_contents=[1])), "INVALID_ARGUMENT", "has contents in int_contents, fp32_contents"),
    (with_input(datatype="INT32", contents=contents(int_contents=[1, 2, 3])), "INVALID_ARGUMENT", "data-type is 'INT32', but model 'matrix' expects 'FP32'"),
    (raw(with_input(shape=[-1, 3]), bytes(12)), "INVALID_ARGUMENT", "has dimension -1"),
    (raw(with_input(shape=[2**62, 4]), bytes(16)), "INVALID_ARGUMENT", "has dimension"),
    (raw(with_input(shape=[1] * 1_000_000), bytes(16)), "INVALID_ARGUMENT", "has 1000000 dimensions"),
    (raw(with_input(name="z"), bytes(12)), "INVALID_ARGUMENT", "unexpected inference input 'z'"),
    (inference_pb.ModelInferRequest(model_name="matrix"), "INVALID_ARGUMENT", "expected 1 inputs but got 0 inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "code", "text"), GRPC_REFUSALS, ids=range(len(GRPC_REFUSALS)))
def test_grpc(fronts, asked, code, text):
    with pytest.raises(grpc.RpcError) as raised:
        fronts["matrix"].call("ModelInfer", asked, SERVICE)
    assert raised.value.code().name == code
    assert text in raised.value.details()
    assert is_alive(fronts["matrix"])


@pytest.mark.parametrize(
    ("model", "name", "datatype", "value"),
    [("uint16", "x", "UINT16", 65536), ("types", "i8", "INT8", -129), ("types", "u8", "UINT8", 256)],
)
def test_typed_integers_do_not_wrap(fronts, model, name, datatype, value):
    made = inference_pb.ModelInferRequest(model_name=model)
    field = {"U": "uint_contents", "I": "int_contents"}[datatype[0]]
    made.inputs.add(name=name, datatype=datatype, shape=[1], contents=contents(**{field: [value]}))
    with pytest.raises(grpc.RpcError) as raised:
        fronts[model].call("ModelInfer", made, SERVICE)
    assert f"has the value {value}, which is out of range for {datatype}" in raised.value.details()


def test_sixteen_bits_have_no_typed_contents(fronts):
    made = inference_pb.ModelInferRequest(model_name="types")
    made.inputs.add(name="h", datatype="FP16", shape=[1], contents=contents(fp32_contents=[1]))
    with pytest.raises(grpc.RpcError) as raised:
        fronts["types"].call("ModelInfer", made, SERVICE)
    assert "comes only in raw_input_contents" in raised.value.details()


@given(cut=st.integers(0, 200), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_damaged_messages(fronts, cut, byte):
    """A good request cut short, or with one byte changed: answered or refused, never an error of the server's."""
    good = request().SerializeToString()
    at = cut % len(good)
    allowed = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    for payload in (good[:at], good[:at] + bytes([byte]) + good[at + 1 :]):
        error = fronts["matrix"].channel.unary_unary(f"/{SERVICE}/ModelInfer").future(payload, timeout=30).exception()
        assert (grpc.StatusCode.OK if error is None else error.code()) in allowed


@given(at=st.integers(0, 2000), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_damaged_bodies(fronts, at, byte):
    good, length = binary_request({"x": X})
    at %= len(good)
    for content in (good[:at], good[:at] + bytes([byte]) + good[at + 1 :]):
        assert post(fronts["matrix"], content, **{HEADER: str(length)}).status_code in (200, 400)


def test_a_known_head_with_other_bytes_behind_it(fronts):
    """The second and later requests of one form are not parsed anew; their contents must be theirs all the same."""
    for model, name in (("half", "x"), ("log", "x")):
        for index in range(1, 5):
            made = message(model, {name: np.array([index], np.float32)})
            made.id = ""
            response = fronts[model].call("ModelInfer", made, SERVICE)
            expected = {"half": index / 2 + 2, "log": np.log(np.float32(index))}[model]
            assert np.frombuffer(response.raw_output_contents[0], np.float32) == [np.float32(expected)]


def test_bytes_that_only_look_like_raw_contents(fronts):
    """The true contents come first, and an unknown field ends as if they came last."""
    made = message("half", {"x": np.array([2], np.float32)})
    made.id = ""
    for value in (8, 16):
        looks_like = b"\x3a\x04" + np.array([value if value == 16 else 2], np.float32).tobytes()
        payload = made.SerializeToString() + b"\xfa\x01" + bytes([len(looks_like)]) + looks_like
        answer = fronts["half"].channel.unary_unary(f"/{SERVICE}/ModelInfer")(payload, timeout=30)
        response = inference_pb.ModelInferResponse.FromString(answer)
        assert np.frombuffer(response.raw_output_contents[0], np.float32) == [3]


def test_a_head_is_not_taken_for_another_models(fronts):
    """The memo of a head belongs to one version: after an unload and a load, the head is checked again."""
    front = fronts.with_rights("half")
    made = message("half", {"x": np.array([2], np.float32)})
    made.id = ""
    for _ in range(3):
        front.call("ModelInfer", made, SERVICE)
    front.http.post("/v2/repository/models/half/unload")
    with pytest.raises(grpc.RpcError) as raised:
        front.call("ModelInfer", made, SERVICE)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    front.http.post("/v2/repository/models/half/load")
    assert len(front.call("ModelInfer", made, SERVICE).raw_output_contents) == 1


def test_zero_rows(fronts):
    empty = {"x": np.empty((0, 3), np.float32)}
    answer = post(fronts["matrix"], json_request(empty))
    assert read_answer(answer.content)["y"].shape == (0, 2)
    response = fronts["matrix"].call("ModelInfer", message("matrix", empty), SERVICE)
    assert list(response.outputs[0].shape) == [0, 2]


def test_defaults_may_be_left_out(fronts):
    answer = post(fronts["defaults"], json_request({"a": np.ones(1, np.float32)}), "defaults")
    assert read_answer(answer.content)["twice"].tolist() == [10]


def test_cancelled_and_late_calls(fronts):
    invoke = fronts["matrix"].channel.unary_unary(f"/{SERVICE}/ModelInfer")
    payload = request().SerializeToString()
    for _ in range(20):
        error = invoke.future(payload, timeout=1e-6).exception()
        assert error is None or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    calls = [invoke.future(payload, timeout=30) for _ in range(50)]
    for call in calls:
        call.cancel()
    assert {call.code() for call in calls} <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}
    assert is_alive(fronts["matrix"])
