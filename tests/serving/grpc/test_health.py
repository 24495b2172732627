"""grpc.health.v1: what is asked once, and what is followed."""

import threading
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spoken import NOT_SERVING, SERVING, UNKNOWN, check, echo

from estimator_serving.serving.grpc.health import Health


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


def test_a_stream_is_never_sent_two_messages_at_once():
    """grpc waits for ever for the second of two: a server that stops as a watcher arrives would not end."""
    health, sent = Health(str, [""]), []
    inside, first_may_end = threading.Semaphore(0), threading.Event()

    def send(message):
        sent.append(message and message.status)
        inside.release()
        assert first_may_end.wait(20)

    request, context = health_pb2.HealthCheckRequest(service=""), SimpleNamespace(add_callback=lambda _forget: True)
    arriving = threading.Thread(target=health.watch, args=(request, context, send))
    arriving.start()
    assert inside.acquire(timeout=20)
    stopping = threading.Thread(target=health.stop)
    stopping.start()
    assert not inside.acquire(timeout=0.2), "the second message was sent while the first was on its way"
    first_may_end.set()
    arriving.join(20)
    stopping.join(20)
    assert sent == [SERVING, NOT_SERVING, None]


def test_a_watcher_that_arrives_after_the_end_is_told_and_ended():
    health, sent = Health(str, [""]), []
    health.stop()
    context = SimpleNamespace(add_callback=lambda _forget: True)
    health.watch(health_pb2.HealthCheckRequest(service=""), context, sent.append)
    health.stop()
    assert [message and message.status for message in sent] == [NOT_SERVING, None]
