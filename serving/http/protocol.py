"""uvicorn's HTTP protocol with a short cut and with limits: inferences are answered without an ASGI cycle, small ones
by quick versions where the parser finds their end, and no client holds a connection without need.

Owns which requests take the short cut and how their answers are written; every other request takes uvicorn's way to the
ASGI application, which answers the same inferences. Owns also which connection is closed when there are too many. The
short cut is there because an ASGI cycle (scope, task, events, messages) costs several times what a small model does.

The states of a connection. All of them are moved on the event loop's thread, so there is no lock.

    HEAD ──on_headers_complete──▶ BODY ──on_message_complete──▶ NOTHING ──on_message_begin──▶ HEAD

- HEAD: the request's line and headers are coming. A new connection begins here, before its first byte.
- BODY: the head is whole. `_claim` says which way the request takes: with a claim, the body is kept in `_parts`;
  without one, uvicorn has begun a cycle (`cycle`) for the application and gets the body as it comes.
- NOTHING: the request is whole. One with a claim gets its route. If that is quick, the answer is written here, before
  the parser goes on; if not, a SlowInference takes the place of the cycle, and the answer is written when its thread
  has it. While a cycle is unanswered, following requests take the application's way, where uvicorn keeps them in order.

Who moves them: the parser by its `on_` calls, inside `data_received`. Beside it, once a second, `check_time` closes a
connection whose client is late or has long been silent (a timer for each answer would cost a tenth of it); `leave` and
`shutdown` (the server's end) let the next answer be the last; and any connection that is made beyond the limit closes
an idle one. A connection never returns from closing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from estimator_serving.serving.access import identity
from estimator_serving.serving.dialects.base import HttpError, Reply
from estimator_serving.serving.errors import ServingError, UnavailableError
from estimator_serving.serving.http import offers
from estimator_serving.serving.http.claims import Claim, Claims
from estimator_serving.serving.http.gate import CERTIFICATE_KEY, Gate
from estimator_serving.serving.http.head import Head
from estimator_serving.serving.http.limits import Clock, Late, Limits, Stage
from estimator_serving.serving.http.slow import Slow, SlowInference
from estimator_serving.serving.request import PATIENT, Context
from estimator_serving.serving.routing import QUICK_PAYLOAD_BYTES, Route
from estimator_serving.wire import native

# A longer body takes the application's way, which keeps the client from sending faster than it is read.
_BODY_BYTES_MAX = 1 << 20
# The headers that say how a body comes: with any but one length, the request takes the application's way.
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"expect", b"content-encoding"})
_STAYS = (b"connection", b"keep-alive")
ENDS_TEXT = "The server ends, and the request was not answered in time."


def remote_of(client: tuple[str, int] | None) -> Callable[[], str]:
    """A connection's other end, written when it is asked for."""
    return lambda: f"{client[0]}:{client[1]}" if client else ""


