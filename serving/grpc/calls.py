"""Unary calls, taken from grpc's completion queue where they come in: quick ones are answered on the thread that reads
the queue, the others on a pool.

Owns the life of a unary call. grpc's Python server hands each call to a thread, which waits there until the thread that
reads the queue has the message; that costs more than a small model and twice what its core needs. Streams stay its own.

    begun ──refused──────────────────────────────────────────▶ sent
      └──received──▶ answered at once ───────────────────────▶ sent
                └──▶ on a pool ──the client is still there───▶ sent
                              └──its call is over: no answer

`begun`, `received`, `closed` and `sent` happen on the thread that reads the queue. grpc's server reads it through
`poll`, which keeps the events of unary calls from it.

This module uses names of grpc's that are not public: the queue and its operations, which grpc's server is made of, and
the state of that server. They are the same in all releases that the package allows; no other module uses them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MethodType
from typing import Any, NamedTuple

from grpc import _server as grpc_server
from grpc._cython import cygrpc

from estimator_serving.serving.access.authorizer import Grant
from estimator_serving.serving.dialects.base import Unary
from estimator_serving.serving.errors import Code, ResourceExhaustedError, as_serving_error
from estimator_serving.serving.request import DEADLINE_S_MAX, Context, NotQuickError
from estimator_serving.serving.routing import QUICK_PAYLOAD_BYTES

# grpc says "no deadline" as one in the far future.
_NO_DEADLINE_S = 1e12
_NO_FLAGS = 0
# A deadline that is past.
_AT_ONCE = 0.0
_OK = int(Code.OK)
# grpc rounds times up to milliseconds: a deadline that is past when the call is made arrives with as much left.
_RESOLUTION_S = 0.002


def deadline_in(left_s: float) -> float | None:
    """The moment on `time.monotonic()` of a deadline that grpc says is so far away; None for no deadline."""
    if left_s > _NO_DEADLINE_S:
        return None
    return time.monotonic() + min(left_s if left_s > _RESOLUTION_S else 0.0, DEADLINE_S_MAX)


class Held:
    """The bytes of the messages that are being worked on or wait for their turn, and the most there may be."""

    def __init__(self, bytes_max: int) -> None:
        self._free = bytes_max
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raises ResourceExhaustedError where a message of this size is too much."""
        with self._lock:
            if size > self._free:
                raise ResourceExhaustedError(
                    "The requests under way fill the memory set aside for them; send this one again later."
                )
            self._free -= size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._free += size


class Refusal(NamedTuple):
    """The status of a call that is not answered.

    pause_s: for how long no further call need be read, because it would be refused, too.
    """

    code: Code
    text: str
    pause_s: float = 0.0


class Method(NamedTuple):
    """An rpc.

    pool: where calls are answered that are not quick. refusal: what a call with this metadata is refused with now,
    before its message is read; None for most. admit: gives the caller's grant, and raises UnauthenticatedError.
    """

    unary: Unary
    pool: ThreadPoolExecutor
    refusal: Callable[[Any], Refusal | None]
    admit: Callable[[Any], Grant | None]


class CallQueue(cygrpc.CompletionQueue):  # type: ignore[misc]  # grpc ships no types
    """grpc's completion queue, without the events of unary calls.

    methods: by the full name of an rpc.
    """

    def __new__(cls, *_arguments: Any) -> CallQueue:
        # grpc's class would take an argument for another kind of queue.
        return super().__new__(cls)  # type: ignore[no-any-return]

    def __init__(self, methods: Mapping[str, Method], held: Held) -> None:
        self._methods = {name.encode(): method for name, method in methods.items()}
        self.held = held
        self._state: Any = None
        self._shutdown: Any = None
        # How long to read nothing as soon as nothing is left to read.
        self.pause_s = 0.0
        # Batches whose events have not come. Each counter is changed by one side only: `due` by the thread that reads,
        # down for all events, and `due_of_pools` under the lock, up for what threads of pools began.
        self.due = 0
        self.due_of_pools = 0
        self.lock = threading.Lock()

    def serve(self, pool: ThreadPoolExecutor, handlers: Sequence[Any], options: Sequence[tuple[str, Any]]) -> Any:
        """grpc's server on this queue; `handlers` answer what is not unary."""
        server = cygrpc.Server(grpc_server._augment_options(options, None, False), False)
        server.register_completion_queue(self)
        made = grpc_server._Server.__new__(grpc_server._Server)
        made._state = self._state = grpc_server._ServerState(self, server, handlers, None, pool, None)
        made._cy_server = server
        return made

    def poll(self, deadline: float | None = None) -> Any:
        """The next event that is grpc's own; those of unary calls are worked off on the way.

        While calls are refused, they are read in bunches. One by one, each of them would wake this thread in the middle
        of a run, on a core whose caches hold the model: that costs twice as much as the refusal itself.
        """
        while True:
            event = super().poll(_AT_ONCE if self.pause_s else deadline)
            tag = event.tag
            if self.pause_s and event.completion_type == cygrpc.CompletionType.queue_timeout:
                pause_s, self.pause_s = self.pause_s, 0.0
                time.sleep(pause_s)
                continue
            if type(tag) is MethodType:
                # Only the calls below tag events with methods; grpc's server has functions and texts.
                self.due -= 1
                tag(event)
            elif tag is grpc_server._REQUEST_CALL_TAG:
                method = self._methods.get(event.call_details.method) if event.success else None
                if method is None or not self._ask_for_another():
                    return event
                _Call(self, event, method).begin()
            elif tag is grpc_server._SHUTDOWN_TAG:
                # grpc's server ends with this event, and so does the reading: the calls' own events go first.
                self._shutdown = event
            else:
                return event
            if self._shutdown is not None and self.due + self.due_of_pools == 0:
                event, self._shutdown = self._shutdown, None
                return event

    def _ask_for_another(self) -> bool:
        """Let the next call come in. False where the server ends: then the one that came is grpc's to refuse."""
        state = self._state
        with state.lock:
            if state.stage is not grpc_server._ServerStage.STARTED:
                return False
            grpc_server._request_call(state)
        return True


