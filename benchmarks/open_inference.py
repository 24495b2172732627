"""Open Inference requests against their floors: REST with 64 rows of 13 floats in binary, gRPC with one row.

    python benchmarks/open_inference.py [--seconds 3] [--rounds 3] [--connections 32] [--callers 8]

REST is compared with a bare ASGI stub that answers the same rows as JSON (and with what a socket alone allows: a server
that looks at nothing and answers every request with the same bytes), gRPC with an empty echo on the same kind of
grpc server. Each server runs on one core, the load on another, in turns, so that what else the machine does falls on
all alike. Prints requests/s (best of the rounds) and the ratios, and the same by the server's CPU time. Needs `onnx`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grpc_predict import serve_bare
from loads import HOST, MATRIX, ROW, load_grpc, load_rest, post, write_model
from rest_predict import serve_stub

ROWS = 64
SERVER_CORE, LOAD_CORE = 0, 1
METHOD = "/inference.GRPCInferenceService/ModelInfer"


# --- the servers; each runs in a process of its own ---


def serve_ours(directory: Path) -> None:
    from estimator_serving.serving.config import Config
    from estimator_serving.serving.server import Server

    server = Server(
        Config(port=-1, rest_api_port=-1, bind_address=HOST, model_name="m", model_base_path=str(directory))
    )
    server.start()
    print(server.rest_port, server.grpc_port, flush=True)
    time.sleep(3600)


def serve_socket(_directory: Path) -> None:
    """The most that this machine's sockets allow: no parsing, no model."""
    import uvloop

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n" + bytes(400)
    length = len(binary_request())

    class Same(asyncio.Protocol):
        def connection_made(self, transport) -> None:
            self.transport, self.received = transport, 0

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            if self.received >= length:
                self.received -= length
                self.transport.write(answer)

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Same, HOST, 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(run())


def serve_echo(_directory: Path) -> None:
    serve_bare(lambda payload, _context: payload, 8, METHOD)


SERVERS = {"ours": serve_ours, "json": serve_stub, "socket": serve_socket, "echo": serve_echo}


# --- the load ---


def binary_request(rows: int = ROWS) -> bytes:
    import numpy as np

    content = np.array([ROW] * rows, np.float32).tobytes()
    tensor = {"name": "x", "shape": [rows, 13], "datatype": "FP32", "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Type: application/octet-stream\r\n"
    return post("/v2/models/m/infer", head + content, headers)


def json_request() -> bytes:
    return post("/", json.dumps({"instances": [ROW] * ROWS}).encode())


def message(rows: int = 1) -> bytes:
    import numpy as np

    from estimator_serving.wire.pb import inference_pb

    request = inference_pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 13])
    request.raw_input_contents.append(np.array([ROW] * rows, np.float32).tobytes())
    return request.SerializeToString()


def compare(directory: Path, given: argparse.Namespace) -> None:
    import uvloop

    write_model(directory, MATRIX)
    running = {}
    for name in SERVERS:
        command = [sys.executable, __file__, "--serve", name, "--directory", str(directory)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running[name] = (process, [int(port) for port in process.stdout.readline().split()])
    os.sched_setaffinity(0, {LOAD_CORE})
    rates: dict[str, list[tuple[float, float]]] = {}
    try:
        for _ in range(given.rounds):
            for name, server, request in (
                ("REST binary", "ours", binary_request()), ("JSON stub", "json", json_request()),
                ("socket", "socket", binary_request()),
            ):  # fmt: skip
                process, ports = running[server]
                rate = uvloop.run(load_rest(process.pid, ports[0], request, given.connections, given.seconds))
                rates.setdefault(name, []).append(rate)
            for name, server in (("gRPC", "ours"), ("echo", "echo")):
                process, ports = running[server]
                rate = load_grpc(process.pid, ports[-1], METHOD, message(), given.callers, given.seconds)
                rates.setdefault(name, []).append(rate)
    finally:
        for process, _ in running.values():
            process.kill()
    for index, unit in enumerate(("requests/s", "requests/s of the server's CPU time")):
        best = {name: max(pair[index] for pair in pairs) for name, pairs in rates.items()}
        print(unit)
        for name, pairs in rates.items():
            print(f"  {name:11} {best[name]:8.0f}   rounds: {', '.join(f'{pair[index]:.0f}' for pair in pairs)}")
        print(f"  REST binary / JSON stub {best['REST binary'] / best['JSON stub']:.2f}   (budget >= 2)")
        print(f"  socket / JSON stub      {best['socket'] / best['JSON stub']:.2f}")
        print(f"  gRPC / echo             {best['gRPC'] / best['echo']:.2f}   (budget >= 0.85)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        os.sched_setaffinity(0, {SERVER_CORE})
        SERVERS[given.serve](given.directory)
        return
    with tempfile.TemporaryDirectory() as directory:
        compare(Path(directory), given)


if __name__ == "__main__":
    main()
