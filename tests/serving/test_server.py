"""The process: start, readiness, new versions while it runs, signals, and what keeps it from starting."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from estimator_serving.serving.config import Config
from estimator_serving.serving.models.warmup import WARMUP_FILE
from estimator_serving.serving.server import Server, StartError

HOST = "127.0.0.1"


def config(base_path, **settings) -> Config:
    given = {
        "port": -1,
        "rest_api_port": -1,
        "bind_address": HOST,
        "model_name": "m",
        "model_base_path": str(base_path),
    }
    return Config(**given | {"file_system_poll_wait_seconds": 0.02} | settings)


@contextlib.contextmanager
def running(base_path, **settings):
    server = Server(config(base_path, **settings))
    server.start()
    with httpx.Client(base_url=f"http://{HOST}:{server.rest_port}", timeout=30) as http:
        try:
            yield http
        finally:
            server.stop()


def ask(http) -> float:
    return http.post("/v1/models/m:predict", content='{"instances": [0]}').raise_for_status().json()["predictions"][0]


def wait_until(condition) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    assert condition()


def test_starts_without_a_model_and_finds_it_later(base_path, write_model):
    with running(base_path) as http:
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()["error"]) == (
            503,
            "Model m has no version yet. Export one into its base path.",
        )
        assert http.get("/healthz").status_code == 200
        assert http.post("/v1/models/m:predict", content='{"instances": [0]}').status_code == 404
        write_model(1)
        wait_until(lambda: http.get("/readyz").status_code == 200)
        assert ask(http) == 1


def test_starts_without_a_base_path(tmp_path):
    with running(tmp_path / "nope") as http:
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()["error"]) == (
            503,
            "Model m has no version yet. Its base path does not exist; create it, or correct the path in the server's "
            "configuration.",
        )


def test_newest_version_takes_over(base_path, write_model):
    write_model(1)
    with running(base_path) as http:
        assert ask(http) == 1
        write_model(2)
        wait_until(lambda: ask(http) == 2)


def test_bad_version_stops_no_good_one(base_path, write_model):
    write_model(1)
    with running(base_path) as http:
        (base_path / "2").mkdir()
        wait_until(lambda: len(http.get("/v1/models/m").json()["model_version_status"]) == 2)
        wait_until(lambda: http.get("/v1/models/m/versions/2").json()["model_version_status"][0]["state"] == "END")
        status = http.get("/v1/models/m/versions/2").json()["model_version_status"][0]["status"]
        assert status["error_code"] == "NOT_FOUND"
        assert "holds no model.onnx" in status["error_message"]
        assert ask(http) == 1


def half_copied(base_path):
    (base_path / "8").mkdir()
    (base_path / "8" / "model.onnx").write_bytes((base_path / "1" / "model.onnx").read_bytes()[:-9])


@pytest.mark.parametrize(
    "arrive",
    [
        lambda base_path: (base_path / "8").mkdir(),
        half_copied,
        lambda base_path: [(base_path / name).mkdir() for name in ("8.tmp", "v9", "1.0", "08", "8", ".8")],
        lambda base_path: [(base_path / str(number)).mkdir() for number in range(2, 9)],
    ],
    ids=["empty", "half copied", "odd names", "many"],
)
@pytest.mark.parametrize("policy", ["availability_preserving", "resource_preserving"])
def test_a_broken_new_version_never_costs_the_old_one(base_path, write_model, arrive, policy):
    write_model(1)
    arrive(base_path)
    with running(base_path, aspired_version_policy=policy) as http:
        assert (ask(http), http.get("/readyz").status_code) == (1, 200)
        assert str(base_path) not in http.get("/v1/models/m").text
        write_model(9)
        # One of the policies unloads the old version first, so that for a moment there is none.
        wait_until(lambda: "AVAILABLE" in http.get("/v1/models/m/versions/9").text)
        assert ask(http) == 9


def test_many_broken_new_versions_one_after_the_other(base_path, write_model):
    """Where the old version goes before the new one is loaded, it comes back each time."""
    write_model(1)
    with running(base_path, aspired_version_policy="resource_preserving") as http:
        for number in range(2, 8):
            (base_path / str(number)).mkdir()
            wait_until(lambda: '"END"' in http.get(f"/v1/models/m/versions/{number}").text)  # noqa: B023
            wait_until(lambda: http.get("/readyz").status_code == 200)
        assert ask(http) == 1


def test_a_version_that_cannot_be_warmed_up_takes_no_traffic(base_path, write_model, tmp_path):
    write_model(1)
    with running(base_path) as http:
        aside = shutil.copytree(base_path / "1", tmp_path / "aside")
        (aside / WARMUP_FILE).parent.mkdir()
        (aside / WARMUP_FILE).write_bytes(b"no records")
        aside.rename(base_path / "2")
        wait_until(lambda: http.get("/v1/models/m/versions/2").status_code == 200)
        wait_until(lambda: http.get("/v1/models/m/versions/2").json()["model_version_status"][0]["state"] == "END")
        status = http.get("/v1/models/m/versions/2").json()["model_version_status"][0]["status"]
        assert status["error_code"] == "DATA_LOSS"
        assert status["error_message"].endswith("Please verify your warmup data is in TFRecord format.")
        assert (ask(http), http.get("/readyz").status_code) == (1, 200)


def test_versions_change_under_load(base_path, write_model):
    """Answers never fail, and versions only ever go up."""
    write_model(1)
    with running(base_path) as http:
        stop, answers, failures = threading.Event(), [], []

        def load():
            while not stop.is_set():
                try:
                    answers.append(ask(http))
                except Exception as error:
                    failures.append(error)

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        for version in range(2, 8):
            write_model(version)
            wait_until(lambda version=version: answers[-1:] == [version])
        stop.set()
        thread.join()
    assert failures == []
    assert answers == sorted(answers)


@pytest.mark.parametrize("off", ["port", "rest_api_port"])
def test_port_0_turns_a_front_off(base_path, write_model, off):
    write_model(1)
    server = Server(config(base_path, **{off: 0}))
    server.start()
    try:
        ports = {"port": server.grpc_port, "rest_api_port": server.rest_port}
        assert ports.pop(off) == 0
        socket.create_connection((HOST, *ports.values()), timeout=5).close()
    finally:
        server.stop()


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_port_taken(base_path, flag):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"cannot listen on {HOST}:{port} .* choose another --{flag}\."):
            Server(config(base_path, **{flag: port}))


def start_process(base_path, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "estimator_serving.serving.process.main", "--port=-1", "--rest_api_port=-1",
         "--model_name=m", f"--bind_address={HOST}", f"--model_base_path={base_path}", *flags],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_port_taken_ends_the_process_with_a_sentence(base_path):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with start_process(base_path, f"--rest_api_port={port}") as process:
            assert process.wait(20) == 1
            assert f"REST cannot listen on {HOST}:{port}" in process.stderr.read()


def test_bad_flag_ends_the_process_with_a_sentence():
    command = [sys.executable, "-m", "estimator_serving.serving.process.main", "--port=99999", "--model_base_path=/m"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (
        1,
        "--port=99999 cannot be used; give a port up to 65535, 0 for off or -1 for a free one.\n",
    )


def test_loads_nothing_of_training():
    """Serving must start without torch, onnx and spox, whether they are installed or not."""
    code = "import sys, estimator_serving.serving.server; print(sorted({'torch', 'onnx', 'spox'} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"
