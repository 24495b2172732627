"""The 54 rows of the list of bad inputs and faults, from outside: server processes that are asked over REST and gRPC,
and in both dialects where a row is about requests. Nothing here imports the server.

`hostile_cases` has the tables of requests; `row` marks the other tests. The last test holds that together they are all
rows but those of ABSENT. After each case a fixed request is answered over the other front with the bytes it always had,
and at the end the process has the memory, threads and files that it had when all tables had been asked once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import grpc
import numpy as np
import pytest
from attacked import HOST, PREDICT, WAIT_S, Attacked, talk, until
from fuzz_server import fuzz
from harsh import ROWS_MAX, Harsh
from hostile_cases import (
    GOOD,
    HEAD,
    INFERENCE,
    LAST,
    MATRIX,
    PREDICT_PAYLOAD,
    RAW,
    REQUEST_BYTES_MAX,
    REST,
    RPC,
    v1,
)
from hostile_models import ADD, BROKEN, HEAVY_BYTES, listing, make_models, write
from http2_floods import FLOODS, PREFACE, pour
from oip_requests import message
from prometheus_client.parser import text_string_to_metric_families
from served import serve
from tfs_requests import MODEL_SERVICE, predict

from estimator_serving.wire.pb import inference_pb, serving_pb
from estimator_serving.wire.services import SERVICES

ABSENT = {
    49: "a cache of answers: there is none",
}
HELD = {case.row for table in (REST, RAW, RPC) for case in table}
BOTH = pytest.mark.parametrize("front", ["REST", "gRPC"])
OK, UNAVAILABLE, EXHAUSTED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
FOR_EVER = 1e12
SMALL_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("base paths")
    make_models(root)
    yield root
    (root / "odd" / "7").chmod(0o755)


@pytest.fixture(scope="module")
def attacked(models):
    """A server of all of them, which can never be ready as a whole."""
    flags = {
        "model_config_file": models / "models.config", "model_config_file_poll_wait_seconds": 1,
        "file_system_poll_wait_seconds": 1, "max_num_load_retries": 0, "request_bytes_max": REQUEST_BYTES_MAX,
        "enable_grpc_healthcheck_service": True, "enable_repository_control": True, "enable_config_reload": True,
        "enable_system_shared_memory": True, "access_log": models / "access.log",
    }  # fmt: skip
    with serve("", ready=False, **flags) as served:
        one = Attacked(served, (PREDICT_PAYLOAD, v1(), GOOD[v1()]), models)
        until(
            lambda: (
                one.post(v1(), GOOD[v1()]).status_code == 200
                and one.predict("good", {"instances": [0]}).status_code == 200
            )
        )
        one.learn()
        with Slow(one.port) as one.slow_clients:
            yield one
        one.close()


class Slow:
    """Clients that take their time: a head that stops, one that drips, and a handshake of HTTP/2 that never comes."""

    def __init__(self, port):
        self.port = port

    def __enter__(self):
        self.began_s = time.monotonic()
        self.stopped, self.drips = (socket.create_connection((HOST, self.port), timeout=WAIT_S) for _ in range(2))
        self.stopped.sendall(HEAD)
        self.drips.sendall(HEAD + b"X: ")
        self.ended = threading.Event()
        threading.Thread(target=self._drip, daemon=True).start()
        return self

    def _drip(self):
        with contextlib.suppress(OSError):
            while not self.ended.wait(0.5):
                self.drips.sendall(b"a")

    def __exit__(self, *_):
        self.ended.set()
        self.stopped.close()
        self.drips.close()


def row(*numbers):
    """Marks a test as that of rows which no table has."""
    HELD.update(numbers)
    return lambda test: test


# --- requests, from the tables ---


def ids(table):
    return [f"row {case.row}: {case.id}"[:60] for case in table]


def ask_rest(attacked, case):
    if case.body is None:
        return attacked.get(case.path)
    return attacked.post(case.path, case.body, **case.headers)


@pytest.mark.parametrize("case", REST, ids=ids(REST))
def test_rest(attacked, case):
    answer = ask_rest(attacked, case)
    assert answer.status_code in case.statuses, answer.text[:300]
    if answer.status_code != 200:
        assert isinstance(json.loads(answer.content)["error"], str)
        attacked.assert_says_nothing_internal(answer.text)
    if answer.status_code == 415:
        assert "gzip" in answer.headers["accept-encoding"]
    assert case.text in answer.text
    attacked.assert_healthy("gRPC")


@pytest.mark.parametrize("case", RAW, ids=ids(RAW))
def test_bytes_on_a_connection(attacked, case):
    """Answered, and closed: nothing behind a request of doubtful end is read as another."""
    answer = talk(attacked.port, case.content)
    assert answer.startswith(case.starts), answer[:300]
    if not answer.startswith(b"HTTP/1.1 2"):
        assert answer.count(b"HTTP/1.1 ") == 1
        head, _, body = answer.partition(b"\r\n\r\n")
        assert not body or isinstance(json.loads(body)["error"], str)
        assert b"connection: close" in head
    attacked.assert_healthy()


@pytest.mark.parametrize("case", RPC, ids=ids(RPC))
def test_grpc(attacked, case):
    code, details, _ = attacked.call(case.method, case.payload)
    assert code in case.codes, details[:300]
    assert case.text in details
    attacked.assert_says_nothing_internal(details)
    attacked.assert_healthy("REST")


@row(6)
def test_a_body_over_the_cap_is_refused_before_it_is_sent(attacked):
    """By its head: nothing of the body comes, and the connection is closed."""
    began_s = time.monotonic()
    assert b"connection: close" in talk(attacked.port, HEAD + b"Content-Length: 999999999999\r\n\r\n")
    assert time.monotonic() - began_s < 5


@row(8)
def test_many_pieces_are_linear(attacked):
    """A thousand offers of another protocol, and a body of single bytes in packets of their own."""
    offer = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert talk(attacked.port, offer * 1000 + LAST).count(b"HTTP/1.1 200 ") == 1001
    body = GOOD[v1()].encode()
    parts = [HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body), *(bytes([byte]) for byte in body)]
    assert talk(attacked.port, *parts).startswith(b"HTTP/1.1 200 ")


@row(10)
def test_more_idle_connections_than_it_keeps(attacked):
    """Of both ports; health and requests are answered meanwhile."""
    before = attacked.usage()["files"]
    with contextlib.ExitStack() as opened:
        for port in [attacked.port] * 1200 + [attacked.grpc_port] * 200:
            opened.enter_context(socket.create_connection((HOST, port), timeout=WAIT_S))
        assert attacked.get("/healthz").status_code == 200
        attacked.assert_healthy()
        assert attacked.usage()["files"] < before + 1300
    until(lambda: attacked.usage()["files"] < before + 20)


@row(11)
@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_http2(attacked, flood):
    with socket.create_connection((HOST, attacked.grpc_port), timeout=WAIT_S) as connection:
        pour(connection, PREFACE + FLOODS[flood], seconds=0.5)
        attacked.assert_healthy()


@row(22)
def test_names_of_other_things_than_models(attacked):
    """A status, a metadata and a statistics request of what there is none of, over both fronts."""
    for path in ("/v1/models/nobody", "/v1/models/nobody/metadata", "/v2/models/nobody", "/v2/models/nobody/ready"):
        assert attacked.get(path).status_code in (400, 404)
    for method, message_ in (
        (f"/{MODEL_SERVICE}/GetModelStatus", serving_pb.GetModelStatusRequest(model_spec={"name": "nobody"})),
        (f"/{INFERENCE}/ModelMetadata", inference_pb.ModelMetadataRequest(name="nobody")),
        (f"/{INFERENCE}/ModelStatistics", inference_pb.ModelStatisticsRequest(name="nobody")),
        (f"/{INFERENCE}/ModelConfig", inference_pb.ModelConfigRequest(name="nobody")),
    ):
        assert attacked.call(method, message_.SerializeToString())[0] in (INVALID, NOT_FOUND)


@row(28)
def test_a_log_line_cannot_be_forged(attacked, models):
    """Whatever the tables sent as names of models, each line of the access log is JSON, and no file was made of it."""
    attacked.call(PREDICT, predict("a\nb: forged", x=MATRIX).SerializeToString())
    until(lambda: "forged" in (models / "access.log").read_text())
    for line in (models / "access.log").read_text().splitlines():
        assert isinstance(json.loads(line), dict)


# --- clients that leave, cancel or are late ---


def loop(name, steps):
    return predict(name, x=np.array([steps], np.float32)).SerializeToString()


def rest_loop(name, steps):
    body = json.dumps({"instances": [steps]}).encode()
    return b"POST /v1/models/%s:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
        quote(name).encode(), len(body), body,
    )  # fmt: skip


@row(29)
@BOTH
def test_a_client_leaves_while_its_request_runs(attacked, front):
    """The run ends, and is counted as cancelled; nobody is left at work."""
    counted = {"model": "hangs", "code": "CANCELLED", "entrypoint": "REST" if front == "REST" else "GRPC"}
    before = attacked.metric("estimator_serving_requests_total", **counted)
    if front == "REST":
        with socket.create_connection((HOST, attacked.port), timeout=WAIT_S) as connection:
            connection.sendall(rest_loop("hangs", FOR_EVER))
            time.sleep(0.3)
    else:
        call = attacked.channel.unary_unary(PREDICT).future(loop("hangs", FOR_EVER), timeout=WAIT_S)
        time.sleep(0.3)
        call.cancel()
    until(lambda: attacked.metric("estimator_serving_requests_total", **counted) == before + 1)
    attacked.assert_healthy()


@row(29)
def test_a_client_leaves_before_and_while_it_reads(attacked):
    for sent in (
        b"",
        b"POST",
        HEAD,
        HEAD + b"Content-Length: 5000000\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    ):
        with socket.create_connection((HOST, attacked.port), timeout=WAIT_S) as connection:
            connection.sendall(sent)
    body = json.dumps({"instances": [[1, 2, 3]] * 50_000}).encode()
    with socket.create_connection((HOST, attacked.port), timeout=WAIT_S) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset at the end
    attacked.assert_healthy()


@row(30)
def test_deadlines_and_cancelling(attacked):
    """Of a microsecond, of the past, in a run, in a queue; and cancelled at any moment."""
    for timeout_s in (1e-6, 0, -1):
        code, _, _ = attacked.call(PREDICT, PREDICT_PAYLOAD, timeout_s)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED or (code is OK and timeout_s > 0)
    asked = [
        attacked.channel.unary_unary(method).future(payload, timeout=0.3)
        for method, payload in [
            (PREDICT, loop("hangs", FOR_EVER)),
            (f"/{INFERENCE}/ModelInfer", message("hangs", {"x": np.float32([FOR_EVER])}).SerializeToString()),
        ]
        for _ in range(4)
    ]
    assert {one.exception().code() for one in asked} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    calls = [attacked.channel.unary_unary(PREDICT).future(PREDICT_PAYLOAD, timeout=WAIT_S) for _ in range(100)]
    for call in calls:
        call.cancel()
    assert {call.code() for call in calls} <= {grpc.StatusCode.CANCELLED, OK}
    until(lambda: attacked.call(PREDICT, loop("hangs", 2))[0] is OK)
    attacked.assert_healthy()


# --- models that are slow, hang, or fail ---


def is_asked(attacked, front, name, value=0.0):
    """The answer over a front, None where it is refused."""
    if front == "REST":
        answer = attacked.predict(quote(name), {"instances": [value]})
        return answer.json()["predictions"][0] if answer.status_code == 200 else None
    code, _, answer = attacked.call(PREDICT, loop(name, value), 20)
    return serving_pb.PredictResponse.FromString(answer).outputs["y"].float_val[0] if code is OK else None


@row(31)
def test_overload(attacked):
    """Many times what the model can take: the rest is refused at once, with Retry-After, and all is well after it."""
    steps, began_s = 5_000.0, time.monotonic()
    calls = [attacked.channel.unary_unary(PREDICT).future(loop("slow", steps), timeout=WAIT_S) for _ in range(100)]
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: attacked.predict("slow", {"instances": [steps]}), range(40)))
    codes = [OK if call.exception() is None else call.code() for call in calls]
    took_s = time.monotonic() - began_s
    assert set(codes) <= {OK, UNAVAILABLE, EXHAUSTED}
    assert {answer.status_code for answer in answers} <= {200, 503, 429}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code != 200)
    answered = codes.count(OK) + sum(answer.status_code == 200 for answer in answers)
    assert 10 < answered < 140, took_s
    assert is_asked(attacked, "gRPC", "slow", 2) == 2
    attacked.assert_healthy()


@row(32, 34)
def test_hanging_models_leave_the_others_alone(attacked):
    """Endless runs of two models over both fronts, as many as they get; health and another model answer at once."""
    started = [
        attacked.channel.unary_unary(PREDICT).future(loop(name, FOR_EVER), timeout=WAIT_S)
        for _ in range(60)
        for name in ("hangs", "also hangs")
    ]
    connections = [socket.create_connection((HOST, attacked.port), timeout=WAIT_S) for _ in range(20)]
    for connection in connections:
        connection.sendall(rest_loop("hangs", FOR_EVER))
    time.sleep(0.5)
    began_s = time.monotonic()
    for front in ("gRPC", "REST"):
        assert is_asked(attacked, front, "good") == 1
    assert attacked.get("/healthz").status_code == 200
    assert attacked.call("/grpc.health.v1.Health/Check", b"", 5)[0] is OK
    status = serving_pb.GetModelStatusRequest(model_spec={"name": "hangs"}).SerializeToString()
    assert attacked.call(f"/{MODEL_SERVICE}/GetModelStatus", status, 5)[0] is OK
    assert attacked.call(f"/{INFERENCE}/ServerLive", b"", 5)[0] is OK
    assert time.monotonic() - began_s < 10
    assert {one.code() for one in started if one.done()} <= {UNAVAILABLE, EXHAUSTED}
    for one in [*started, *connections]:
        one.cancel() if hasattr(one, "cancel") else one.close()
    until(lambda: is_asked(attacked, "gRPC", "hangs", 2) == 2 and is_asked(attacked, "REST", "hangs", 2) == 2)


@row(50)
def test_streams(attacked):
    """A bad item among good ones fails alone, the order stays, and a client that stops reading holds up nobody."""
    method = SERVICES[INFERENCE]["ModelStreamInfer"]
    stream = attacked.channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer", lambda one: one.SerializeToString(), method.response.FromString
    )

    def items(count):
        for index in range(count):
            one = message("matrix" if index != 7 else "nobody", {"x": MATRIX})
            one.id = str(index)
            yield one

    answers = list(stream(items(300), timeout=WAIT_S))
    assert [one.infer_response.id for one in answers if not one.error_message] == [str(n) for n in range(300) if n != 7]
    assert len(answers) == 300
    unread = [stream(items(500)) for _ in range(4)]  # nobody asks for their answers
    time.sleep(0.3)
    attacked.assert_healthy()
    for one in unread:
        one.cancel()
    attacked.assert_healthy()


# --- models that cannot be served ---


@row(*{number for number, _, _ in BROKEN.values()})
@pytest.mark.parametrize("name", BROKEN)
def test_a_version_that_cannot_be_served(attacked, name):
    """Its state says why, over both fronts, without a path of the machine; a request of it is refused."""
    status = serving_pb.GetModelStatusRequest(model_spec={"name": name}).SerializeToString()

    def ended():
        code, _, answer = attacked.call(f"/{MODEL_SERVICE}/GetModelStatus", status)
        states = serving_pb.GetModelStatusResponse.FromString(answer).model_version_status if code is OK else []
        return [one for one in states if one.state == 50]

    (state,) = until(ended)
    assert BROKEN[name][2] in state.status.error_message
    over_rest = attacked.get(f"/v1/models/{name}").text
    assert "END" in over_rest
    attacked.assert_says_nothing_internal(over_rest + state.status.error_message)
    assert attacked.predict(name, {"instances": [1]}).status_code in (404, 503)
    assert attacked.call(PREDICT, loop(name, 1))[0] in (NOT_FOUND, UNAVAILABLE)
    attacked.assert_healthy()


@row(36)
@pytest.mark.parametrize(("name", "said"), [("flat", "holds model.onnx itself"), ("saved", "estimator-serving import")])
def test_a_base_path_that_is_none(attacked, name, said):
    answer = attacked.get("/readyz")
    assert (answer.status_code, said in answer.text) == (503, True)
    attacked.assert_says_nothing_internal(answer.text)


@row(38)
@BOTH
def test_odd_versions_never_cost_the_one_that_works(attacked, front):
    assert is_asked(attacked, front, "odd") == 1


@row(38)
@BOTH
def test_files_that_change_under_a_loaded_version(attacked, models, front):
    """Overwritten, cut to nothing, and gone: the answers stay, and so does the process."""
    weights = models / "snapshot" / "1" / "weights.bin"
    for change in (lambda: weights.write_bytes(np.float32([9]).tobytes()), lambda: os.truncate(weights, 0)):
        change()
        assert is_asked(attacked, front, "snapshot") == 1
    weights.write_bytes(np.float32([1]).tobytes())


# --- the list of models, versions and metrics while they change ---


@row(39)
def test_a_bad_list_of_models_changes_nothing(attacked, models):
    """As a file that is read again, and over gRPC; the metrics say so while it lasts."""
    file = models / "models.config"
    good = file.read_text()
    entry = f'config {{ name: "good" base_path: "{models / "good"}" }}'
    absent = entry.replace(" }", ' version_labels { key: "stable" value: 9 } }')
    named_otherwise = [good.replace('"good"', name) for name in ('"../../etc"', '"a/b"')]
    for bad in ("?", f"model_config_list {{ {entry} {entry} }}", f"model_config_list {{ {absent} }}", *named_otherwise):
        file.write_text(bad)
        attacked.poll()
        until(lambda: attacked.metric("estimator_serving_config_in_force") == 0)
        attacked.assert_healthy()
        file.write_text(good)
        attacked.poll()
        until(lambda: attacked.metric("estimator_serving_config_in_force") == 1)
    file.unlink()
    attacked.poll()
    time.sleep(0.3)
    attacked.assert_healthy()
    file.write_text(good)
    attacked.poll()
    request = serving_pb.ReloadConfigRequest()
    for _ in range(2):
        request.config.model_config_list.config.add(name="good", base_path=str(models / "good"), model_platform="onnx")
    response = attacked.call(f"/{MODEL_SERVICE}/HandleReloadConfigRequest", request.SerializeToString())
    assert response[0] in (OK, INVALID)
    if response[0] is OK:
        assert serving_pb.ReloadConfigResponse.FromString(response[2]).status.error_code != 0
    until(lambda: attacked.metric("estimator_serving_config_in_force") == 1)
    attacked.assert_healthy()


@row(40)
def test_swaps_and_loads_under_load(attacked, models):
    """New versions and unloads: every request in flight gets an answer of one version, or is told there is none."""
    ended, seen = threading.Event(), []

    def ask(front):
        while not ended.wait(0.002):  # several hundred requests a second are a load, and leave the others a core
            seen.append(is_asked(attacked, front, "swapped"))

    threads = [threading.Thread(target=ask, args=(front,)) for front in ("REST", "gRPC") * 2]
    for thread in threads:
        thread.start()
    for version in range(2, 7):
        write(models / "swapped", version, ADD.format(version))
        attacked.poll()
        until(lambda version=version: seen and seen[-1] == version)
    assert None not in seen
    for turn in range(6):
        with ThreadPoolExecutor(4) as pool:
            asked = "load" if turn % 2 else "unload"
            loaded = pool.map(lambda _, a=asked: attacked.post(f"/v2/repository/models/swapped/{a}", "{}"), range(4))
        assert {answer.status_code for answer in loaded} == {200}
    until(lambda: is_asked(attacked, "gRPC", "swapped") == 6)
    ended.set()
    for thread in threads:
        thread.join()
    assert set(seen) <= {None, *range(1, 7)}


@row(48)
def test_metrics(attacked):
    """They can be read while versions load, and no name that a client made up is in them."""
    text = attacked.get("/metrics").text
    families = list(text_string_to_metric_families(text.replace(" counter\n", " untyped\n")))
    names = {sample.labels.get("model") for family in families for sample in family.samples}
    assert "matrix" in names
    assert not names & {"../x", "nobody", "größe", "<script>", "a\nb: forged", "m" * 10_240}
    assert len(names) < 60


# --- memory, time and signals ---


def settled(ask_all, growth):
    """The usage after the last two of some passes: what leaks grows each time, what the C library keeps does not."""
    passes = [ask_all(), ask_all()]
    while passes[-1]["memory_kib"] > growth * passes[-2]["memory_kib"] and len(passes) < 5:
        passes.append(ask_all())
    return passes[-2:]


@row(42)
def test_memory_comes_back_after_large_requests(attacked):
    """Many at once, over both fronts: answered or refused, and the memory of the process is what it was."""
    body = json.dumps({"instances": [[1.0, 2.0, 3.0]] * 30_000})
    large = predict("matrix", x=np.ones((250_000, 3), np.float32)).SerializeToString()

    def ask(turn):
        if turn % 2:
            return attacked.post(v1(), body).status_code
        return attacked.call(PREDICT, large)[0]

    def ask_all():
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(ask, range(8))) <= {200, 503, OK, EXHAUSTED}
        attacked.assert_healthy()
        time.sleep(0.2)
        return attacked.usage()

    before, after = settled(ask_all, 1.1)
    assert after["memory_kib"] <= 1.1 * before["memory_kib"]


@row(42)
def test_memory_comes_back_after_an_unload(attacked):
    before = attacked.usage()["memory_kib"]
    assert attacked.post("/v2/repository/models/heavy/unload", "{}").status_code == 200
    until(lambda: attacked.usage()["memory_kib"] < before - 0.75 * HEAVY_BYTES / 1024)
    attacked.assert_healthy()


@row(44)
def test_a_process_that_was_suspended(attacked):
    """A call with a deadline that is not over is answered, whatever the time did."""
    process = attacked.served.process
    process.send_signal(signal.SIGSTOP)
    call = attacked.channel.unary_unary(PREDICT).future(PREDICT_PAYLOAD, timeout=WAIT_S)
    late = attacked.channel.unary_unary(PREDICT).future(PREDICT_PAYLOAD, timeout=0.2)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    assert call.exception() is None
    assert late.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
    attacked.assert_healthy()


# Starts servers that end, one after the other, from a process that imports once what would take each of them a second.
STARTS = """
import os, sys
import estimator_serving.serving.process.main
from estimator_serving.cli.main import main
for words in sys.argv[1:]:
    if not os.fork():
        os._exit(main(["serve", "--bind_address=127.0.0.1", *words.split()]))
    print("exit code", os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def refused_starts(attacked, tmp_path_factory):
    """What two servers say that cannot start, and their exit codes: one on a taken port, one of a bad list."""
    file = tmp_path_factory.mktemp("paths") / "models.config"
    file.write_text(listing(file.parent, ["../../etc"]))
    on_a_taken_port = f"--rest_api_port={attacked.port} --port=-1 --model_config_file={file.parent / 'good.config'}"
    (file.parent / "good.config").write_text(listing(attacked.root, ["good"]))
    command = [sys.executable, "-c", STARTS, on_a_taken_port, f"--port=-1 --rest_api_port=0 --model_config_file={file}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return re.findall(r"(.*?)exit code (-?\d+)\n", ended.stderr, re.DOTALL)


@row(45)
def test_a_port_that_is_taken(attacked, refused_starts):
    """One sentence that names the port, and exit code 1, though the other port is free."""
    said, code = refused_starts[0]
    assert code == "1"
    assert str(attacked.port) in said
    assert "Traceback" not in said


@row(28)
def test_a_name_that_is_a_path_keeps_the_server_from_starting(refused_starts):
    said, code = refused_starts[1]
    assert code == "1"
    assert "The model name '../../etc' cannot be served: it reads like a path" in said


@pytest.fixture(scope="module")
def of_workers(models):
    with serve(models / "good", "good", workers=2) as served:
        yield served


@row(35)
def test_a_worker_that_is_killed(of_workers):
    """Clients that ask once more lose nothing; another worker takes its place, and the supervisor stays."""
    before = of_workers.workers()
    os.kill(min(before), signal.SIGKILL)
    for _ in range(20):
        with contextlib.suppress(OSError):  # one that the worker took with it
            assert of_workers.ask("/v1/models/good:predict", {"instances": [0]})[0] == 200
    until(lambda: len(of_workers.workers()) == len(before) and of_workers.workers() != before)
    until(lambda: of_workers.ask("/readyz")[0] == 200)
    assert of_workers.process.poll() is None


@row(35)
def test_what_workers_are_forked_from_is_killed(of_workers):
    """All of it at once, so no worker could be replaced any more: the server says so, drains and fails, and whatever
    started it may restart it."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in of_workers.forkers():
            os.kill(pid, number)
    assert of_workers.process.wait(WAIT_S) == 1
    # It can be read to its end as soon as the workers have ended, too.
    assert b"no worker could be replaced" in of_workers.process.stderr.read()


# --- what a short run of the fuzzer finds ---


def test_the_fuzzer_finds_nothing(attacked, tmp_path):
    """`make fuzz-server` runs it for longer."""
    assert fuzz(attacked.served, 1000, first_seed=0, keep=tmp_path) == 0


# --- memory, threads and files, and the slow clients, after all of it ---


@row(9)
def test_slow_clients_are_closed(attacked):
    """A head that stops or drips may take 10 seconds as a whole."""
    for connection in (attacked.slow_clients.stopped, attacked.slow_clients.drips):
        connection.settimeout(WAIT_S)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - attacked.slow_clients.began_s >= 9
    attacked.assert_healthy()


@row(53)
def test_nothing_grows(attacked):
    """Every small request of the tables again and again: in the end that takes no memory, thread or file."""

    def ask_all():
        # Of large messages, the C library keeps more or less each time.
        for case in REST:
            if len(case.body or "") < SMALL_BYTES:
                ask_rest(attacked, case)
        for case in RPC:
            if len(case.payload) < SMALL_BYTES:
                attacked.call(case.method, case.payload)
        return attacked.usage()

    before, after = settled(ask_all, 1.05)
    assert after["memory_kib"] <= 1.05 * before["memory_kib"]
    assert after["threads"] <= before["threads"] + 2
    assert after["files"] <= before["files"] + 5
    attacked.assert_healthy()


# --- a server in bad surroundings: no room, few files, no home, batching, TLS, certificates and keys ---


@pytest.fixture(scope="module")
def harsh(tmp_path_factory):
    made = Harsh(tmp_path_factory.mktemp("harsh"))

    until(made.is_answering)
    yield made
    made.close()


@row(41, 54)
def test_it_serves_in_bad_surroundings(harsh):
    """Though no line of the access log can be written, which is said once."""
    for _ in range(20):
        assert harsh.ask([0, 2]) == (200, {"predictions": [5, 7]})
        assert harsh.call([0, 2]) is OK
    said = until(lambda: [line for line in harsh.said if b"cannot write" in line])
    assert len(said) == 1


@row(19)
@BOTH
def test_more_rows_than_a_batch_takes(harsh, front):
    rows = [0] * (ROWS_MAX + 1)
    assert (harsh.ask(rows)[0] == 400) if front == "REST" else (harsh.call(rows) is INVALID)
    assert harsh.ask(rows[1:])[0] == 200


@row(18)
@BOTH
def test_no_rows_never_hang_a_batch(harsh, front):
    assert (harsh.ask([])[0] in (200, 400)) if front == "REST" else (harsh.call([]) is OK)


@row(33)
@BOTH
def test_only_the_culprit_of_a_batch_fails(harsh, front):
    ask = harsh.ask if front == "REST" else harsh.call
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda turn: ask([99 if turn == 5 else 1]), range(12)))
    codes = [answer[0] if front == "REST" else answer for answer in answers]
    assert codes.pop(5) in (400, INVALID)
    assert set(codes) <= {200, OK}


@row(46)
def test_tls(harsh):
    """Plain text, silence, and certificates that are not to be believed; none of them keeps others out."""
    silent = socket.create_connection((HOST, harsh.port), timeout=WAIT_S)
    assert talk(harsh.port, LAST) == b""
    for certificate in ("expired", "strange"):
        with contextlib.suppress(OSError):  # the server's refusal may come behind the handshake
            assert harsh.talk(LAST, certificate) == b""
    for words in ([], ["expired.key", "expired.crt"], ["strange.key", "strange.crt"]):
        credentials = grpc.ssl_channel_credentials(
            (harsh.folder / "ca.crt").read_bytes(), *((harsh.folder / word).read_bytes() for word in words)
        )
        with grpc.secure_channel(f"{HOST}:{harsh.grpc_port}", credentials) as channel:
            error = channel.unary_unary(PREDICT).future(b"", timeout=WAIT_S).exception()
            assert error.code() is UNAVAILABLE
    assert harsh.ask([0])[0] == 200
    assert harsh.ask([0], "")[0] == 401
    silent.close()


@row(47)
def test_keys(harsh):
    """Absent, wrong, expired, very long, and without the right: on both ports, and for each group of requests."""
    unauthenticated, denied = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
    for key in ("", "wrong", harsh.late, "k" * 20_000):
        status, body = harsh.ask([0], key)
        assert status == 401
        assert "gather" not in body["error"]
        assert harsh.call([0], key[:4000]) is unauthenticated
    assert harsh.ask([0], harsh.key, "X-Api-Key:")[0] == 200
    assert harsh.ask([0], harsh.blind)[0] in (403, 404)
    assert harsh.call([0], harsh.blind) in (denied, NOT_FOUND)
    for path in (b"/v1/models/gather", b"/v1/models/gather/metadata", b"/v2/models/gather", b"/metrics", b"/docs"):
        answer = harsh.talk(LAST.replace(b"/healthz", path))
        assert answer.startswith(b"HTTP/1.1 401 "), path
    for service, methods in SERVICES.items():
        for name in methods:
            if name not in ("ServerLive", "ServerReady", "ModelStreamInfer"):
                assert harsh.call([0], "wrong", f"/{service}/{name}") is unauthenticated
    assert harsh.talk(LAST).startswith(b"HTTP/1.1 200 ")


@row(10)
def test_more_connections_than_files(harsh):
    """Connections that no file is left for wait; those that are open go on; afterwards all is as before."""
    with contextlib.ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(socket.create_connection((HOST, harsh.port), timeout=WAIT_S))
        assert harsh.call([0]) is OK
    until(harsh.is_answering)


@row(45)
def test_a_socket_left_behind_is_taken(harsh):
    with grpc.insecure_channel(f"unix:{harsh.folder / 'socket'}") as channel:
        error = channel.unary_unary(PREDICT).future(b"", timeout=WAIT_S).exception()
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


@row(43)
def test_signals(harsh):
    """SIGHUP and SIGPIPE end nothing; SIGTERM drains, while clients are connected, and the exit code is 0."""
    for number in (signal.SIGHUP, signal.SIGPIPE):
        harsh.process.send_signal(number)
        assert harsh.ask([0])[0] == 200
    with socket.create_connection((HOST, harsh.port), timeout=WAIT_S):
        harsh.process.send_signal(signal.SIGTERM)
        assert harsh.process.wait(WAIT_S) == 0


def test_all_rows_are_here():
    """By their numbers, but for those that cannot apply, with the reasons."""
    assert HELD & set(ABSENT) == set()
    assert HELD | set(ABSENT) == set(range(1, 55))
