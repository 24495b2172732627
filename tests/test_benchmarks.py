"""The benchmark that compares servers: what its files say, its clients, its page, and that it leaves no process."""

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from running import running

FIELD = Path(__file__).resolve().parents[1] / "benchmarks" / "field"


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(FIELD.parent)
    monkeypatch.syspath_prepend(FIELD)
    import compare

    monkeypatch.setattr(compare, "SETTLE_S", 0.05)
    return compare


def test_every_server_pins_its_versions_and_says_how_it_is_asked(compare):
    scripts = [compare.read_script(file) for file in (FIELD / "servers").glob("*.py")]
    assert len(scripts) == 7
    assert all("==" in package for script in scripts for package in script["dependencies"])
    assert all(script["tool"]["field"]["body"] in ("instances", "infer", "x") for script in scripts)


def test_the_clients_time_answers_over_both_transports(compare, tmp_path):
    compare.write_model(tmp_path, compare.MATRIX)
    rows = compare.Case("rows", 2, compare.post("/v1/models/m:predict", compare.json_body("instances", 2)))
    many = compare.predict_case(3000)  # 156 KB, more than HTTP/2's first window
    with running(tmp_path) as server:
        ports = compare.Ports(server.rest_port, server.grpc_port, 0)
        for case in (rows, compare.infer_case(1), many):
            figures = asyncio.run(compare.load(case, ports, callers=3, seconds=0.1))
            assert figures["answers"] >= 3
            assert 0 < figures["p50_ms"] <= figures["p99_ms"]


def test_a_refused_request_ends_the_load(compare, tmp_path):
    compare.write_model(tmp_path, compare.MATRIX)
    with running(tmp_path) as server:
        ports = compare.Ports(server.rest_port, server.grpc_port, 0)
        for case in (compare.Case("none", 1, compare.post("/v1/models/none:predict", b"{}")),
                     compare.Case("none", 1, b"", compare.PREDICT)):  # fmt: skip
            with pytest.raises(ConnectionError):
                asyncio.run(compare.load(case, ports, callers=1, seconds=0.1))


def test_what_a_server_leaves_behind_is_killed():
    script = """if True:
        import compare, os, subprocess, time
        compare.adopt_orphans()
        subprocess.run(["sh", "-c", "setsid sleep 60 & setsid sleep 60 &"], check=True)
        time.sleep(0.1)
        print(len(compare.tree(os.getpid())[1:]))
        compare.end_all()
        print(len(compare.tree(os.getpid())[1:]))"""
    paths = f"{FIELD}:{FIELD.parent}"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}.split(':')\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["2", "0"]


def test_the_page_has_bars_figures_and_who_is_left_out(compare):
    figures = {"case": "REST JSON, rows", "rows": 1, "callers": 32, "p50_ms": 1.25, "p99_ms": 9.5}
    measured = [figures | {"server": name, "rate": rate, "processor_rate": rate} for name, rate in
                (("ours", 9000.0), ("kserve", 1000.0))]  # fmt: skip
    text = compare.page.write({
        "began": "2026-01-02T03:04", "machine": {"processor": "a chip", "cores": 2, "system": "Linux", "python": "3"},
        "load_average": 0.5, "seconds": 1, "rounds": 2, "measured": measured,
        "titles": {"ours": "estimator-serving", "kserve": "KServe 1"}, "left_out": {"ray": "pip install failed"},
    })  # fmt: skip
    assert "| KServe 1 | REST JSON, rows | 9.00 | 9.00 | ≥ 5 | met |" in text
    assert 'width="380"' in text
    assert 'width="42"' in text
    assert "- ray: pip install failed" in text


NO_GPU = pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")


@NO_GPU
def test_the_benchmark_of_a_gpu_says_that_there_is_none():
    script = FIELD.parent / "device.py"
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("Nothing was measured: ONNX Runtime finds no GPU")


def test_the_benchmark_of_a_gpu_runs_on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FIELD.parent)
    import device

    for index, case in enumerate((device.CASES["13 floats, 1 row"], device.Case("", (8, 4), (2, 8)))):
        device.write_case(case, tmp_path / str(index))
        given = SimpleNamespace(device="cpu", seconds=0.01, rounds=1)
        rates = device.in_process(case, tmp_path / str(index), given)
        assert rates.keys() == {"session.run", "bound once", *device.WAYS}
        assert all(found > 0 for found in rates.values())
