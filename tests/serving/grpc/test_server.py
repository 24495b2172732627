"""The gRPC front: methods and streams, deadlines, cancellation, the end, and hostile connections."""

from __future__ import annotations

import queue
import socket
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from http2_floods import FLOODS, PREFACE, frame, pour
from spoken import HOST, NOT_SERVING, SERVICE, SERVING, Spoken, check, echo

from estimator_serving.serving.dialects.base import Streaming, Unary
from estimator_serving.serving.errors import FULL_TEXT, CancelledError, DeadlineExceededError, InvalidArgumentError
from estimator_serving.serving.grpc.server import GrpcServer


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

    spoken = [Spoken({f"/{SERVICE}/Look": Unary(look)})]
    other = GrpcServer(spoken, address=HOST, port=0, threads=1, message_bytes_max=1000, grace_s=1)
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


@pytest.mark.parametrize("flood", FLOODS)
def test_http2_floods_leave_others_served(server, channel, flood):
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        pour(connection, PREFACE + FLOODS[flood])
        started_s = time.monotonic()
        assert echo(channel)(b"good", timeout=10) == b"good"
        assert time.monotonic() - started_s < 5


def test_pings_of_a_client_are_answered(server):
    """More often than clients ping; grpc's own default says GOAWAY to the fourth."""
    kinds = []
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        stream = connection.makefile("rwb")
        stream.write(PREFACE)
        while kinds.count(6) < 5:
            time.sleep(1.2)
            stream.write(frame(6, payload=b"12345678"))
            stream.flush()
            while not kinds or kinds[-1] not in (6, 7):
                head = stream.read(9)
                stream.read(int.from_bytes(head[:3]))
                kinds.append(head[3])
            assert kinds[-1] == 6, "the connection is to end"
            kinds.append(-1)
    assert kinds.count(6) == 5


def test_a_full_server_refuses_calls_unread():
    full, asked = {"Echo"}, []

    def is_full(method):
        asked.append(method)
        return 0.01 if method in full else None

    echoes = Unary(lambda payload, _context: payload, lambda: is_full("Echo"))
    looks = Unary(lambda _payload, _context: b"still", lambda: is_full("Look"))
    methods = {f"/{SERVICE}/Echo": echoes, f"/{SERVICE}/Look": looks}
    crowded = GrpcServer([Spoken(methods)], address=HOST, port=0, threads=1, message_bytes_max=1000, grace_s=1)
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


@pytest.fixture
def two():
    """Two dialects that both have a method Ask, of which the second one's is full, and a stream in the first."""

    def count(payloads, context):
        for index, payload in enumerate(payloads):
            if payload == b"bad":
                raise InvalidArgumentError("bad")
            yield b"%d" % index

    first = Spoken({"/one.Service/Ask": Unary(lambda *_: b"one"), "/one.Service/Count": Streaming(count)})
    second = Spoken({"/two.Service/Ask": Unary(lambda *_: b"two", lambda: 0.0)})
    made = GrpcServer([first, second], address=HOST, port=0, threads=2, message_bytes_max=1000, grace_s=1, health=True)
    made.start()
    with grpc.insecure_channel(f"{HOST}:{made.port}") as channel:
        yield channel
    made.stop()


def test_methods_are_told_apart_by_their_full_names(two):
    assert two.unary_unary("/one.Service/Ask")(b"") == b"one"
    with pytest.raises(grpc.RpcError) as raised:
        two.unary_unary("/two.Service/Ask")(b"")
    assert raised.value.details() == FULL_TEXT
    with pytest.raises(grpc.RpcError) as raised:
        two.unary_unary("/three.Service/Ask")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert {check(two, "one.Service"), check(two, "two.Service")} == {SERVING}


def test_a_stream_answers_as_requests_come(two):
    sent = queue.SimpleQueue()
    answers = two.stream_stream("/one.Service/Count")(iter(sent.get, None), timeout=20)
    for index in range(3):
        sent.put(b"more")
        assert next(answers) == b"%d" % index
    sent.put(None)
    assert list(answers) == []


def test_a_stream_ends_with_the_status_of_an_error(two):
    answers = two.stream_stream("/one.Service/Count")(iter([b"good", b"bad", b"good"]), timeout=20)
    assert next(answers) == b"0"
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "bad")


def test_a_stream_whose_client_leaves_gives_its_thread_back(two, caplog):
    for _ in range(5):  # more than there are threads
        answers = two.stream_stream("/one.Service/Count")(iter(queue.SimpleQueue().get, None), timeout=20)
        answers.cancel()
    assert two.unary_unary("/one.Service/Ask")(b"", timeout=10) == b"one"
    assert caplog.records == []


