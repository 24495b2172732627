"""Which versions to serve and what to do next, as pure functions of what is there.

Owns the states of a version's life and the two decisions about them; touches no disk, no clock and no model.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
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


def latest(versions: Iterable[int], num_versions: int = 1) -> frozenset[int]:
    """The newest `num_versions` of the versions there are (0 counts as 1, as in TensorFlow Serving)."""
    return frozenset(sorted(versions)[-max(num_versions, 1) :])


def next_action(states: Mapping[int, State], aspired: frozenset[int]) -> Action | None:
    """The next step towards the aspired versions that never leaves a served model without one; None when done.

    An old version goes once an aspired one is available, once none is aspired, or while more than one old one is left;
    otherwise the newest aspired version that was not tried yet is loaded. A version that failed (END) is not retried
    while it stays aspired. Source: TensorFlow Serving's AvailabilityPreservingPolicy.
    """
    retired = [version for version, state in states.items() if state is State.AVAILABLE and version not in aspired]
    serving = any(state is State.AVAILABLE and version in aspired for version, state in states.items())
    if retired and (serving or not aspired or len(retired) > 1):
        return Action(Verb.UNLOAD, min(retired))
    fresh = [version for version, state in states.items() if state is State.START and version in aspired]
    return Action(Verb.LOAD, max(fresh)) if fresh else None
