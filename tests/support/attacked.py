"""A server process that is asked badly: raw connections, bytes for rpcs, and what must hold after each of them.

Knows the server only by its ports and by /proc, and imports none of it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import select
import signal
import socket
import time
from pathlib import Path
from typing import NamedTuple

import grpc
from served import Served

HOST = "127.0.0.1"
WAIT_S = 30
PREDICT = "/tensorflow.serving.PredictionService/Predict"
# What no text for clients may hold: places in the server's files and code.
INTERNAL = re.compile(r"Traceback|site-packages|\.py\b|0x[0-9a-f]{8,}|/(tmp|home|root|usr|work)/")


def until(condition, timeout_s=WAIT_S):
    """Wait for something to be true; returns it."""
    end_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)
    return found


def talk(port, *parts, timeout_s=WAIT_S):
    """Send parts over a connection of their own, and read to its end."""
    with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionError, BrokenPipeError):
            pass  # a server that has answered may close before it has read everything
        return received


class Answer(NamedTuple):
    """Of the REST port."""

    status_code: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self):
        return json.loads(self.content)


class Attacked:
    """A `Served` and its clients. healthy: a payload of Predict, and a REST path and body, that are always answered."""

    def __init__(self, served: Served, healthy: tuple[bytes, str, str], root: Path) -> None:
        self.served, self.root = served, root
        self.port = int(served.rest.rpartition(":")[2])
        self.grpc_port = int(served.grpc.rpartition(":")[2])
        # The message size is the server's to bound.
        self.channel = grpc.insecure_channel(served.grpc, options=[("grpc.max_send_message_length", -1)])
        self._payload, self._path, self._body = healthy
        # Connections that no thread uses now. Not httpx's, because that takes several times what the server does.
        self._free: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        for connection in self._free:
            connection.close()
        self.channel.close()

    def learn(self) -> None:
        """Note what a healthy request is answered, byte for byte."""
        self.expected = {front: self._ask(front) for front in ("REST", "gRPC")}

    def _ask(self, front: str) -> bytes:
        if front == "gRPC":
            return self.channel.unary_unary(PREDICT)(self._payload, timeout=WAIT_S)
        answer = self.post(self._path, self._body)
        assert answer.status_code == 200, answer.content
        return answer.content

    def assert_healthy(self, *fronts: str) -> None:
        """The process lives and answers as ever over these fronts, or over both."""
        assert self.served.process.poll() is None
        for front in fronts or ("REST", "gRPC"):
            assert self._ask(front) == self.expected[front]

    def assert_says_nothing_internal(self, text: str) -> None:
        assert not INTERNAL.search(text), text[:500]
        assert str(self.root) not in text

    def call(self, method: str, payload: bytes, timeout_s: float = WAIT_S, **more):
        """(code, details, answer) of bytes sent to an rpc as they are."""
        future = self.channel.unary_unary(method).future(payload, timeout=timeout_s, **more)
        error = future.exception()
        if error is None:
            return grpc.StatusCode.OK, "", future.result()
        return error.code(), error.details(), b""

    def get(self, path: str) -> Answer:
        return self._request("GET", path, None, {})

    def post(self, path: str, body: str | bytes, **headers: str) -> Answer:
        return self._request("POST", path, body.encode() if isinstance(body, str) else body, headers)

    def predict(self, name: str, body: dict) -> Answer:
        return self.post(f"/v1/models/{name}:predict", json.dumps(body))

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        try:
            connection = self._free.pop()
            if select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # the server has closed it; a request opens it again
        except IndexError:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=WAIT_S)
        with contextlib.suppress(BrokenPipeError):  # a server that refuses a request need not read all of it
            connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = Answer(answer.status, answer.headers, answer.read())
        if connection.sock is not None:
            self._free.append(connection)
        return found

    def poll(self) -> None:
        """Let the server look for changes now, and not at its next poll."""
        self.served.process.send_signal(signal.SIGHUP)

    def usage(self) -> dict[str, int]:
        return usage(self.served.process.pid)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.get("/metrics").text.splitlines()
        found = [line for line in lines if re.match(rf"{name}[{{ ]", line) and all(part in line for part in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


def usage(pid: int) -> dict[str, int]:
    """Resident memory in KiB, threads and open files of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "memory_kib": int(re.search(r"VmRSS:\s+(\d+)", status)[1]),
        "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }
