"""Inferences that run on threads, because they would hold the event loop: what all of them share, and one of them.

Owns the threads, the memory that bodies may hold together, how long a client waits, and the life of one inference
between the loop and its thread. Two callers read bodies and write answers: the protocol, for whole bodies of a known
length, which it hands over without a task or a scope, and the application, for all others.

    begun ──its thread ends──▶ answered with its reply
      ├─────its time is up───▶ answered with that; what its thread gives later is dropped
      └─────the client goes──▶ gone: the run is skipped or ended, and nothing is written

All but the run happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from estimator_serving.serving.access.authorizer import Grant
from estimator_serving.serving.dialects.base import HttpError, Reply
from estimator_serving.serving.errors import DeadlineExceededError, ServingError, UnavailableError
from estimator_serving.serving.http import encoding
from estimator_serving.serving.http.claims import Claim
from estimator_serving.serving.request import Context
from estimator_serving.serving.routing import Route


class Slow:
    """What the inferences on threads share. For use on one thread, the event loop's.

    timeout_s: how long a client waits. body_bytes_max: of one body. held_bytes_max: of all bodies that are being
    received or worked on.

    Attributes:
        held_bytes: of these bodies now. Whoever receives them adds to it, and takes it off again.
    """

    def __init__(self, threads: ThreadPoolExecutor, timeout_s: float, body_bytes_max: int, held_bytes_max: int) -> None:
        self.threads = threads
        self.timeout_s = timeout_s
        self.body_bytes_max = body_bytes_max
        self.held_bytes = 0
        self._held_bytes_max = held_bytes_max

    def check_room(self) -> None:
        """Raises UnavailableError where the bodies hold more than they may."""
        if self.held_bytes > self._held_bytes_max:
            raise UnavailableError("The requests under way fill the memory set aside for them; ask again.")


class SlowInference:
    """One inference on a thread.

    It also stands where uvicorn keeps a connection's cycle of scope, task and events, and so has what uvicorn asks of
    one.

    finish: called once with the reply, unless the client has gone.

    Attributes:
        keep_alive: whether the connection stays open after the answer.
        response_complete: whether it was answered.
    """

    response_started = False
    message_event = asyncio.Event()  # nobody waits for it

    def __init__(
        self,
        slow: Slow,
        claim: Claim,
        route: Route | None,
        *,
        keep_alive: bool,
        finish: Callable[[SlowInference, Reply], None],
    ) -> None:
        self._slow, self._claim, self._route = slow, claim, route
        self._finish = finish
        self._ends_s = time.monotonic() + slow.timeout_s
        self.keep_alive = keep_alive
        self.disconnected = self.response_complete = False

    def start(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        remote: Callable[[], str],
        grant: Grant | None,
        *,
        is_compressed: bool = False,
    ) -> None:
        """Hand it to a thread."""
        loop = asyncio.get_running_loop()
        context = Context(self._ends_s, self._is_over, remote, grant)
        self._timer = loop.call_later(self._slow.timeout_s, self._time_is_up)
        submitted = self._slow.threads.submit(self._run, headers, body, context, is_compressed)
        submitted.add_done_callback(partial(self._hand_over, loop))

    def _is_over(self) -> bool:
        """Whether nobody waits for it any more; asked by its thread."""
        return self.disconnected or self.response_complete

    def _run(self, headers: Iterable[tuple[bytes, bytes]], body: bytes, context: Context, is_compressed: bool) -> Reply:
        if is_compressed:
            try:
                body = encoding.inflate(body, self._slow.body_bytes_max)
            except (HttpError, ServingError) as error:
                return self._claim.dialect.refuse(error)
        return self._claim.infer(self._route, headers, body, context)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, done: Future[Reply]) -> None:
        """Back to the loop, from its thread; or from any thread, where the pool ended before its turn."""
        if self._route is not None:
            self._route.close()  # also if the body could not be inflated
        if not done.cancelled():
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._answer, done)

    def _answer(self, done: Future[Reply]) -> None:
        if not self._is_over():
            self._end(done.result())

    def _time_is_up(self) -> None:
        self.refuse(
            DeadlineExceededError(
                f"Timed out waiting for notification: no answer within {self._slow.timeout_s:g} seconds; send less at "
                "once, or serve with a longer --rest_api_timeout_in_ms."
            )
        )

    def refuse(self, error: ServingError) -> None:
        """Wait no longer for the run, and answer with an error."""
        if not self._is_over():
            self._end(self._claim.dialect.refuse(error))

    def leave(self) -> None:
        """The client has gone."""
        self.disconnected = True
        self._timer.cancel()

    def _end(self, reply: Reply) -> None:
        self._timer.cancel()
        self.response_complete = True
        self._finish(self, reply)
