"""Batching at saturation and in overload: 32 rows by gRPC Predict and by REST binary, an MLP of 4 layers of 1024.

    python benchmarks/batching.py [--seconds 1.5] [--rounds 9] [--callers 16] [--overload 30] [--factor 4]

Saturation: the rows that a server on one core answers per second of its processor time, divided by what an empty
handler of the same transport leaves: the reciprocal of a row's time in `session.run` at its best batch size plus a
row's share of an empty call. The empty handlers read a request of the same size and send an answer of the same size:
one on grpc's Python server, one as an ASGI application on uvicorn. All take turns in short slices, since the machine's
speed drifts: each round has one ratio, and the median counts. The load runs on another core.

Overload: `factor` times the peak's rows a second from an open loop with a deadline, then the peak's callers again.
Needs `onnx`. Where other work shares the cores, only the ratios of processor time mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from grpc_predict import METHOD, serve_bare
from loads import HOST, load_grpc, load_rest, post
from rest_predict import run_uvicorn

LAYERS, WIDTH, ROWS = 4, 1024, 32
BATCH_SIZES = (32, 64, 128, 256, 512)
SERVER_CORE, LOAD_CORE = 0, 1
# How long a caller waits in the overload, and how soon the goodput has to be back after it.
DEADLINE_S, RECOVERY_S = 2.0, 2.0
PARAMETERS = """max_batch_size { value: %d } max_enqueued_batches { value: %d } num_batch_threads { value: %d }"""


def write_model(directory: Path, outputs: int) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    widths = [WIDTH] * LAYERS + [outputs]
    nodes, weights = [], []
    for layer in range(LAYERS):
        weight = random.standard_normal((widths[layer], widths[layer + 1]), np.float32) / 32
        weights += [numpy_helper.from_array(weight, f"w{layer}")]
        nodes += [helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"z{layer}"])]
        nodes += [helper.make_node("Relu", [f"z{layer}"], [f"h{layer + 1}"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
        for name, width in (("h0", WIDTH), (f"h{LAYERS}", outputs))
    ]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (directory / "1").mkdir()
    (directory / "1" / "model.onnx").write_bytes(model.SerializeToString())


def serve(directory: Path, given: argparse.Namespace) -> None:
    from estimator_serving.serving import server
    from estimator_serving.serving.config import Config

    parameters = directory / "batching.pbtxt"
    parameters.write_text(PARAMETERS % (given.batch, given.queue, given.places))
    config = Config(
        port=-1, rest_api_port=-1, bind_address=HOST, model_name="m", model_base_path=str(directory),
        enable_batching=True, batching_parameters_file=str(parameters), tensorflow_intra_op_parallelism=1,
    )  # fmt: skip
    running = server.Server(config)
    running.start()
    print(running.grpc_port, running.rest_port, flush=True)
    time.sleep(3600)


def serve_echo() -> None:
    """What gRPC alone costs: the request's bytes back, which are as many as a real answer's."""
    serve_bare(lambda payload, _context: payload, 16)


def serve_asgi_echo() -> None:
    """What HTTP alone costs: a body is read, and as many bytes as a real answer has are sent."""

    async def app(_scope, receive, send):
        parts = []
        message = {"more_body": True}
        while message["more_body"]:
            message = await receive()
            parts.append(message["body"])
        answer = b"".join(parts)
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    run_uvicorn(app)


def serve_session(directory: Path) -> None:
    """Says the best of the batch sizes; then, for each line with a number of seconds, the rows a second of session.run
    at that size for so long, by the clock and of processor time."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(directory / "1" / "model.onnx", options)

    def measure(size: int, seconds: float) -> tuple[float, float]:
        feeds = {"h0": np.ones((size, WIDTH), np.float32)}
        session.run(None, feeds)
        runs, started_s, used_s = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started_s < seconds:
            session.run(None, feeds)
            runs += 1
        rows = runs * size
        return rows / (time.perf_counter() - started_s), rows / (time.process_time() - used_s)

    rates: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    for _ in range(5):
        for size, found in rates.items():
            found.append(measure(size, 0.2)[1])
    best = max(rates, key=lambda size: statistics.median(rates[size]))
    print(best, flush=True)
    for line in sys.stdin:
        print(*measure(best, float(line)), flush=True)


