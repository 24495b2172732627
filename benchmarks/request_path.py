"""What a request costs beside the model: this server against floors of the same run, in one table.

    python benchmarks/request_path.py [--seconds 3] [--rounds 3] [--only REST]

The model of the floors is one row of 13 floats times a matrix; Examples go to the Titanic example's classifier. The
floors are a bare ASGI stub with orjson and an inline session.run, and an empty echo on grpc's Python server. Each
server runs on one core, the load on another, in turns. Each ratio is of the best of the rounds, once by the wall clock
and once by the processor time of the servers, which neighbours on a shared machine disturb less. "Outside" is the
processor time of the server beside session.run, "inside" that of session.run. Needs the training extra.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc_predict
import open_inference
import titanic_server
from loads import HOST, MATRIX, ROW, load_grpc, load_rest, post, write_model

SERVER_CORE, LOAD_CORE = 0, 1
HERE = Path(__file__).parent
EXAMPLES, MANY_ROWS = 1000, 1024
# The same row as plain numbers and as the features of an Example.
SEVEN = [22.5, 1.25, 0.5, 7.25, 3.5, 0.75, 71.28]
SEVEN_FEATURES = {f"feature_{index}": value for index, value in enumerate(SEVEN)}
SEVEN_MATRIX = MATRIX.replace("13", "7").replace("{1,2,3,4,5,6,7,8,9,10,11,12,7}", "{1,2,3,4,5,6,7}")


class Rate(NamedTuple):
    """Requests a second: by the clock, and of the server's processor time."""

    wall: float
    processor: float


# --- servers ---


def serve(directory: Path, *, timed: bool) -> None:
    """All models. Timed, it says what the runs and the whole process took, in seconds of processor time, when asked."""
    from estimator_serving.serving.config import Config
    from estimator_serving.serving.server import Server

    server = Server(Config(port=-1, rest_api_port=-1, bind_address=HOST, model_config_file=str(directory / "models")))
    server.start()
    inside_s = 0.0

    def wrapped(run: Callable[..., Any]) -> Callable[..., Any]:
        def run_timed(*arguments: Any) -> Any:
            nonlocal inside_s
            began_s = time.thread_time()
            try:
                return run(*arguments)
            finally:
                inside_s += time.thread_time() - began_s

        return run_timed

    for servable in server.manager.servables() if timed else ():
        runner = servable.runner.inner
        runner.graph = wrapped(runner.graph)
    print(server.rest_port, server.grpc_port, flush=True)
    for _ in sys.stdin:
        print(inside_s, time.process_time(), flush=True)


class Process:
    """A server in a process of its own."""

    def __init__(self, script: str, name: str, directory: Path) -> None:
        command = [sys.executable, HERE / script, "--serve", name, "--directory", str(directory)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )  # fmt: skip
        self.ports = [int(port) for port in self.process.stdout.readline().split()]

    def rest(self, request: bytes, connections: int, seconds: float) -> Rate:
        import uvloop

        return Rate(*uvloop.run(load_rest(self.process.pid, self.ports[0], request, connections, seconds)))

    def grpc(self, method: str, payload: bytes, seconds: float, callers: int = 8) -> Rate:
        return Rate(*load_grpc(self.process.pid, self.ports[-1], method, payload, callers, seconds))

    def spent_s(self) -> tuple[float, float]:
        """Processor time inside and outside of session.run so far, of a timed server."""
        self.process.stdin.write("\n")
        inside_s, all_s = map(float, self.process.stdout.readline().split())
        return inside_s, all_s - inside_s


# --- requests ---


def rest_request(path: str, body: Any) -> bytes:
    return post(path, json.dumps(body).encode())


def rows_request(rows: int) -> bytes:
    return rest_request("/v1/models/m:predict", {"instances": [ROW] * rows})


def classify_request(examples: int) -> bytes:
    return titanic_server.make_request(examples)


def export_features(directory: Path) -> Path:
    """A linear model of seven features, which come in tf.Examples."""
    import numpy as np

    from estimator_serving.training import LinearRegressor, feature_column
    from estimator_serving.training.export import build_parsing_serving_input_receiver_fn

    columns = [feature_column.numeric_column(name) for name in SEVEN_FEATURES]
    regressor = LinearRegressor(columns, model_dir=str(directory / "features_model"))
    rows = {name: np.full((8, 1), value, np.float32) for name, value in SEVEN_FEATURES.items()}
    regressor.train(lambda: (rows, np.ones((8, 1), np.float32)), steps=1)
    receiver = build_parsing_serving_input_receiver_fn(feature_column.make_parse_example_spec(columns))
    regressor.export_saved_model(str(directory / "features"), receiver)
    return directory / "features"


# --- the table ---


