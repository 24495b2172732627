"""The loads of the benchmarks that run a server on one core: REST and gRPC clients on another core.

Owns how requests are sent and counted, how a server's processor time is read, and the models that several benchmarks
serve. Knows no server: requests are bytes that were made beforehand, and no answer is looked into.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
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


class RestCaller:
    """One connection that sends the same request again as soon as its answer is whole. Of bytes, without a library."""

    def __init__(self, request: bytes) -> None:
        self.request = self.first = request
        self._received, self._answer_bytes = b"", 0

    def take(self, data: bytes) -> tuple[int, bytes]:
        """How many answers these bytes end, and what to send now."""
        self._received += data
        if not self._answer_bytes:
            head, found, _ = self._received.partition(b"\r\n\r\n")
            if not found:
                return 0, b""
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            self._answer_bytes = len(head) + 4 + length
        if len(self._received) < self._answer_bytes:
            return 0, b""
        self._received = self._received[self._answer_bytes :]
        return 1, self.request


class GrpcCaller:
    """One HTTP/2 connection that makes the same call again as soon as it is answered, with frames made beforehand.

    A client library takes several times what a quick server does for a call, and would be most of what is measured
    where load and server share their cores.
    """

    _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW, _ACK, _END_STREAM, _END_HEADERS = 1, 4, 6, 7, 8, 1, 1, 4

    def __init__(self, method: str, payload: bytes) -> None:
        # HPACK: POST and http from the static table, the others as literals that enter no table.
        fields = {b":path": method.encode(), b":authority": HOST.encode(), b"te": b"trailers",
                  b"content-type": b"application/grpc"}  # fmt: skip
        literals = (b"\x00%c%b%c%b" % (len(name), name, len(value), value) for name, value in fields.items())
        self._head = b"\x83\x86" + b"".join(literals)
        self._message = b"\x00" + len(payload).to_bytes(4) + payload
        self._stream = -1
        self._received = b""
        window = self._frame(self._WINDOW, 0, 0, (2**31 - 65536).to_bytes(4))  # so that none of them is ever due again
        self.first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._frame(self._SETTINGS, 0, 0) + window + self._call()

    @staticmethod
    def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
        return len(content).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + content

    def _call(self) -> bytes:
        self._stream += 2
        head = self._frame(self._HEADERS, self._END_HEADERS, self._stream, self._head)
        return head + self._frame(0, self._END_STREAM, self._stream, self._message)

    def take(self, data: bytes) -> tuple[int, bytes]:
        """As RestCaller's."""
        received, at, answers, out = self._received + data, 0, 0, b""
        while len(received) >= at + 9:
            end = at + 9 + int.from_bytes(received[at : at + 3])
            if len(received) < end:
                break
            kind, flags = received[at + 3], received[at + 4]
            if kind == self._HEADERS and flags & self._END_STREAM:
                # Trailers end a call. A refused one has nothing else.
                assert self._is_answered, "a call was refused"
                self._is_answered = False
                answers, out = answers + 1, out + self._call()
            elif kind == 0:
                self._is_answered = True
            elif kind in (self._SETTINGS, self._PING) and not flags & self._ACK:
                out += self._frame(kind, self._ACK, 0, received[at + 9 : end] if kind == self._PING else b"")
            assert kind != self._GOAWAY, received[at:end]
            at = end
        self._received = received[at:]
        return answers, out

    _is_answered = False


def load_callers(port: int, callers: Sequence[RestCaller | GrpcCaller], seconds: float) -> float:
    """Requests a second of callers that have a connection each, on one thread."""
    made, poll = {}, select.epoll()
    for caller in callers:
        connection = socket.create_connection((HOST, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(caller.first)
        made[connection.fileno()] = (connection, caller)
        poll.register(connection, select.EPOLLIN)
    answers, began_s = 0, 0.0
    settled_s = time.perf_counter() + SETTLE_S
    while (now_s := time.perf_counter()) < settled_s + seconds:
        if not began_s and now_s >= settled_s:
            answers, began_s = 0, now_s
        for number, _ in poll.poll(0.1):
            connection, caller = made[number]
            ended, out = caller.take(connection.recv(65536))
            answers += ended
            if out:
                connection.sendall(out)
    rate = answers / (time.perf_counter() - began_s)
    poll.close()
    for connection, _ in made.values():
        connection.close()
    return rate


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
