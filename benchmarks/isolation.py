"""A slow model beside a fast one: how long the fast one's callers and the health checks wait.

    python benchmarks/isolation.py [--seconds 10] [--callers 16]

Starts `estimator-serving serve` with two models in a process of its own: `fast`, one addition, and `slow`, a Loop that
is sized to take about 500 ms of one core. Asks `fast` one request after the other over gRPC and over REST, first alone,
then while `--callers` gRPC and as many REST callers keep the slow one busy and four idle reflection streams are open.
All the while /healthz, /readyz, grpc.health.v1 and GetModelStatus are asked, too. Prints medians and 99th percentiles;
fails where the fast one's 99th percentile is above 3 times that of alone, a request was lost, or the 99th percentile of
a health check is above 100 ms.
"""

from __future__ import annotations

import argparse
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from loads import ADD, SLOW, steps_of, write_model

from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.tensors import encode_tensor

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from served import Served, serve

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
SLOW_S = 0.5
P99_RATIO_MAX = 3.0
HEALTH_S_MAX = 0.1
# Below this, a busy machine's own pauses decide.
NOISE_S = 0.003


def payload(name: str, value: float) -> bytes:
    request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name=name))
    request.inputs["x"].CopyFrom(encode_tensor(np.array([value], np.float32)))
    return request.SerializeToString()


class Clients:
    """What is asked of one server."""

    def __init__(self, served: Served) -> None:
        self.channel = grpc.insecure_channel(served.grpc)
        self.http = httpx.Client(base_url=served.rest, timeout=60)
        self.call = self.channel.unary_unary(PREDICT)
        self.steps = steps_of(
            lambda steps: self.call(payload("slow", steps), timeout=60), time.monotonic, SLOW_S, runs=1
        )  # fmt: skip
        status = serving_pb.GetModelStatusRequest(model_spec=serving_pb.ModelSpec(name="slow")).SerializeToString()
        health, asked = health_pb2_grpc.HealthStub(self.channel), health_pb2.HealthCheckRequest()
        fast = payload("fast", 1)
        self.fast: dict[str, Callable[[], object]] = {
            "fast, gRPC": lambda: self.call(fast, timeout=60),
            "fast, REST": lambda: self._post("fast", 1),
        }
        self.health: dict[str, Callable[[], object]] = {
            "/healthz": lambda: self.http.get("/healthz").raise_for_status(),
            "/readyz": lambda: self.http.get("/readyz").raise_for_status(),
            "grpc.health.v1": lambda: health.Check(asked, timeout=60),
            "GetModelStatus": lambda: self.channel.unary_unary(STATUS)(status, timeout=60),
        }

    def _post(self, name: str, value: float) -> None:
        self.http.post(f"/v1/models/{name}:predict", json={"instances": [value]}).raise_for_status()

    def keep_busy(self, callers: int, ended: threading.Event) -> list[threading.Thread]:
        """Callers of the slow model over each front, until `ended`; one that fails leaves its error in `lost`."""
        self.lost: list[str] = []
        slow = payload("slow", self.steps)
        asking: list[Callable[[], object]] = [
            lambda: self.call(slow, timeout=60), lambda: self._post("slow", self.steps)
        ]  # fmt: skip

        def ask(one: Callable[[], object]) -> None:
            while not ended.is_set():
                try:
                    one()
                except Exception as error:
                    self.lost.append(str(error)[:200])

        threads = [threading.Thread(target=ask, args=(one,)) for one in asking for _ in range(callers)]
        for thread in threads:
            thread.start()
        return threads

    def hold_streams(self, count: int) -> None:
        """Reflection streams that ask once and then stay open."""
        stub = reflection_pb2_grpc.ServerReflectionStub(self.channel)
        self.streams = []
        for _ in range(count):
            asked: queue.SimpleQueue[object] = queue.SimpleQueue()
            asked.put(reflection_pb2.ServerReflectionRequest(list_services=""))
            stream = stub.ServerReflectionInfo(iter(asked.get, None))
            next(stream)
            self.streams.append(stream)

    def close(self) -> None:
        for stream in self.streams:
            stream.cancel()
        self.channel.close()
        self.http.close()


def times(ask: Callable[[], object], seconds: float) -> list[float]:
    taken, ends_s = [], time.monotonic() + seconds
    while time.monotonic() < ends_s:
        started_s = time.monotonic()
        ask()
        taken.append(time.monotonic() - started_s)
        time.sleep(0.005)
    return sorted(taken)


def measure(asked: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(lambda ask: times(ask, seconds), asked.values()), strict=True))


def p99(taken: list[float]) -> float:
    return taken[min(len(taken) - 1, int(0.99 * len(taken)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--callers", type=int, default=16, help="of the slow model, over each front")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in (("fast", ADD), ("slow", SLOW)):
            write_model(root / name, text)
        listing = "".join(f'config {{ name: "{name}" base_path: "{root / name}" }}' for name in ("fast", "slow"))
        (root / "models.config").write_text(f"model_config_list {{ {listing} }}")
        with serve("", model_config_file=root / "models.config", enable_grpc_healthcheck_service=True) as served:
            clients = Clients(served)
            measure(clients.fast, 1)
            # The same callers in both parts, so that what they cost each other is no part of the comparison.
            alone = measure(clients.fast | clients.health, arguments.seconds)
            clients.hold_streams(4)
            ended = threading.Event()
            callers = clients.keep_busy(arguments.callers, ended)
            time.sleep(2 * SLOW_S)
            beside = measure(clients.fast | clients.health, arguments.seconds)
            ended.set()
            for thread in callers:
                thread.join()
            clients.close()
    failed = list(clients.lost)
    print(f"{'':16}{'alone, p50':>12}{'p99':>10}{'beside, p50':>14}{'p99':>10}{'most':>10}   (ms)")
    for name, taken in beside.items():
        before = alone.get(name)
        first = f"{1e3 * before[len(before) // 2]:12.2f}{1e3 * p99(before):10.2f}" if before else " " * 22
        print(f"{name:16}{first}{1e3 * taken[len(taken) // 2]:14.2f}{1e3 * p99(taken):10.2f}{1e3 * taken[-1]:10.2f}")
        if name in clients.fast and before and p99(taken) > P99_RATIO_MAX * max(p99(before), NOISE_S):
            failed.append(f"{name}: its p99 is {p99(taken) / p99(before):.1f} times that of alone")
        if name in clients.health and p99(taken) > HEALTH_S_MAX:
            failed.append(f"{name}: its p99 is above {1e3 * HEALTH_S_MAX:g} ms")
    print("\n".join(failed) or "held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
