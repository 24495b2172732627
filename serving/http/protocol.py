"""uvicorn's HTTP protocol with a short cut, and with limits: quick inferences are answered where the parser finds
their end, and nobody holds a connection for nothing.

Owns when the short cut is allowed and how such an answer is written (everything else takes uvicorn's normal way to the
ASGI application, which answers the same requests); the size of a request's head; how long a client may take over head,
body and reading its answer; which connection goes when there are too many. An ASGI cycle (scope, task, events,
messages) costs several times what a small model does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from estimator_serving.serving.dialects.tfs.rest import InferTarget, Reply, Rest, infer_target
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import QUICK_PAYLOAD_BYTES
from estimator_serving.serving.request import PATIENT, Context

_HEAD = b"content-type: application/json\r\ncontent-length: %d\r\n"
# What has a say in how a body comes: with any but one length, it takes the normal way.
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"expect", b"content-encoding"})
# The headers by which a client offers to go on in another protocol, such as HTTP/2.
_OFFER_HEADERS = frozenset({b"upgrade", b"connection", b"http2-settings"})


@dataclass(frozen=True)
class Limits:
    """What one client may take.

    head_bytes: of a request's line and headers.
    head_s, body_idle_s, write_stall_s: how long a head may take as a whole, a body may pause, an answer stay unread.
    body_rate: bytes a second a body must come at on the whole, once body_idle_s have passed.
    """

    connections: int = 1024
    head_bytes: int = 32 * 1024
    head_s: float = 10
    body_idle_s: float = 30
    body_rate: float = 1024
    write_stall_s: float = 30


class Stage(enum.Enum):
    """What of a request is being waited for."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class _Mark(NamedTuple):
    """A state of a connection, and the moment it was first seen in."""

    state: Any = None
    since_s: float = 0.0

    def moved(self, state: Any, now_s: float) -> _Mark:
        return self if state == self.state else _Mark(state, now_s)


def remote_of(client: tuple[str, int] | None) -> Callable[[], str]:
    """A connection's other end, written when it is asked for."""
    return lambda: f"{client[0]}:{client[1]}" if client else ""


