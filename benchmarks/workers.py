"""A server of several worker processes: what a crash costs, what memory they share, and how throughput grows.

    python benchmarks/workers.py [crash] [memory] [throughput] [--seconds 60]

- crash: a random worker of four is killed every 2 seconds, under eight clients, half REST and half gRPC, that send each
  request once more where it failed. No request may fail then.
- memory: the proportional set sizes (PSS) of all processes of a server of four workers, with a model of 500 MB,
  against those of a server of one process. At most 1.3 times as much.
- throughput: requests a second of two workers against one, with models of 5 ms and 1 ms that use one thread, on the
  same two cores as the load. At least 1.7 times as much. `by CPU` compares requests a second of processor time, which
  neighbours on a shared machine disturb less: 1.0 means that a second worker costs nothing.

Prints a line for each figure; exits with 1 where one misses its bound. Needs Linux, `onnx`, and 3 GB of disk.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import grpc
import numpy as np
import onnx
from loads import ADD, SLOW, GrpcCaller, RestCaller, cpu_s, load_callers, post, steps_of, write_model
from onnx import helper, numpy_helper

from estimator_serving.serving.models.warmup import WARMUP_FILE
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import write_records
from estimator_serving.wire.tensors import encode_tensor

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from served import Served, serve, tree

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CRASH_WORKERS, CLIENTS, KILL_PAUSE_S = 4, 8, 2.0
MEMORY_WORKERS, MEMORY_RATIO_MAX = 4, 1.3
WIDE, MATRICES = 4096, 7  # 470 MB of matrices, and a table of 60 MB
THROUGHPUT_RATIO_MIN = 1.7
CONNECTIONS = 16
TURNS = 7


def payload(value: float) -> bytes:
    request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(encode_tensor(np.array([value], np.float32)))
    return request.SerializeToString()


@contextmanager
def quietly(base_path: Path, **flags: object):
    with serve(base_path, **flags) as served:
        # What it logs must not fill the pipe.
        threading.Thread(target=served.process.stderr.read, daemon=True).start()
        yield served


# --- crash ---


class RestClient:
    def __init__(self, served: Served) -> None:
        self.address = served.rest.removeprefix("http://")
        self.connection: http.client.HTTPConnection | None = None

    def ask(self) -> None:
        try:
            self.connection = self.connection or http.client.HTTPConnection(self.address, timeout=30)
            self.connection.request("POST", "/v1/models/m:predict", b'{"instances": [1]}')
            answer = self.connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise http.client.HTTPException(f"{answer.status} {body!r}")
        except Exception:
            self.connection = None
            raise


# grpc's own way to send a request once more, after a moment: at once, it would take the connection that just broke.
RETRY_ONCE = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 2, "initialBackoff": "0.05s", "maxBackoff": "0.05s", "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}  # fmt: skip


class GrpcClient:
    def __init__(self, served: Served) -> None:
        # Each with connections of its own, as in different processes.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", json.dumps(RETRY_ONCE))]
        self.channel = grpc.insecure_channel(served.grpc, options=options)
        self.call = self.channel.unary_unary(PREDICT)
        self.payload = payload(1)

    def ask(self) -> None:
        self.call(self.payload, timeout=30)


def measure_crash(root: Path, seconds: float) -> bool:
    write_model(root / "crash", ADD)
    # What exporters write; a worker that replaces another one replays it, too.
    log = serving_pb.PredictionLog()
    log.predict_log.request.ParseFromString(payload(1))
    (root / "crash" / "1" / WARMUP_FILE).parent.mkdir()
    write_records(root / "crash" / "1" / WARMUP_FILE, [log.SerializeToString()])
    ended = threading.Event()
    asked, retried, failed = [0] * CLIENTS, [0] * CLIENTS, []

    with quietly(root / "crash", workers=CRASH_WORKERS) as served:

        def ask(index: int) -> None:
            client = RestClient(served) if index % 2 else GrpcClient(served)
            while not ended.is_set():
                asked[index] += 1
                try:
                    client.ask()
                except Exception:
                    retried[index] += 1
                    try:
                        if isinstance(client, GrpcClient):
                            raise  # it was sent twice already
                        client.ask()
                    except Exception as error:
                        failed.append(f"{type(client).__name__}: {error!r}"[:300])

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(CLIENTS)]
        for thread in threads:
            thread.start()
        killed, ends_s = 0, time.monotonic() + seconds
        while time.monotonic() + KILL_PAUSE_S < ends_s:
            time.sleep(KILL_PAUSE_S)
            if there := served.workers():
                os.kill(random.choice(there), signal.SIGKILL)
                killed += 1
        ended.set()
        for thread in threads:
            thread.join()
        code = served.stop()
    print(
        f"crash: {killed} workers killed in {seconds:g} s, {sum(asked)} requests, {sum(retried)} of REST sent "
        f"once more, {len(failed)} failed (must be 0); exit code {code}"
    )
    print("".join(f"    {one}\n" for one in failed[:5]), end="")
    return not failed and code == 0


# --- memory ---


def write_large(base_path: Path) -> None:
    random_numbers = np.random.default_rng(0)
    weights, nodes, last = [], [], "x"
    for index in range(MATRICES):
        matrix = random_numbers.standard_normal((WIDE, WIDE), dtype=np.float32) / 64
        weights.append(numpy_helper.from_array(matrix, f"w{index}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"h{index}"]))
        last = f"h{index}"
    table = random_numbers.standard_normal((3700, WIDE), dtype=np.float32)
    weights.append(numpy_helper.from_array(table, "table"))
    nodes += [helper.make_node("Gather", ["table", "ids"], ["row"]), helper.make_node("Add", [last, "row"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", WIDE]),
            helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", WIDE])],
        weights,
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    (base_path / "1").mkdir(parents=True)
    onnx.save(
        model, base_path / "1" / "model.onnx", save_as_external_data=True, location="model.onnx.data",
        size_threshold=1024,
    )  # fmt: skip


def pss_mb(pids: list[int]) -> float:
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure_memory(root: Path) -> bool:
    write_large(root / "large")
    body = {"inputs": {"x": [[0.0] * WIDE] * 4, "ids": [0] * 4}}
    found = []
    for workers in (0, MEMORY_WORKERS):
        with quietly(root / "large", workers=workers, request_bytes_max=1 << 20) as served:
            pids = tree(served.process.pid)
            with ThreadPoolExecutor(4) as pool:  # each on a connection of its own, to any worker
                for status, answer in pool.map(lambda _: served.ask("/v1/models/m:predict", body), range(24)):
                    assert status == 200, answer
            time.sleep(1)
            found.append(pss_mb(pids))
            print(f"memory: {workers or 'no'} workers, {len(pids)} processes: {found[-1]:.0f} MB", flush=True)
            served.stop()
    ratio = found[1] / found[0]
    print(f"memory: {ratio:.2f} times as much (at most {MEMORY_RATIO_MAX})")
    return ratio <= MEMORY_RATIO_MAX


# --- throughput ---


def used_s(served: Served) -> float:
    return sum(cpu_s(pid) for pid in tree(served.process.pid))


class Turn(NamedTuple):
    """Requests a second, and for each request the seconds of processor time of the server and of the load."""

    rate: float
    server_s: float
    load_s: float

    @property
    def cores(self) -> float:
        return self.rate * self.server_s


def measure_turn(served: Served, front: str, steps: float, seconds: float) -> Turn:
    if front == "gRPC":
        port = int(served.grpc.rpartition(":")[2])
        callers: list[GrpcCaller | RestCaller] = [GrpcCaller(PREDICT, payload(steps)) for _ in range(CONNECTIONS)]
    else:
        port = int(served.rest.rpartition(":")[2])
        request = post("/v1/models/m:predict", b'{"instances": [%f]}' % steps)
        callers = [RestCaller(request) for _ in range(CONNECTIONS)]
    began_s, server_s, load_s = time.perf_counter(), used_s(served), time.process_time()
    rate = load_callers(port, callers, seconds)
    requests = rate * (time.perf_counter() - began_s)
    return Turn(rate, (used_s(served) - server_s) / requests, (time.process_time() - load_s) / requests)


def measure_throughput(root: Path, seconds: float) -> bool:
    """Both servers run all along, an idle one costs nothing; they are asked in turns, because a shared machine's speed
    drifts."""
    write_model(root / "slow", SLOW)
    held, flags = True, {"tensorflow_intra_op_parallelism": 1}
    with quietly(root / "slow", workers=1, **flags) as one, quietly(root / "slow", workers=2, **flags) as two:
        call = GrpcClient(one).call
        for milliseconds in (5.0, 1.0):
            steps = steps_of(
                lambda steps: call(payload(steps), timeout=60), partial(used_s, one), milliseconds / 1e3, runs=20
            )
            for front in ("REST", "gRPC"):
                turns = [
                    (measure_turn(one, front, steps, seconds), measure_turn(two, front, steps, seconds))
                    for _ in range(TURNS)
                ]
                ratios = sorted(of_two.rate / of_one.rate for of_one, of_two in turns)
                ratio = median(ratios)
                of_one, of_two = (Turn(*map(median, zip(*part, strict=True))) for part in zip(*turns, strict=True))
                # What two cores can do for requests that cost as much as these, their load included.
                most = 2 / (of_two.server_s + of_two.load_s)
                print(
                    f"throughput: {front}, model of {milliseconds:g} ms: one worker {of_one.rate:.0f}/s on "
                    f"{of_one.cores:.2f} cores, two {of_two.rate:.0f}/s on {of_two.cores:.2f}: {ratio:.2f} times as "
                    f"much ({ratios[0]:.2f} to {ratios[-1]:.2f}; at least {THROUGHPUT_RATIO_MIN}); a request takes "
                    f"{1e6 * of_one.server_s:.0f} and {1e6 * of_two.server_s:.0f} µs of the server and "
                    f"{1e6 * of_two.load_s:.0f} of the load, so two cores do at most {most:.0f}/s",
                    flush=True,
                )
                held = held and ratio >= THROUGHPUT_RATIO_MIN
        two.stop()
        one.stop()
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = ("crash", "memory", "throughput")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="what to measure; everything by default")
    parser.add_argument("--seconds", type=float, default=60, help="of the crashes; a load takes a thirtieth of it")
    arguments = parser.parse_args()
    held = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in arguments.parts or parts:
            if part == "crash":
                held.append(measure_crash(root, arguments.seconds))
            elif part == "memory":
                held.append(measure_memory(root))
            else:
                held.append(measure_throughput(root, arguments.seconds / 30))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
