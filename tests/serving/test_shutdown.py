"""Signals to a server in a process of its own: in load, idle, busy, twice; and surroundings that are not as usual."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import onnx.parser
import pytest
from served import free_ports, serve

from estimator_serving.serving.models.warmup import WARMUP_FILE
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import write_records
from estimator_serving.wire.tensors import encode_tensor

HOST = "127.0.0.1"
# Counts to n, one step at a time: as slow as a request wants it.
COUNT = """<ir_version: 8, opset_import: ["" : 17]>
g (int64[K] n) => (float[K] y) <float[1] zero = {0}, float[1] one = {1}, bool go = {1}>
{
  steps = Squeeze(n)
  counted = Loop (steps, go, zero) <body = b (int64 i, bool c, float[1] v) => (bool c_out, float[1] v_out)
    { c_out = Identity(c)  v_out = Add(v, one) }>
  y = Identity(counted)
}"""
FOR_EVER = 1 << 40


def write_count(base_path, version=1):
    aside = base_path / f"temp-{version}"
    aside.mkdir(parents=True)
    (aside / "model.onnx").write_bytes(onnx.parser.parse_model(COUNT).SerializeToString())
    return aside.rename(base_path / str(version))


def wants(steps):
    request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m"))
    request.inputs["n"].CopyFrom(encode_tensor(np.int64([steps])))
    return request


def grpc_call(channel):
    return channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        request_serializer=serving_pb.PredictRequest.SerializeToString,
        response_deserializer=serving_pb.PredictResponse.FromString,
    )


def call(channel, steps=1):
    return list(grpc_call(channel)(wants(steps), timeout=30).outputs["y"].float_val)


@pytest.fixture
def model(base_path):
    write_count(base_path)
    return base_path


class Rest(threading.Thread):
    """A client that asks without a pause until the port is closed; whatever else ends it is a failure."""

    def __init__(self, served, steps=1):
        super().__init__(daemon=True)
        self._address = served.rest.removeprefix("http://")
        self._body = json.dumps({"instances": [steps]})
        self.answers = 0
        self.failure = None
        self.begun = threading.Event()

    def run(self):
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            while True:
                connection.request("POST", "/v1/models/m:predict", self._body)
                response = connection.getresponse()
                assert (response.status, "predictions" in json.loads(response.read())) == (200, True)
                self.answers += 1
                self.begun.set()
        except ConnectionRefusedError:
            pass  # the port is closed: that is how it ends
        except Exception as error:
            self.failure = error
        finally:
            connection.close()


class Grpc(threading.Thread):
    """As Rest, over gRPC, where a server that has gone is UNAVAILABLE."""

    def __init__(self, served):
        super().__init__(daemon=True)
        self._target = served.grpc
        self.answers = 0
        self.failure = None
        self.begun = threading.Event()

    def run(self):
        with grpc.insecure_channel(self._target) as channel:
            try:
                while True:
                    assert call(channel) == [1]
                    self.answers += 1
                    self.begun.set()
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or "reset" in error.details().lower():
                    self.failure = error


def test_sigterm_under_load(model):
    """Nothing in flight fails, no connection is reset, and it ends with 0."""
    with serve(model) as served:
        clients = [kind(served) for kind in (Rest, Rest, Rest, Grpc, Grpc)]
        for client in clients:
            client.start()
        assert all(client.begun.wait(20) for client in clients)
        time.sleep(0.3)
        assert served.stop() == 0
        for client in clients:
            client.join(20)
    assert [client.failure for client in clients] == [None] * len(clients)


def test_slow_requests_in_flight_are_answered(model):
    with serve(model) as served, grpc.insecure_channel(served.grpc) as channel:
        began_s = time.monotonic()
        call(channel, 100_000)
        steps = int(100_000 / (time.monotonic() - began_s))  # about a second's work
        answers = []
        asking = [
            threading.Thread(target=lambda: answers.append(call(channel, steps))),
            threading.Thread(target=lambda: answers.append(served.ask("/v1/models/m:predict", {"instances": [steps]}))),
        ]
        for thread in asking:
            thread.start()
        time.sleep(0.3)
        assert served.stop() == 0
        for thread in asking:
            thread.join(20)
        log = served.process.stderr.read().decode()
    assert len(answers) == 2
    assert (200, {"predictions": [float(steps)]}) in answers
    assert "given up" not in log


def test_a_stream_that_was_answered_does_not_hold_up_the_end(model):
    with serve(model) as served, grpc.insecure_channel(served.grpc) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        assert len(list(stream(iter([b"", b""]), timeout=20))) == 2
        assert served.stop() == 0
        assert "given up" not in served.process.stderr.read().decode()


def test_the_grace_period_ends(model):
    """A run that nothing interrupts is given up; the process does not wait for its thread."""
    with serve(model, shutdown_grace_seconds=0.2) as served:
        asking = Rest(served, FOR_EVER)
        asking.start()
        time.sleep(0.3)
        began_s = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - began_s < 15


def test_a_second_signal_ends_it_at_once(model):
    with serve(model, shutdown_grace_seconds=60) as served:
        asking = Rest(served, FOR_EVER)
        asking.start()
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(10) == 128 + signal.SIGINT


def start(base_path, *flags, **options):
    rest_port, grpc_port = free_ports(2)
    command = [sys.executable, "-m", "estimator_serving.cli", "serve", f"--model_base_path={base_path}",
               "--model_name=m", f"--port={grpc_port}", f"--rest_api_port={rest_port}",
               f"--bind_address={HOST}", *flags]  # fmt: skip
    return subprocess.Popen(command, **options), rest_port


def get(port, path="/readyz"):
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def wait_until(condition, timeout_s=30):
    end_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)
    assert condition()


def ask(port, path, body=None):
    """The status and body of an answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_model_loads(model, number):
    """The load is a warmup request that never ends; the ports are open, and say that nothing is ready."""
    log = serving_pb.PredictionLog()
    log.predict_log.request.CopyFrom(wants(FOR_EVER))
    (model / "1" / WARMUP_FILE).parent.mkdir()
    write_records(model / "1" / WARMUP_FILE, [log.SerializeToString()])
    process, port = start(model, stderr=subprocess.PIPE, text=True)
    with process:
        assert any("Loading model m version 1" in line for line in process.stderr)
        try:
            wait_until(lambda: get(port) is not None)
            assert [ask(port, path)[0] for path in ("/healthz", "/readyz")] == [200, 503]
            assert b"Model m version 1 is in state LOADING" in ask(port, "/readyz")[1]
            status, said = ask(port, "/v1/models/m:predict", b'{"instances": [1]}')
            assert (status, b"Model m is not served yet" in said) == (503, True)
            process.send_signal(number)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_signals_that_do_not_end_it(model):
    """SIGHUP looks for new versions now, SIGPIPE is nothing, and what is asked of a suspended process is answered."""
    with serve(model, file_system_poll_wait_seconds=3600) as served, grpc.insecure_channel(served.grpc) as channel:
        write_count(model, 2)
        served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: served.ask("/v1/models/m/versions/2")[0] == 200)
        served.process.send_signal(signal.SIGPIPE)
        kept = http.client.HTTPConnection(served.rest.removeprefix("http://"), timeout=30)
        kept.request("GET", "/readyz")
        kept.getresponse().read()
        served.process.send_signal(signal.SIGSTOP)
        kept.request("POST", "/v1/models/m:predict", '{"instances": [2]}')
        asked = grpc_call(channel).future(wants(3), timeout=30)
        time.sleep(1)
        served.process.send_signal(signal.SIGCONT)
        assert json.loads(kept.getresponse().read()) == {"predictions": [2.0]}
        assert list(asked.result().outputs["y"].float_val) == [3]
        kept.close()
        assert served.stop() == 0


