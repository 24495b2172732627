"""The seam between a version and what runs its requests.

Owns the interface, nothing behind it. The theory is one sentence: everything that computes outputs looks the same from
above, so ways of running can be put around each other.

    SessionRunner(session)                       one run of the graph for each request
    BatchingRunner(SessionRunner(session), ...)  requests that wait together share a run

The loader builds this once, when it opens a version; nothing is switched on later. Control goes down only: a runner
calls the one it was given, never the version above it. Another way of running, such as a cache of outputs, is one
class:

    class CachingRunner:
        def __init__(self, inner: Runner) -> None:
            self._inner = inner
            self._outputs: dict[bytes, Outputs] = {}

        def run(self, request: Request, context: Context) -> Outputs:
            key = digest(request)
            if key not in self._outputs:
                self._outputs[key] = self._inner.run(request, context)
            return self._outputs[key]

and the other members pass on to `inner`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from estimator_serving.serving.errors import UnavailableError
from estimator_serving.serving.request import Context, Outputs, Request


class Waiting(NamedTuple):
    """What waits in a queue."""

    requests: int
    rows: int


class Runner(Protocol):
    """Runs requests of one version. Every member may be called from many threads at once."""

    @property
    def is_quick(self) -> bool:
        """Whether a run takes microseconds, so that it is cheaper than handing the request to another thread."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether any request would be refused now, whatever its signature and however small."""
        ...

    def run(self, request: Request, context: Context) -> Outputs:
        """The outputs that a request names, in its order, by the signature's names; strings as arrays of str.

        request: its inputs have passed `Binding.check`, and it names its outputs one by one.

        Raises:
            CancelledError, DeadlineExceededError: nobody waits for the request any more; it did not run, or was ended.
            InvalidArgumentError: shapes or Examples that the graph refuses.
            ResourceExhaustedError: no memory for this request.
            Further ones, as the class says.
        """
        ...

    def waiting(self) -> Mapping[str, Waiting]:
        """What waits now, by signature."""
        ...

    @property
    def backlog_s(self) -> float:
        """How long what waits will take, if each run takes as long as the last one."""
        ...

    def refusal(self) -> UnavailableError:
        """The error for a request that is refused because `is_full`, before it came here; counts it."""
        ...

    def count_refusal(self) -> None:
        """As `refusal`, where nobody reads the error."""
        ...