class InferProtocol(HttpToolsProtocol):
    """One connection. The parser calls the `on_` methods, in the order of the request's parts."""

    def __init__(
        self, claims: Claims, gate: Gate, limits: Limits, slow: Slow, *arguments: Any, **settings: Any
    ) -> None:  # fmt: skip
        super().__init__(*arguments, **settings)
        self._claims = claims
        self._gate = gate
        self._limits = limits
        self._clock = Clock(limits)
        self._slow = slow
        self._kept_bytes_max = min(_BODY_BYTES_MAX, slow.body_bytes_max)
        self._claim: Claim | None = None
        self._parts: list[bytes] = []
        self._held_bytes = 0  # of a body with a claim, until its answer
        self._inference: SlowInference | None = None
        self._closing = False
        self._refusal: HttpError | ServingError | None = None
        self._caller = PATIENT
        self._certificate: list[str] = []
        # A connection that has sent nothing yet owes a head.
        self._stage = Stage.HEAD
        self._requests = 0
        self._version = ""
        self.url = b""
        self._head = Head(limits.head_bytes)
        self._body_bytes = 0
        # The cycle that is answered now; `cycle` is the one that came last, behind which more may wait in `pipeline`.
        self._answering: Any = None
        self._own_cycle: Any = None  # of the request that is coming, where the application answers it
        self._last_reply: Reply | None = None  # of a request that could not be read, when those before it are answered

    # --- a connection ---

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._caller = Context(remote=remote_of(self.client), is_reader=True)
        self._certificate = identity.of_python(transport.get_extra_info("peercert"))
        if len(self.connections) <= self._limits.connections:
            return None
        # One too many: a connection that is only kept open goes, or, if all are at work, this one.
        for one in self.connections:
            other = cast(InferProtocol, one)
            is_answered = other.cycle is None or other.cycle.response_complete
            is_idle = is_answered and other._stage is not Stage.BODY and not other._head.came_bytes
            if other is not self and is_idle and not other.transport.is_closing():
                return other.transport.close()
        text = f"All {self._limits.connections} connections are at work; ask again in a moment."
        return self._write(self._claims.refuse(UnavailableError(text)), stays=False)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._answering is not None and not self._answering.response_complete:
            # uvicorn tells only the last one of several.
            self._answering.disconnected = True
            self._answering.message_event.set()
        if self._inference is not None:
            self._inference.leave()
        self._let_go()

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._last_reply is not None:
            return None  # what follows a request that cannot be read is not read either
        if not self._head.came_bytes and self._stage is not Stage.BODY and self._answer_plain(data):
            return None
        self._head.take(len(data))
        parts = [memoryview(data)]  # what the parser has to read, the first part last
        try:
            while parts:
                part = parts.pop()
                try:
                    self.parser.feed_data(part)
                except httptools.HttpParserUpgrade as upgrade:
                    if self.parser.get_method() == b"CONNECT":
                        return self._refuse(HttpError(405, "This is no proxy; CONNECT leads nowhere."))
                    head = offers.head_without(self.parser, self.url, self.headers)
                    self.parser = offers.new_parser(self)
                    rest = part[upgrade.args[0] :]
                    self._head.begin_again(len(head) + len(rest))
                    parts += (rest, memoryview(head))
        except httptools.HttpParserError:
            return self._refuse(self._refusal or HttpError(400, "Invalid HTTP request received."))
        if self._stage is Stage.HEAD:
            fault = self._head.fault_so_far(self.url, data)
        else:
            fault = self._head.fault_around_body() if self._stage is Stage.BODY else None
        return self._refuse(fault) if fault else None

    def leave(self) -> None:
        """Answer what is under way or still comes, and close after that answer, which tells the client so."""
        self._closing = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close now, or, in the middle of a request, after its answer."""
        if self._claim is None:
            super().shutdown()
        else:
            self._closing = True

    def give_up(self) -> None:
        """Wait no longer for what a thread works on."""
        if self._inference is not None:
            self._inference.refuse(UnavailableError(ENDS_TEXT))

    def check_time(self, now_s: float) -> None:
        """Close the connection if its client took too long. To be called about once a second."""
        unsent_bytes = self.transport.get_write_buffer_size()
        is_answered = self.cycle is None or self.cycle.response_complete
        # Behind requests that wait for their answers, uvicorn reads nothing.
        is_waiting = not is_answered and (self._stage is Stage.NOTHING or self.flow.read_paused)
        stage = Stage.ANSWER if is_waiting or self._last_reply is not None else self._stage
        late = self._clock.late(now_s, stage, self._requests, self._body_bytes, unsent_bytes)
        if late is Late.READING:
            self.transport.abort()
        elif late is Late.ASKING or (late is not None and not self._head.came_bytes):
            self.transport.close()
        elif late is not None:
            limit_s = self._limits.head_s if late is Late.HEAD else self._limits.body_idle_s
            text = f"The request's {late.value} did not come within {limit_s:g} seconds; send it at once."
            self._refuse(HttpError(408, text))

    # --- the parts of a request ---

    def on_message_begin(self) -> None:
        if self.transport.is_closing():
            # What follows a request that ends the connection is not read, however much of it came.
            raise ValueError("ends the parser")
        # uvicorn begins by building a scope; here that waits until it is known that one is needed.
        self.url = b""
        self.headers = []
        self._stage = Stage.HEAD
        self._requests += 1
        self._own_cycle = None
        self._head.begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage is Stage.BODY:
            return  # a trailer, which says nothing that is needed here and must not pass for a header
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._version = version = self.parser.get_http_version()
        if fault := self._head.fault(self.url, self.headers, version):
            self._end_parser(fault)
        if self.parser.should_upgrade():
            return  # the parser stops here, and `data_received` gives it the head again, without the offer
        self._stage = Stage.BODY
        self._body_bytes = 0
        self._parts = []
        # What may take the short cut: no request while an earlier one on this connection is not answered yet (answers
        # keep their order) or the client does not read its answers; and none with a body that is large, of unknown
        # length, compressed, or held back until "100 Continue".
        self._claim = None
        if not self.flow.write_paused and (self.cycle is None or self.cycle.response_complete):
            lengths = [value for name, value in self.headers if name in _BODY_HEADERS]
            if len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0]) <= self._kept_bytes_max:
                self._claim = self._claims.find(self.parser.get_method(), self.url.partition(b"?")[0])
        if self._claim is not None and self._gate.authorizer is not None and not self._is_admitted(self._claim):
            self._claim = None  # the application refuses it
        if self._claim is None:
            self._begin_cycle()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._head.note_body()
        if self._claim is None:
            super().on_body(body)
            return
        self._parts.append(body)
        self._held_bytes += len(body)
        self._slow.held_bytes += len(body)
        try:
            self._slow.check_room()
        except UnavailableError as error:
            self._end_parser(error)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return None
        self._stage = Stage.NOTHING
        self._own_cycle = None
        self._head.end()
        claim, self._claim = self._claim, None
        if claim is None:
            return super().on_message_complete()
        body, self._parts = b"".join(self._parts), []
        spec = claim.target.spec
        route = None if spec is None else self._claims.router.choose(spec)
        stays = self.parser.should_keep_alive() and not self._closing
        return self._infer(claim, route, self.headers, body, stays=stays)

    def _infer(
        self, claim: Claim, route: Route | None, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, stays: bool
    ) -> None:  # fmt: skip
        """Answer a whole request, here if that is quick, else when a thread has."""
        if route is not None and route.is_quick(len(body)):
            if self._held_bytes:
                self._let_go()
            self.server_state.total_requests += 1
            if route.is_full:
                self._claims.pause_if_full()
            return self._write(claim.infer(route, headers, body, self._caller), self._version, stays=stays)
        finish = partial(self._finish, self._version)
        self._inference = SlowInference(self._slow, claim, route, keep_alive=stays, finish=finish)
        self.cycle = self._answering = cast(Any, self._inference)
        return self._inference.start(headers, body, self._caller.remote, self._caller.grant)

    def _finish(self, version: str, inference: SlowInference, reply: Reply) -> None:
        """Answer what a thread has worked on, and go on with what came meanwhile."""
        self._let_go()
        if self.transport.is_closing():
            return
        self.server_state.total_requests += 1
        self._write(reply, version, stays=inference.keep_alive)
        self.flow.resume_reading()
        if self.pipeline and inference.keep_alive:
            self._start_asgi_task(*self.pipeline.pop())
        self._end_if_answered()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._end_if_answered()

    def _end_if_answered(self) -> None:
        """Give the reply that ends the connection, if it has one, when no earlier request waits for its own."""
        if self._last_reply is not None and self._answering.response_complete and not self.transport.is_closing():
            self._write(self._last_reply, stays=False)

    def _let_go(self) -> None:
        """Forget the inference that a thread works on, and what its body held."""
        self._inference = None
        self._slow.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def _is_admitted(self, claim: Claim) -> bool:
        """Whether the caller may ask for this inference; its grant is noted for the answer."""
        try:
            grant = self._gate.admit(b"POST", b"", self.headers, self._certificate, claim)
        except ServingError:
            return False
        if grant is not self._caller.grant:
            self._caller = self._caller._replace(grant=grant)
        return True

    def _begin_cycle(self) -> None:
        """Take the application's way: give uvicorn the head that was kept."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        if self._certificate:
            self.scope[CERTIFICATE_KEY] = self._certificate  # type: ignore[literal-required]
        self._own_cycle = self.cycle
        self.cycle.keep_alive = self.cycle.keep_alive and not self._closing

    def _answer_plain(self, data: bytes) -> bool:
        """Take a whole request, if it is a plain one that takes the short cut, without the parser; whether it was.

        Between two requests the parser has no state, so it need not see what is taken here.
        """
        claims, cycle = self._claims, self.cycle
        if self.flow.write_paused or self._closing or not (cycle is None or cycle.response_complete):
            return False
        if self._gate.authorizer is not None:
            return False  # the headers have to say who asks
        read = native.read_request(claims.reader, data, self._limits.head_bytes, QUICK_PAYLOAD_BYTES)
        if read is None or self.transport.is_closing():
            return False
        path, body, headers = read
        claim = claims.inferences.get(path)
        if claim is None:
            return False
        self._requests += 1
        self._stage = Stage.NOTHING
        self._version = "1.1"
        route = claims.router.choose(claim.target.spec)  # type: ignore[arg-type]  # these run a model
        self._infer(claim, route, headers, body, stays=True)
        return True

    # --- answers ---

    def _write(self, reply: Reply, version: str = "1.1", *, stays: bool) -> None:
        status, content_type, body, headers = reply
        if stays and version == "1.0":
            # A client of that version waits for the connection's end unless it is told that there will be none.
            headers = (*headers, _STAYS)
        defaults = self.server_state.default_headers
        known = self._claims.heads.get((status, content_type, headers))
        if known is None or known[0] is not defaults:  # they have a date, and become another list each second
            known = self._claims.write_head(status, content_type, headers, defaults)
        stop = b"\r\n" if stays else b"connection: close\r\n\r\n"
        # Joined: writing head and body as two buffers takes as long, whatever the size.
        self.transport.write(b"%bcontent-length: %d\r\n%b%b" % (known[1], len(body), stop, body))
        if not stays:
            self.transport.close()

    def _refuse(self, error: HttpError | ServingError) -> None:
        """Answer what cannot be read further, when the requests before it are answered, and close. An answer to its
        head that is under way is cut short instead."""
        if self.transport.is_closing() or self._last_reply is not None:
            return
        path = b"" if isinstance(error, HttpError) else self.url.partition(b"?")[0]
        reply = self._claims.refuse(error, path)
        own, earlier = self._own_cycle, self._answering
        if earlier is not None and earlier is not own and not earlier.response_complete:
            if own is not None:
                self.pipeline.popleft()
            self.flow.pause_reading()
            self._last_reply = reply
        elif own is not None and own.response_started and not own.response_complete:
            self.transport.close()
        else:
            self._write(reply, stays=False)

    def _end_parser(self, error: HttpError | ServingError) -> NoReturn:
        """Read no further, and answer with this error. To be called by the parser's callbacks."""
        self._refusal = error
        raise ValueError(error)
