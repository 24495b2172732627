"""The gRPC front: health, reflection, deadlines, cancellation, and what hostile connections leave standing."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from estimator_serving.serving.errors import FULL_TEXT, CancelledError, DeadlineExceededError
from estimator_serving.serving.grpc.server import GrpcServer

HOST = "127.0.0.1"
SERVICE = "test.Service"
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


class State:
    """What the server under test is told, and what it did."""

    def __init__(self):
        self.unready = ""
        self.ran = []
        self.hold = threading.Event()
        self.hold.set()

    def answer(self, payload, context):
        self.hold.wait(10)
        context.check()
        self.ran.append(payload)
        return payload


@pytest.fixture
def state():
    return State()


@pytest.fixture
def server(state):
    made = GrpcServer(
        {SERVICE: {"Echo": state.answer}, "tensorflow.serving.PredictionService": {"Predict": state.answer}},
        address=HOST, port=0, threads=1, message_bytes_max=1 << 20, grace_s=5,
        unready=lambda: state.unready, health=True,
    )  # fmt: skip
    made.start()
    yield made
    state.hold.set()
    made.stop()


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        yield channel


def echo(channel):
    return channel.unary_unary(f"/{SERVICE}/Echo")


def check(channel, name):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status


@pytest.mark.parametrize("name", ["", "PredictionService", "tensorflow.serving.PredictionService"])
def test_health_follows_readiness(channel, state, name):
    assert check(channel, name) == SERVING
    state.unready = "No model is configured."
    assert check(channel, name) == NOT_SERVING


def test_health_of_an_unknown_service(channel):
    with pytest.raises(grpc.RpcError, match="There is no service nope") as raised:
        check(channel, "nope")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_watching_health(channel, state):
    watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
    assert next(watching).status == SERVING
    state.unready = "Loading."
    assert next(watching).status == NOT_SERVING
    state.unready = ""
    assert next(watching).status == SERVING
    watching.cancel()


def test_watching_an_unknown_service(channel):
    watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="nope"), timeout=20)
    assert next(watching).status == UNKNOWN
    watching.cancel()


def test_health_answers_while_every_thread_is_busy(channel, state):
    state.hold.clear()
    busy = [echo(channel).future(b"", timeout=20) for _ in range(4)]
    watchers = [
        health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
        for _ in range(20)
    ]
    assert [next(watching).status for watching in watchers] == [SERVING] * 20
    assert check(channel, "") == SERVING
    state.hold.set()
    assert [one.result() for one in busy] == [b""] * 4


def test_stop_tells_watchers_and_waits_for_nobody(server, channel):
    watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
    assert next(watching).status == SERVING
    idle = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(endless(), timeout=20)
    next(idle)
    started_s = time.monotonic()
    server.stop()
    assert time.monotonic() - started_s < 3
    assert [one.status for one in watching] == [NOT_SERVING]


def endless():
    """One question, and no end of the stream."""
    yield reflection_pb2.ServerReflectionRequest(list_services="")
    threading.Event().wait(8)


def reflect(channel, **question):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=10)
    return answer


def files_of(channel, symbol):
    answer = reflect(channel, file_containing_symbol=symbol)
    return [FileDescriptorProto.FromString(one) for one in answer.file_descriptor_response.file_descriptor_proto]


def test_reflection_lists_the_services(channel):
    listed = {one.name for one in reflect(channel, list_services="").list_services_response.service}
    assert listed == {
        SERVICE, "tensorflow.serving.PredictionService", "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "method"),
    [
        ("tensorflow.serving.PredictionService", "MultiInference"),
        ("tensorflow.serving.ModelService", "HandleReloadConfigRequest"),
        ("grpc.health.v1.Health", "Watch"),
        ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
        ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
    ],
)
def test_reflection_gives_every_service_whole(channel, symbol, method):
    """What comes back has to link by itself: a client builds its pool of nothing else."""
    pool, files = DescriptorPool(), {file.name: file for file in files_of(channel, symbol)}

    def add(name):
        file = files.pop(name, None)
        if file is not None:
            for needed in file.dependency:
                add(needed)
            pool.Add(file)

    for name in list(files):
        add(name)
    assert method in pool.FindServiceByName(symbol).methods_by_name


def test_reflection_shows_upstreams_shapes(channel):
    """Examples are messages to clients, whatever they are here."""
    (file,) = (
        one
        for one in files_of(channel, "tensorflow.serving.Input")
        if one.name == "tensorflow_serving/apis/input.proto"
    )
    shapes = {
        (message.name, field.name): field.type_name
        for message in file.message_type
        for field in message.field
        if field.type == FieldDescriptorProto.TYPE_MESSAGE
    }
    assert shapes["ExampleList", "examples"] == ".tensorflow.Example"
    assert shapes["ExampleListWithContext", "examples"] == ".tensorflow.Example"
    assert shapes["ExampleListWithContext", "context"] == ".tensorflow.Example"


def test_reflection_of_an_unknown_symbol(channel):
    answer = reflect(channel, file_containing_symbol="no.Such")
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_a_deadline_that_has_passed_never_runs(channel, state):
    state.hold.clear()
    first = echo(channel).future(b"first", timeout=20)
    late = [echo(channel).future(b"late", timeout=0.05), echo(channel).future(b"later", timeout=1e-6)]
    for one in late:
        assert one.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.1)
    state.hold.set()
    assert first.result() == b"first"
    assert echo(channel)(b"next", timeout=20) == b"next"
    assert state.ran == [b"first", b"next"]


def test_cancelled_while_queued_never_runs(channel, state):
    state.hold.clear()
    first, gone = echo(channel).future(b"first", timeout=20), echo(channel).future(b"gone", timeout=20)
    time.sleep(0.1)
    gone.cancel()
    time.sleep(0.1)
    state.hold.set()
    assert first.result() == b"first"
    assert echo(channel)(b"next", timeout=20) == b"next"
    assert state.ran == [b"first", b"next"]


def test_the_context_says_when_and_whether(server):
    seen = []

    def look(payload, context):
        seen.append(context)
        return payload

    other = GrpcServer({SERVICE: {"Look": look}}, address=HOST, port=0, threads=1, message_bytes_max=1000, grace_s=1)
    other.start()
    with grpc.insecure_channel(f"{HOST}:{other.port}") as channel:
        channel.unary_unary(f"/{SERVICE}/Look")(b"", timeout=5)
        channel.unary_unary(f"/{SERVICE}/Look")(b"")
        channel.unary_unary(f"/{SERVICE}/Look")(b"", timeout=1e6)
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(f"/{SERVICE}/Look")(b"x" * 2000)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    other.stop()
    bounded, unbounded, patient = seen
    assert 3000 < patient.deadline_s - time.monotonic() <= 3600
    assert 0 < bounded.deadline_s - time.monotonic() < 5
    assert unbounded.deadline_s is None
    assert bounded.cancelled()  # its call is over
    with pytest.raises((CancelledError, DeadlineExceededError)):
        bounded.check()


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4)
# ":method: POST", ":path: /" and ":scheme: http" by their numbers in HPACK's static table.
HEADERS = bytes([0x83, 0x84, 0x86])
FLOODS = {
    "ping": frame(6, payload=b"12345678") * 20_000,
    "settings": frame(4, payload=struct.pack(">HI", 3, 100)) * 20_000,
    "rapid reset": b"".join(
        frame(1, 4, stream, HEADERS) + frame(3, 0, stream, struct.pack(">I", 8)) for stream in range(1, 20_001, 2)
    ),
    "continuation": frame(1, 0, 1, HEADERS) + frame(9, 0, 1, b"\x00" * 1000) * 2_000,
    "noise": bytes(range(256)) * 100,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_http2_floods_leave_others_served(server, channel, flood):
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.setblocking(False)
        content, sent, until_s = PREFACE + FLOODS[flood], 0, time.monotonic() + 3
        try:
            while sent < len(content) and time.monotonic() < until_s:
                try:
                    sent += connection.send(content[sent : sent + 65536])
                except BlockingIOError:
                    time.sleep(0.01)
        except ConnectionError:
            pass
        started_s = time.monotonic()
        assert echo(channel)(b"good", timeout=10) == b"good"
        assert time.monotonic() - started_s < 5


@pytest.mark.parametrize(
    "theirs",
    ["import tritonclient.grpc", "import tensorboard.compat.proto.summary_pb2", "import ovmsclient",
     "from grpc_health.v1 import health_pb2; from grpc_reflection.v1alpha import reflection_pb2"],
)  # fmt: skip
@pytest.mark.parametrize("ours_first", [True, False])
def test_lives_beside_other_packages_messages(theirs, ours_first):
    """health and reflection come with modules in the pool that the whole process shares."""
    ours = (
        "import estimator_serving.serving.grpc.server, estimator_serving.serving.grpc.reflection as r; r.shown_pool()"
    )
    code = "\n".join([ours, theirs] if ours_first else [theirs, ours])
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


def test_a_full_server_turns_calls_away_unread():
    full, asked = {"Echo"}, []

    def is_full(method):
        asked.append(method)
        return method in full

    answers = {"Echo": lambda payload, _context: payload, "Look": lambda _payload, _context: b"still"}
    crowded = GrpcServer(
        {SERVICE: answers}, address=HOST, port=0, threads=1, message_bytes_max=1000, grace_s=1, is_full=is_full
    )
    crowded.start()
    with grpc.insecure_channel(f"{HOST}:{crowded.port}") as channel:
        echo = channel.unary_unary(f"/{SERVICE}/Echo")
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as raised:
                echo(b"x" * 2000)  # larger than the server reads: it did not
            assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNAVAILABLE, FULL_TEXT)
        assert channel.unary_unary(f"/{SERVICE}/Look")(b"") == b"still"
        full.clear()
        assert echo(b"room again") == b"room again"
    crowded.stop()
    assert asked == ["Echo"] * 3 + ["Look", "Echo"]