class _Call:
    """One unary call; the module's docstring has its states."""

    __slots__ = ("_call", "_deadline_s", "_details", "_metadata", "_method", "_payload", "_queue", "is_over")

    def __init__(self, queue: CallQueue, event: Any, method: Method) -> None:
        self._queue = queue
        self._call = event.call
        self._details = event.call_details
        self._metadata = event.invocation_metadata
        self._method = method
        self._deadline_s: float | None = None
        self._payload = b""
        self.is_over = False

    def begin(self) -> None:
        refusal = self._method.refusal(self._metadata)
        if refusal is not None:
            self._queue.pause_s = refusal.pause_s
            return self._send(None, refusal)
        self._queue.due += 1
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self.received)
        return None

    def received(self, event: Any) -> None:
        payload = event.batch_operations[0].message()
        if payload is None:
            name = self._details.method.decode()
            return self._send(None, Refusal(Code.UNIMPLEMENTED, f'"{name}" requires exactly one request message.'))
        self._deadline_s = deadline_in(self._details.deadline - time.time())
        unary = self._method.unary
        if len(payload) <= QUICK_PAYLOAD_BYTES and unary.has_quick():
            try:
                Context(self._deadline_s).check()
                # Quick answers need no deadline: they are there before it could be looked at again.
                caller = Context(remote=self._remote, grant=self._method.admit(self), is_reader=True)
                return self._send(unary.answer(payload, caller))
            except NotQuickError:
                pass
            except Exception as error:
                return self._send(None, _refusal_of(error))
        try:
            # From here on, because a message takes memory while it waits for a thread, too.
            self._queue.held.take(len(payload))
        except ResourceExhaustedError as error:
            return self._send(None, _refusal_of(error))
        self._payload = payload
        self._queue.due += 1
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self.closed)
        self._method.pool.submit(self._work)
        return None

    def closed(self, event: Any) -> None:
        """The call ended, by an answer or without one."""
        with self._queue.lock:
            self.is_over = True

    def sent(self, _event: Any) -> None:
        self.is_over = True

    def _work(self) -> None:
        """Answer on a thread of a pool."""
        payload, self._payload = self._payload, b""
        answer, refusal = None, None
        try:
            caller = Context(self._deadline_s, lambda: self.is_over, self._remote, self._method.admit(self))
            answer = self._method.unary.answer(payload, caller)
        except Exception as error:
            refusal = _refusal_of(error)
        finally:
            self._queue.held.give_back(len(payload))
        with self._queue.lock:
            if not self.is_over:
                # Under the lock, because the queue may be gone as soon as the call is over.
                self._queue.due_of_pools += 1
                self._write(answer, refusal)

    def _send(self, answer: bytes | None, refusal: Refusal | None = None) -> None:
        self._queue.due += 1
        self._write(answer, refusal)

    def _write(self, answer: bytes | None, refusal: Refusal | None) -> None:
        """Answer, or end the call with a status."""
        code, text = (_OK, b"") if refusal is None else (int(refusal.code), refusal.text.encode(errors="replace"))
        operations = [
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, code, text, _NO_FLAGS),
        ]
        if answer is not None:
            operations.append(cygrpc.SendMessageOperation(answer, _NO_FLAGS))
        self._call.start_server_batch(operations, self.sent)

    # What a gate asks of a call.

    def invocation_metadata(self) -> Any:
        return self._metadata

    def auth_context(self) -> Any:
        return {key.decode(): values for key, values in (cygrpc.auth_context(self._call) or {}).items()}

    def _remote(self) -> str:
        return self._call.peer().decode()  # type: ignore[no-any-return]


def _refusal_of(error: Exception) -> Refusal:
    known = as_serving_error(error)
    return Refusal(known.code, known.message)
