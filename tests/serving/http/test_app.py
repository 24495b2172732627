"""The HTTP front: compressed bodies, browsers, methods, limits, clients that leave or dawdle, and smuggled requests."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest

from estimator_serving.serving.dialects.tfs.dialect import TensorFlowServing
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.http.app import RestServer
from estimator_serving.serving.http.limits import Limits
from estimator_serving.serving.metrics import Exposition, RequestMetrics
from estimator_serving.serving.predictor import Answer

HOST = "127.0.0.1"
BODY_BYTES_MAX = 4 << 20
PATH = "/v1/models/m:predict"
BODY = b'{"instances": [1]}'
HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class FakePredictor:
    """Answers a body by its length, on either way; waits where it is told to."""

    def __init__(self):
        self.manager = SimpleNamespace(names=lambda: ["m"], knows=lambda name: name == "m", servables=list)
        self.quick = True
        self.hold = threading.Event()
        self.hold.set()
        self.ran = []
        self.contexts = []
        self.routes = []
        self.router = SimpleNamespace(choose=self.choose)

    def choose(self, _spec):
        self.routes.append(FakeRoute(self))
        return self.routes[-1]

    def predict(self, _codec, payload, route, context):
        assert route.is_open
        self.contexts.append(context)
        with contextlib.closing(route):
            self.hold.wait(20)
            context.check()
            self.ran.append(payload)
            if payload == b"bad":
                raise InvalidArgumentError("bad")
            return Answer(b'{"bytes":%d}' % len(payload), 7)


class FakeRoute:
    """Quick while its predictor is."""

    is_full = False

    def __init__(self, predictor):
        self._predictor = predictor
        self.is_open = True

    def is_quick(self, payload_bytes):
        return self._predictor.quick and payload_bytes < 10_000

    def close(self):
        self.is_open = False


class Running:
    """A server, and raw and well-behaved clients of it."""

    def __init__(self, *, cors=False, **settings):
        self.predictor = FakePredictor()
        given = {"threads": 1, "timeout_s": 30.0, "limits": Limits()} | settings
        self.server = RestServer(
            [TensorFlowServing(self.predictor, cors=cors)], self.predictor.router, Exposition(RequestMetrics()), str,
            address=HOST, port=0, body_bytes_max=BODY_BYTES_MAX, grace_s=2, **given,
        )  # fmt: skip
        self.server.start()
        self.http = httpx.Client(base_url=f"http://{HOST}:{self.server.port}", timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.predictor.hold.set()
        self.http.close()
        self.server.stop()

    def post(self, content=BODY, **headers):
        return self.http.post(PATH, content=content, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def connect(self):
        connection = socket.create_connection((HOST, self.server.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def talk(self, *parts):
        """Send the parts, then read until the server closes."""
        with self.connect() as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except ConnectionError:
                pass
            return read_all(connection)

    def is_alive(self):
        return self.post().status_code == 200 and self.http.get("/healthz").status_code == 200


def read_all(connection):
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


@pytest.fixture(scope="module")
def running():
    with Running() as running:
        yield running


def wait_until(condition, timeout_s=10):
    until_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert condition()


# --- compressed bodies ---


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "identity, gzip"])
def test_gzip_body(running, coding):
    answer = running.post(gzip.compress(BODY, mtime=0), content_encoding=coding)
    assert answer.json() == {"bytes": len(BODY)}
    assert "content-encoding" not in answer.headers


def test_gzip_body_in_members(running):
    content = gzip.compress(BODY, mtime=0) + gzip.compress(b"   ")
    assert running.post(content, content_encoding="gzip").json() == {"bytes": len(BODY) + 3}


def test_gzip_bomb(running):
    """200 MB from 200 KB: refused without ever being in memory."""
    bomb = gzip.compress(bytes(200 << 20))
    assert len(bomb) < 250_000
    answer = running.post(bomb, content_encoding="gzip")
    assert answer.status_code == 413
    assert "is larger than" in answer.json()["error"]
    assert running.is_alive()


def test_gzip_out_of_proportion(running):
    """Under the cap, and still no plausible JSON."""
    assert running.post(gzip.compress(bytes(3 << 20)), content_encoding="gzip").status_code == 413


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(BODY, mtime=0)[:-9],
        gzip.compress(BODY, mtime=0)[:5],
        BODY,
        gzip.compress(BODY, mtime=0) + b"tail",
        b"\x1f\x8b" + bytes(50),
    ],
    ids=["truncated", "head alone", "not gzip", "trailing garbage", "garbage"],
)
def test_broken_gzip(running, content):
    answer = running.post(content, content_encoding="gzip")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("JSON Parse error: The document is empty")
    assert running.is_alive()


def test_double_gzip_is_refused(running):
    assert running.post(gzip.compress(gzip.compress(BODY, mtime=0)), content_encoding="gzip, gzip").status_code == 400


def test_deflate(running):
    assert running.post(zlib.compress(BODY), content_encoding="deflate").json() == {"bytes": len(BODY)}
    assert running.post(zlib.compress(BODY)[:-5], content_encoding="deflate").status_code == 400


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "nonsense"])
def test_unknown_content_encoding(running, coding):
    answer = running.post(content_encoding=coding)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert running.is_alive()


# --- bodies ---


def test_body_over_the_cap_is_refused_before_it_is_sent(running):
    answer = running.talk(HEAD + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


def test_chunked_body_over_the_cap(running):
    answer = running.http.post(PATH, content=(bytes(1 << 20) for _ in range(6)))
    assert answer.status_code == 413
    assert running.is_alive()


def test_a_hundred_thousand_chunks_of_one_byte(running):
    body = b"1\r\n \r\n" * 100_000
    started_s = time.monotonic()
    answer = running.talk(HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n", body, b"0\r\n\r\n")
    assert answer.endswith(b'{"bytes":100000}')
    assert time.monotonic() - started_s < 10


def test_bodies_together_have_a_cap(monkeypatch):
    monkeypatch.setattr("estimator_serving.serving.models.memory.HELD_SHARE", 0.0)
    with Running() as running:
        head, most = HEAD + b"Content-Length: %d\r\n\r\n", BODY_BYTES_MAX
        with running.connect() as first:
            first.sendall(head % most + bytes(most - 1))
            wait_until(lambda: running.server._server.server_state.tasks)
            time.sleep(0.2)
            for size in (most, 900_000):  # the second one is kept by the protocol
                answer = running.talk(head % size + bytes(size))
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"retry-after: 1" in answer
            first.sendall(b"\0")
            assert b'{"bytes":%d}' % most in first.recv(65536)
        assert running.is_alive()


def test_bodies_that_come_in_turns_are_counted_right():
    """What one body holds is not forgotten while the next part of another one is waited for."""
    with Running() as running, running.connect() as first, running.connect() as second:
        most, slow = BODY_BYTES_MAX, running.server._server.config.http.args[3]
        for sent_bytes, connection in enumerate((first, second), 1):
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % most + bytes(most - 1))
            wait_until(lambda so_far=sent_bytes: slow.held_bytes == so_far * (most - 1))
        for connection in (first, second):
            connection.sendall(b"\0")
            assert b'{"bytes":%d}' % most in connection.recv(65536)
        wait_until(lambda: slow.held_bytes == 0)


# --- browsers and methods ---


CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type, Authorization, X-Api-Key",
    "access-control-expose-headers": "X-Model-Version",
}


def cors_headers(answer):
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control")}


def test_cors():
    with Running(cors=True) as running:
        for answer in (
            running.post(),
            running.post(b"bad"),
            running.post(b" " * 20_000),
            running.post(content_encoding="br"),
            running.http.get("/v1/models"),
            running.http.get("/v1/nonsense"),
            running.http.options(PATH, headers={"Origin": "https://example.org"}),
        ):
            assert cors_headers(answer) == CORS, answer
        assert cors_headers(running.http.get("/metrics")) == {}


def test_the_version_is_in_a_header(running):
    assert running.post().headers["x-model-version"] == "7"
    assert "x-model-version" not in running.post(b"bad").headers


def test_no_cors_unless_asked_for(running):
    assert cors_headers(running.post()) == {}


@pytest.mark.parametrize(
    ("origin", "status"), [({"Origin": "http://a"}, 200), ({"Origin": "file://a"}, 400), ({}, 400)]
)
def test_options(running, origin, status):
    answer = running.http.options(PATH, headers=origin)
    assert (answer.status_code, answer.content) == (status, b"")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(("path", "allowed"), [(PATH, "POST, OPTIONS"), ("/v1/models/m", "GET, HEAD, OPTIONS")])
def test_other_methods(running, method, path, allowed):
    answer = running.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"].startswith(f"Malformed request: {method} {path}")


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/docs", "/openapi.json"])
@pytest.mark.parametrize("method", ["POST", "TRACE"])
def test_other_methods_beside_the_models(running, method, path):
    answer = running.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/models", "/v1/x", "/nowhere", PATH]
)
def test_head_answers_as_get_without_the_body(running, path):
    head, get = running.http.head(path), running.http.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert path == "/metrics" or head.headers["content-length"] == get.headers["content-length"]


def test_the_docs_can_be_switched_off(running):
    with Running(docs=False) as bare:
        assert [bare.http.get(path).status_code for path in ("/docs", "/openapi.json")] == [404, 404]
        assert bare.is_alive()
    assert [running.http.get(path).status_code for path in ("/docs", "/openapi.json")] == [200, 200]


def test_models_are_listed(running):
    assert running.http.get("/v1/models").json() == {"models": ["m"]}


# --- routes ---


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("content", [BODY, b" " * 100_000, gzip.compress(BODY, mtime=0), b"broken gzip"])
def test_a_request_chooses_its_route_once_and_closes_it(quick, content):
    headers = {} if content in (BODY, b" " * 100_000) else {"content_encoding": "gzip"}
    with Running() as running:
        running.predictor.quick = quick
        running.post(content, **headers)
        (route,) = running.predictor.routes
        assert not route.is_open


def test_a_client_gone_before_its_small_request_is_whole_chooses_none(running):
    before = len(running.predictor.routes)
    with running.connect() as gone:
        gone.sendall(REQUEST[:-3])
        time.sleep(0.1)
        assert len(running.predictor.routes) == before


# --- clients that leave, and time ---


# The second one takes the application's way to the threads.
BOTH_WAYS = pytest.mark.parametrize(
    "request_",
    [REQUEST, HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)],
    ids=["length", "chunked"],
)


@BOTH_WAYS
def test_a_client_gone_while_queued_is_skipped(request_):
    with Running() as running:
        running.predictor.quick = False
        running.predictor.hold.clear()
        with running.connect() as first, running.connect() as gone:
            first.sendall(REQUEST)
            wait_until(lambda: running.predictor.contexts)
            gone.sendall(request_.replace(b"[1]", b"[9]"))
            time.sleep(0.2)
            gone.close()
            time.sleep(0.2)
            running.predictor.hold.set()
            assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: len(running.predictor.contexts) == 2)
        assert running.is_alive()
        assert b'{"instances": [9]}' not in running.predictor.ran


@BOTH_WAYS
def test_a_client_gone_while_it_runs_harms_nobody(request_):
    with Running() as running:
        running.predictor.quick = False
        running.predictor.hold.clear()
        with running.connect() as gone:
            gone.sendall(request_)
            wait_until(lambda: running.predictor.contexts)
            # A reset instead of an orderly end.
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: running.predictor.contexts[0].cancelled())
        running.predictor.hold.set()
        assert running.is_alive()


def test_a_client_gone_with_a_request_in_waiting_ends_the_run(caplog):
    request_ = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    with Running() as running:
        running.predictor.quick = False
        running.predictor.hold.clear()
        with running.connect() as gone:
            gone.sendall(request_ + GET)
            wait_until(lambda: running.predictor.contexts)
        wait_until(lambda: running.predictor.contexts[0].cancelled())
        running.predictor.hold.set()
        assert running.is_alive()
    assert caplog.records == []


@BOTH_WAYS
@pytest.mark.parametrize(
    "bad",
    [
        b"NOTHING\r\n\r\n",
        GET.replace(b"Host", b"Most"),
        GET.replace(b"/healthz", b"http://a:b/"),
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["garbage", "no host", "URL", "CONNECT"],
)
@pytest.mark.parametrize("between", [b"", GET], ids=["", "behind a page"])
def test_a_bad_request_is_refused_when_those_before_it_are_answered(request_, between, bad):
    with Running() as running:
        running.predictor.quick = False
        running.predictor.hold.clear()
        with running.connect() as connection:
            connection.sendall(request_ + between + bad)
            wait_until(lambda: running.predictor.contexts)
            connection.sendall(GET)  # is not read any more
            time.sleep(0.05)
            running.predictor.hold.set()
            answers = [answer[:3] for answer in read_all(connection).split(b"HTTP/1.1 ")[1:]]
    assert answers[:-1] == [b"200"] * (2 if between else 1)
    assert answers[-1] in (b"400", b"405")


def test_a_late_head_does_not_cost_the_answer_before_it():
    with Running(limits=Limits(head_s=0.2)) as running:
        running.predictor.quick = False
        running.predictor.hold.clear()
        with running.connect() as connection:
            connection.sendall(REQUEST + GET[:10])
            wait_until(lambda: running.predictor.contexts)
            time.sleep(2.2)  # the server looks once a second
            running.predictor.hold.set()
            answers = [answer[:3] for answer in read_all(connection).split(b"HTTP/1.1 ")[1:]]
    assert answers == [b"200", b"408"]


@pytest.mark.parametrize("content", [BODY, [BODY]], ids=["length", "chunked"])
def test_the_end_of_the_server_is_told(content, caplog):
    """To a client whose request is not answered when the grace period is over."""
    with Running() as running, ThreadPoolExecutor(1) as thread:
        running.predictor.quick = False
        running.predictor.hold.clear()
        answer = thread.submit(running.post, content)
        wait_until(lambda: running.predictor.contexts)
        running.server.stop()
        assert answer.result().status_code == 503
        assert "The server ends" in answer.result().json()["error"]
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("content", [BODY, [BODY]], ids=["length", "chunked"])
def test_time_is_up(content):
    with Running(timeout_s=0.2) as running:
        running.predictor.quick = False
        running.predictor.hold.clear()
        answer = running.post(content)
        assert answer.status_code == 504
        assert answer.json()["error"].startswith("Timed out waiting for notification")
        late = running.post(content)  # waits behind the first and never runs
        assert late.status_code == 504
        running.predictor.hold.set()
        running.predictor.quick = True
        assert running.is_alive()
        assert running.predictor.ran == [BODY]


SHORT = Limits(head_s=0.5, body_idle_s=0.5, write_stall_s=0.5)


def seconds_until_closed(connection):
    started_s = time.monotonic()
    received = read_all(connection)
    return time.monotonic() - started_s, received


SLOW = {
    b"": b"",
    REQUEST[:30]: b"HTTP/1.1 408 ",
    REQUEST[:-3]: b"HTTP/1.1 408 ",
    REQUEST.replace(b"POST", b"PUT")[:-3]: b"HTTP/1.1 405 ",  # a body nobody reads
}


def test_slowloris_is_closed():
    with Running(limits=SHORT) as running:
        connections = [running.connect() for _ in SLOW]
        for connection, sent in zip(connections, SLOW, strict=True):
            connection.sendall(sent)
        for connection, answer in zip(connections, SLOW.values(), strict=True):
            elapsed_s, received = seconds_until_closed(connection)
            assert elapsed_s < 5
            assert received.startswith(answer)
            connection.close()
        assert running.is_alive()


@pytest.mark.parametrize("quick", [True, False])
def test_a_connection_is_closed_when_it_is_long_silent_after_an_answer(quick):
    with Running(limits=Limits(idle_s=1)) as running, running.connect() as connection:
        running.predictor.quick = quick
        connection.sendall(REQUEST)
        elapsed_s, received = seconds_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" not in received.lower()
    assert 0.9 < elapsed_s < 5


def test_slowloris_by_drops_is_closed():
    """A header byte now and then does not keep a connection; nor does a body below the least rate."""
    with Running(limits=Limits(head_s=1, body_idle_s=1, body_rate=1e6)) as running:
        for start in (HEAD, HEAD + b"Content-Length: 9999\r\n\r\n"):
            with running.connect() as slow:
                slow.sendall(start)
                slow.settimeout(0.1)
                started_s = time.monotonic()
                while time.monotonic() - started_s < 8:
                    try:
                        slow.sendall(b"x")
                        if not slow.recv(65536):
                            break
                    except TimeoutError:
                        continue
                    except ConnectionError:
                        break
                assert time.monotonic() - started_s < 6


def test_an_answer_nobody_reads_is_dropped():
    with Running(limits=SHORT) as running:
        running.predictor.predict = lambda *_: Answer(bytes(32 << 20), 7)
        with running.connect() as lazy:
            lazy.sendall(REQUEST)
            wait_until(lambda: not running.server._server.server_state.connections)


def test_idle_connections_make_room():
    """More connections than there may be: the idle ones go, and health is still answered."""
    with Running(limits=Limits(connections=20)) as running:
        crowd = [running.connect() for _ in range(200)]
        assert running.is_alive()
        wait_until(lambda: len(running.server._server.server_state.connections) <= 21)
        for one in crowd:
            one.close()
        assert running.is_alive()


def test_five_thousand_idle_connections(running):
    crowd = []
    try:
        crowd.extend(running.connect() for _ in range(5000))
        started_s = time.monotonic()
        assert running.http.get("/healthz").status_code == 200
        assert time.monotonic() - started_s < 5
    finally:
        for one in crowd:
            one.close()
    assert running.is_alive()


def test_busy_connections_are_kept():
    with Running(limits=Limits(connections=2)) as running:
        running.predictor.quick = False
        running.predictor.hold.clear()
        with running.connect() as first, running.connect() as second:
            first.sendall(REQUEST)
            second.sendall(REQUEST)
            wait_until(lambda: sum(route.is_open for route in running.predictor.routes) == 2)
            refused = running.talk(GET)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in refused
            running.predictor.hold.set()
            assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert second.recv(65536).startswith(b"HTTP/1.1 200 ")


# --- requests that are none, or two ---


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HOSTILE = {
    "both lengths": HEAD + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 18\r\nContent-Length: 19\r\n\r\n" + BODY,
    "length with a sign": HEAD + b"Content-Length: +18\r\n\r\n" + BODY,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + BODY,
    "list of lengths": HEAD + b"Content-Length: 18, 18\r\n\r\n" + BODY,
    "hexadecimal length": HEAD + b"Content-Length: 0x12\r\n\r\n" + BODY,
    "huge length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "chunk size with a sign": HEAD + CHUNKED + b"+12\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size in words": HEAD + CHUNKED + b"0x12\r\n" + BODY + b"\r\n0\r\n\r\n",
    "huge chunk size": HEAD + CHUNKED + b"fffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk without its end": HEAD + CHUNKED + b"12\r\n" + BODY + b"XX0\r\n\r\n",
    "chunked last but one": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space before the colon": HEAD + b"Content-Length : 18\r\n\r\n" + BODY,
    "header without a name": HEAD + b": x\r\nContent-Length: 18\r\n\r\n" + BODY,
    "NUL in a header": HEAD + b"X: a\x00b\r\nContent-Length: 18\r\n\r\n" + BODY,
    "folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 18\r\n\r\n" + BODY,
    "control character in the URL": b"GET /v1/\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "no host, short cut": b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 18\r\n\r\n" + BODY,
    "two hosts": HEAD + b"Host: y\r\nContent-Length: 18\r\n\r\n" + BODY,
    "no HTTP": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(100),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_smuggling_is_refused(running, case):
    """A request whose end is doubtful is answered 400 at most once, and what follows it is never read as a request."""
    answer = running.talk(HOSTILE[case] + GET)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"connection: close" in answer
    json.loads(answer.partition(b"\r\n\r\n")[2].split(b"HTTP/1.1")[0])
    assert b'"status":"ok"' not in answer
    assert running.is_alive()


TRAILED = (
    HEAD.replace(b"Host: x", b"Host: x\r\nConnection: close")
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n%s\r\n"
)


def test_trailers_are_no_headers(running):
    answer = running.talk(TRAILED % (len(BODY), BODY, b"content-encoding: gzip\r\nhost: y\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("trailers", [b"x: y\r\n" * 200_000, b"x: " + b"y" * 1_200_000 + b"\r\n"], ids=["many", "long"])
def test_trailers_have_a_cap(running, trailers):
    assert running.talk(TRAILED % (len(BODY), BODY, trailers)).startswith(b"HTTP/1.1 431 ")
    assert running.is_alive()


def test_empty_lines_before_a_request(running):
    """Also alone in the first segment."""
    with running.connect() as connection:
        connection.sendall(b"\r\n")
        time.sleep(0.05)
        connection.sendall(b"\r\n" + GET[:-2] + b"Connection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_http_0_9_is_refused_at_once(running):
    """Its clients send nothing after the line, and wait."""
    started_s = time.monotonic()
    assert running.talk(b"GET /healthz\r\n").startswith(b"HTTP/1.1 400 ")
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 65_536 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 10_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, 431),
        (b"GET /" + b"a" * 200_000, 414),
    ],
    ids=["URL", "header", "headers", "endless header", "endless URL"],
)
def test_heads_have_a_cap(running, request_, status):
    assert running.talk(request_).startswith(b"HTTP/1.1 %d " % status)
    assert running.is_alive()


def test_long_heads_within_the_cap_are_read(running):
    answer = running.talk(GET[:-2] + b"Connection: close\r\nX: " + b"a" * 20_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_long_head_behind_another_request_is_refused(running):
    answer = running.talk(REQUEST + GET[:-2] + b"X: " + b"a" * 40_000 + b"\r\n\r\n")
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"431"]


def test_many_pipelined_requests_are_no_long_head(running):
    answer = running.talk(REQUEST * 2000 + GET[:-2] + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 2001


def test_offers_of_other_protocols_are_passed_over(running):
    """Java's client offers HTTP/2 in its first request, and goes on in HTTP/1.1."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    asked = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    answer = running.talk(asked + REQUEST, GET[:-2] + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 3


