"""The short cut for quick inferences, on raw sockets: what comes over a connection, in what order, how it ends."""

from __future__ import annotations

import socket

import pytest

from estimator_serving.serving.config import Config
from estimator_serving.serving.server import Server

HOST = "127.0.0.1"
BODY = b'{"instances": [1]}'
HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
REQUEST = HEAD % len(BODY) + BODY
ANSWER = b'{"predictions":[2.0]}'


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Add(x, x) }'
    base_path = tmp_path_factory.mktemp("model")
    (base_path / "1").mkdir()
    (base_path / "1" / "model.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    server = Server(
        Config(port=-1, rest_api_port=-1, bind_address=HOST, model_name="m", model_base_path=str(base_path))
    )
    server.start()
    # Made quick first, or the requests below would take the other way.
    talk(server.rest_port, REQUEST * 30, answers=30)
    yield server.rest_port
    server.stop()


def talk(port: int, *parts: bytes, answers: int = 1) -> bytes:
    """Sends the parts one by one and reads until so many answers came, or the server closes."""
    received = b""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        while received.count(b"HTTP/1.1 ") - received.count(b"HTTP/1.1 100") < answers or not is_whole(received):
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
    return received


def is_whole(received: bytes) -> bool:
    head, found, body = received.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(found) and bool(lengths) and len(body) >= int(lengths[0].split(b":")[1])


def test_answer(port):
    answer = talk(port, REQUEST)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + ANSWER)
    assert b"content-type: application/json\r\n" in answer
    assert answer.lower().count(b"content-length") == answer.lower().count(b"date:") == 1


def test_one_byte_at_a_time(port):
    assert talk(port, *(REQUEST[i : i + 1] for i in range(len(REQUEST)))).endswith(ANSWER)


def test_pipelined_answers_keep_their_order(port):
    other = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    large = HEAD % (20_000 + len(BODY)) + b" " * 20_000 + BODY  # takes the normal way, through a thread
    answer = talk(port, REQUEST + other + large + REQUEST, answers=4)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [body.strip() for body in bodies] == [ANSWER, b'{"status":"ok"}', ANSWER, ANSWER]


def test_a_head_that_goes_on_in_another_segment_is_no_request(port):
    """Whatever that segment looks like."""
    head = b"GET /v1/models/m HTTP/1.1\r\nX-Note: "
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(REQUEST + head)
        received = b""
        while not received.endswith(ANSWER):
            received += connection.recv(65536)
        connection.sendall(REQUEST)  # the first line is the value of X-Note
        assert b"model_version_status" in connection.recv(65536)


def test_errors_leave_the_connection_open(port):
    bad = HEAD % 1 + b"{"
    answer = talk(port, bad + REQUEST, answers=2)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(ANSWER)


def test_chunked_body(port):
    head = HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
    assert talk(port, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)).endswith(ANSWER)


def test_expect_continue(port):
    head = HEAD.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue") % len(BODY)
    answer = talk(port, head, BODY)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n")
    assert answer.endswith(ANSWER)


@pytest.mark.parametrize(
    "request_",
    [REQUEST.replace(b"Host: x", b"Host: x\r\nConnection: close"), REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0")],
    ids=["close", "HTTP/1.0"],
)
def test_connection_is_closed_when_asked(port, request_):
    answer = talk(port, request_, answers=2)
    assert b"connection: close\r\n" in answer
    assert answer.endswith(ANSWER)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 18\r\nContent-Length: 19",
        b"Content-Length: -1",
    ],
)
def test_ambiguous_length_is_refused(port, headers):
    answer = talk(port, b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s" % (headers, BODY), answers=2)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_not_http(port):
    assert talk(port, b"\x00\x01\x02\r\n\r\n", answers=2).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("part", [REQUEST[:30], REQUEST[:-1]], ids=["head", "body"])
def test_client_gone_in_the_middle(port, part):
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(part)
    assert talk(port, REQUEST).endswith(ANSWER)


def test_request_under_way_is_answered_at_the_end(tmp_path, write_model, base_path):
    import threading
    import time

    write_model(1)
    server = Server(
        Config(port=-1, rest_api_port=-1, bind_address=HOST, model_name="m", model_base_path=str(base_path))
    )
    server.start()
    talk(server.rest_port, REQUEST * 30, answers=30)
    with socket.create_connection((HOST, server.rest_port), timeout=10) as connection:
        connection.sendall(REQUEST[:-5])
        time.sleep(0.2)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.5)
        connection.sendall(REQUEST[-5:])
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    stopping.join()
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close\r\n" in received
