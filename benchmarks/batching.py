"""Batching at saturation and in overload: gRPC Predict, 32 rows in tensor_content, an MLP of 4 layers of 1024.

    python benchmarks/batching.py [--seconds 10] [--rounds 3] [--callers 16] [--overload 30] [--factor 4]

Saturation: goodput in rows of a server on one core, against `session.run` in a loop at the best of several batch sizes
on the same core, in turns; the load runs on another core. Overload: `factor` times the peak's rows a second from an
open loop with a deadline, then the peak's callers again. Prints the ratios and their budgets, and what an empty
gRPC handler leaves of the first. Needs `onnx`. Where other work shares the cores,
only the ratio of CPU time means something.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from grpc_predict import METHOD, serve_bare
from loads import HOST, cpu_s

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
        port=-1, rest_api_port=0, bind_address=HOST, model_name="m", model_base_path=str(directory),
        enable_batching=True, batching_parameters_file=str(parameters), tensorflow_intra_op_parallelism=1,
    )  # fmt: skip
    running = server.Server(config)
    running.start()
    print(running.grpc_port, flush=True)
    time.sleep(3600)


def serve_echo() -> None:
    """What gRPC alone costs: the request's bytes back, which are as many as a real answer's."""
    serve_bare(lambda payload, _context: payload, 16)


def run_session(directory: Path, seconds: float) -> None:
    """Prints the most rows a second that session.run reaches, of the clock and of CPU time, and at which batch size."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(directory / "1" / "model.onnx", options)
    best = (0.0, 0.0, 0)
    for size in BATCH_SIZES:
        feeds = {"h0": np.ones((size, WIDTH), np.float32)}
        session.run(None, feeds)
        runs, started_s, used_s = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started_s < seconds / len(BATCH_SIZES):
            session.run(None, feeds)
            runs += 1
        rows = runs * size
        best = max(best, (rows / (time.perf_counter() - started_s), rows / (time.process_time() - used_s), size))
    print(*best)


def make_request() -> bytes:
    import numpy as np

    from estimator_serving.wire.pb import serving_pb
    from estimator_serving.wire.tensors import encode_tensor

    request = serving_pb.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["h0"].CopyFrom(encode_tensor(np.ones((ROWS, WIDTH), np.float32), as_content=True))
    return request.SerializeToString()


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
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def saturate(directory: Path, load: Load, pid: int, given: argparse.Namespace) -> float:
    rates: dict[str, list[tuple[float, float]]] = {"session.run": [], "server": []}
    for _ in range(given.rounds):
        process = start("--session", given.seconds, "--directory", directory)
        rate, cpu_rate, size = process.communicate()[0].split()
        rates["session.run"].append((float(rate), float(cpu_rate)))
        used_s = cpu_s(pid)
        rate = load.closed(given.callers, given.seconds)
        rates["server"].append((rate, ROWS * len(load.answered_s) / (cpu_s(pid) - used_s)))
        print(f"  best batch {size:4} " + "   ".join(f"{name} {pairs[-1][0]:.0f}" for name, pairs in rates.items()))
    for index, unit in enumerate(("rows/s", "rows/s of CPU time")):
        ours, bare = (statistics.median(pair[index] for pair in rates[name]) for name in ("server", "session.run"))
        print(f"server {ours:.0f} / session.run {bare:.0f} {unit}: {ours / bare:.2f}   (budget >= 0.9)")
    per_row_s = 1 / statistics.median(rate for _, rate in rates["session.run"]) + measure_echo(given) / ROWS
    print(f"with an empty gRPC handler around session.run, in CPU time, at most {bare_share(rates, per_row_s):.2f}")
    return statistics.median(rate for rate, _ in rates["server"])


def bare_share(rates: dict[str, list[tuple[float, float]]], per_row_s: float) -> float:
    return 1 / (per_row_s * statistics.median(rate for _, rate in rates["session.run"]))


def measure_echo(given: argparse.Namespace) -> float:
    """CPU time of a call that does nothing, in seconds."""
    process = start("--echo")
    load = Load(int(process.stdout.readline()))
    try:
        load.closed(given.callers, 1)
        used_s = cpu_s(process.pid)
        load.closed(given.callers, given.seconds)
        return (cpu_s(process.pid) - used_s) / len(load.answered_s)
    finally:
        load.close()
        process.kill()


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
    process = start("--serve", "--directory", directory, *words)
    os.sched_setaffinity(0, {LOAD_CORE})
    load = Load(int(process.stdout.readline()))
    try:
        lone(load)
        peak = saturate(directory, load, process.pid, given)
        if given.overload:
            overload(load, peak, given)
    finally:
        load.close()
        process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--overload", type=float, default=30, help="seconds of overload; 0 for none")
    parser.add_argument("--factor", type=float, default=4, help="times the peak that the overload sends")
    parser.add_argument("--outputs", type=int, default=WIDTH, help="width of the last layer")
    parser.add_argument("--batch", type=int, default=256, help="max_batch_size")
    parser.add_argument("--queue", type=int, default=10, help="max_enqueued_batches")
    parser.add_argument("--places", type=int, default=1, help="num_batch_threads; one for each core")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--session", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve or given.echo or given.session:
        os.sched_setaffinity(0, {SERVER_CORE})
    if given.echo:
        serve_echo()
    elif given.serve:
        serve(given.directory, given)
    elif given.session:
        run_session(given.directory, given.session)
    else:
        with tempfile.TemporaryDirectory() as directory:
            compare(Path(directory), given)


if __name__ == "__main__":
    main()
