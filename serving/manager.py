"""The life of versions: START, LOADING, AVAILABLE, UNLOADING, END.

Owns which versions exist, their states, and the counted handles that keep a version alive while a request runs on it.
Knows neither where versions come from (a source says what is wanted) nor what a servable does (a loader makes it).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from estimator_serving.serving import errors, policy
from estimator_serving.serving.errors import Code
from estimator_serving.serving.policy import State, Verb
from estimator_serving.serving.request import ModelSpec
from estimator_serving.serving.servable import Servable

_log = logging.getLogger(__name__)

Load = Callable[[str, int, Path], Servable]


class VersionStatus(NamedTuple):
    """One version's state, with the error that ended it where one did."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


class Handle(Protocol):
    """Keeps one version loaded for the length of a `with` block, whose value is the servable."""

    def __enter__(self) -> Servable: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...


@dataclass
class _Version:
    """A version, and the counted handle on it: entering a `with` block takes no second look at the manager."""

    number: int
    path: Path
    release: Callable[[_Version], None]
    state: State = State.START
    servable: Servable | None = None
    handles: int = 0
    code: Code = Code.OK
    message: str = ""

    def __enter__(self) -> Servable:
        assert self.servable is not None, "a handle is only made of an available version"
        return self.servable

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        self.release(self)

    def status(self) -> VersionStatus:
        return VersionStatus(self.number, self.state, self.code, self.message)


@dataclass
class _Model:
    name: str
    versions: dict[int, _Version] = field(default_factory=dict)
    aspired: frozenset[int] = frozenset()
    newest: _Version | None = None
    settling: bool = False

    def settle_newest(self) -> None:
        available = [version for version in self.versions.values() if version.state is State.AVAILABLE]
        self.newest = max(available, key=lambda version: version.number, default=None)


