"""Models on a GPU: this server against bare `session.run` there, with and without pinned memory and CUDA graphs.

    python benchmarks/device.py [--device cuda] [--seconds 2] [--rounds 3] [--connections 8]

Without a GPU it says so in one sentence and exits with 2. With `--device cpu` it prints the same table for the CPU,
where pinned memory and graphs are ordinary memory and bring nothing: a test of the script. Ways take turns within a
round; figures are medians of the rounds. In one process, a way calls the version as a request does after it is
decoded. Over REST (the Open Inference Protocol in binary) and gRPC (Predict), the server has a process. Every way's
answers are compared with session.run's. Needs `onnx` (the training extra) to make its models.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from loads import HEAD, HOST, MATRIX, load_grpc, load_rest, post

BUDGET = 0.95
NO_DEVICE = 2
PREDICT = "/tensorflow.serving.PredictionService/Predict"
# ONNX Runtime multiplies with fewer bits on a GPU (TF32).
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-2}


class Case(NamedTuple):
    """A model, in ONNX's text form or as layers of so many units, and the shape of its requests."""

    text: str
    layers: tuple[int, ...]
    shape: tuple[int, int]


CASES = {
    "13 floats, 1 row": Case(MATRIX, (), (1, 13)),
    "4 x 1024, 32 rows": Case("", (1024, 1024, 1024, 1024), (32, 1024)),
    "2 MiB in and out": Case("g (float[N,16384] x) => (float[N,16384] y) { z = Relu(x) y = Neg(z) }", (), (32, 16384)),
}
WAYS = ("plain", "pinned", "graphs")


def write_case(case: Case, directory: Path) -> None:
    import onnx.parser
    from onnx import TensorProto, helper, numpy_helper

    if case.text:
        model = onnx.parser.parse_model(HEAD + case.text)
    else:
        random, nodes, weights = np.random.default_rng(0), [], []
        widths = (case.shape[1], *case.layers)
        for index, (rows, columns) in enumerate(zip(widths, case.layers, strict=False)):
            weight = random.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
            weights.append(numpy_helper.from_array(weight, f"w{index}"))
            nodes.append(helper.make_node("MatMul", [f"r{index}" if index else "x", f"w{index}"], [f"z{index}"]))
            last = index == len(case.layers) - 1
            nodes.append(helper.make_node("Relu", [f"z{index}"], ["y" if last else f"r{index + 1}"]))
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
            for name, width in (("x", widths[0]), ("y", widths[-1]))
        ]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (directory / "1").mkdir(parents=True)
    (directory / "1" / "model.onnx").write_bytes(model.SerializeToString())


def device_of(name: str, way: str):
    """A device as the server uses it, but for what the way leaves out. On the CPU every run counts as a large one."""
    from estimator_serving.serving.running.device import CPU, PINNED_BYTES_MIN, Device

    pinned_bytes_min = 0 if name == CPU.name else PINNED_BYTES_MIN
    return Device(name, pinned_bytes_min=None if way == "plain" else pinned_bytes_min, graphs=way == "graphs")


# --- in one process ---


def runner_of(directory: Path, device, rows: int) -> Callable[[np.ndarray], np.ndarray]:
    """What runs a version, in batches of one size for graphs and below the queue of batches for all."""
    from estimator_serving.serving.models.batch_sizes import with_runner
    from estimator_serving.serving.models.loader import Batching, open_servable
    from estimator_serving.serving.request import Request
    from estimator_serving.serving.running.batch_parameters import BatchParameters

    batching = None
    if device.graphs:
        parameters = BatchParameters(max_batch_size=rows, allowed_batch_sizes=(rows,))
        batching = Batching(parameters, False, lambda *_: None)
    servable = open_servable("m", 1, directory / "1", intra_op_threads=1, device=device, batching=batching)
    if batching:
        servable = with_runner(servable, servable.runner.inner)
    return lambda x: servable.run(Request("serving_default", {"x": x}))["y"]


def floor_of(directory: Path, device) -> Callable[[np.ndarray], np.ndarray]:
    """Bare session.run, on a session with this server's settings."""
    from estimator_serving.serving.running.session import open_session

    path = directory / "1" / "model.onnx"
    session = open_session(path, path, intra_op_threads=1, device=device)
    return lambda x: session.run(["y"], {"x": x})[0]


