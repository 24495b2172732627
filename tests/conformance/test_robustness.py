"""Hostile messages over gRPC, hostile names over both fronts, and faults of models and files under a server process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from urllib.parse import quote

import grpc
import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import serve
from tfs_requests import MODEL_SERVICE, TYPES, X2, X, classify, example_list, predict, tensor, types_request

from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.services import SERVICES

CLIENTS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED,
}  # fmt: skip
METHODS = [
    (service, name) for service, methods in SERVICES.items() for name, method in methods.items() if not method.is_stream
]


def send(front, service, method, payload):
    """The status of bytes sent to an rpc as they are."""
    error = front.channel.unary_unary(f"/{service}/{method}").future(payload, timeout=30).exception()
    return grpc.StatusCode.OK if error is None else error.code()


def is_alive(front):
    return front.call("Predict", predict(x=X)).outputs["y"].float_val[0] == 2.5


@pytest.mark.parametrize(("service", "method"), METHODS)
@given(payload=st.binary(max_size=200))
@settings(max_examples=40)
def test_garbage_protobuf(fronts, service, method, payload):
    # No bytes at all are a whole message where a message may be empty.
    fine = {grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED} if service.startswith("inference.") else set()
    assert send(fronts["half"], service, method, payload) in CLIENTS_FAULT | fine


@given(cut=st.integers(0, 400), byte=st.integers(0, 255))
@settings(max_examples=100)
def test_damaged_protobuf(fronts, cut, byte):
    """A good request cut short, or with one byte changed."""
    good = types_request().SerializeToString()
    at = cut % len(good)
    for payload in (good[:at], good[:at] + bytes([byte]) + good[at + 1 :]):
        code = send(fronts["types"], "tensorflow.serving.PredictionService", "Predict", payload)
        assert code in CLIENTS_FAULT | {grpc.StatusCode.OK}


def test_unknown_fields_are_passed_over(fronts):
    """Upstream's streaming options, client id and request options among them."""
    payload = (
        predict(x=X).SerializeToString() + b"\x2a\x02\x08\x01" + b"\x32\x02id" + b"\x3a\x03\x0a\x01c" + b"\xf2\x3f\x01x"
    )
    assert send(fronts["half"], "tensorflow.serving.PredictionService", "Predict", payload) is grpc.StatusCode.OK


def test_a_million_dimensions(fronts):
    """Four bytes each on the wire, refused before any becomes a number."""
    shape = tensorflow_pb.TensorShapeProto.FromString(b"\x12\x02\x08\x01" * 1_000_000)
    request = predict(x=tensorflow_pb.TensorProto(dtype=1, tensor_shape=shape))
    started_s = time.monotonic()
    assert refused(fronts["half"], request).startswith("tensor parsing error: x")
    assert time.monotonic() - started_s < 3


def test_ten_thousand_inputs(fronts):
    request = predict(x=X)
    for index in range(10_000):
        request.inputs[f"made up {index}"].dtype = 1
    text = refused(fronts["half"], request)
    assert text.startswith("input size does not match signature: 10001!=1")
    assert text.endswith("...TRUNCATED")
    assert len(text) == 1024 + len("...TRUNCATED")


