"""Clients that put a load on a server: each sends its next request as soon as the last one is answered.

Owns how requests are sent over REST and gRPC, and how long they take. Knows no server: requests are bytes that were
made beforehand, and of an answer only its status counts.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

HOST = "127.0.0.1"
# Before it counts, a load runs for this share of its duration.
SETTLE_SHARE = 0.25
# A load goes on for more than its duration until there are so many answers, but not for more than so many durations.
ANSWERS_MIN = 20
DURATIONS_MAX = 4
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TEXT_MAX = 300


class LoadError(Exception):
    """Requests that are not answered. is_answer: whether the server refuses them, or else does not answer at all."""

    def __init__(self, text: str, *, is_answer: bool) -> None:
        super().__init__(text)
        self.is_answer = is_answer


class Window(NamedTuple):
    """How long clients ask, and the latency that they accept.

    latency_s: an unanswered request counts as answered too late when it is older, and so long does a client that was
        refused wait, as a polite one does.
    """

    duration_s: float
    latency_s: float


@dataclass
class Sample:
    """What clients saw in a window.

    Attributes:
        latencies_s: of the answers; also the age of requests that are unanswered at the end and late already.
        answers: how many of these latencies are answers.
        refused: requests that the server had no room for.
        elapsed_s: how long the window was.
        busy: the share of one core that this process used.
    """

    latencies_s: npt.NDArray[np.float64]
    answers: int
    refused: int
    elapsed_s: float
    busy: float


@dataclass
class _Log:
    """What one client did: when it sent each request and when the answer came. sent_s: of the one that is under way."""

    sent_s: float = 0.0
    answers: list[tuple[float, float]] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)


def load_rest(port: int, requests: Sequence[bytes], clients: int, window: Window) -> Sample:
    """Whole HTTP requests on one connection for each client. Raises LoadError."""
    return asyncio.run(_load_rest(port, requests, clients, window))


def load_grpc(port: int, method: str, requests: Sequence[bytes], clients: int, window: Window) -> Sample:
    """Serialized messages to one method, with a channel and a thread for each client. Raises LoadError."""
    # It takes a while to import, and REST does not need it.
    import grpc

    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channels = [grpc.insecure_channel(f"{HOST}:{port}", options) for _ in range(clients)]
    callers = [
        _Caller(channel.unary_unary(method), requests, first, window.latency_s)
        for first, channel in enumerate(channels)
    ]
    for caller in callers:
        caller.start()
    try:
        watch = _Watch([caller.log for caller in callers], window)
        while not watch.is_over():
            time.sleep(watch.step_s)
            if failed := next((caller.failure for caller in callers if caller.failure), None):
                raise failed
        return watch.sample()
    finally:
        for caller in callers:
            caller.stopped.set()
        for channel in channels:
            channel.close()  # ends the calls that are under way
        for caller in callers:
            caller.join()


class _Caller(threading.Thread):
    """One client over gRPC. failure: what ended it; None as long as it asks."""

    def __init__(self, call: Callable[[bytes], object], requests: Sequence[bytes], first: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.log = _Log()
        self.stopped = threading.Event()
        self.failure: LoadError | None = None
        self._call, self._requests, self._turn, self._pause_s = call, requests, first, pause_s

    def run(self) -> None:
        import grpc

        while not self.stopped.is_set() and not self.failure:
            self.log.sent_s = time.perf_counter()
            try:
                self._call(self._requests[self._turn % len(self._requests)])
                self.log.answers.append((self.log.sent_s, time.perf_counter()))
            except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
                if self.stopped.is_set():
                    return
                self._refused(error.code().name, error.details() or "")  # type: ignore[union-attr]
            self._turn += 1

    def _refused(self, code: str, text: str) -> None:
        # A server that is gone is UNAVAILABLE, too; that sentence is grpc's, which names the address.
        is_answer = f"{HOST}:" not in text and "Socket closed" not in text
        if code not in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") or not is_answer:
            self.failure = LoadError(_cut(f"{code}: {text}"), is_answer=is_answer)
            return
        self.log.refusals.append(time.perf_counter())
        self.log.sent_s = 0.0
        self.stopped.wait(self._pause_s)


class _Watch:
    """Divides the time of a load: first it settles, then it counts, until there are enough answers."""

    def __init__(self, logs: Sequence[_Log], window: Window) -> None:
        self._logs, self._window = logs, window
        self.step_s = window.duration_s * SETTLE_SHARE
        self._settles_until_s = time.perf_counter() + self.step_s
        self._began_s = self._cpu_s = 0.0

    def is_over(self) -> bool:
        """To be called about every `step_s`."""
        now_s = time.perf_counter()
        if not self._began_s:
            if now_s >= self._settles_until_s:
                self._began_s, self._cpu_s = now_s, time.process_time()
            return False
        passed = (now_s - self._began_s) / self._window.duration_s
        if passed < 1:
            return False
        answers = sum(done_s >= self._began_s for log in self._logs for _, done_s in log.answers[-ANSWERS_MIN:])
        return answers >= ANSWERS_MIN or passed >= DURATIONS_MAX

    def sample(self) -> Sample:
        """What happened since it began to count."""
        ended_s = time.perf_counter()
        elapsed_s = ended_s - self._began_s
        pairs = [pair for log in self._logs for pair in log.answers]
        times = np.array(pairs, np.float64).reshape(-1, 2)
        counted = times[times[:, 1] >= self._began_s]
        # Who waits for longer than is accepted has been answered too late already.
        ages_s = [
            ended_s - log.sent_s
            for log in self._logs
            if log.sent_s and (not log.answers or log.answers[-1][0] != log.sent_s)
        ]
        late_s = [age_s for age_s in ages_s if age_s > self._window.latency_s]
        return Sample(
            np.concatenate([counted[:, 1] - counted[:, 0], late_s]),
            len(counted),
            sum(moment_s >= self._began_s for log in self._logs for moment_s in log.refusals),
            elapsed_s,
            (time.process_time() - self._cpu_s) / elapsed_s,
        )


class _Connection(asyncio.Protocol):
    """One client over REST."""

    def __init__(
        self, requests: Sequence[bytes], first: int, pause_s: float, failed: asyncio.Future[LoadError]
    ) -> None:
        self.log = _Log()
        self._requests, self._turn, self._pause_s, self._failed = requests, first, pause_s, failed
        self._buffer = b""
        self._bytes_wanted = 0

    def as_protocol(self) -> _Connection:
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._bytes_wanted:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._buffer, 0, end)
            self._bytes_wanted = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < self._bytes_wanted:
            return
        status, body = self._buffer[9:12], self._buffer[:_TEXT_MAX]
        self._buffer, self._bytes_wanted = b"", 0
        now_s = time.perf_counter()
        if status == b"200":
            self.log.answers.append((self.log.sent_s, now_s))
            self._send()
        elif status in (b"503", b"429"):
            self.log.refusals.append(now_s)
            self.log.sent_s = 0.0
            asyncio.get_running_loop().call_later(self._pause_s, self._send)
        else:
            _, _, text = body.partition(b"\r\n\r\n")
            self._fail(f"{status.decode()}: {text.decode(errors='replace')}", is_answer=True)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was closed ({error or 'by the server'})")

    def _send(self) -> None:
        if self.transport.is_closing():
            return
        self.log.sent_s = time.perf_counter()
        self.transport.write(self._requests[self._turn % len(self._requests)])
        self._turn += 1

    def _fail(self, text: str, *, is_answer: bool = False) -> None:
        if not self._failed.done():
            self._failed.set_result(LoadError(_cut(text), is_answer=is_answer))


async def _load_rest(port: int, requests: Sequence[bytes], clients: int, window: Window) -> Sample:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[LoadError] = loop.create_future()
    connections: list[_Connection] = []
    try:
        for index in range(clients):
            connection = _Connection(requests, index, window.latency_s, failed)
            await loop.create_connection(connection.as_protocol, HOST, port)
            connections.append(connection)
        watch = _Watch([connection.log for connection in connections], window)
        while not watch.is_over():
            await asyncio.wait([failed], timeout=watch.step_s)
            if failed.done():
                raise failed.result()
        return watch.sample()
    except OSError as error:
        raise LoadError(f"it takes no connections ({error.strerror or error})", is_answer=False) from None
    finally:
        failed.cancel()  # connections that are aborted are no failure
        for connection in connections:
            connection.transport.abort()


def _cut(text: str) -> str:
    """The text on one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_MAX else f"{line[:_TEXT_MAX]}…"
