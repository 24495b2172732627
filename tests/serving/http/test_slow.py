"""Inferences on threads, over raw sockets: the order of answers, the ends of connections and of the server."""

from __future__ import annotations

import socket
import threading

import onnx.parser
import pytest

from estimator_serving.serving.config import Config
from estimator_serving.serving.server import Server

HOST = "127.0.0.1"
MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Add(x, x) }'
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def ask(value, spaces=0, head=b""):
    body = b'{"instances": [%d]}' % value + b" " * spaces
    lines = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n"
    return lines % (head, len(body)) + body


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Its requests share runs, and so none of them is quick."""
    base_path = tmp_path_factory.mktemp("model")
    (base_path / "1").mkdir()
    (base_path / "1" / "model.onnx").write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    config = Config(
        port=-1, rest_api_port=-1, bind_address=HOST, model_name="m", model_base_path=str(base_path),
        enable_batching=True, shutdown_grace_seconds=0.2,
    )  # fmt: skip
    server = Server(config)
    server.start()
    yield server
    server.stop()


def talk(port, sent, answers):
    """The bodies of so many answers, or of those that come before the server closes."""
    received = b""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(sent)
        while received.count(b"\r\n\r\n") < answers or not received.endswith((b"}", b"]", b"\n")):
            part = connection.recv(65536)
            if not part:
                break
            received += part
    return received, [part.partition(b"\r\n\r\n")[2].strip() for part in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("spaces", [0, 100_000, 2_000_000])
def test_answers_keep_their_order(server, spaces):
    _, bodies = talk(server.rest_port, ask(1, spaces) + GET + ask(2, spaces) + ask(3), 4)
    expected = [b'{"predictions":[2.0]}', b'{"status":"ok"}', b'{"predictions":[4.0]}', b'{"predictions":[6.0]}']
    assert bodies == expected


def test_a_connection_that_closes_is_told_so(server):
    received, bodies = talk(server.rest_port, ask(1, head=b"Connection: close\r\n") + ask(2), 2)
    assert bodies == [b'{"predictions":[2.0]}']
    assert b"connection: close" in received


def test_a_broken_request_behind_a_whole_one(server):
    received, _ = talk(server.rest_port, ask(1, 100_000) + b"NOTHING\r\n\r\n", 2)
    assert b"HTTP/1.1 400 " in received


def test_many_at_once(server):
    found = {}

    def run(value):
        found[value] = talk(server.rest_port, ask(value, 50_000) * 5, 5)[1]

    threads = [threading.Thread(target=run, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {value: [b'{"predictions":[%.1f]}' % (2 * value)] * 5 for value in range(8)}


def test_what_bodies_held_is_given_back(server):
    talk(server.rest_port, ask(1, 100_000) * 2, 2)
    with socket.create_connection((HOST, server.rest_port)) as gone:
        gone.sendall(ask(1, 100_000)[:-1])
    talk(server.rest_port, ask(1), 1)
    assert server._rest._server.config.http.args[3].held_bytes == 0
