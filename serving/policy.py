"""Which versions to serve and what to do next, as pure functions of what is there.

Owns the states of a version's life, the version policies and the two transition policies; touches no disk, no clock and
no model.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class State(enum.IntEnum):
    """A version's life, numbered as ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Verb(enum.Enum):
    LOAD = enum.auto()
    UNLOAD = enum.auto()


class Action(NamedTuple):
    """The next step for one model."""

    verb: Verb
    version: int


# --- which versions are wanted ---


@dataclass(frozen=True)
class Latest:
    """The newest `num_versions` (0 counts as 1, as in TensorFlow Serving)."""

    num_versions: int = 1

    def choose(self, found: Iterable[int]) -> frozenset[int]:
        return frozenset(sorted(found)[-max(self.num_versions, 1) :])


@dataclass(frozen=True)
class All:
    """Every version there is."""

    def choose(self, found: Iterable[int]) -> frozenset[int]:
        return frozenset(found)


@dataclass(frozen=True)
class Specific:
    """These versions, where they are there."""

    versions: frozenset[int]

    def choose(self, found: Iterable[int]) -> frozenset[int]:
        return self.versions.intersection(found)


VersionPolicy = Latest | All | Specific


# --- what to do next ---


def availability_preserving(states: Mapping[int, State], aspired: frozenset[int]) -> Action | None:
    """The next step towards the aspired versions that never leaves a served model without one; None when done.

    An old version goes once an aspired one is available, once none is aspired, or while more than one old one is left;
    otherwise the newest aspired version that was not tried yet is loaded. A version that failed (END) is not retried
    while it stays aspired. Source: TensorFlow Serving's AvailabilityPreservingPolicy.
    """
    retired = _retired(states, aspired)
    serving = any(state is State.AVAILABLE and version in aspired for version, state in states.items())
    if retired and (serving or not aspired or len(retired) > 1):
        return Action(Verb.UNLOAD, min(retired))
    return _next_load(states, aspired)


def resource_preserving(states: Mapping[int, State], aspired: frozenset[int]) -> Action | None:
    """The next step that never holds an old and a new version at once; None when done, or while an old one drains.

    Source: TensorFlow Serving's ResourcePreservingPolicy.
    """
    retired = _retired(states, aspired)
    if retired:
        return Action(Verb.UNLOAD, min(retired))
    leaving = any(
        version not in aspired and state in (State.LOADING, State.UNLOADING) for version, state in states.items()
    )
    return None if leaving else _next_load(states, aspired)


NextAction = Callable[[Mapping[int, State], frozenset[int]], Action | None]
TRANSITIONS: Mapping[str, NextAction] = {
    "availability_preserving": availability_preserving,
    "resource_preserving": resource_preserving,
}


def _retired(states: Mapping[int, State], aspired: frozenset[int]) -> list[int]:
    return [version for version, state in states.items() if state is State.AVAILABLE and version not in aspired]


def _next_load(states: Mapping[int, State], aspired: frozenset[int]) -> Action | None:
    fresh = [version for version, state in states.items() if state is State.START and version in aspired]
    return Action(Verb.LOAD, max(fresh)) if fresh else None