OFFER = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def test_a_flood_of_offers_is_linear(running, caplog):
    """Each is answered in turn, at the pace of requests without an offer, and nothing is logged."""
    count = 4000
    started_s = time.monotonic()
    answer = running.talk(OFFER * count + GET[:-2] + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == count + 1
    assert time.monotonic() - started_s < 20
    assert caplog.records == []


def test_an_offer_that_closes_closes(running):
    answer = running.talk(OFFER.replace(b"Connection: Upgrade", b"Connection: Upgrade, Close") + GET)
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in answer


def test_nothing_behind_the_last_request_is_read(running, caplog):
    """A client that closes and goes on all the same gets one answer, and costs no run and no line of log."""
    running.is_alive()
    before = len(running.predictor.ran)
    last = REQUEST.replace(b"Host: x", b"Host: x\r\nConnection: close")
    assert running.talk(last + REQUEST * 1000).count(b"HTTP/1.1 200 ") == 1
    assert len(running.predictor.ran) == before + 1
    assert caplog.records == []


@pytest.mark.parametrize("request_", [REQUEST, GET], ids=["short cut", "page"])
def test_http_1_0_is_told_whether_the_connection_stays(running, request_):
    old = request_.replace(b"HTTP/1.1\r\nHost: x", b"HTTP/1.0\r\nConnection: keep-alive")
    with running.connect() as connection:
        connection.sendall(old)
        answer = connection.recv(65536).lower()
        assert (b"connection: keep-alive" in answer) != (b"connection: close" in answer)
        connection.sendall(old)
        again = connection.recv(65536) if b"connection: keep-alive" in answer else b""
        assert bool(again) == (b"connection: keep-alive" in answer)


def test_connections_are_probed_by_the_kernel(running):
    """Accepted sockets inherit it from the listener."""
    assert running.server._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_connect_is_refused(running):
    assert running.talk(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("target", [b"http://x/v1/models", b"//v1/models", b"/v1/../v1/models", b"*", b"/v1/%00"])
def test_strange_targets_never_reach_a_disk(running, target):
    answer = running.talk(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer[9:12] in (b"200", b"400", b"404")
    assert running.is_alive()
