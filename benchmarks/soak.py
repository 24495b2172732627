"""Mixed traffic for a long time while versions are swapped: what fails, what is mixed, what grows.

    python benchmarks/soak.py [--minutes 15] [--swaps 200]

One thread for each kind of client: JSON in rows and in columns, the Open Inference Protocol in JSON and in binary,
Predict, Classify, ModelInfer, streams, bad requests of every kind, requests of megabytes, clients that drip, clients
that leave, and those who watch (metrics, status, health). Version N of the swapped model answers x + N in every row, so
an answer whose rows differ, or that names another version, was mixed. Memory (RSS and PSS), threads and open files of
the server process are read all along; the first quarter is its warm-up. Flat means: the median of the last quarter is
at most 10 % (memory), 4 (threads) or 8 (files) above that of the second. Prints one JSON object; exits with 1 where a
good request failed, a bad one was answered with a 5xx, an answer was mixed, a swap did not come, or something grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from estimator_serving.wire.pb import inference_pb, serving_pb
from estimator_serving.wire.tensors import decode_tensor

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from attacked import HOST, PREDICT, usage
from conformance_models import MODELS, write_model
from hostile_cases import REQUEST_BYTES_MAX, REST, RPC
from hostile_models import LOOP, listing, write
from oip_requests import binary_request, json_request, message, unraw
from served import Served, serve
from tfs_requests import X2, X3, classify, example_list, predict
from version_swap import write_version

ROWS = 4
ZEROS = np.zeros(ROWS, np.float32)
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
PATH, INFER_PATH = "/v1/models/m:predict", "/v2/models/m/infer"
GROWTH_MAX = {"memory_kib": 1.1, "pss_kib": 1.1}
MORE_MAX = {"threads": 4, "files": 8}
SWAP_S_MAX = 30.0
WAIT_S = 30.0


class Wrong(Exception):  # noqa: N818 - counted, not handled
    """An answer that must not be."""


class Traffic:
    """The clients of one server, and what came of their requests."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._port = int(served.rest.rpartition(":")[2])
        self._ended = threading.Event()
        self.counts = Counter[str]()
        self.failures: list[str] = []
        self.mixed = 0
        self.newest = 0
        self._kinds: dict[str, tuple[Callable[[httpx.Client, grpc.Channel], None], float]] = {
            "rows": (self._rows, 0.01), "columns": (self._columns, 0.01), "v2 JSON": (self._v2_json, 0.01),
            "v2 binary": (self._v2_binary, 0.01), "Predict": (self._predict, 0.01), "Classify": (self._classify, 0.01),
            "ModelInfer": (self._infer, 0.01), "stream": (self._stream, 0.1), "bad": (self._bad, 0.01),
            "big": (self._big, 0.5), "drips": (self._drips, 0.1), "leaves": (self._leaves, 0.05),
            "watches": (self._watches, 0.1),
        }  # fmt: skip
        self._threads = [threading.Thread(target=self._run, args=(kind,), name=kind) for kind in self._kinds]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kind: str) -> None:
        ask, pause_s = self._kinds[kind]
        with (
            httpx.Client(base_url=self._served.rest, timeout=WAIT_S) as http,
            grpc.insecure_channel(self._served.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            while not self._ended.wait(pause_s):
                try:
                    ask(http, channel)
                    self.counts[kind] += 1
                except Exception as error:
                    self.failures.append(f"{kind}: {error!r}"[:300])

    def _note(self, rows: Any, version: int | None = None) -> None:
        found = {float(one) for one in np.asarray(rows).ravel()}
        if len(found) != 1 or (version is not None and found != {version}):
            self.mixed += 1
        self.newest = max(self.newest, int(max(found)))

    def _rows(self, http: httpx.Client, _: grpc.Channel) -> None:
        answer = http.post(PATH, json={"instances": ZEROS.tolist()}).raise_for_status()
        self._note(answer.json()["predictions"], int(answer.headers["x-model-version"]))

    def _columns(self, http: httpx.Client, _: grpc.Channel) -> None:
        self._note(http.post(PATH, json={"inputs": {"x": ZEROS.tolist()}}).raise_for_status().json()["outputs"])

    def _v2_json(self, http: httpx.Client, _: grpc.Channel) -> None:
        answer = http.post(INFER_PATH, content=json_request({"x": ZEROS})).raise_for_status().json()
        self._note(answer["outputs"][0]["data"], int(answer["model_version"]))

    def _v2_binary(self, http: httpx.Client, _: grpc.Channel) -> None:
        body, length = binary_request({"x": ZEROS})
        answer = http.post(INFER_PATH, content=body, headers={"Inference-Header-Content-Length": str(length)})
        length = int(answer.raise_for_status().headers["Inference-Header-Content-Length"])
        self._note(
            unraw(answer.content[length:], "FP32", (ROWS,)), int(json.loads(answer.content[:length])["model_version"])
        )

    def _predict(self, _: httpx.Client, channel: grpc.Channel) -> None:
        answer = channel.unary_unary(PREDICT)(predict("m", x=ZEROS).SerializeToString(), timeout=WAIT_S)
        response = serving_pb.PredictResponse.FromString(answer)
        self._note(decode_tensor(response.outputs["y"]), response.model_spec.version.value)

    def _classify(self, _: httpx.Client, channel: grpc.Channel) -> None:
        payload = classify(example_list(X2, X3)).SerializeToString()
        response = serving_pb.ClassificationResponse.FromString(channel.unary_unary(CLASSIFY)(payload, timeout=WAIT_S))
        if [one.classes[0].score for one in response.result.classifications] != [2.0, 3.0]:
            raise Wrong(str(response)[:200])

    def _infer(self, _: httpx.Client, channel: grpc.Channel) -> None:
        payload = message("m", {"x": ZEROS}).SerializeToString()
        self._note_infer(
            inference_pb.ModelInferResponse.FromString(channel.unary_unary(INFER)(payload, timeout=WAIT_S))
        )

    def _note_infer(self, response: Any) -> None:
        self._note(unraw(response.raw_output_contents[0], "FP32", (ROWS,)), int(response.model_version))

    def _stream(self, _: httpx.Client, channel: grpc.Channel) -> None:
        def items() -> Iterator[bytes]:
            for _ in range(20):
                yield message("m", {"x": ZEROS}).SerializeToString()

        answers = list(channel.stream_stream(STREAM)(items(), timeout=WAIT_S))
        for answer in answers:
            self._note_infer(inference_pb.ModelStreamInferResponse.FromString(answer).infer_response)
        if len(answers) != 20:
            raise Wrong(f"{len(answers)} answers of 20")

    def _bad(self, http: httpx.Client, channel: grpc.Channel) -> None:
        if random.random() < 0.5:
            case = random.choice(REST)
            if case.body is None:
                answer = http.get(case.path)
            else:
                answer = http.post(case.path, content=case.body, headers=case.headers)
            if answer.status_code >= 500 and answer.status_code != 501:
                raise Wrong(f"{case.id}: {answer.status_code} {answer.text[:200]}")
            return
        rpc = random.choice(RPC)
        error = channel.unary_unary(rpc.method).future(rpc.payload, timeout=WAIT_S).exception()
        if error is not None and error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            raise Wrong(f"{rpc.id}: {error.details()}")

    def _big(self, http: httpx.Client, channel: grpc.Channel) -> None:
        count = random.randrange(100_000, 500_000)
        http.post("/v1/models/half:predict", content=json.dumps({"instances": [1.0] * count})).raise_for_status()
        payload = predict("half", x=np.ones(2 * count, np.float32)).SerializeToString()
        channel.unary_unary(PREDICT, response_deserializer=len)(payload, timeout=WAIT_S)

    def _drips(self, _: httpx.Client, __: grpc.Channel) -> None:
        """A request in pieces, which is answered all the same."""
        body = json.dumps({"instances": ZEROS.tolist()}).encode()
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (
            PATH.encode(),
            len(body),
        )
        content, received = head + body, b""
        with socket.create_connection((HOST, self._port), timeout=WAIT_S) as connection:
            for at in range(0, len(content), 16):
                connection.sendall(content[at : at + 16])
                self._ended.wait(0.05)
            while chunk := connection.recv(65536):
                received += chunk
        if not received.startswith(b"HTTP/1.1 200"):
            raise Wrong(received[:200].decode())

    def _leaves(self, _: httpx.Client, channel: grpc.Channel) -> None:
        """Before a request is whole, while a slow model runs, while the answer comes."""
        body = json.dumps({"instances": [200_000]}).encode()
        whole = b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for content in (whole[: random.randrange(len(whole))], whole):
            with socket.create_connection((HOST, self._port), timeout=WAIT_S) as connection:
                connection.sendall(content)
                self._ended.wait(random.random() / 50)
        call = channel.unary_unary(PREDICT).future(predict("slow", x=np.float32([200_000])).SerializeToString())
        self._ended.wait(random.random() / 50)
        call.cancel()

    def _watches(self, http: httpx.Client, channel: grpc.Channel) -> None:
        for path in (
            "/metrics",
            "/v1/models/m",
            "/v2/models/m/stats",
            "/healthz",
            "/readyz",
            "/v1/models/examples/metadata",
        ):
            http.get(path).raise_for_status()
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WAIT_S)


class Readings(threading.Thread):
    """Reads what the process uses, now and then."""

    def __init__(self, pid: int, seconds: float) -> None:
        super().__init__(name="readings")
        self._pid, self._pause_s = pid, seconds / 60
        self.ended = threading.Event()
        self.all: list[dict[str, int]] = []

    def run(self) -> None:
        began_s = time.monotonic()
        while not self.ended.wait(self._pause_s):
            rollup = Path(f"/proc/{self._pid}/smaps_rollup").read_text()
            found = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
            assert found, rollup
            self.all.append({"at_s": round(time.monotonic() - began_s), **usage(self._pid), "pss_kib": int(found[1])})

    def grown(self) -> dict[str, tuple[float, float]]:
        """What is above its bound: medians of the second and of the last quarter."""
        quarter = len(self.all) // 4
        before, after = self.all[quarter : 2 * quarter], self.all[-quarter:]
        grown = {}
        for name in (*GROWTH_MAX, *MORE_MAX):
            first, last = (statistics.median(one[name] for one in part) for part in (before, after))
            if last > GROWTH_MAX.get(name, 1.0) * first + MORE_MAX.get(name, 0):
                grown[name] = (first, last)
        return grown


def swap(traffic: Traffic, base_path: Path, swaps: int, seconds: float) -> int:
    """Make each version, evenly over the time; returns how many were answered by within their time."""
    came, began_s = 0, time.monotonic()
    for version in range(2, swaps + 2):
        time.sleep(max(0.0, began_s + (version - 1) * seconds / (swaps + 1) - time.monotonic()))
        write_version(base_path, version, 100_000)
        end_s = time.monotonic() + SWAP_S_MAX
        while traffic.newest < version and time.monotonic() < end_s:
            time.sleep(0.01)
        came += traffic.newest >= version
        if version > 2:
            shutil.rmtree(base_path / str(version - 2))
    time.sleep(max(0.0, began_s + seconds - time.monotonic()))
    return came


def make_models(root: Path) -> None:
    for name in ("half", "matrix", "types", "text", "log", "bfloat16", "examples"):
        write_model(root / name, 1, *MODELS[name])
    write(root / "slow", 1, LOOP)
    (root / "m").mkdir()
    write_version(root / "m", 1, 100_000)
    (root / "models.config").write_text(listing(root, sorted(path.name for path in root.iterdir())))


def measure(root: Path, minutes: float, swaps: int) -> dict[str, Any]:
    make_models(root)
    flags = {
        "model_config_file": root / "models.config", "file_system_poll_wait_seconds": 0.1,
        "request_bytes_max": REQUEST_BYTES_MAX, "enable_grpc_healthcheck_service": True,
    }  # fmt: skip
    with serve("", **flags) as served:
        # What it logs must not fill the pipe.
        threading.Thread(target=served.process.stderr.read, daemon=True).start()
        traffic, readings = Traffic(served), Readings(served.process.pid, 60 * minutes)
        readings.start()
        traffic.start()
        came = swap(traffic, root / "m", swaps, 60 * minutes)
        readings.ended.set()
        readings.join()
        traffic.stop()
        code = served.stop()
    step = max(1, len(readings.all) // 10)
    return {
        "minutes": minutes,
        "swaps": came,
        "requests": dict(traffic.counts),
        "failed": len(traffic.failures),
        "first_failures": traffic.failures[:5],
        "mixed": traffic.mixed,
        "readings": readings.all[::step],
        "grown": readings.grown(),
        "exit_code": code,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--swaps", type=int, default=200)
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.minutes, chosen.swaps)
    readings = figures.pop("readings")
    print(
        json.dumps(figures, indent=1)[:-2]
        + ',\n "readings": [\n  '
        + ",\n  ".join(map(json.dumps, readings))
        + "\n ]\n}"
    )
    is_whole = figures["swaps"] == chosen.swaps and not figures["failed"] and not figures["mixed"]
    return 0 if is_whole and not figures["grown"] and figures["exit_code"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
