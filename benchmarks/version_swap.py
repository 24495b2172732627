"""Versions swapped under load: what fails, what is mixed, how latency and memory stand before and after.

    python benchmarks/version_swap.py [--swaps 100] [--clients 8] [--parameters 0]

Half of the clients call REST, half gRPC, each in a loop without a pause. Version N answers 0 + N in every row, so an
answer whose rows differ was computed by two versions, and gRPC also says which version it was. Each new version is
written aside and renamed, as the exporter does, once the one before serves. Prints one JSON object; exits with 1 where
a request failed, an answer was mixed, or memory grew by more than a tenth. Needs `onnx`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HOST = "127.0.0.1"
ROWS = 4
PATH = "/v1/models/m:predict"
METHOD = "/tensorflow.serving.PredictionService/Predict"
MEMORY_GROWTH_MAX = 0.10
LOAD_BEFORE_S = 1.0


def write_version(base_path: Path, version: int, parameters: int) -> None:
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    ballast = numpy_helper.from_array(np.full((1, max(parameters, 1)), version, np.float32), "ballast")
    offset = numpy_helper.from_array(np.float32([version]), "offset")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["ballast"], ["largest"], keepdims=0),
            helper.make_node("Sub", ["offset", "largest"], ["zero"]),
            helper.make_node("Add", ["x", "offset"], ["sum"]),
            helper.make_node("Add", ["sum", "zero"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch"])],
        [ballast, offset],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    aside = base_path / f"temp-{version}"
    aside.mkdir()
    (aside / "model.onnx").write_bytes(model.SerializeToString())
    aside.rename(base_path / str(version))


class Server:
    """The server in a process of its own."""

    def __init__(self, base_path: Path) -> None:
        command = [sys.executable, "-m", "estimator_serving.cli", "serve", "--port=-1", "--rest_api_port=-1",
                   "--model_name=m", f"--model_base_path={base_path}", f"--bind_address={HOST}",
                   "--file_system_poll_wait_seconds=0.02", "--tensorflow_intra_op_parallelism=1"]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.ports: dict[str, int] = {}
        for line in self.process.stderr:
            if found := re.search(r"Serving (REST|gRPC) at [^:]+:(\d+)\.", line):
                self.ports[found[1]] = int(found[2])
            if line.rstrip().endswith("is available."):  # the ports are open before the model is loaded
                break
        # What it logs from now on must not fill the pipe.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def memory_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Load:
    """Clients that ask without a pause, and what came of it."""

    def __init__(self, server: Server, clients: int) -> None:
        self._server = server
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.mixed = 0
        self.latencies_s: list[float] = []
        self.newest = 0
        kinds = (self._rest, self._grpc)
        self._threads = [threading.Thread(target=kinds[i % 2], daemon=True) for i in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _note(self, rows: list[float], started_s: float, version: int | None = None) -> None:
        self.latencies_s.append(time.perf_counter() - started_s)
        if len(set(rows)) != 1 or len(rows) != ROWS or version not in (None, rows[0]):
            self.mixed += 1
        self.newest = max(self.newest, int(rows[0]))

    def _rest(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._server.ports["REST"], timeout=30)
        body = json.dumps({"instances": [0.0] * ROWS})
        while not self._stop.is_set():
            started_s = time.perf_counter()
            try:
                connection.request("POST", PATH, body)
                response = connection.getresponse()
                answer = json.loads(response.read())
                if response.status == 200:
                    self._note(answer["predictions"], started_s)
                else:
                    self.failures.append(f"REST {response.status}: {answer}")
            except Exception as error:
                self.failures.append(f"REST {error!r}")
        connection.close()

    def _grpc(self) -> None:
        import grpc
        import numpy as np

        from estimator_serving.wire.pb import serving_pb
        from estimator_serving.wire.tensors import decode_tensor, encode_tensor

        request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m"))
        request.inputs["x"].CopyFrom(encode_tensor(np.zeros(ROWS, np.float32)))
        payload = request.SerializeToString()
        with grpc.insecure_channel(f"{HOST}:{self._server.ports['gRPC']}") as channel:
            call = channel.unary_unary(METHOD)
            while not self._stop.is_set():
                started_s = time.perf_counter()
                try:
                    response = serving_pb.PredictResponse.FromString(call(payload, timeout=30))
                    rows = decode_tensor(response.outputs["y"]).tolist()
                    self._note(rows, started_s, response.model_spec.version.value)
                except grpc.RpcError as error:
                    self.failures.append(f"gRPC {error.code()}: {error.details()}")


def swap(load: Load, base_path: Path, swaps: int, parameters: int) -> list[float]:
    """Make each version and wait until an answer comes from it; returns how long each took, in seconds."""
    took_s = []
    for version in range(2, swaps + 2):
        write_version(base_path, version, parameters)
        started_s = time.perf_counter()
        while load.newest < version and time.perf_counter() - started_s < 30:
            time.sleep(0.002)
        took_s.append(time.perf_counter() - started_s)
        if version > 2:
            shutil.rmtree(base_path / str(version - 2))
    return took_s


def measure(base_path: Path, swaps: int, clients: int, parameters: int) -> dict[str, object]:
    write_version(base_path, 1, parameters)
    server = Server(base_path)
    load = Load(server, clients)
    load.start()
    # Memory at the start is that of a server that has worked, with all its threads begun and both versions seen once.
    time.sleep(LOAD_BEFORE_S)
    before_kib = server.memory_kib()
    took_s = swap(load, base_path, swaps, parameters)
    time.sleep(LOAD_BEFORE_S)
    after_kib = server.memory_kib()
    load.stop()
    code = server.stop()
    latencies_ms = sorted(1e3 * latency_s for latency_s in load.latencies_s)
    return {
        "swaps": sum(one < 30 for one in took_s),
        "requests": len(latencies_ms),
        "failed": len(load.failures),
        "mixed": load.mixed,
        "first_failures": load.failures[:3],
        "swap_s_median": round(statistics.median(took_s), 4),
        "latency_ms_p50": round(latencies_ms[len(latencies_ms) // 2], 3),
        "latency_ms_p99": round(latencies_ms[int(len(latencies_ms) * 0.99)], 3),
        "memory_mib_before": round(before_kib / 1024, 1),
        "memory_mib_after": round(after_kib / 1024, 1),
        "memory_growth": round(after_kib / before_kib - 1, 4),
        "exit_code": code,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--parameters", type=int, default=0, help="size of each version, in floats")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(Path(directory), chosen.swaps, chosen.clients, chosen.parameters)
    print(json.dumps(figures, indent=1))
    whole = figures["swaps"] == chosen.swaps and not figures["failed"] and not figures["mixed"]
    return 0 if whole and figures["memory_growth"] <= MEMORY_GROWTH_MAX and figures["exit_code"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
