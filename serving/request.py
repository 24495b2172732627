"""What travels between the codecs and the servable: names, versions, arrays, and how long the caller waits.

Knows no wire format and no transport.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from estimator_serving.serving.access.authorizer import Grant
from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.errors import CancelledError, DeadlineExceededError, PermissionDeniedError

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

DEFAULT_SIGNATURE = "serving_default"


class ModelSpec(NamedTuple):
    """Which signature of which version of which model. Without version and label: the newest available version."""

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = DEFAULT_SIGNATURE


class Document(NamedTuple):
    """A payload whose syntax is read, but not its meaning: that takes the model's signature.

    content: what the codec's parser made of it; payload: the bytes themselves.
    """

    spec: ModelSpec
    content: Any
    payload: bytes


class Request(NamedTuple):
    """One call of one signature.

    inputs: by the signature's input names; strings as object arrays of bytes, each array of its input's dtype or
        refused when the servable runs it.
    outputs: the signature's output names that are wanted, none meaning all.
    form: what the codec has to remember from decode to encode.
    """

    signature_name: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...] = ()
    form: Any = None


def _never() -> bool:
    return False


# The longest that a client may wait, whatever it says.
DEADLINE_S_MAX = 3600.0


class NotQuickError(Exception):
    """A request would hold the thread that reads requests. It has not run: it is to be answered on another thread."""


class Context(NamedTuple):
    """Who asks, and how long it waits for its answer. Requests whose deadline has passed or whose client has
    disconnected are skipped, and their results are dropped.

    deadline_s: the moment on `time.monotonic()` after which the answer is of no use, None without a deadline.
    cancelled: whether the caller has gone away; may be asked from any thread.
    remote: the caller's address, as its transport writes it; empty where that is unknown.
    grant: what the caller may do; None where nobody is asked who they are, and so everybody may do everything.
    is_reader: whether the thread that asks reads other requests, and so must not be held.
    """

    deadline_s: float | None = None
    cancelled: Callable[[], bool] = _never
    remote: Callable[[], str] = str
    grant: Grant | None = None
    is_reader: bool = False

    def may(self, right: Right, model: str | None = None) -> bool:
        """Whether the caller has a right for a model; without a model, for every one."""
        return self.grant is None or self.grant.may(right, model)

    def require(self, right: Right, model: str | None = None) -> None:
        """Raises PermissionDeniedError where the caller has no such right, whether or not the model exists."""
        if self.grant is not None:
            self.grant.check(right, model)

    def shown(self, reason: str) -> str:
        """Why requests cannot be answered, for this caller: in full only for one that may know of every model."""
        return (
            reason if self.may(Right.METADATA) else "Not every model answers; a caller that may see them is told why."
        )

    def require_management(self, model: str | None, *, is_open: bool, flag: str) -> None:
        """As `require`, for what changes the server. Where nobody is asked who they are, the operator decides by a flag
        whether everybody may."""
        if self.grant is not None:
            self.grant.check(Right.MANAGEMENT, model)
        elif not is_open:
            raise PermissionDeniedError(
                f"Clients may not change what this server does; start it with {flag} to let all of them, or with "
                "--auth_file to let those that have the right `management`."
            )

    @property
    def is_endless(self) -> bool:
        """Whether the caller waits for ever, as far as can be told."""
        return self.deadline_s is None and self.cancelled is _never

    def check(self) -> None:
        """Raise CancelledError or DeadlineExceededError where nobody waits for this request any more."""
        if self.cancelled is not _never and self.cancelled():
            raise CancelledError("The client cancelled the request, or has gone.")
        if self.deadline_s is not None and time.monotonic() >= self.deadline_s:
            raise DeadlineExceededError("Timed out waiting for notification; the deadline has passed.")


PATIENT = Context()


def as_strings(values: list[bytes]) -> Array:
    """A [n] object array of bytes objects (numpy's own bytes dtype would cut trailing NULs)."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
