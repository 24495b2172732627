"""A gRPC front of one thread, with health, and a channel to it."""

import grpc
import pytest
from spoken import HOST, SERVICE, Spoken, State

from estimator_serving.serving.dialects.base import Unary
from estimator_serving.serving.grpc.server import GrpcServer


@pytest.fixture
def state():
    return State()


@pytest.fixture
def server(state):
    answer = Unary(state.answer)
    made = GrpcServer(
        [Spoken({f"/{SERVICE}/Echo": answer, "/tensorflow.serving.PredictionService/Predict": answer})],
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
