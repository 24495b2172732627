"""A server of two worker processes: one server for its clients, whatever happens to a worker."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path

import grpc
import httpx
import onnx.parser
import pytest
from attacked import WAIT_S, until
from hostile_models import WARMUP_FILE, predict_log
from served import serve

from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import write_records

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
ADD = "g (float[N] x) => (float[N] y) <float[1] v = {{{version}}}> {{ y = Add(x, v) }}"
# The least number has no opposite: the processor ends a process that asks for it.
NEGATE = "g (int64[N] x) => (int64[N] y) <int64[1] v = {{-1}}> {{ y = Div(x, v) }}"
NEGATE_AT_LOAD = """g (int64[N] x) => (int64[N] y) <int64[1] v = {{-1}}, int64[1] least = {{-9223372036854775808}}>
    {{ w = Div(least, v)  y = Add(x, w) }}"""
LEAST = -(2**63)
# Counts to x: as slow as a request wants it.
COUNT = """g (int64[K] x) => (float[K] y) <float[1] zero = {{0}}, float[1] one = {{1}}, bool go = {{1}}>
{{
  steps = Squeeze(x)
  counted = Loop (steps, go, zero) <body = b (int64 i, bool c, float[1] v) => (bool c_out, float[1] v_out)
    {{ c_out = Identity(c)  v_out = Add(v, one) }}>
  y = Identity(counted)
}}"""
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


def write(base_path, version, text=ADD):
    """Write a version as an exporter does, aside and renamed. Versions of ADD bring a warmup, as exported ones do."""
    aside = base_path / f"temp-{version}"
    aside.mkdir(parents=True)
    model = onnx.parser.parse_model(HEAD + text.format(version=version))
    (aside / "model.onnx").write_bytes(model.SerializeToString())
    if text == ADD:
        (aside / WARMUP_FILE).parent.mkdir()
        write_records(aside / WARMUP_FILE, [predict_log(base_path.name)])
    return aside.rename(base_path / str(version))


class Running:
    """The server, and what a client of it sees. Each question comes on a connection of its own, to any worker."""

    def __init__(self, served, root):
        self.served, self.root = served, root
        self.address = served.rest.removeprefix("http://")

    def get(self, path):
        with self.connected() as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def post(self, path, body):
        """Status and body; status 0 where the connection breaks."""
        with self.connected() as connection:
            try:
                connection.request("POST", path, json.dumps(body))
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except (http.client.HTTPException, OSError):
                return 0, ""

    def ask(self, value=0, name="m"):
        return self.post(f"/v1/models/{name}:predict", {"instances": [value]})

    def predict(self, value=0, name="m"):
        status, body = self.ask(value, name)
        assert status == 200, body
        return json.loads(body)["predictions"][0]

    @contextlib.contextmanager
    def connected(self):
        connection = http.client.HTTPConnection(self.address, timeout=WAIT_S)
        try:
            yield connection
        finally:
            connection.close()

    def workers(self):
        return self.served.workers()

    def listening(self):
        """How many workers listen on the REST port: a worker that has just begun does not yet."""
        port = int(self.address.rpartition(":")[2])
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(line[1].endswith(f":{port:04X}") and line[3] == "0A" for line in lines)

    def kill(self):
        """Kill a worker, and wait until two listen again."""
        gone = self.workers()[0]
        os.kill(gone, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{gone}").exists() and self.listening() == 2)

    def counted(self, name="m"):
        """The successful requests that /metrics says."""
        wanted = f':tensorflow:serving:request_count{{model_name="{name}",status="OK"}} '
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(wanted)]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    def state(self, version, name="m"):
        return self.get(f"/v1/models/{name}/versions/{version}")


def sockets(pid):
    return sum(str(fd.readlink()).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write(root / "m", 1)
    write(root / "negate", 1, NEGATE)
    write(root / "count", 1, COUNT)
    entries = "".join(f'config {{ name: "{name}" base_path: "{root / name}" }}' for name in ("m", "negate", "count"))
    (root / "models.config").write_text(f"model_config_list {{ {entries} }}")
    flags = {"model_config_file": root / "models.config", "file_system_poll_wait_seconds": 0.1, "workers": 2}
    with serve("", **flags, enable_repository_control=True, enable_config_reload=True) as served:
        running = Running(served, root)
        until(lambda: running.listening() == 2)
        yield running


def test_both_workers_answer(server):
    with contextlib.ExitStack() as stack:
        before = [sockets(pid) for pid in server.workers()]
        for _ in range(32):
            stack.enter_context(server.connected()).connect()
        until(lambda: all(now > one for now, one in zip(map(sockets, server.workers()), before, strict=True)))


def test_a_killed_worker_comes_back_and_no_counter_goes_back(server):
    for _ in range(20):
        server.predict()
    before = server.counted()
    server.kill()
    assert server.counted() >= before
    for _ in range(20):
        server.predict()
    assert server.counted() == before + 20


def test_a_swap_is_one_swap(server):
    answers = []
    for version in (2, 3, 4):
        write(server.root / "m", version)
        ends_s = time.monotonic() + WAIT_S
        while answers[-1:] != [version] and time.monotonic() < ends_s:
            answers.append(server.predict())
        answers += [server.predict() for _ in range(10)]
    assert answers == sorted(answers)
    assert answers[-1] == 4


def test_a_worker_that_comes_back_loads_what_the_others_have(server):
    """Whatever happened to the files meanwhile."""
    (server.root / "m" / "4" / "model.onnx").write_bytes(b"no model")
    server.kill()
    assert [server.predict() for _ in range(10)] == [4] * 10


@pytest.mark.parametrize("which", [0, 1])
def test_workers_outlive_what_forked_them(server, which):
    """Each of the two processes that fork is replaced by the other one."""
    forkers, workers = server.served.forkers(), server.workers()
    os.kill(forkers[which], signal.SIGKILL)
    assert [server.predict() for _ in range(10)] == [4] * 10
    until(lambda: len(server.served.forkers()) == 2 and forkers[which] not in server.served.forkers())
    assert set(server.workers()) == set(workers)
    server.kill()


def test_unloading_acts_on_all_workers(server):
    assert server.post("/v2/repository/models/count/unload", {})[0] == 200
    assert {server.ask(1, "count")[0] for _ in range(10)} == {404}
    assert server.post("/v2/repository/models/count/load", {})[0] == 200
    assert {server.predict(1, "count") for _ in range(10)} == {1}


def test_reloading_acts_on_all_workers(server):
    request = serving_pb.ReloadConfigRequest(metric_names=[":tensorflow:serving:request_count"])
    for name, base in (("m", "m"), ("negate", "negate"), ("count", "count"), ("another", "m")):
        request.config.model_config_list.config.add(name=name, base_path=str(server.root / base))
    write(server.root / "m", 5)
    with grpc.insecure_channel(server.served.grpc) as channel:
        payload = channel.unary_unary(RELOAD)(request.SerializeToString(), timeout=WAIT_S)
    assert serving_pb.ReloadConfigResponse.FromString(payload).status.error_code == 0
    assert {server.predict(0, "another") for _ in range(10)} == {5}


def test_a_graph_that_ends_its_process_is_refused_by_name(server):
    assert server.predict(7, "negate") == -7
    before = server.workers()
    assert server.ask(LEAST, "negate") == (0, "")
    for status, body in [server.ask(LEAST, "negate") for _ in range(10)]:
        assert status == 400
        assert "Model negate version 1 ended its process (SIGFPE) when it ran a request" in body
    until(lambda: server.listening() == 2)
    assert len(set(before) - set(server.workers())) == 1
    assert "END" in server.state(1, "negate")
    assert server.predict() == 5


def test_a_version_that_ends_its_process_at_its_load_costs_no_worker(server):
    before = server.workers()
    write(server.root / "m", 6, NEGATE_AT_LOAD)
    until(lambda: "ended its process (SIGFPE) when it was loaded" in server.state(6))
    assert server.predict() == 5
    assert set(before) <= set(server.workers())


def test_sigterm_drains_every_worker(server):
    begun, answers = threading.Barrier(5, timeout=WAIT_S), []

    def ask():
        with server.connected() as connection:
            for steps in (1, 60_000):
                connection.request("POST", "/v1/models/count:predict", json.dumps({"instances": [steps]}))
                if steps > 1:
                    begun.wait()
                answer = connection.getresponse()
                answer.read()
            answers.append(answer.status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    workers = server.workers()
    assert server.served.stop() == 0
    for thread in threads:
        thread.join()
    assert answers == [200] * 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.served.rest}/healthz")
