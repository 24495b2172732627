"""The seam: the dialect of the docstring's example, run by both fronts, and the common error body."""

from __future__ import annotations

import inspect
import json
import textwrap
from functools import partial

import grpc
import httpx
import pytest

from estimator_serving.serving.dialects import base
from estimator_serving.serving.dialects.base import HttpError, error_reply
from estimator_serving.serving.errors import Code, InvalidArgumentError, UnavailableError
from estimator_serving.serving.grpc.server import GrpcServer
from estimator_serving.serving.http.app import RestServer
from estimator_serving.serving.metrics import Exposition, RequestMetrics
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.predictor import Predictor

HOST = "127.0.0.1"


@pytest.fixture
def predictor(write_model):
    manager = Manager(partial(open_servable, intra_op_threads=1))
    manager.aspire("m", {1: VersionDirectory(write_model(1))})
    assert manager.wait_until_settled(20)
    yield Predictor(manager, RequestMetrics())
    manager.stop()


@pytest.fixture
def csv(predictor):
    """The example, made of the text in the docstring."""
    text = inspect.cleandoc(base.__doc__)
    names = {}
    exec(textwrap.dedent(text[text.index("    import numpy") :]), names)
    return names["Csv"](predictor)


@pytest.fixture
def http(csv, predictor):
    made = RestServer(
        [csv], predictor.router, Exposition(RequestMetrics()), str,
        address=HOST, port=0, threads=2, body_bytes_max=1 << 20, grace_s=2, timeout_s=20,
    )  # fmt: skip
    made.start()
    with httpx.Client(base_url=f"http://{HOST}:{made.port}", timeout=20) as client:
        yield client
    made.stop()


def test_the_example_answers_over_http(http):
    for _ in range(30):  # on a thread at first, on the event loop once the version is known to be quick
        answer = http.post("/csv/m", content="1,2")
        assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, "text/csv", "2.0,3.0")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/csv/m", "a,b", 400, "The body is no line of numbers"),
        ("POST", "/csv/nope", "1", 404, "Servable not found for request: Latest(nope)"),
        ("GET", "/csv/m", None, 404, "GET /csv/m means nothing"),
        ("DELETE", "/CSV/m", None, 404, "DELETE /CSV/m means nothing"),
        ("GET", "/elsewhere", None, 404, "Nothing is served at /elsewhere for GET; models are under /csv/."),
        ("POST", "/csv/m", "1," * (1 << 20), 413, "The request body is larger than 1048576 bytes"),
    ],
)
def test_the_example_refuses(http, method, path, body, status, text):
    answer = http.request(method, path, content=body)
    assert (answer.status_code, answer.json()["error"][: len(text)]) == (status, text)


def test_the_example_answers_over_grpc(csv):
    made = GrpcServer([csv], address=HOST, port=0, threads=2, message_bytes_max=1000, grace_s=1)
    made.start()
    with grpc.insecure_channel(f"{HOST}:{made.port}") as channel:
        assert channel.unary_unary("/csv.Csv/Length")(b"four") == b"4"
        assert list(channel.stream_stream("/csv.Csv/Count")(iter([b"a", b"b"]))) == [b"1", b"2"]
    made.stop()


def test_error_reply():
    reply = error_reply(InvalidArgumentError("half a character: \ud800"), ((b"a", b"b"),))
    assert (reply.status, reply.content_type, reply.headers) == (400, b"application/json", ((b"a", b"b"),))
    assert json.loads(reply.body) == {"error": "half a character: ?"}
    assert error_reply(HttpError(405, "no", ((b"allow", b"GET"),))).headers == ((b"allow", b"GET"),)
    assert error_reply(UnavailableError("later")).headers == ((b"retry-after", b"1"),)
    assert error_reply(UnavailableError("later"), statuses={Code.UNAVAILABLE: 500}).status == 500
    assert len(json.loads(error_reply(HttpError(400, "x" * 9999)).body)["error"]) < 1100