class InferProtocol(HttpToolsProtocol):
    """One connection. The parser calls the `on_` methods, in the order of the request's parts."""

    def __init__(self, api: Rest, limits: Limits, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._api = api
        self._limits = limits
        self._target: InferTarget | None = None
        self._body = b""
        self._closing = False
        self._refusal: Reply | None = None
        self._caller = PATIENT
        # A connection that has sent nothing yet owes a head; after an answer, uvicorn's keep-alive timer runs.
        self._stage = Stage.HEAD
        self._requests = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._stage_mark = self._progress_mark = self._unsent_mark = _Mark()

    # --- a connection ---

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._caller = Context(remote=remote_of(self.client))
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_over_offer(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or self._api.refuse_with(400, "Invalid HTTP request received."))
        else:
            if self._stage is Stage.HEAD and self._head_bytes > self._limits.head_bytes:
                self._refuse(self._too_long())

    def leave(self) -> None:
        """Answer what is under way or still comes, and close after that answer, which tells the client so."""
        self._closing = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close now, or, in the middle of a request, after its answer."""
        if self._target is None:
            super().shutdown()
        else:
            self._closing = True

    # --- the parts of a request ---

    def on_message_begin(self) -> None:
        # uvicorn begins by building a scope; here that waits until it is known that one is needed.
        self.url = b""
        self.headers = []
        self._stage = Stage.HEAD
        self._requests += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._head_bytes > self._limits.head_bytes:
            self._check_head()
        if self.parser.should_upgrade():
            return  # the parser stops here, and `data_received` begins anew
        self._stage = Stage.BODY
        self._body_bytes = 0
        self._target = self._find_target()
        self._body = b""
        if self._target is None:
            url, headers = self.url, self.headers
            super().on_message_begin()
            super().on_url(url)
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()
            self.cycle.keep_alive = self.cycle.keep_alive and not self._closing

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._target is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._stage = Stage.NOTHING
        self._head_bytes = 0
        if self._target is None:
            super().on_message_complete()
        else:
            target, self._target = self._target, None
            self._answer(self._api.infer(target, self._body, self._caller))

    def _find_target(self) -> InferTarget | None:
        """What this request infers, None where it has to take the normal way.

        It has to when an earlier one on this connection is not answered yet (answers keep their order), when the client
        does not read its answers, or when its body is large, of unknown length, compressed, or held back until
        "100 Continue".
        """
        earlier = self.cycle is not None and not self.cycle.response_complete
        if self.parser.get_method() != b"POST" or earlier or self.flow.write_paused:
            return None
        try:
            target = infer_target(self.url.partition(b"?")[0])
        except InvalidArgumentError:
            return None
        length = self._content_length()
        if target is None or length > QUICK_PAYLOAD_BYTES:
            return None
        return target if self._api.is_quick(target.spec, length) else None

    def _content_length(self) -> int:
        """The body's length; more than is quick where other headers have a say in how the body comes, or none has."""
        lengths = [value for name, value in self.headers if name in _BODY_HEADERS]
        return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else QUICK_PAYLOAD_BYTES + 1

    def _answer(self, reply: Reply) -> None:
        stays = self.parser.should_keep_alive() and not self._closing
        self._write(reply, stays=stays)
        self.server_state.total_requests += 1
        if stays:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _write(self, reply: Reply, *, stays: bool) -> None:
        parts = [STATUS_LINE[reply.status]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in reply.headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (_HEAD % len(reply.body), b"\r\n" if stays else b"connection: close\r\n\r\n", reply.body)
        self.transport.write(b"".join(parts))
        if not stays:
            self.transport.close()

    # --- limits ---

    def check_time(self, now_s: float) -> None:
        """Close the connection where its client took too long. To be called about once a second."""
        self._stage_mark = self._stage_mark.moved((self._stage, self._requests), now_s)
        self._progress_mark = self._progress_mark.moved((self._requests, self._body_bytes), now_s)
        self._unsent_mark = self._unsent_mark.moved(self.transport.get_write_buffer_size(), now_s)
        if self._unsent_mark.state and now_s - self._unsent_mark.since_s > self._limits.write_stall_s:
            self.transport.abort()
        elif self._stage is Stage.HEAD and now_s - self._stage_mark.since_s > self._limits.head_s:
            self._give_up("head", self._limits.head_s)
        elif self._stage is Stage.BODY and self._is_body_late(now_s):
            self._give_up("body", self._limits.body_idle_s)

    def _is_body_late(self, now_s: float) -> bool:
        allowed_s = self._limits.body_idle_s + self._body_bytes / self._limits.body_rate
        idle_s = now_s - self._progress_mark.since_s
        return idle_s > self._limits.body_idle_s or now_s - self._stage_mark.since_s > allowed_s

    def _give_up(self, part: str, limit_s: float) -> None:
        if not self._head_bytes:
            self.transport.close()
        else:
            text = f"The request's {part} did not come within {limit_s:g} seconds; send it at once."
            self._refuse(self._api.refuse_with(408, text))

    def _refuse(self, reply: Reply) -> None:
        """Answer what cannot be read further, and close. An answer under way is cut short instead."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started:
            self.transport.close()
        else:
            self._write(reply, stays=False)

    def _pass_over_offer(self, rest: bytes) -> None:
        """Read a request that offers another protocol as one that does not: its head again, without the offer.

        The parser leaves the body unread, and there is no telling it otherwise.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            return self._refuse(self._api.refuse_with(405, "This is no proxy; CONNECT leads nowhere."))
        head = b"%s %s HTTP/%s\r\n" % (method, self.url, self.parser.get_http_version().encode())
        kept = [(name, value) for name, value in self.headers if name not in _OFFER_HEADERS]
        self.parser = httptools.HttpRequestParser(self)
        self._head_bytes = 0
        return self.data_received(head + b"".join(b"%s: %s\r\n" % header for header in kept) + b"\r\n" + rest)

    def _check_head(self) -> None:
        """The exact length of a head, where what came is long enough for it to be too long."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.head_bytes:
            self._refusal = self._too_long()
            raise ValueError("ends the parser")

    def _too_long(self) -> Reply:
        most = self._limits.head_bytes
        if len(self.url) > most // 2:
            return self._api.refuse_with(414, f"The URL has more than {most // 2} bytes; shorten it.")
        return self._api.refuse_with(431, f"The request's headers have more than {most} bytes; send fewer.")

    def _is_idle(self) -> bool:
        answered = self.cycle is None or self.cycle.response_complete
        return answered and self._target is None and self._stage is not Stage.BODY and not self._head_bytes

    def _make_room(self) -> None:
        """Close a connection that is only kept open, or, where all are at work, this one."""
        others = (cast(InferProtocol, one) for one in self.connections if one is not self)
        idle = next((one for one in others if one._is_idle() and not one.transport.is_closing()), None)
        if idle is not None:
            idle.transport.close()
        else:
            text = f"All {self._limits.connections} connections are at work; ask again in a moment."
            self._write(self._api.refuse_with(503, text), stays=False)
