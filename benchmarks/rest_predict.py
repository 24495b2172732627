"""REST predict, one row of 13 floats: this server against a bare ASGI stub and a hand-written FastAPI server.

    python benchmarks/rest_predict.py [--seconds 4] [--rounds 3] [--connections 32]

Each server runs on one core, the load on another, in turns, so that what else the machine does falls on all alike.
Prints requests/s (median of the rounds) and the ratios; and the same by the server's CPU time, which neighbours on a
shared machine disturb less. Needs `onnx` (the training extra) to make its model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loads import HOST, MATRIX, ROW, load_rest, post, write_model

SERVER_CORE, LOAD_CORE = 0, 1
START_TIMEOUT_S = 30


# --- the servers; each runs in a process of its own ---


def serve_ours(directory: Path) -> None:
    from estimator_serving.serving import server
    from estimator_serving.serving.config import Config

    config = Config(port=0, rest_api_port=-1, bind_address=HOST, model_name="m", model_base_path=str(directory))
    running = server.Server(config)
    running.start()
    print(running.rest_port, flush=True)
    time.sleep(3600)


def open_session(directory: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(directory / "1" / "model.onnx", options, providers=["CPUExecutionProvider"])


def serve_stub(directory: Path) -> None:
    """The least that an ASGI application can do to answer rows as JSON."""
    import numpy as np
    import orjson

    session = open_session(directory)

    async def app(_scope, receive, send):
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        x = np.asarray(orjson.loads(body)["instances"], np.float32)
        (y,) = session.run(["y"], {"x": x})
        answer = orjson.dumps({"predictions": y.tolist()})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    run_uvicorn(app)


def serve_fastapi(directory: Path) -> None:
    import fastapi
    import numpy as np
    import pydantic

    session = open_session(directory)
    app = fastapi.FastAPI()

    class Instances(pydantic.BaseModel):
        instances: list[list[float]]

    class Predictions(pydantic.BaseModel):
        predictions: list[list[float]]

    async def predict(body: Instances) -> Predictions:
        (y,) = session.run(["y"], {"x": np.array(body.instances, np.float32)})
        return Predictions(predictions=y.tolist())

    predict.__annotations__ = {"body": Instances, "return": Predictions}
    app.post("/v1/models/m:predict")(predict)
    run_uvicorn(app)


def run_uvicorn(app) -> None:
    import socket

    import uvicorn

    bound = socket.create_server((HOST, 0))
    print(bound.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_level="error", proxy_headers=False
    )
    uvicorn.Server(config).run([bound])


SERVERS = {"ours": serve_ours, "stub": serve_stub, "fastapi": serve_fastapi}


# --- the load ---


def start(name: str, directory: Path) -> tuple[subprocess.Popen, int]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", name, "--directory", str(directory)], stdout=subprocess.PIPE, text=True
    )
    return process, int(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        os.sched_setaffinity(0, {SERVER_CORE})
        SERVERS[given.serve](given.directory)
        return
    with tempfile.TemporaryDirectory() as directory:
        compare(Path(directory), given.connections, given.seconds, given.rounds)


def compare(directory: Path, connections: int, seconds: float, rounds: int) -> None:
    import uvloop

    write_model(directory, MATRIX)
    running = {name: start(name, directory) for name in SERVERS}
    os.sched_setaffinity(0, {LOAD_CORE})
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVERS}
    request = post("/v1/models/m:predict", f'{{"instances": [{ROW}]}}'.encode())
    try:
        for _ in range(rounds):
            for name, (process, port) in running.items():
                rates[name].append(uvloop.run(load_rest(process.pid, port, request, connections, seconds)))
    finally:
        for process, _ in running.values():
            process.kill()
    report(rates)


def report(rates: dict[str, list[tuple[float, float]]]) -> None:
    for index, unit in enumerate(("requests/s", "requests/s of the server's CPU time")):
        medians = {name: statistics.median(pair[index] for pair in pairs) for name, pairs in rates.items()}
        print(unit)
        for name, pairs in rates.items():
            print(f"  {name:8} {medians[name]:8.0f}   rounds: {', '.join(f'{pair[index]:.0f}' for pair in pairs)}")
        print(f"  ours / stub    {medians['ours'] / medians['stub']:.2f}   (budget >= 0.8)")
        print(f"  ours / fastapi {medians['ours'] / medians['fastapi']:.2f}   (budget >= 3)")


if __name__ == "__main__":
    main()
