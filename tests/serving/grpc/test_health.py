"""grpc.health.v1: what is asked once, and what is followed."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spoken import NOT_SERVING, SERVING, UNKNOWN, check, echo


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