def bound_of(directory: Path, device, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Values on the device that are bound once and used by one caller: what fixed buffers save at most."""
    from onnxruntime.capi.onnxruntime_pybind11_state import SessionIOBinding

    from estimator_serving.serving.running.device import Memory
    from estimator_serving.serving.running.session import open_session

    path = directory / "1" / "model.onnx"
    session = open_session(path, path, intra_op_threads=1, device=device)
    memory, (y,) = Memory(session, device), session.run(["y"], {"x": x})
    inputs, outputs = (memory.value(array.shape, array.dtype, memory.own) for array in (x, y))
    binding = SessionIOBinding(session._sess)
    binding.bind_ortvalue_input("x", inputs)
    binding.bind_ortvalue_output("y", outputs)

    def run(x: np.ndarray) -> np.ndarray:
        inputs.update_inplace(x)
        session._sess.run_with_iobinding(binding, None)
        found = outputs.numpy()
        return found if found.flags.owndata else found.copy()

    return run


def rate(run: Callable[[np.ndarray], np.ndarray], x: np.ndarray, given: argparse.Namespace) -> float:
    """Runs a second: by the clock for a GPU, by processor time for the CPU, which others may use, too."""
    clock = time.process_time if given.device == "cpu" else time.perf_counter
    count, began_s = 0, clock()
    while (taken_s := clock() - began_s) < given.seconds:
        for _ in range(10):
            run(x)
        count += 10
    return count / taken_s


def in_process(case: Case, directory: Path, given: argparse.Namespace) -> dict[str, float]:
    """Runs a second by way, after each has answered as session.run does."""
    x = np.random.default_rng(1).normal(size=case.shape).astype(np.float32)
    plain = device_of(given.device, "plain")
    ways = {"session.run": floor_of(directory, plain), "bound once": bound_of(directory, plain, x)}
    ways |= {way: runner_of(directory, device_of(given.device, way), case.shape[0]) for way in WAYS}
    expected, tolerance = ways["session.run"](x), TOLERANCE[given.device]
    for way, run in ways.items():
        for _ in range(3):  # the first run of a shape pays for more
            np.testing.assert_allclose(run(x), expected, rtol=tolerance, atol=tolerance, err_msg=way)
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way, run in ways.items():
            rates[way].append(rate(run, x, given))
    return {way: statistics.median(found) for way, found in rates.items()}


# --- with a server ---


def serve(directory: Path, name: str, way: str, rows: int) -> None:
    from estimator_serving.serving import startup
    from estimator_serving.serving.config import Config
    from estimator_serving.serving.server import Server

    # No flag turns pinned memory off.
    startup.device_of = lambda *_, **__: device_of(name, way)
    parameters = directory / "batching.pbtxt"
    parameters.write_text(
        f"max_batch_size {{ value: {rows} }} max_enqueued_batches {{ value: 100 }} allowed_batch_sizes: {rows}"
    )
    batching = {"enable_batching": True, "batching_parameters_file": str(parameters)} if way == "graphs" else {}
    config = Config(
        port=-1, rest_api_port=-1, bind_address=HOST, model_name="m", model_base_path=str(directory), **batching
    )
    server = Server(config)
    server.start()
    print(server.rest_port, server.grpc_port, flush=True)
    time.sleep(3600)


def requests_of(shape: tuple[int, int]) -> tuple[bytes, bytes]:
    """The same rows for REST and for gRPC."""
    from estimator_serving.wire.pb import serving_pb
    from estimator_serving.wire.tensors import encode_tensor

    x = np.ones(shape, np.float32)
    content = x.tobytes()
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Type: application/octet-stream\r\n"
    message = serving_pb.PredictRequest()
    message.model_spec.name = "m"
    message.inputs["x"].CopyFrom(encode_tensor(x, as_content=True))
    return post("/v2/models/m/infer", head + content, headers), message.SerializeToString()


def with_servers(case: Case, directory: Path, given: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Requests a second over REST and gRPC, by way."""
    rest, grpc = requests_of(case.shape)
    running = {}
    try:
        for way in WAYS:
            words = ["--serve", way, "--directory", directory, "--rows", case.shape[0], "--device", given.device]
            command = [sys.executable, __file__, *map(str, words)]
            process = running[way] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ports = {way: [int(port) for port in process.stdout.readline().split()] for way, process in running.items()}
        rates: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way, process in running.items():
                pid, (rest_port, grpc_port) = process.pid, ports[way]
                over_rest = asyncio.run(load_rest(pid, rest_port, rest, given.connections, given.seconds))
                over_grpc = load_grpc(pid, grpc_port, PREDICT, grpc, given.connections, given.seconds)
                rates[way].append((over_rest[0], over_grpc[0]))
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return {way: tuple(map(statistics.median, zip(*found, strict=True))) for way, found in rates.items()}


def compare(given: argparse.Namespace) -> None:
    print(f"{given.device}: runs and requests a second\n")
    columns = ("model", "way", "in process", "of session.run", "REST binary", "gRPC")
    print("".join(f"{column:>16}" if index > 1 else f"{column:20}" for index, column in enumerate(columns)))
    best = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as path:
            write_case(case, Path(path))
            rates, served = in_process(case, Path(path), given), with_servers(case, Path(path), given)
        best[name] = max(rates[way] for way in WAYS) / rates["session.run"]
        for way, found in rates.items():
            share = f"{found / rates['session.run']:.2f}"
            requests = "".join(f"{figure:16.0f}" for figure in served.get(way, ()))
            print(f"{name:20}{way:20}{found:16.0f}{share:>16}{requests}")
    print(f"\nthe best way / session.run in process (budget >= {BUDGET})")
    for name, share in best.items():
        print(f"  {name:20} {share:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=TOLERANCE, default="cuda")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.directory, given.device, given.serve, given.rows)
        return 0
    from estimator_serving.serving.errors import FailedPreconditionError

    with tempfile.TemporaryDirectory() as path:
        write_case(CASES["13 floats, 1 row"], Path(path))
        try:
            floor_of(Path(path), device_of(given.device, "plain"))
        except FailedPreconditionError:
            print(
                "Nothing was measured: ONNX Runtime finds no GPU that it can use here; run this on a machine with one "
                "and estimator-serving[cuda], or test the script with --device cpu.", file=sys.stderr,
            )  # fmt: skip
            return NO_DEVICE
    compare(given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
