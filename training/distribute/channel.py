"""Channel: small messages between the processes of one training, and the knowledge of which of them is still there.

The theory. Every process has one connection to the chief, over which values are exchanged: each sends its own to the
chief, and the chief sends all of them to everyone. A thread in every process sends a beat over the same connections
every two seconds, whatever the main thread does. A process whose connection is closed has ended; one that has not been
heard of for `silence_limit_s` has been stopped, or its machine or network has. Both are noticed while another process
waits for it, which raises PeerLostError with the rank. A process that fails says why before it leaves.

Gradients do not go this way, because they are large (transfer.py).

Owns the messages and the beats. Does not know trainings. Values are pickled, so only processes of one cluster may
connect: the chief shows them a token through the store at which they meet.
"""

from __future__ import annotations

import contextlib
import pickle
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from estimator_serving.training.errors import PeerLostError

_BEAT, VALUE, _LEAVING = b".", b"V", b"X"
_BEAT_EVERY_S = 2.0
_HEADER = struct.Struct("<cQ")


class Link:
    """One connection: what has arrived, when something last did, and why it is over (None while it is not)."""

    def __init__(self, connection: socket.socket, send_timeout_s: float) -> None:
        # Blocking, since Python waits in recv and send with MSG_DONTWAIT on a socket that has a timeout.
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(send_timeout_s), 0))
        self.connection = connection
        self.values: deque[Any] = deque()
        self.heard_s = time.monotonic()
        self.end: str | None = None
        self._bytes = bytearray()
        self._sending = threading.Lock()

    def send(self, kind: bytes, value: Any) -> None:
        """Raises OSError if the other side does not take it in time."""
        payload = pickle.dumps(value)
        with self._sending:
            self.connection.sendall(_HEADER.pack(kind, len(payload)) + payload)

    def beat(self) -> None:
        # One byte, which is sent whole or not at all; not between the parts of a value.
        if self._sending.acquire(blocking=False):
            with contextlib.suppress(OSError):
                self.connection.send(_BEAT, socket.MSG_DONTWAIT)
            self._sending.release()

    def receive(self) -> None:
        """Take what has arrived, without waiting."""
        try:
            while self.end is None:
                got = self.connection.recv(1 << 20, socket.MSG_DONTWAIT)
                if not got:
                    self.end = "has ended"
                self.heard_s = time.monotonic()
                self._bytes += got
                self._parse()
        except (BlockingIOError, TimeoutError):
            pass
        except OSError as error:
            self.end = f"has ended ({error})"

    def _parse(self) -> None:
        data = self._bytes
        while data:
            if data[:1] == _BEAT:
                del data[:1]
                continue
            if len(data) < _HEADER.size:
                return
            kind, length = _HEADER.unpack_from(data)
            if len(data) < _HEADER.size + length:
                return
            value = pickle.loads(data[_HEADER.size : _HEADER.size + length])
            del data[: _HEADER.size + length]
            if kind == _LEAVING:
                self.end = value
                return
            self.values.append(value)


class Channel:
    """The connections of one process: to all others in the chief, to the chief in the others.

    `names` has a name for each rank, for messages. `exchanges` counts the calls of `exchange`.
    """

    def __init__(self, rank: int, links: Mapping[int, Link], names: Sequence[str], silence_limit_s: float) -> None:
        self.rank = rank
        self.exchanges = 0
        self._links = dict(links)
        self._names = names
        self._silence_limit_s = silence_limit_s
        self._reading = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="estimator-serving-beat", daemon=True).start()

    def exchange(self, value: Any) -> list[Any]:
        """The values of all processes, by rank. Each process calls equally often. Raises PeerLostError."""
        self.exchanges += 1
        if self.rank:
            self._send(0, value)
            everything: list[Any] = self._receive(0)
            return everything
        everything = [value, *(self._receive(rank) for rank in range(1, len(self._names)))]
        for rank in self._links:
            self._send(rank, everything)
        return everything

    def from_chief(self, value: Any) -> Any:
        """The chief's value, in every process. The chief does not wait for the others. Raises PeerLostError."""
        if self.rank:
            return self._receive(0)
        for rank in self._links:
            self._send(rank, value)
        return value

    def leave(self, reason: str) -> None:
        """Tell the others why this process takes no further part."""
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.send(_LEAVING, reason)
        self.close()

    def close(self) -> None:
        self._closed.set()
        for link in self._links.values():
            link.connection.close()

    def lost_peer(self, error: Exception) -> PeerLostError:
        """Who is to blame for an error of a transfer between processes: waits until that shows, at most ten seconds."""
        until_s = time.monotonic() + 10.0
        limit_s = min(10.0, self._silence_limit_s)
        while time.monotonic() < until_s and not self._closed.is_set():
            with self._reading:
                self._pump(0.2)
                found = self._lost(limit_s)
            if found is not None:
                return found
        said = str(error).partition("\n")[0]
        return PeerLostError(f"A transfer between the processes of this training failed, though all answer ({said})")

    def _send(self, rank: int, value: Any) -> None:
        try:
            self._links[rank].send(VALUE, value)
        except OSError as error:
            raise self.lost_peer(error) from error

    def _receive(self, rank: int) -> Any:
        link = self._links[rank]
        with self._reading:
            self._pump(0.0)
            while not link.values:
                lost = self._lost(self._silence_limit_s)
                if lost is not None:
                    raise lost
                self._pump(1.0)
            return link.values.popleft()

    def _pump(self, timeout_s: float) -> None:
        open_links = {link.connection: link for link in self._links.values() if link.end is None}
        if open_links:
            for connection in select.select(list(open_links), [], [], timeout_s)[0]:
                open_links[connection].receive()

    def _lost(self, silence_limit_s: float) -> PeerLostError | None:
        """An error that names a process that is gone: the first that gave a reason, else the first that is silent."""
        now_s = time.monotonic()
        for rank, link in sorted(self._links.items()):
            if link.end is not None and not link.values:
                return PeerLostError(f"{self._names[rank]} {link.end}" if link.end.startswith("has") else link.end)
        for rank, link in sorted(self._links.items()):
            if not link.values and now_s - link.heard_s > silence_limit_s:
                return PeerLostError(
                    f"{self._names[rank]} has not been heard of for {now_s - link.heard_s:.0f} s: it was stopped, or "
                    "its machine or network was"
                )
        return None

    def _beat(self) -> None:
        while not self._closed.wait(_BEAT_EVERY_S):
            for link in self._links.values():
                link.beat()
            # The main thread reads while it waits; otherwise this thread does, so that `heard_s` stays true.
            if self._reading.acquire(blocking=False):
                with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                    self._pump(0.0)
                self._reading.release()
