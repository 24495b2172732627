"""What one HTTP client may take: bytes of a head, time for each part of a request, connections.

Owns the limits and how lateness is found. Knows no socket: states and the time are handed in.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Limits:
    """What one client may take.

    head_bytes: of a request's line and headers.
    head_s, body_idle_s, write_stall_s: how long a head may take as a whole, a body may pause, an answer stay unread.
    idle_s: how long a connection may stay open without a request.
    body_rate: bytes a second at which a body must come on the whole, once body_idle_s have passed.
    """

    connections: int = 1024
    head_bytes: int = 32 * 1024
    head_s: float = 10
    body_idle_s: float = 30
    body_rate: float = 1024
    write_stall_s: float = 30
    idle_s: float = 75


class Stage(enum.Enum):
    """What of a request a connection waits for: of the client, or the answer of us."""

    NOTHING = enum.auto()
    ANSWER = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class Late(enum.Enum):
    """What a client took too long for."""

    HEAD = "head"
    BODY = "body"
    READING = "reading"
    ASKING = "asking"


class _Mark(NamedTuple):
    """A state of a connection, and the moment it was first seen in."""

    state: Any = None
    since_s: float = 0.0

    def moved(self, state: Any, now_s: float) -> _Mark:
        return self if state == self.state else _Mark(state, now_s)


class Clock:
    """Finds out whether the client of one connection is late. To be asked about once a second, on one thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stage = self._progress = self._unsent = _Mark()

    def late(self, now_s: float, stage: Stage, requests: int, body_bytes: int, unsent_bytes: int) -> Late | None:
        """What the client is late with, None if it is in time.

        requests: how many have begun on the connection. body_bytes: received of the last one's body. unsent_bytes: of
        answers that the client does not read. now_s: on `time.monotonic()`.
        """
        limits = self._limits
        self._stage = self._stage.moved((stage, requests), now_s)
        self._progress = self._progress.moved((requests, body_bytes), now_s)
        self._unsent = self._unsent.moved(unsent_bytes, now_s)
        in_stage_s = now_s - self._stage.since_s
        if unsent_bytes and now_s - self._unsent.since_s > limits.write_stall_s:
            return Late.READING
        if stage is Stage.HEAD and in_stage_s > limits.head_s:
            return Late.HEAD
        if stage is Stage.NOTHING and in_stage_s > limits.idle_s:
            return Late.ASKING
        idle_s = now_s - self._progress.since_s
        is_slow = in_stage_s > limits.body_idle_s + body_bytes / limits.body_rate
        return Late.BODY if stage is Stage.BODY and (idle_s > limits.body_idle_s or is_slow) else None
