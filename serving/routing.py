"""Which version answers a request: chosen once, at the request's entrance.

Owns the one choice from which everything else about a request follows: the signatures that its payload is read by, the
session that runs it, the version named in the answer, and the thread it may run on. Knows neither payloads nor
transports. Versions come and go and labels move while requests are under way; a second choice later could name another
version than the first.

    choose(spec) ──▶ pinned ──close()──▶ closed
                └──▶ void                          nothing is pinned; asking for its servable raises the error

- *pinned*: the version is counted as in use, so it stays loaded until the route is closed, even if newer versions
  replace it meanwhile. An unload waits for the last such route, so a route is chosen when the request has arrived as
  a whole, and closed as soon as the answer is written.
- *void*: the spec names nothing that is loaded. The error waits until the servable is needed, because the dialects
  report a payload that they cannot parse before a model that does not exist.
- *closed*: for good. Closing again does nothing.

A route belongs to one request. It may be handed from the thread that chose it to the thread that answers, but never
shared, and so needs no lock. An entrance that knows the spec before it reads the payload (a URL) writes:

    route = router.choose(ModelSpec("titanic", label="stable"))
    if route.is_quick(len(payload)):
        answer = predictor.predict(codec, payload, route, context)            # here, on the reading thread
    else:
        executor.submit(predictor.predict, codec, payload, route, context)    # the same version, on another thread

`predict` closes the route. Whoever gives up before calling `predict` closes it instead. Where the payload carries the
spec (gRPC), `predict` is given no route and chooses one between the codec's `parse` and `decode`.

A canary would be another rule inside `choose`; a shadow would be a second pinned version on the route.
"""

from __future__ import annotations

import time
from typing import Any

from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.models.manager import Handle, Manager
from estimator_serving.serving.request import ModelSpec
from estimator_serving.serving.running.servable import Servable

# A payload larger than this takes long to read and to run, whatever the version took for its last requests.
QUICK_PAYLOAD_BYTES = 16 * 1024
# The longest time for which a full server reads nothing: clients wait for their refusals so long, and probes.
PAUSE_S_MAX = 0.02


class Route:
    """The version that was chosen for one request; `with route as servable` closes it at the end of the block.

    Attributes:
        pinned: the version while the route is neither void nor closed.
        is_full: whether the version had as many requests as it takes when it was chosen; then this one is refused.
    """

    __slots__ = ("_error", "_handle", "_is_quick", "is_full", "pinned", "spec")

    def __init__(self, spec: ModelSpec, handle: Handle | None, error: ServingError | None = None) -> None:
        self.spec = spec
        self._handle = handle
        self.pinned = handle.servable if handle is not None else None
        self._error = error
        # Looked up once, because nearly every request asks.
        self._is_quick = self.pinned is None or self.pinned.runner.is_quick
        self.is_full = not self._is_quick and self.pinned.runner.is_full  # type: ignore[union-attr]  # void is quick

    def is_quick(self, payload_bytes: int) -> bool:
        """Whether the request may run on the thread that reads requests.

        It may if the payload is small and the version's last runs took microseconds. A version that has not run yet is
        not quick, and one whose runs get slow stops being quick. A void route is quick, because nothing will run; so
        is one of a full version, whatever its payload, which nobody reads.
        """
        return self.is_full or (self._is_quick and payload_bytes <= QUICK_PAYLOAD_BYTES)

    def check_room(self) -> None:
        """Raises UnavailableError, and counts it, where the version is full."""
        if self.is_full:
            raise self.servable.runner.refusal()

    def close(self) -> None:
        """Let the version go; does nothing the second time."""
        handle = self._handle
        if handle is not None:
            self._handle = self.pinned = None
            handle.release()

    @property
    def servable(self) -> Servable:
        """The pinned version. Raises the error of a void route."""
        if self.pinned is None:
            raise self._error or RuntimeError("This route is closed; choose another one for each request.")
        return self.pinned

    def __enter__(self) -> Servable:
        return self.servable

    def __exit__(self, *_: Any) -> None:
        self.close()


class Router:
    """Chooses among the versions of a Manager."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        # What `full_for_s` found last holds until then.
        self._full_until_s = 0.0

    def choose(self, spec: ModelSpec) -> Route:
        """The route of a request that names `spec`; to be closed by whoever holds it last. Raises nothing."""
        try:
            return Route(spec, self._manager.servable(spec))
        except ServingError as error:
            return Route(spec, None, error)

    def full_for_s(self) -> float | None:
        """None if a version has room for a request, or none is loaded.

        Otherwise for how many seconds all of them have enough to do without a further request, as far as can be told. A
        front that reads nothing for so long saves the cores from many small interruptions of their runs, each of which
        costs more than a refusal, and answers the requests that came meanwhile one after the other. For these, the
        question is not asked again: looking at all versions takes longer than everything else about a refusal.
        """
        now_s = time.monotonic()
        if now_s < self._full_until_s:
            return self._full_until_s - now_s
        servables = self._manager.servables()
        if not servables:
            return None
        backlog_s = 2 * PAUSE_S_MAX
        for servable in servables:
            runner = servable.runner
            if not runner.is_full:
                return None
            backlog_s = min(backlog_s, runner.backlog_s)
        # Half of it, because the last run may say little about the next ones.
        self._full_until_s = now_s + backlog_s / 2
        return backlog_s / 2
