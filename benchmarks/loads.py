"""The loads of the benchmarks that run a server on one core: REST and gRPC clients on another core.

Owns how requests are sent and counted, how a server's processor time is read, and the models that several benchmarks
serve. Knows no server: requests are bytes that were made beforehand, and no answer is looked into.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

HOST = "127.0.0.1"
# How long a load runs before it is counted.
SETTLE_S = 0.5
# In ONNX's text form, behind HEAD: a model that adds 1, and one that counts down from x, as slow as a request wants it.
HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
ADD = "g (float[N] x) => (float[N] y) <float[1] v = {1}> { y = Add(x, v) }"
SLOW = """g (float[N] x) => (float[N] y) <bool go = {1}, int64[1] zero = {0}, int64[1] one = {1}> {
    first = Slice(x, zero, one)  single = Squeeze(first)  steps = Cast<to = 7>(single)
    y = Loop (steps, go, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] w)
        { d = Identity(c)  w = Neg(v) }> }"""
# A row of 13 floats times a matrix, and such a row.
MATRIX = """g (float[N,13] x) => (float[N,1] y) <float[13,1] w = {1,2,3,4,5,6,7,8,9,10,11,12,13}, float[1] b = {0.5}>
{ z = MatMul(x, w)  y = Add(z, b) }"""
ROW = [round(0.1 * i + 0.05, 2) for i in range(13)]


def write_model(directory: Path, text: str) -> None:
    """Version 1 of a model in ONNX's text form, without its head."""
    import onnx.parser

    (directory / "1").mkdir(parents=True)
    (directory / "1" / "model.onnx").write_bytes(onnx.parser.parse_model(HEAD + text).SerializeToString())


def post(path: str, body: bytes, headers: str = "Content-Type: application/json\r\n") -> bytes:
    """A whole HTTP request."""
    return f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as its answer is whole; every answer has the first one's length."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answers = 0
        self.buffer = b""
        self.answer_bytes = 0

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.answer_bytes:
            head, found, _ = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 200"), self.buffer
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            self.answer_bytes = len(head) + 4 + length
        if len(self.buffer) >= self.answer_bytes:
            self.buffer = self.buffer[self.answer_bytes :]
            self.answers += 1
            self.transport.write(self.request)


async def load_rest(pid: int, port: int, request: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and requests a second of the server's CPU time."""
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(request), HOST, port) for _ in range(connections)]
    await asyncio.sleep(SETTLE_S)
    before, started_s, used_s = sum(one.answers for _, one in made), time.perf_counter(), cpu_s(pid)
    await asyncio.sleep(seconds)
    answered = sum(one.answers for _, one in made) - before
    rates = answered / (time.perf_counter() - started_s), answered / max(cpu_s(pid) - used_s, 0.01)
    for transport, _ in made:
        transport.abort()
    return rates


def load_grpc(pid: int, port: int, method: str, payload: bytes, callers: int, seconds: float) -> tuple[float, float]:
    """Calls a second, and calls a second of the server's CPU time, of callers that share a connection."""
    import grpc

    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        return load_calls(pid, [partial(channel.unary_unary(method), payload, timeout=30)] * callers, seconds)


def load_calls(pid: int, calls: Sequence[Callable[[], object]], seconds: float) -> tuple[float, float]:
    """As load_grpc, of callers that each make one of these calls again and again."""
    counts, stop = [0] * len(calls), threading.Event()

    def run(index: int) -> None:
        while not stop.is_set():
            calls[index]()
            counts[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    time.sleep(SETTLE_S)
    before, started_s, used_s = sum(counts), time.perf_counter(), cpu_s(pid)
    time.sleep(seconds)
    answered = sum(counts) - before
    rates = answered / (time.perf_counter() - started_s), answered / max(cpu_s(pid) - used_s, 0.01)
    stop.set()
    for thread in threads:
        thread.join()
    return rates


def steps_of(ask: Callable[[float], object], clock_s: Callable[[], float], seconds: float, runs: int = 10) -> float:
    """How many rounds of SLOW take so long by a clock. ask: runs the model for so many rounds."""
    steps = 1000.0
    while True:
        began_s = clock_s()
        for _ in range(runs):
            ask(steps)
        taken_s = (clock_s() - began_s) / runs
        if taken_s > seconds / 2:
            return steps * seconds / taken_s
        steps *= 2


def cpu_s(pid: int) -> float:
    """CPU time a process has used: unlike a rate, it does not change with what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
