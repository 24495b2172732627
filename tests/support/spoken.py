"""A small gRPC dialect that says what it did, and clients of it."""

import threading

from grpc_health.v1 import health_pb2, health_pb2_grpc

HOST = "127.0.0.1"
SERVICE = "test.Service"
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


class Spoken:
    """As much of a dialect as this front asks for."""

    def __init__(self, methods):
        self.services = lambda: methods


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


def echo(channel):
    return channel.unary_unary(f"/{SERVICE}/Echo")


def check(channel, name):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status