@pytest.mark.parametrize("count", [1, 20])
def test_open_streams_take_no_thread_from_calls(two, count):
    questions = [queue.SimpleQueue() for _ in range(count)]
    streams = [two.stream_stream("/one.Service/Count")(iter(sent.get, None), timeout=20) for sent in questions]
    for sent, answers in zip(questions, streams, strict=True):
        sent.put(b"first")
        assert next(answers) == b"0"
    assert two.unary_unary("/one.Service/Ask")(b"", timeout=10) == b"one"
    for sent in questions:
        sent.put(None)


def test_the_end_waits_for_answers_and_not_for_idle_streams():
    hold = threading.Event()

    def answer(payloads, _context):
        for payload in payloads:
            assert payload == b"quick" or hold.wait(20)
            yield payload

    made = GrpcServer(
        [Spoken({"/one.Service/Stream": Streaming(answer)})],
        address=HOST, port=0, threads=1, message_bytes_max=1000, grace_s=20,
    )  # fmt: skip
    made.start()
    with grpc.insecure_channel(f"{HOST}:{made.port}") as channel:
        idle_sent, busy_sent = queue.SimpleQueue(), queue.SimpleQueue()
        idle, busy = (
            channel.stream_stream("/one.Service/Stream")(iter(sent.get, None), timeout=20)
            for sent in (idle_sent, busy_sent)
        )
        idle_sent.put(b"quick")
        assert next(idle) == b"quick"
        busy_sent.put(b"slow")
        stopping = threading.Thread(target=made.stop)
        started_s = time.monotonic()
        stopping.start()
        with pytest.raises(grpc.RpcError):
            next(idle)
        hold.set()
        assert next(busy) == b"slow"
        stopping.join()
        assert time.monotonic() - started_s < 5
        idle_sent.put(None)
        busy_sent.put(None)


def test_idle_reflection_streams_hold_up_nobody(channel, server):
    """More of them than there are threads; what is too much is refused, and health, calls and status go on."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    streams = [stub.ServerReflectionInfo(endless(), timeout=20) for _ in range(12)]
    refused = []
    for stream in streams:
        try:
            next(stream)
        except grpc.RpcError as error:
            refused.append((error.code(), error.details()))
    text = "8 streams of reflection are open, and the server takes no more; end one of them, or ask again later."
    assert refused == [(grpc.StatusCode.RESOURCE_EXHAUSTED, text)] * 4
    assert check(channel, "") == SERVING
    assert echo(channel)(b"good", timeout=10) == b"good"
    for stream in streams:
        stream.cancel()


def test_streams_of_a_dialect_hold_no_thread_of_calls(two):
    idle = [two.stream_stream("/one.Service/Count")(iter(queue.SimpleQueue().get, None), timeout=20) for _ in range(8)]
    assert two.unary_unary("/one.Service/Ask")(b"", timeout=10) == b"one"
    for one in idle:
        one.cancel()


def test_what_is_asked_beside_waits_behind_no_call():
    hold = threading.Event()

    def wait(payload, _context):
        hold.wait(20)
        return payload

    spoken = Spoken({f"/{SERVICE}/Wait": Unary(wait), f"/{SERVICE}/Status": Unary(lambda *_: b"ok", is_side=True)})
    busy = GrpcServer([spoken], address=HOST, port=0, threads=1, message_bytes_max=1000, grace_s=1, health=True)
    busy.start()
    with grpc.insecure_channel(f"{HOST}:{busy.port}") as channel:
        waiting = [channel.unary_unary(f"/{SERVICE}/Wait").future(b"", timeout=20) for _ in range(20)]
        assert channel.unary_unary(f"/{SERVICE}/Status")(b"", timeout=5) == b"ok"
        assert check(channel, "") == SERVING
        hold.set()
        assert [one.result() for one in waiting] == [b""] * 20
    busy.stop()


@pytest.mark.parametrize("threads", [8, 1], ids=["on threads", "for a thread"])
def test_the_bytes_of_calls_that_wait_are_bounded(threads):
    hold = threading.Event()

    def wait(payload, _context):
        hold.wait(20)
        return b""

    spoken = [Spoken({f"/{SERVICE}/Wait": Unary(wait)})]
    small = GrpcServer(
        spoken, address=HOST, port=0, threads=threads, message_bytes_max=1 << 20, held_bytes_max=3 << 20, grace_s=1
    )
    small.start()
    with grpc.insecure_channel(f"{HOST}:{small.port}") as channel:
        asked = [channel.unary_unary(f"/{SERVICE}/Wait").future(bytes(1 << 19), timeout=20) for _ in range(8)]
        end_s = time.monotonic() + 10
        while sum(one.done() for one in asked) < 2 and time.monotonic() < end_s:
            time.sleep(0.01)
        hold.set()
        codes = [error.code() for one in asked for error in [one.exception()] if error]
        assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
        assert channel.unary_unary(f"/{SERVICE}/Wait")(bytes(1 << 19), timeout=20) == b""
    small.stop()