class Ratio(NamedTuple):
    """A line of the table: a measurement, what it is divided by, and the least that it shall come to."""

    name: str
    ours: Callable[[float], Rate]
    floor: Callable[[float], Rate]
    least: float


def compare(directory: Path, given: argparse.Namespace) -> None:
    ours, timed = (Process("request_path.py", name, directory) for name in ("ours", "timed"))
    stub = Process("rest_predict.py", "stub", directory / "m")
    predict_echo = Process("grpc_predict.py", "echo", directory / "m")
    infer_echo = Process("open_inference.py", "echo", directory / "m")
    os.sched_setaffinity(0, {LOAD_CORE})
    one, many = rows_request(1), rows_request(64)
    predict = grpc_predict.make_request()
    binary, infer = open_inference.binary_request(), open_inference.message()
    tensor = {"name": "x", "shape": [1, len(ROW)], "datatype": "FP32", "data": [ROW]}
    inference = rest_request("/v2/models/m/infer", {"inputs": [tensor]})
    features = rest_request("/v1/models/features:predict", {"instances": [SEVEN_FEATURES]})
    seven = rest_request("/v1/models/seven:predict", {"instances": [SEVEN]})
    ratios = [
        Ratio("REST JSON, 1 row, 32 connections / stub", lambda s: ours.rest(one, 32, s),
              lambda s: stub.rest(one, 32, s), 1.3),
        Ratio("REST JSON, 64 rows, 8 connections / stub", lambda s: ours.rest(many, 8, s),
              lambda s: stub.rest(many, 8, s), 1.5),
        Ratio("REST binary, 64 rows, 8 connections / stub", lambda s: ours.rest(binary, 8, s),
              lambda s: stub.rest(many, 8, s), 2.0),
        Ratio("gRPC Predict, 1 row / echo", lambda s: ours.grpc(grpc_predict.METHOD, predict, s),
              lambda s: predict_echo.grpc(grpc_predict.METHOD, predict, s), 0.85),
        Ratio("gRPC ModelInfer, 1 row / echo", lambda s: ours.grpc(open_inference.METHOD, infer, s),
              lambda s: infer_echo.grpc(open_inference.METHOD, infer, s), 0.85),
        Ratio("Open Inference JSON, 1 row / TF Serving's", lambda s: ours.rest(inference, 32, s),
              lambda s: ours.rest(one, 32, s), 0.77),
        Ratio("REST JSON, 7 features / the same numbers", lambda s: ours.rest(features, 32, s),
              lambda s: ours.rest(seven, 32, s), 0.8),
    ]  # fmt: skip
    costs = [
        ("REST JSON, 1024 rows", lambda s: timed.rest(rows_request(MANY_ROWS), 8, s), 1.0),
        ("gRPC Classify, 1000 Examples", lambda s: timed.grpc(
            titanic_server.METHOD, classify_request(EXAMPLES), s, callers=1), 0.4),
    ]  # fmt: skip
    servers = (ours, timed, stub, predict_echo, infer_echo)
    try:
        print(f"{'':44} {'wall':>6} {'processor':>10}   must")
        for ratio in ratios:
            if given.only in ratio.name:
                mine, floor = zip(
                    *((ratio.ours(given.seconds), ratio.floor(given.seconds)) for _ in range(given.rounds)), strict=True
                )
                best = [max(rates, key=lambda rate: rate[i])[i] / max(floor, key=lambda rate: rate[i])[i]
                        for rates in (mine,) for i in (0, 1)]  # fmt: skip
                print(f"{ratio.name:44} {best[0]:6.2f} {best[1]:10.2f}   >= {ratio.least}", flush=True)
        for name, load, most in costs:
            if given.only in name:
                shares = []
                for _ in range(given.rounds):
                    load(0.1)  # warm
                    before = timed.spent_s()
                    load(given.seconds)
                    inside_s, outside_s = (now - then for now, then in zip(timed.spent_s(), before, strict=True))
                    shares.append(outside_s / inside_s)
                print(f"{name + ', outside / inside':44} {'':6} {min(shares):10.2f}   <= {most}", flush=True)
    finally:
        for server in servers:
            server.process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only the lines with this text in their names")
    parser.add_argument("--serve", choices=("ours", "timed"), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        os.sched_setaffinity(0, {SERVER_CORE})
        serve(given.directory, timed=given.serve == "timed")
        return
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        for name, text in (("m", MATRIX), ("seven", SEVEN_MATRIX)):
            write_model(directory / name, text)
        bases = {"m": directory / "m", "seven": directory / "seven", "features": export_features(directory),
                 "titanic": titanic_server.export(directory)}  # fmt: skip
        entries = [f'config {{ name: "{name}" base_path: "{path}" }}' for name, path in bases.items()]
        (directory / "models").write_text(f"model_config_list {{ {' '.join(entries)} }}")
        compare(directory, given)


if __name__ == "__main__":
    main()
