"""What travels between the codecs and the servable: names, versions, arrays, and how long the caller waits.

Knows no wire format and no transport.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from estimator_serving.serving.errors import CancelledError, DeadlineExceededError

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
    """A payload whose syntax is read and whose meaning is not: that takes the model's signature.

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


def _nobody() -> str:
    return ""


# The longest that anybody is waited for, whatever a client says.
DEADLINE_S_MAX = 3600.0


class Context(NamedTuple):
    """Who asks, and how long it waits for its answer. Work that nobody waits for any more is not begun, nor
    is its result written.

    deadline_s: the moment on `time.monotonic()` after which the answer is of no use, None where there is no such.
    cancelled: whether the caller has gone away; may be asked from any thread.
    remote: the caller's address, as its transport writes it.
    """

    deadline_s: float | None = None
    cancelled: Callable[[], bool] = _never
    remote: Callable[[], str] = _nobody

    @property
    def is_endless(self) -> bool:
        """Whether somebody waits for this request for ever, as far as can be told."""
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
