"""The Titanic example's servable: how soon a server answers, what it weighs, and what Classify costs beside its run.

    python benchmarks/titanic_server.py [--starts 5] [--seconds 5] [--examples 1000]

Starts: from the command to /readyz, and the memory that is resident then. Classify: processor time of the server over
gRPC, a call of many Examples at a time, outside `session.run` against inside; the load runs on another core. Prints the
figures and their budgets.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
HOST = "127.0.0.1"
START_S_MAX = 60
METHOD = "/tensorflow.serving.PredictionService/Classify"


def export(directory: Path) -> Path:
    from estimator_serving.examples.titanic import train

    classifier = train.make_classifier(directory / "model")
    classifier.train(train.train_input_fn, steps=200)
    train.export(classifier, directory / "servable")
    return directory / "servable"


def make_request(examples: int) -> bytes:
    import numpy as np

    from estimator_serving.examples.titanic import train
    from estimator_serving.wire.examples import encode_example
    from estimator_serving.wire.pb import serving_pb

    request = serving_pb.ClassificationRequest()
    request.model_spec.name = "titanic"
    rows, _ = next(iter(train.read_passengers().repeat().batch(examples)))
    for index in range(examples):
        row = {name: values[index] for name, values in rows.items()}
        # The CSV's whole numbers are floats to the model.
        row = {name: float(value) if isinstance(value, np.number) else value for name, value in row.items()}
        request.input.example_list.examples.append(encode_example(row))
    return request.SerializeToString()


def serve(base_path: Path) -> None:
    """Says what the runs and the whole process took, in seconds of processor time, each time it is asked."""
    from estimator_serving.serving.config import Config
    from estimator_serving.serving.server import Server

    os.sched_setaffinity(0, {SERVER_CORE})
    settings = {"model_name": "titanic", "model_base_path": str(base_path), "bind_address": HOST}
    server = Server(Config(port=-1, rest_api_port=0, tensorflow_intra_op_parallelism=1, **settings))
    server.start()
    servable = server.manager.servables()[0]
    runner = servable.runner.inner  # beneath its turns
    run, run_s = runner.graph, 0.0

    def timed(*arguments):
        nonlocal run_s
        began_s = time.thread_time()
        try:
            return run(*arguments)
        finally:
            run_s += time.thread_time() - began_s

    runner.graph = timed
    print(server.grpc_port, flush=True)
    for _ in sys.stdin:
        print(run_s, time.process_time(), flush=True)


def classify(base_path: Path, given: argparse.Namespace) -> None:
    import grpc

    payload = make_request(given.examples)
    command = [sys.executable, __file__, "--serve", base_path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    os.sched_setaffinity(0, {LOAD_CORE})

    def spent_s() -> tuple[float, float]:
        process.stdin.write("\n")
        inside_s, all_s = map(float, process.stdout.readline().split())
        return inside_s, all_s - inside_s

    with grpc.insecure_channel(f"{HOST}:{int(process.stdout.readline())}") as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(20):
            call(payload, timeout=60)
        inside_s, outside_s = spent_s()
        calls, ends_s = 0, time.perf_counter() + given.seconds
        while time.perf_counter() < ends_s:
            call(payload, timeout=60)
            calls += 1
        inside_s, outside_s = (now - before for now, before in zip(spent_s(), (inside_s, outside_s), strict=True))
    process.kill()
    print(f"Classify of {given.examples} Examples: {inside_s / calls * 1e3:.2f} ms in session.run, ", end="")
    print(f"{outside_s / calls * 1e3:.2f} outside: {outside_s / inside_s:.2f}   (budget <= 0.4)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def time_start(base_path: Path) -> tuple[float, float]:
    """Seconds until it is ready, and MB resident then."""
    port = free_port()
    command = [Path(sys.executable).with_name("estimator-serving"), "serve", "--model_name=titanic"]
    command += [f"--model_base_path={base_path}", f"--rest_api_port={port}", "--port=-1", f"--bind_address={HOST}"]
    began_s = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not is_ready(port):
            if time.perf_counter() - began_s > START_S_MAX or process.poll() is not None:
                raise SystemExit("The server did not become ready; start it by hand to see why.")
            time.sleep(0.01)
        took_s = time.perf_counter() - began_s
        status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.kill()
        process.wait()
    return took_s, int(status.partition("VmRSS:")[2].split()[0]) / 1024


def start(base_path: Path, given: argparse.Namespace) -> None:
    took_s, weight_mb = zip(*(time_start(base_path) for _ in range(given.starts)), strict=True)
    print(f"server start {statistics.median(took_s):.2f} s   (budget <= 1)")
    print(f"memory then  {statistics.median(weight_mb):.0f} MB   (budget <= 100)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    with tempfile.TemporaryDirectory() as directory:
        base_path = export(Path(directory))
        start(base_path, given)
        classify(base_path, given)


if __name__ == "__main__":
    main()
