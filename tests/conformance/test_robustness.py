"""Hostile messages over gRPC and hostile names over both fronts: an error of the client's, and the process goes on."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfs_cases import MODEL_SERVICE, TYPES, X2, X, classify, example_list, predict, tensor, types_request

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
    assert time.monotonic() - started_s < 10


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
