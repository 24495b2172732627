"""Unary calls: which thread answers them, and how they end with the server."""

import threading
import time

import grpc
import pytest
from spoken import HOST, SERVICE, Spoken, echo

from estimator_serving.serving.dialects.base import Unary
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.grpc.calls import deadline_in
from estimator_serving.serving.grpc.server import GrpcServer
from estimator_serving.serving.request import DEADLINE_S_MAX, NotQuickError
from estimator_serving.serving.routing import QUICK_PAYLOAD_BYTES

SLOW = b"slow"


@pytest.fixture
def hold():
    return threading.Event()


@pytest.fixture
def made(hold):
    """A server whose Echo answers on the thread that reads calls, but for what is slow; `threads` has its threads."""
    threads = []

    def answer(payload, context):
        if context.is_reader and payload.startswith(SLOW):
            raise NotQuickError
        threads.append(threading.current_thread().name)
        if payload.startswith(SLOW):
            hold.wait(20)
        if payload == b"bad":
            raise InvalidArgumentError("bad")
        return payload

    server = GrpcServer(
        [Spoken({f"/{SERVICE}/Echo": Unary(answer, has_quick=lambda: True)})],
        address=HOST, port=0, threads=2, message_bytes_max=1 << 20, grace_s=20,
    )  # fmt: skip
    server.threads = threads
    server.start()
    yield server
    hold.set()
    server.stop()


@pytest.fixture
def channel(made):
    with grpc.insecure_channel(f"{HOST}:{made.port}") as channel:
        yield channel


@pytest.mark.parametrize(
    ("left_s", "waits_s"), [(-5, 0), (0, 0), (0.001, 0), (0.5, 0.5), (1e7, DEADLINE_S_MAX), (1e10, DEADLINE_S_MAX)]
)
def test_deadlines(left_s, waits_s):
    """grpc rounds up to milliseconds, so that as little as one is none; and nobody waits for more than an hour."""
    assert deadline_in(left_s) - time.monotonic() == pytest.approx(waits_s, abs=0.1)


def test_no_deadline():
    assert deadline_in(9e18) is None


def test_quick_calls_are_answered_by_the_thread_that_reads(made, channel, hold):
    slow = echo(channel).future(SLOW, timeout=20)
    assert echo(channel)(b"a", timeout=20) == b"a"
    assert echo(channel)(bytes(QUICK_PAYLOAD_BYTES + 1), timeout=20)
    hold.set()
    assert slow.result() == SLOW
    assert sorted(name.startswith("grpc_") for name in made.threads) == [False, True, True]


def test_errors_of_both_ways(channel, hold):
    hold.set()
    for payload in (b"bad", b"good"):
        if payload == b"good":
            assert echo(channel)(payload, timeout=20) == payload
        else:
            with pytest.raises(grpc.RpcError) as raised:
                echo(channel)(payload, timeout=20)
            assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "bad")


def test_a_call_without_a_message(channel):
    with pytest.raises(grpc.RpcError) as raised:
        channel.stream_unary(f"/{SERVICE}/Echo")(iter([]), timeout=20)
    expected = (grpc.StatusCode.UNIMPLEMENTED, f'"/{SERVICE}/Echo" requires exactly one request message.')
    assert (raised.value.code(), raised.value.details()) == expected


def test_the_end_waits_for_calls_under_way(made, channel, hold):
    slow = echo(channel).future(SLOW, timeout=20)
    while not made.threads:
        time.sleep(0.01)
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    time.sleep(0.5)
    with pytest.raises(grpc.RpcError) as raised:
        echo(channel)(b"new", timeout=20)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert stopping.is_alive()
    hold.set()
    assert slow.result() == SLOW
    stopping.join(10)
    assert not stopping.is_alive()


def test_the_end_leaves_calls_that_hang_behind(hold):
    def wait(payload, _context):
        hold.wait(20)
        return payload

    server = GrpcServer(
        [Spoken({f"/{SERVICE}/Echo": Unary(wait)})],
        address=HOST,
        port=0,
        threads=1,
        message_bytes_max=1000,
        grace_s=0.2,
    )
    server.start()
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        hanging = echo(channel).future(b"x", timeout=20)
        time.sleep(0.2)
        started_s = time.monotonic()
        server.stop()
        assert time.monotonic() - started_s < 5
        assert hanging.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    hold.set()
    time.sleep(0.1)  # its thread ends now, and answers nobody