def make_request() -> bytes:
    import numpy as np

    from estimator_serving.wire.pb import serving_pb
    from estimator_serving.wire.tensors import encode_tensor

    request = serving_pb.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["h0"].CopyFrom(encode_tensor(np.ones((ROWS, WIDTH), np.float32), as_content=True))
    return request.SerializeToString()


def make_post(path: str) -> bytes:
    import numpy as np

    content = np.ones((ROWS, WIDTH), np.float32).tobytes()
    tensor = {
        "name": "h0",
        "shape": [ROWS, WIDTH],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Type: application/octet-stream\r\n"
    return post(path, head + content, headers)


class Load:
    """Asks a server, and notes when it was answered."""

    def __init__(self, port: int) -> None:
        import grpc

        self._channel = grpc.insecure_channel(f"{HOST}:{port}")
        self._call = self._channel.unary_unary(METHOD)
        self._payload = make_request()
        self._lock = threading.Lock()
        self.answered_s: list[float] = []
        self.refused: dict[str, int] = {}

    def closed(self, callers: int, seconds: float) -> float:
        """Rows a second that `callers` get answered who each send the next request when they have the last answer."""
        self.answered_s.clear()
        ends_s = time.perf_counter() + seconds

        def run() -> None:
            while time.perf_counter() < ends_s:
                self._call(self._payload, timeout=60)
                self._note_answer()

        threads = [threading.Thread(target=run) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._goodput(ends_s - 0.8 * seconds, ends_s)

    def open(self, rows_per_s: float, seconds: float) -> float:
        """Rows a second answered in time of `rows_per_s` that are sent whatever comes back."""
        self.answered_s.clear()
        self.refused.clear()
        started_s = time.perf_counter()
        futures = []
        for index in range(round(rows_per_s * seconds / ROWS)):
            due_s = started_s + index * ROWS / rows_per_s
            if (left_s := due_s - time.perf_counter()) > 0:
                time.sleep(left_s)
            future = self._call.future(self._payload, timeout=DEADLINE_S)
            future.add_done_callback(self._note_outcome)
            futures.append(future)
        ends_s = time.perf_counter()
        print(f"  sent {len(futures) * ROWS / (ends_s - started_s):8.0f} rows/s")
        for future in futures:
            future.exception()
        return self._goodput(started_s + 0.1 * seconds, ends_s)

    def close(self) -> None:
        self._channel.close()

    def _note_outcome(self, future) -> None:
        code = future.code()
        if code.value[0] == 0:
            self._note_answer()
        else:
            with self._lock:
                self.refused[code.name] = self.refused.get(code.name, 0) + 1

    def _note_answer(self) -> None:
        self.answered_s.append(time.perf_counter())

    def _goodput(self, from_s: float, to_s: float) -> float:
        return ROWS * sum(from_s <= at_s < to_s for at_s in self.answered_s) / (to_s - from_s)


def start(*words: object) -> subprocess.Popen:
    command = [sys.executable, __file__, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def started(*words: object) -> tuple[subprocess.Popen, list[int]]:
    """A process, and the numbers that it says first."""
    process = start(*words)
    return process, [int(word) for word in process.stdout.readline().split()]


def run_grpc(pid: int, port: int, given: argparse.Namespace) -> tuple[float, float]:
    return load_grpc(pid, port, METHOD, make_request(), given.callers, given.seconds)


def run_rest(path: str, pid: int, port: int, given: argparse.Namespace) -> tuple[float, float]:
    import uvloop

    return uvloop.run(load_rest(pid, port, make_post(path), given.callers, given.seconds))


# By transport: what an empty handler is started with, which of the server's ports it is, and the loads of both.
Ask = Callable[[int, int, argparse.Namespace], tuple[float, float]]
TRANSPORTS: dict[str, tuple[str, int, Ask, Ask]] = {
    "gRPC": ("--echo", 0, run_grpc, run_grpc),
    "REST binary": ("--asgi-echo", 1, partial(run_rest, "/v2/models/m/infer"), partial(run_rest, "/")),
}


def saturate(directory: Path, server: subprocess.Popen, ports: list[int], given: argparse.Namespace) -> float:
    """Prints the goodput beside its bound; returns the rows a second by gRPC, by the clock."""
    session, (best,) = started("--session", "--directory", directory)
    print(f"best batch of session.run: {best}")
    empty = {name: started(flag) for name, (flag, *_) in TRANSPORTS.items()}
    ratios: dict[str, list[float]] = {name: [] for name in TRANSPORTS}
    plain: dict[str, list[float]] = {name: [] for name in TRANSPORTS}
    peaks = []
    try:
        for _ in range(given.rounds):
            session.stdin.write(f"{given.seconds}\n")
            session.stdin.flush()
            _, run_rate = map(float, session.stdout.readline().split())
            line = f"  session.run {run_rate:6.0f} rows/s"
            for name, (_, port, ask, ask_empty) in TRANSPORTS.items():
                process, (empty_port,) = empty[name]
                _, empty_rate = ask_empty(process.pid, empty_port, given)
                clock_rate, rate = ask(server.pid, ports[port], given)
                left = 1 / (1 / run_rate + 1 / empty_rate / ROWS)
                ratios[name].append(rate * ROWS / left)
                plain[name].append(rate * ROWS / run_rate)
                line += f"   {name} {rate * ROWS:6.0f} of {left:6.0f} (empty call {1e6 / empty_rate:4.0f} us)"
                if name == "gRPC":
                    peaks.append(clock_rate * ROWS)
            print(line, flush=True)
    finally:
        for process in (session, *(process for process, _ in empty.values())):
            process.kill()
    for name in TRANSPORTS:
        share, of_all = statistics.median(ratios[name]), statistics.median(plain[name])
        print(f"{name:11} goodput / what an empty handler leaves of session.run {share:.3f}   (budget >= 0.9)")
        print(f"{name:11} goodput / session.run {of_all:.3f}")
    return statistics.median(peaks)


def overload(load: Load, peak: float, given: argparse.Namespace) -> None:
    goodput = load.open(given.factor * peak, given.overload)
    print(f"  answered {goodput:4.0f} rows/s, refused {load.refused}")
    print(f"goodput in overload / peak    {goodput / peak:.2f}   (budget >= 0.8)")
    time.sleep(RECOVERY_S)
    after = load.closed(given.callers, given.seconds)
    print(f"goodput {RECOVERY_S:.0f} s after it / peak   {after / peak:.2f}   (budget: back)")


def lone(load: Load) -> None:
    load.closed(1, 2)
    gaps_s = [after - before for before, after in zip(load.answered_s, load.answered_s[1:], strict=False)]
    print(f"a lone caller's request takes {statistics.median(gaps_s) * 1e3:.1f} ms")


def compare(directory: Path, given: argparse.Namespace) -> None:
    write_model(directory, given.outputs)
    words = ("--batch", given.batch, "--queue", given.queue, "--places", given.places)
    process, ports = started("--serve", "--directory", directory, *words)
    os.sched_setaffinity(0, {LOAD_CORE})
    load = Load(ports[0])
    try:
        lone(load)
        peak = saturate(directory, process, ports, given)
        if given.overload:
            overload(load, peak, given)
    finally:
        load.close()
        process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5, help="of one slice")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--overload", type=float, default=30, help="seconds of overload; 0 for none")
    parser.add_argument("--factor", type=float, default=4, help="times the peak that the overload sends")
    parser.add_argument("--outputs", type=int, default=WIDTH, help="width of the last layer")
    parser.add_argument("--batch", type=int, default=256, help="max_batch_size")
    parser.add_argument("--queue", type=int, default=10, help="max_enqueued_batches")
    parser.add_argument("--places", type=int, default=1, help="num_batch_threads; one for each core")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--asgi-echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--session", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve or given.echo or given.asgi_echo or given.session:
        os.sched_setaffinity(0, {SERVER_CORE})
    if given.echo:
        serve_echo()
    elif given.asgi_echo:
        serve_asgi_echo()
    elif given.serve:
        serve(given.directory, given)
    elif given.session:
        serve_session(given.directory)
    else:
        with tempfile.TemporaryDirectory() as directory:
            compare(Path(directory), given)


if __name__ == "__main__":
    main()