class Manager:
    """Brings what is loaded to what is aspired, one step at a time for each model, models beside each other."""

    def __init__(self, load: Load, *, load_threads: int = 1) -> None:
        self._load = load
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._pool = ThreadPoolExecutor(load_threads, thread_name_prefix="load")

    def aspire(self, name: str, versions: Mapping[int, Path]) -> None:
        """Say which versions of a model are wanted: the whole set, each time. Returns before they are loaded."""
        with self._lock:
            model = self._models.setdefault(name, _Model(name))
            for number, path in versions.items():
                known = model.versions.get(number)
                if known is None or (known.state is State.END and number not in model.aspired):
                    model.versions[number] = _Version(number, path, partial(self._release, model))
            model.aspired = frozenset(versions)
            for number in [n for n, v in model.versions.items() if v.state is State.START and n not in model.aspired]:
                del model.versions[number]
            self._begin_settling(model)

    def servable(self, spec: ModelSpec) -> Handle:
        """Pin the version a request names, to be used as `with manager.servable(spec) as servable`.

        Raises:
            NotFoundError: no such model, or no such version available (the text is TensorFlow Serving's).
            InvalidArgumentError: an unknown label.
        """
        with self._lock:
            version = self._find(spec)
            version.handles += 1
        return version

    def _release(self, model: _Model, version: _Version) -> None:
        with self._lock:
            version.handles -= 1
            drained = version.handles == 0 and version.state is State.UNLOADING
        if drained:
            # Freeing a large session takes a while, and this may be the thread that answers all the others.
            self._pool.submit(self._end, model, version)

    def peek(self, name: str, version: int | None) -> Servable | None:
        """The servable a request would get now, unpinned: to look at, not to run. None where there is none."""
        model = self._models.get(name)
        if model is None:
            return None
        found = model.newest if version is None else model.versions.get(version)
        return found.servable if found else None

    def knows(self, name: str) -> bool:
        return name in self._models

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of all versions known since the start, newest first, or of one.

        Raises NotFoundError for an unknown model or version.
        """
        with self._lock:
            model = self._models.get(name)
            found = sorted(model.versions.values(), key=lambda v: -v.number) if model else []
            statuses = [entry.status() for entry in found]
        if not statuses:
            raise errors.NotFoundError(f"Could not find any versions of model {name}")
        if version is None:
            return statuses
        chosen = [status for status in statuses if status.version == version]
        if not chosen:
            raise errors.NotFoundError(f"Could not find version {version} of model {name}")
        return chosen

    def unready(self) -> str:
        """Why requests cannot be answered yet, as a sentence; empty when every model has an available version."""
        with self._lock:
            reasons = [_reason(model) for model in self._models.values() if model.newest is None]
        return " ".join(reasons) if reasons or self._models else "No model is configured."

    def wait_until_settled(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is left to load or retire; False when the time was up first."""
        with self._settled:
            return self._settled.wait_for(lambda: not any(model.settling for model in self._models.values()), timeout_s)

    def stop(self) -> None:
        """Finish the step at hand and take no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _find(self, spec: ModelSpec) -> _Version:
        if spec.label is not None:
            raise errors.InvalidArgumentError(f"Unrecognized servable version label: {spec.label}")
        model = self._models.get(spec.name)
        if spec.version is None:
            if model is None or model.newest is None:
                raise errors.NotFoundError(f"Servable not found for request: Latest({spec.name})")
            return model.newest
        version = model.versions.get(spec.version) if model else None
        if version is None or version.state is not State.AVAILABLE:
            raise errors.NotFoundError(f"Servable not found for request: Specific({spec.name}, {spec.version})")
        return version

    def _begin_settling(self, model: _Model) -> None:
        if not model.settling and _next_action(model):
            model.settling = True
            self._pool.submit(self._settle, model)

    def _settle(self, model: _Model) -> None:
        """Take one step after the other until the model is as aspired."""
        while (step := self._next_step(model)) is not None:
            verb, version = step
            if verb is Verb.LOAD:
                self._load_version(model, version)
            else:
                self._retire(model, version)

    def _next_step(self, model: _Model) -> tuple[Verb, _Version] | None:
        with self._settled:
            action = _next_action(model)
            if action is None:
                model.settling = False
                self._settled.notify_all()
                return None
            version = model.versions[action.version]
            version.state = State.LOADING if action.verb is Verb.LOAD else State.UNLOADING
            model.settle_newest()
            return action.verb, version

    def _load_version(self, model: _Model, version: _Version) -> None:
        try:
            servable = self._load(model.name, version.number, version.path)
        except Exception as error:
            # Whatever a file makes a loader do, it concerns this version alone: the others go on serving.
            known = errors.as_serving_error(error)
            version.code, version.message, version.state = known.code, known.message, State.END
            _log.error("Model %s version %d cannot be served: %s", model.name, version.number, known.message)
            return
        with self._lock:
            version.servable, version.state = servable, State.AVAILABLE
            model.settle_newest()
        _log.info("Model %s version %d is available.", model.name, version.number)

    def _retire(self, model: _Model, version: _Version) -> None:
        with self._lock:
            drained = version.handles == 0
        if drained:
            self._end(model, version)

    def _end(self, model: _Model, version: _Version) -> None:
        with self._lock:
            if version.state is not State.UNLOADING:
                return
            version.servable, version.state = None, State.END
            if version.number in model.aspired:  # wanted again while it drained
                model.versions[version.number] = _Version(version.number, version.path, version.release)
                self._begin_settling(model)
        _log.info("Model %s version %d is unloaded.", model.name, version.number)


def _next_action(model: _Model) -> policy.Action | None:
    return policy.availability_preserving(
        {number: version.state for number, version in model.versions.items()}, model.aspired
    )


def _reason(model: _Model) -> str:
    newest = max(model.versions.values(), key=lambda version: version.number, default=None)
    if newest is None:
        return f"Model {model.name} has no version yet; export one into its base path."
    because = f": {newest.message}" if newest.message else "."
    return f"Model {model.name} version {newest.number} is in state {newest.state.name}{because}"