def refused(front, request, method="Predict"):
    with pytest.raises(grpc.RpcError) as raised:
        front.call(method, request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert is_alive(front) if front.name == "half" else True
    return raised.value.details()


def test_impossible_shapes_allocate_nothing(fronts):
    for dims in ([2**40], [2**31, 2**31], [-1], [2**62, 2**62], [1] * 33, [0, 2**62]):
        assert refused(fronts["half"], predict(x=tensor(1, *dims, float_val=[1]))).startswith("tensor parsing error: x")


def test_one_value_for_a_huge_shape_is_refused(fronts):
    assert "has more than" in refused(fronts["half"], predict(x=tensor(1, 2**27, float_val=[1])))


def test_message_over_the_cap(fronts):
    code = send(fronts["half"], "tensorflow.serving.PredictionService", "Predict", bytes(65 << 20))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert is_alive(fronts["half"])


def test_strings_keep_their_nuls(fronts):
    request = types_request(s=tensor(7, 2, string_val=[b"\x00a\x00", b""]))
    assert list(fronts["types"].call("Predict", request).outputs["s_out"].string_val) == [b"\x00a\x00", b""]


@pytest.mark.parametrize(
    "content",
    [b"\x02\x02ab", b"\x01\x01abc", b"\xff\xff\xff\xff\x0f\x00", b"\x80", b"\x80\x80\x80\x80\x80\x80\x01\x00"],
    ids=["overrun", "surplus", "4 GB", "ends in a length", "length of 7 bytes"],
)
def test_lengths_of_strings_that_do_not_add_up(fronts, content):
    assert refused(fronts["types"], types_request(s=tensor(7, 2, tensor_content=content))).startswith("tensor parsing")


def test_deeply_nested_example(fronts):
    """Bytes that are a group within a group, ten thousand times over."""
    text = refused(fronts["examples"], classify(example_list(X2, b"\x0b" * 10_000)), "Classify")
    assert text.startswith("Could not parse example input")
    text.encode()


NAMES = ["../x", "../../etc/passwd", "/etc", "a\x00b", "m" * 10_240, "größe", "a\nb: forged", "<script>", "%2e%2e"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_strange_model_names(fronts, name, caplog):
    front = fronts["half"]
    error = front.channel.unary_unary("/tensorflow.serving.PredictionService/Predict").future(
        predict(name, x=X).SerializeToString(), timeout=30
    )
    assert error.exception().code() is grpc.StatusCode.NOT_FOUND
    for answer in (
        front.http.post(f"/v1/models/{quote(name, safe='')}:predict", content='{"instances": [1]}'),
        front.http.get(f"/v1/models/{quote(name, safe='')}"),
    ):
        assert answer.status_code == 404
        assert json.loads(answer.content)["error"]
    assert not any("\n" in record.getMessage() for record in caplog.records)
    metrics = front.http.get("/metrics").text
    assert name not in metrics
    assert is_alive(front)


def test_a_label_of_any_kind_is_refused(fronts):
    for label in ("", "stable", "../x", "a\nb", "l" * 10_000):
        request = predict(x=X)
        request.model_spec.version_label = label
        assert refused(fronts["half"], request).startswith("Unrecognized servable version label")


def test_a_deadline_of_a_microsecond_is_over_or_met(fronts):
    front = fronts["half"]
    invoke = front.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    for _ in range(20):
        error = invoke.future(predict(x=X).SerializeToString(), timeout=1e-6).exception()
        assert error is None or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert is_alive(front)


def test_cancelling_at_any_moment(fronts):
    front = fronts["half"]
    invoke = front.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    calls = [invoke.future(predict(x=X).SerializeToString(), timeout=30) for _ in range(100)]
    for call in calls:
        call.cancel()
    assert {call.code() for call in calls} <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}
    assert is_alive(front)


def test_variant_and_resource_tensors_are_refused(fronts):
    for dtype in (20, 21, 101, 119, 0, -1):
        proto = tensorflow_pb.TensorProto(dtype=dtype, tensor_content=b"x")
        assert refused(fronts["half"], predict(x=proto)).startswith("tensor parsing error: x")


def test_the_status_service_takes_garbage(fronts):
    assert send(fronts["half"], MODEL_SERVICE, "GetModelStatus", b"\xff") is grpc.StatusCode.INVALID_ARGUMENT


def test_every_input_of_every_type_checks_its_type(fronts):
    """A tensor of each type where another is wanted."""
    for alias, array in TYPES.items():
        for other, wrong in TYPES.items():
            if array.dtype != wrong.dtype and alias < other:
                assert "Expects arg[" in refused(fronts["types"], types_request(**{alias: wrong}))


# --- the server as a process, from outside ---------------------------------------------------------------------------

ADD = "g (float[N] x) => (float[N] y) <float[1] v = {{{}}}> {{ y = Add(x, v) }}"
# As many rounds as the first value says.
LOOP = """g (float[N] x) => (float[N] y) <bool go = {1}, int64[1] zero = {0}, int64[1] one = {1}> {
    first = Slice(x, zero, one)  single = Squeeze(first)  steps = Cast<to = 7>(single)
    y = Loop (steps, go, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] w)
        { d = Identity(c)  w = Neg(v) }> }"""
ZIPMAP = """g (float[N] x) => (float[N] y, seq(map(int64, float[N])) p) {
    y = Identity(x) p = ai.onnx.ml.ZipMap <classlabels_int64s = [0]> (x) }"""
FOR_EVER = 1e12


def write(base_path, version, text):
    directory = base_path / str(version)
    directory.mkdir(parents=True)
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>\n' + text)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return directory


def keep_weights_outside(directory):
    """Move the only initializer of a model into a file beside it; returns the file."""
    model = onnx.load(directory / "model.onnx")
    (tensor,) = model.graph.initializer
    weights = directory / "weights.bin"
    weights.write_bytes(np.array(tensor.float_data, np.float32).tobytes())
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return weights


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Base paths: what works, and every way in which a model may not."""
    root = tmp_path_factory.mktemp("base paths")
    write(root / "good", 1, ADD.format(1))
    write(root / "hangs", 1, LOOP)
    write(root / "also hangs", 1, LOOP)
    keep_weights_outside(write(root / "snapshot", 1, ADD.format(1)))
    write(root / "zipmap", 1, ZIPMAP)
    write(root / "broken", 1, ADD.format(1))
    (root / "broken" / "8").mkdir()
    (root / "flat").mkdir()
    (root / "flat" / "model.onnx").write_bytes((root / "good" / "1" / "model.onnx").read_bytes())
    (root / "saved").mkdir()
    (root / "saved" / "saved_model.pb").write_bytes(b"")
    listing = "".join(f'config {{ name: "{path.name}" base_path: "{path}" }}' for path in sorted(root.iterdir()))
    (root / "models.config").write_text(f"model_config_list {{ {listing} }}")
    return root


@pytest.fixture(scope="module")
def process(models):
    """A server of all of them, with one gRPC channel as `channel`; not all of them can be ready."""
    flags = {"model_config_file": models / "models.config", "enable_grpc_healthcheck_service": True}
    with serve("", ready=False, **flags) as served, grpc.insecure_channel(served.grpc) as channel:
        wait_until(lambda: served.ask("/v1/models/good:predict", {"instances": [0]})[0] == 200)
        served.channel = channel
        yield served


def wait_until(condition, timeout_s=60):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def asked(process, front, name, value, timeout_s=20):
    """(answer, or None) and the text of a refusal, over one of the fronts."""
    if front == "REST":
        status, body = process.ask(f"/v1/models/{quote(name)}:predict", {"instances": [value]})
        return (body["predictions"][0], "") if status == 200 else (None, body["error"])
    payload = predict(name, x=np.array([value], np.float32)).SerializeToString()
    method = SERVICES["tensorflow.serving.PredictionService"]["Predict"]
    try:
        answer = process.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(
            payload, timeout=timeout_s
        )
    except grpc.RpcError as error:
        return None, error.details()
    return method.response.FromString(answer).outputs["y"].float_val[0], ""


FRONTS = pytest.mark.parametrize("front", ["REST", "gRPC"])


@FRONTS
def test_a_broken_new_version_never_costs_the_old_one(process, front):
    assert asked(process, front, "broken", 0) == (1, "")


@FRONTS
def test_files_that_change_under_a_loaded_version(process, models, front):
    """Overwritten, then cut to nothing: the answers stay, and so does the process."""
    weights = models / "snapshot" / "1" / "weights.bin"
    assert asked(process, front, "snapshot", 0) == (1, "")
    with open(weights, "r+b") as file:
        file.write(np.float32([9]).tobytes())
    assert asked(process, front, "snapshot", 0) == (1, "")
    os.truncate(weights, 0)
    assert asked(process, front, "snapshot", 0) == (1, "")
    weights.write_bytes(np.float32([1]).tobytes())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zipmap", "is a sequence, and requests and answers carry only tensors"),
        ("flat", "The base path holds model.onnx itself; put it into a directory 1/ there."),
        ("saved", "convert it with `estimator-serving import`"),
    ],
)
def test_why_a_model_is_not_served(process, models, name, said):
    """In the state of its version, or by /readyz; without a path of the machine."""
    state = json.dumps(process.ask(f"/v1/models/{name}")[1])
    ready, why = process.ask("/readyz")
    assert said in state + why["error"]
    assert ready == 503
    assert str(models) not in state + why["error"]


def test_hanging_models_leave_the_others_alone(process):
    """Endless runs of two models over both fronts, as many as they get; health and another model answer at once."""
    channel, started = process.channel, []
    for _ in range(60):
        for name in ("hangs", "also hangs"):
            payload = predict(name, x=np.array([FOR_EVER], np.float32)).SerializeToString()
            started.append(channel.unary_unary("/tensorflow.serving.PredictionService/Predict").future(payload))
    time.sleep(1)
    health = channel.unary_unary("/grpc.health.v1.Health/Check")
    began_s = time.monotonic()
    for front in ("gRPC", "REST"):
        assert asked(process, front, "good", 0) == (1, "")
    assert process.ask("/healthz")[0] == 200
    health(b"", timeout=5)
    status = SERVICES[MODEL_SERVICE]["GetModelStatus"].request()
    status.model_spec.name = "hangs"
    channel.unary_unary(f"/{MODEL_SERVICE}/GetModelStatus")(status.SerializeToString(), timeout=5)
    assert time.monotonic() - began_s < 10
    codes = {one.code() for one in started if one.done()}
    assert codes <= {grpc.StatusCode.UNAVAILABLE}
    for one in started:
        one.cancel()
    wait_until(lambda: asked(process, "gRPC", "hangs", 2)[0] == 2)


HTTP_CASES = {
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", b"HTTP/1.1 400 "),
    "no Host": (b"GET /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
    "HEAD": (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 "),
    "HTTP/1.0 with keep-alive": (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"HTTP/1.1 200 "),
}


@pytest.mark.parametrize("case", HTTP_CASES)
def test_old_and_odd_http(process, case):
    """Answered and closed, so that a client that reads to the end gets there."""
    sent, expected = HTTP_CASES[case]
    host, _, port = process.rest.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(expected)


def test_a_thousand_offers_of_another_protocol(process):
    offer = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    host, _, port = process.rest.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(offer * 1000 + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 200 ") == 1001


def test_a_name_that_is_a_path_keeps_the_server_from_starting(tmp_path):
    write(tmp_path / "m", 1, ADD.format(1))
    for name in ("../../etc", "a/b", ".hidden"):
        (tmp_path / "models.config").write_text(
            f'model_config_list {{ config {{ name: "{name}" base_path: "{tmp_path / "m"}" }} }}'
        )
        command = [sys.executable, "-m", "estimator_serving.cli", "serve", "--port=-1", "--rest_api_port=0",
                   f"--model_config_file={tmp_path / 'models.config'}"]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert f"The model name {name!r} cannot be served: it reads like a path" in ended.stderr