def has_ended(process):
    """Whether it is gone, or has only to be taken note of."""
    status = Path(f"/proc/{process}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_its_parent_dies(model):
    """It goes on without it, though nobody reads its log any more; and a signal still ends it."""
    rest_port, grpc_port = free_ports(2)
    flags = f"--port={grpc_port} --rest_api_port={rest_port} --bind_address={HOST} --access_log=-"
    flags += " --shutdown_grace_seconds=5"
    command = f"'{sys.executable}' -m estimator_serving.cli serve --model_name=m --model_base_path='{model}' {flags}"
    with subprocess.Popen(
        ["sh", "-c", f"{command} & echo $!; wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        process = int(parent.stdout.readline())
        parent.kill()
    try:
        wait_until(lambda: get(rest_port) == 200)
        write_count(model, 2)
        wait_until(lambda: get(rest_port, "/v1/models/m/versions/2") == 200)
        with grpc.insecure_channel(f"{HOST}:{grpc_port}") as channel:
            assert call(channel, 2) == [2]
        os.kill(process, signal.SIGTERM)
        wait_until(lambda: has_ended(process))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_full_disk_and_no_home(model, tmp_path):
    """Log lines that cannot be written are lost; requests are not."""
    (tmp_path / "nowhere").mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "TMPDIR", "USER", "LOGNAME")}
    (tmp_path / "nowhere").chmod(0o555)
    with open("/dev/full", "w") as full:
        process, port = start(model, stdout=full, stderr=full, env=environment, cwd=tmp_path / "nowhere")
    with process:
        try:
            wait_until(lambda: get(port) == 200)
            write_count(model, 2)
            wait_until(lambda: get(port, "/v1/models/m/versions/2") == 200)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
