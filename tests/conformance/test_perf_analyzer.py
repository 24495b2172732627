"""Triton's perf_analyzer against a running server: `make oracle-perf-analyzer PERF_ANALYZER=path/to/perf_analyzer`.

It is a program in the wheel of tritonclient 2.51.0. LD_LIBRARY_PATH has to name libb64 and CUDA's runtime, which it
loads without a GPU, too.
"""

from __future__ import annotations

import os
import re
import subprocess
from urllib.request import urlopen

import pytest
from conformance_models import MODELS, write_model
from served import serve

PERF_ANALYZER = os.environ.get("PERF_ANALYZER", "")
BATCHING = "max_batch_size { value: 64 }\nbatch_timeout_micros { value: 2000 }\nnum_batch_threads { value: 1 }\n"

pytestmark = pytest.mark.skipif(not PERF_ANALYZER, reason="PERF_ANALYZER names no perf_analyzer")


def run(served, protocol, *arguments):
    address = served.grpc if protocol == "grpc" else served.rest.removeprefix("http://")
    command = [PERF_ANALYZER, "-m", "m", "-u", address, "-i", protocol, "--concurrency-range", "2"]
    # Three windows are enough where rates may differ by half, and the metrics cover little else then.
    command += ["--measurement-interval", "1500", "--stability-percentage", "50"]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def metrics(served):
    """Requests, seconds in the model with its queue, and seconds in the queue, so far."""
    with urlopen(f"{served.rest}/metrics", timeout=20) as answer:
        text = answer.read().decode()

    def total(name, label=""):
        return sum(map(float, re.findall(rf"^estimator_serving_{name}{{.*{label}.*}} (\S+)$", text, re.MULTILINE)))

    requests = total("request_latency_seconds_count")
    return requests, total("request_part_seconds_total", 'part="run"'), total("queue_seconds_total")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("batching", [False, True])
def test_its_figures_are_those_of_the_metrics(protocol, batching, tmp_path):
    write_model(tmp_path / "m", 1, *MODELS["matrix"])
    (tmp_path / "batching").write_text(BATCHING)
    flags = {"enable_batching": "true", "batching_parameters_file": tmp_path / "batching"} if batching else {}
    with serve(tmp_path / "m", **flags) as served:
        run(served, protocol, "--shape", "x:3")
        before = metrics(served)
        said = run(served, protocol, "--shape", "x:3")
        requests, model_s, queue_s = (now - then for now, then in zip(metrics(served), before, strict=True))
    theirs = [*map(int, re.search(r"queue (\d+) usec.*compute infer (\d+) usec", said).groups())]
    ours = [queue_s / requests * 1e6, (model_s - queue_s) / requests * 1e6]
    print("queue and model, µs: perf_analyzer", theirs, "metrics", ours)
    assert theirs == pytest.approx(ours, rel=0.1, abs=1)


def test_it_speaks_tensorflow_servings_protocol(tmp_path):
    write_model(tmp_path / "m", 1, *MODELS["matrix"])
    with serve(tmp_path / "m") as served:
        assert "Throughput" in run(served, "grpc", "--service-kind", "tfserving", "--shape", "x:1,3")
