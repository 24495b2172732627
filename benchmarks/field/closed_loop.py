"""Loads that time each answer: callers that each send the same request again as soon as it was answered.

Owns one HTTP/1.1 client and one gRPC client, which do as little as a client can, so that they take less processor time
than the servers that they measure. Knows no server; requests are bytes that were made beforehand.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections import deque

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Load:
    """What the callers of a load share: how long each answer took since the last `clear`, and the first error."""

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(ConnectionError(reason))


class HttpCaller(asyncio.Protocol):
    """One caller on a connection of its own."""

    def __init__(self, load: Load, request: bytes) -> None:
        self.load, self.request = load, request
        self.received, self.awaited_bytes, self.is_chunked = b"", 0, False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.send()

    def connection_lost(self, error) -> None:
        self.load.fail(f"the server closed the connection: {error}")

    def send(self) -> None:
        self.received, self.awaited_bytes, self.is_chunked = b"", 0, False
        self.sent_s = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.awaited_bytes:
            head = self.received.find(b"\r\n\r\n")
            if head < 0:
                return
            if not self.received.startswith(b"HTTP/1.1 200"):
                self.load.fail(repr(self.received[:300]))
                return
            length = _LENGTH.search(self.received, 0, head)
            self.is_chunked = length is None
            self.awaited_bytes = head + 4 + (int(length[1]) if length else 5)
        is_whole = len(self.received) >= self.awaited_bytes
        if is_whole and (not self.is_chunked or self.received.endswith(b"\r\n0\r\n\r\n")):
            self.load.took_s.append(time.perf_counter() - self.sent_s)
            self.send()


# HTTP/2's kinds of frames and the flags that matter here.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_FRAME_BYTES_MAX, _WINDOW_MAX = 16384, 2**31 - 1


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    """A string of HPACK, without Huffman coding."""
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


class GrpcCallers(asyncio.Protocol):
    """Callers of one unary method on one connection, each a stream at a time.

    An answer counts if it has a message: a refusal has none. Its content is not looked into.
    """

    def __init__(self, load: Load, method: str, message: bytes, callers: int) -> None:
        self.load, self.callers = load, callers
        # POST and http by their numbers in HPACK's static table, the other headers as text that is not to be indexed.
        self.headers = (
            b"\x83\x86\x04" + _text(method) + b"\x01" + _text(HOST)
            + b"\x0f\x10" + _text("application/grpc") + b"\x00" + _text("te") + _text("trailers")
        )  # fmt: skip
        self.message = b"\0" + struct.pack(">I", len(message)) + message
        self.received, self.next_stream = b"", 1
        self.sent_s: dict[int, float] = {}
        self.answered: set[int] = set()
        # What flow control holds back: the stream, its bytes, and how much of its window is left.
        self.waiting: deque[list] = deque()
        self.window, self.stream_window = 65535, 65535

    def connection_made(self, transport) -> None:
        self.transport = transport
        # No dynamic table for headers; windows as large as can be.
        settings = _frame(_SETTINGS, 0, 0, struct.pack(">HIHI", 1, 0, 4, _WINDOW_MAX))
        window = _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW_MAX - 65535))
        transport.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + window)

    def connection_lost(self, error) -> None:
        self.load.fail(f"the server closed the connection: {error}")

    def send(self) -> None:
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.sent_s[stream] = time.perf_counter()
        head = _frame(_HEADERS, _END_HEADERS, stream, self.headers)
        if not self.waiting and len(self.message) <= min(self.window, self.stream_window, _FRAME_BYTES_MAX):
            self.window -= len(self.message)
            self.transport.write(head + _frame(_DATA, _END_STREAM, stream, self.message))
            return
        self.transport.write(head)
        self.waiting.append([stream, self.message, self.stream_window])
        self.flush()

    def flush(self) -> None:
        """Send as much as the windows allow, the oldest message first."""
        for entry in list(self.waiting):
            stream, rest, stream_window = entry
            frames = []
            while rest and (size := min(self.window, stream_window, _FRAME_BYTES_MAX, len(rest))) > 0:
                frames.append(_frame(_DATA, _END_STREAM if size == len(rest) else 0, stream, rest[:size]))
                rest, stream_window, self.window = rest[size:], stream_window - size, self.window - size
            entry[1:] = rest, stream_window
            self.transport.write(b"".join(frames))
        self.waiting = deque(entry for entry in self.waiting if entry[1])

    def data_received(self, data: bytes) -> None:
        self.received += data
        at, end = 0, len(self.received)
        while end - at >= 9:
            length = int.from_bytes(self.received[at : at + 3], "big")
            if end - at < 9 + length:
                break
            kind, flags = self.received[at + 3], self.received[at + 4]
            stream = int.from_bytes(self.received[at + 5 : at + 9], "big")
            if kind in (_DATA, _HEADERS):
                if kind == _DATA:
                    self.answered.add(stream)
                if flags & _END_STREAM:
                    self.end(stream)
            elif kind == _WINDOW_UPDATE:
                self.widen(stream, int.from_bytes(self.received[at + 9 : at + 13], "big"))
            elif kind != _CONTINUATION and not (flags & _ACK and kind in (_SETTINGS, _PING)):
                self.control(kind, self.received[at + 9 : at + 9 + length])
            at += 9 + length
        self.received = self.received[at:]

    def end(self, stream: int) -> None:
        if stream not in self.answered:
            self.load.fail("a call was answered without a message")
            return
        self.answered.discard(stream)
        self.load.took_s.append(time.perf_counter() - self.sent_s.pop(stream))
        self.send()

    def widen(self, stream: int, more: int) -> None:
        if stream == 0:
            self.window += more
        for entry in self.waiting:
            entry[2] += more if entry[0] == stream else 0
        self.flush()

    def control(self, kind: int, payload: bytes) -> None:
        if kind == _SETTINGS:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == 4:
                    for entry in self.waiting:
                        entry[2] += value - self.stream_window
                    self.stream_window = value
            self.transport.write(_frame(_SETTINGS, _ACK, 0, b""))
            while self.next_stream < 2 * self.callers:
                self.send()
        elif kind == _PING:
            self.transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind in (_RST_STREAM, _GOAWAY):
            self.load.fail(f"the server ended a stream or the connection: {payload!r}")
