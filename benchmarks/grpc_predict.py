"""gRPC Predict with raw tensors (one row of 13 floats) against an empty echo on the same kind of grpc server.

Between them a floor: the shortest handler that still runs the model, written by hand.

    python benchmarks/grpc_predict.py [--seconds 4] [--rounds 3] [--callers 8]

Each server runs on one core, the load on another, in turns. The load is one process with a few threads that call in a
loop; it sends bytes made beforehand and does not look into the answers. Prints calls/s and the ratio. Needs `onnx`.
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

from loads import HOST, MATRIX, ROW, load_grpc, write_model

SERVER_CORE, LOAD_CORE = 0, 1
METHOD = "/tensorflow.serving.PredictionService/Predict"


def serve_ours(directory: Path, threads: int) -> None:
    from estimator_serving.serving import server
    from estimator_serving.serving.config import Config

    given = {"grpc_max_threads": threads} if threads else {}
    config = Config(
        port=-1, rest_api_port=0, bind_address=HOST, model_name="m", model_base_path=str(directory), **given
    )
    running = server.Server(config)
    running.start()
    print(running.grpc_port, flush=True)
    time.sleep(3600)


def serve_echo(_directory: Path, threads: int) -> None:
    serve_bare(lambda payload, _context: payload, threads)


def serve_floor(directory: Path, threads: int) -> None:
    """The least a handler can do: read the message, run, write the message; no checks, models, versions or metrics."""
    import numpy as np
    import onnxruntime

    from estimator_serving.wire.pb import serving_pb

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(directory / "1" / "model.onnx", options)

    def predict(payload, _context):
        tensor = serving_pb.PredictRequest.FromString(payload).inputs["x"]
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        (y,) = session.run(["y"], {"x": np.frombuffer(tensor.tensor_content, np.float32).reshape(shape)})
        response = serving_pb.PredictResponse()
        answer = response.outputs["y"]
        answer.dtype = 1
        for length in y.shape:
            answer.tensor_shape.dim.add(size=length)
        answer.float_val.extend(y.ravel().tolist())
        return response.SerializeToString()

    serve_bare(predict, threads)


def serve_bare(behavior, threads: int, full_name: str = METHOD) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    service, method = full_name[1:].split("/")
    handler = grpc.unary_unary_rpc_method_handler(behavior)
    handlers = [grpc.method_handlers_generic_handler(service, {method: handler})]
    server = grpc.server(ThreadPoolExecutor(threads or 8), handlers=handlers)
    print(server.add_insecure_port(f"{HOST}:0"), flush=True)
    server.start()
    server.wait_for_termination()


SERVERS = {"ours": serve_ours, "floor": serve_floor, "echo": serve_echo}


def make_request(rows: int = 1) -> bytes:
    import numpy as np

    from estimator_serving.wire.pb import serving_pb
    from estimator_serving.wire.tensors import encode_tensor

    request = serving_pb.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(encode_tensor(np.array([ROW] * rows, np.float32), as_content=True))
    return request.SerializeToString()


def start(name: str, directory: Path, threads: int) -> tuple[subprocess.Popen, int]:
    command = [sys.executable, __file__, "--serve", name, "--directory", str(directory), "--threads", str(threads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def compare(directory: Path, callers: int, seconds: float, rounds: int, threads: int) -> None:
    write_model(directory, MATRIX)
    running = {name: start(name, directory, threads) for name in SERVERS}
    os.sched_setaffinity(0, {LOAD_CORE})
    payload = make_request()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVERS}
    try:
        for _ in range(rounds):
            for name, (process, port) in running.items():
                rates[name].append(load_grpc(process.pid, port, METHOD, payload, callers, seconds))
    finally:
        for process, _ in running.values():
            process.kill()
    for index, unit in enumerate(("calls/s", "calls/s of the server's CPU time")):
        medians = {name: statistics.median(pair[index] for pair in pairs) for name, pairs in rates.items()}
        print(unit)
        for name, pairs in rates.items():
            print(f"  {name:5} {medians[name]:8.0f}   rounds: {', '.join(f'{pair[index]:.0f}' for pair in pairs)}")
        print(f"  ours / echo  {medians['ours'] / medians['echo']:.2f}   (budget >= 0.8)")
        print(f"  ours / floor {medians['ours'] / medians['floor']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="server threads; 0 leaves each its default")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        os.sched_setaffinity(0, {SERVER_CORE})
        SERVERS[given.serve](given.directory, given.threads)
        return
    with tempfile.TemporaryDirectory() as directory:
        compare(Path(directory), given.callers, given.seconds, given.rounds, given.threads)


if __name__ == "__main__":
    main()
