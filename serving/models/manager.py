"""The life of versions: START, LOADING, AVAILABLE, UNLOADING, END.

Owns which versions exist, their states and labels, and the counted handles that keep a version alive while a request
runs on it. Knows neither where versions come from (a source says what is wanted) nor what a servable does (a loader
makes it).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from estimator_serving.serving import errors, policy
from estimator_serving.serving.errors import Code, ServingError
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.policy import NextAction, State, Verb
from estimator_serving.serving.request import ModelSpec
from estimator_serving.serving.running.servable import Servable

_log = logging.getLogger(__name__)

Load = Callable[[str, int, Path], Servable]

# What may pass by itself; everything else stays as long as the files do.
TRANSIENT = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})


class Retries(NamedTuple):
    """How often a load that failed for a passing reason is tried again, and after which pause."""

    most: int = 0
    interval_s: float = 60.0


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
    directory: VersionDirectory
    release: Callable[[_Version], None]
    state: State = State.START
    servable: Servable | None = None
    handles: int = 0
    tries: int = 0
    error: ServingError | None = None
    # Runs until a failed load is tried again.
    retry: threading.Timer | None = None

    def __enter__(self) -> Servable:
        assert self.servable is not None, "a handle is only made of an available version"
        return self.servable

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        self.release(self)

    def status(self) -> VersionStatus:
        if self.error is None or self.state is not State.END:
            return VersionStatus(self.number, self.state)
        return VersionStatus(self.number, self.state, self.error.code, self.error.message)


@dataclass
class _Model:
    name: str
    configured: bool = True
    versions: dict[int, _Version] = field(default_factory=dict)
    aspired: Mapping[int, VersionDirectory] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    newest: _Version | None = None
    settling: bool = False

    def settle_newest(self) -> None:
        available = [version for version in self.versions.values() if version.state is State.AVAILABLE]
        self.newest = max(available, key=lambda version: version.number, default=None)

    def pending(self) -> Iterator[_Version]:
        """The wanted versions that are not decided yet."""
        for version in self.versions.values():
            if version.number in self.aspired and version.state in (State.START, State.LOADING):
                yield version


class Manager:
    """Brings what is loaded to what is aspired, one step at a time for each model, models beside each other.

    load: makes a servable of a name, a version and its directory; unloaded: called after each version that was let go.
    """

    def __init__(
        self,
        load: Load,
        *,
        load_threads: int = 1,
        unload_threads: int = 1,
        next_action: NextAction = policy.availability_preserving,
        retries: Retries = Retries(),  # noqa: B008  # immutable
        unloaded: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._policy = next_action
        self._retries = retries
        self._unloaded = unloaded
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._stopped = False
        self._busy = 0
        self._loads = ThreadPoolExecutor(load_threads, thread_name_prefix="load")
        # Apart, so that a long load holds up no unload.
        self._unloads = ThreadPoolExecutor(unload_threads, thread_name_prefix="unload")

    # --- what is wanted ---

    def serve_only(self, names: Collection[str]) -> None:
        """Say which models there are; all versions of the others are unloaded, their labels forgotten."""
        with self._lock:
            for name in names:
                self._models.setdefault(name, _Model(name)).configured = True
            gone = [model for model in self._models.values() if model.configured and model.name not in names]
            for model in gone:
                model.configured, model.labels = False, {}
        for model in gone:
            self.aspire(model.name, {})

    def aspire(self, name: str, versions: Mapping[int, VersionDirectory]) -> None:
        """Say which versions of a model are wanted: the whole set, each time. Returns before they are loaded.

        A version that failed is tried anew when it was not wanted in between, or when its files changed.
        """
        with self._lock:
            model = self._models.setdefault(name, _Model(name))
            for number, directory in versions.items():
                known = model.versions.get(number)
                if known is None or (known.state is State.END and _is_new(known, directory, model)):
                    model.versions[number] = _Version(number, directory, partial(self._release, model))
            model.aspired = dict(versions)
            self._drop_unwanted(model)
            self._begin_settling(model)
            self._changed.notify_all()

    def set_labels(self, name: str, labels: Mapping[str, int]) -> None:
        """Replace a model's labels. Whether they may name these versions is the caller's to check."""
        with self._lock:
            self._models.setdefault(name, _Model(name)).labels = dict(labels)

    # --- what requests ask ---

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

    def peek(self, spec: ModelSpec) -> Servable | None:
        """The servable a request would get now, unpinned: to look at, not to run. None where there is none."""
        model = self._models.get(spec.name)
        if model is None:
            return None
        number = spec.version if spec.label is None else model.labels.get(spec.label, -1)
        found = model.newest if number is None else model.versions.get(number)
        return found.servable if found else None

    # --- how things stand ---

    def knows(self, name: str) -> bool:
        return name in self._models

    def names(self) -> list[str]:
        """The configured models, sorted."""
        with self._lock:
            return sorted(model.name for model in self._models.values() if model.configured)

    def labels(self, name: str) -> Mapping[str, int]:
        """A model's labels and the versions they name."""
        model = self._models.get(name)
        return model.labels if model else {}

    def named_version(self, spec: ModelSpec) -> int | None:
        """The version a request names by number or label, whatever its state; None where it leaves that open.

        Raises InvalidArgumentError for an unknown label.
        """
        if spec.label is None:
            return spec.version
        number = self.labels(spec.name).get(spec.label)
        if number is None:
            raise errors.InvalidArgumentError(f"Unrecognized servable version label: {spec.label}")
        return number

    def is_available(self, name: str, version: int) -> bool:
        with self._lock:
            model = self._models.get(name)
            found = model.versions.get(version) if model else None
            return found is not None and found.state is State.AVAILABLE

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

    def crowd(self) -> list[Servable]:
        """The versions that could answer where each of them would turn any request away now, else none.

        Looks without the lock: an answer that is a moment old is as good.
        """
        versions = [version for model in list(self._models.values()) for version in list(model.versions.values())]
        servables = [version.servable for version in versions if version.servable is not None]
        return servables if all(servable.is_full for servable in servables) else []

    def unready(self) -> str:
        """Why requests cannot be answered yet, as a sentence; empty when every model has an available version."""
        with self._lock:
            configured = [model for model in self._models.values() if model.configured]
            reasons = [_reason(model) for model in configured if model.newest is None]
        return " ".join(reasons) if reasons or configured else "No model is configured."

    def wait_until_settled(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is left to load or retire, or `stop`; False when the time was up first.

        A load that waits for its next try is not waited for.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped or not self._is_settling(), timeout_s)

    def wait_until_decided(self, names: Collection[str]) -> dict[str, VersionStatus | None]:
        """Wait until each of these models serves a version or has none left to try, or until `stop`.

        Returns what stopped those that do not serve: their newest version's status, None where they have no version.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or all(map(self._is_decided, names)))
            failed = [self._models[name] for name in names if self._models[name].newest is None]
            return {model.name: _newest_status(model) for model in failed}

    def interrupt(self) -> None:
        """End every wait, begin no further load, and try no failed one again."""
        with self._lock:
            self._stopped = True
            for model in self._models.values():
                for version in model.versions.values():
                    _cancel_retry(version)
            self._changed.notify_all()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Finish the steps at hand and take no more. False when one of them is still going after `timeout_s`."""
        self.interrupt()
        for pool in (self._loads, self._unloads):
            pool.shutdown(wait=False, cancel_futures=True)
        with self._changed:
            return self._changed.wait_for(lambda: self._busy == 0, timeout_s)

    # --- inside ---

    def _find(self, spec: ModelSpec) -> _Version:
        model = self._models.get(spec.name)
        number = self.named_version(spec)
        if number is None:
            if model is None or model.newest is None:
                raise errors.NotFoundError(f"Servable not found for request: Latest({spec.name})")
            return model.newest
        version = model.versions.get(number) if model else None
        if version is None or version.state is not State.AVAILABLE:
            raise errors.NotFoundError(f"Servable not found for request: Specific({spec.name}, {number})")
        return version

    def _is_settling(self) -> bool:
        return any(model.settling for model in self._models.values())

    def _is_decided(self, name: str) -> bool:
        model = self._models[name]
        return model.newest is not None or not any(model.pending())

    def _drop_unwanted(self, model: _Model) -> None:
        """Forget what was not begun, and give up what waits for another try."""
        for version in [v for v in model.versions.values() if v.number not in model.aspired]:
            if version.state is State.START:
                del model.versions[version.number]
            elif version.retry is not None:
                _cancel_retry(version)
                version.state = State.END

    def _next_action(self, model: _Model) -> policy.Action | None:
        states = {number: version.state for number, version in model.versions.items()}
        return self._policy(states, frozenset(model.aspired))

    def _begin_settling(self, model: _Model) -> None:
        if not model.settling and not self._stopped and self._next_action(model):
            model.settling = True
            self._submit(self._loads, self._settle, model)

    def _submit(self, pool: ThreadPoolExecutor, step: Callable[..., None], *arguments: Any) -> None:
        if not self._stopped:
            pool.submit(self._count, step, *arguments)

    def _count(self, step: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            if self._stopped:
                return
            self._busy += 1
        try:
            step(*arguments)
        finally:
            with self._lock:
                self._busy -= 1
                self._changed.notify_all()

    def _settle(self, model: _Model) -> None:
        """Take one step after the other until the model is as aspired."""
        while (step := self._next_step(model)) is not None:
            verb, version = step
            if verb is Verb.LOAD:
                self._load_version(model, version)
            else:
                self._retire(model, version)

    def _next_step(self, model: _Model) -> tuple[Verb, _Version] | None:
        with self._lock:
            action = None if self._stopped else self._next_action(model)
            if action is None:
                model.settling = False
                self._changed.notify_all()
                return None
            version = model.versions[action.version]
            version.state = State.LOADING if action.verb is Verb.LOAD else State.UNLOADING
            model.settle_newest()
            return action.verb, version

    def _load_version(self, model: _Model, version: _Version) -> None:
        _log.info("Loading model %s version %d from %s.", model.name, version.number, version.directory.path)
        try:
            servable = self._load(model.name, version.number, version.directory.path)
        except Exception as error:
            # Whatever a file makes a loader do, it concerns this version alone: the others go on serving.
            self._note_failure(model, version, errors.as_serving_error(error))
            return
        with self._lock:
            version.servable, version.state, version.error = servable, State.AVAILABLE, None
            model.settle_newest()
            self._changed.notify_all()
        _log.info("Model %s version %d is available.", model.name, version.number)

    def _note_failure(self, model: _Model, version: _Version, error: ServingError) -> None:
        with self._lock:
            version.error = error
            version.tries += 1
            again = self._will_retry(model, version)
            if again:
                version.retry = threading.Timer(self._retries.interval_s, self._try_again, (model, version))
                version.retry.daemon = True
                version.retry.start()
            else:
                version.state = State.END
                self._renew(model, version)
            self._changed.notify_all()
        then = f"; try {version.tries + 1} follows in {self._retries.interval_s:g} s" if again else ""
        _log.error("Model %s version %d cannot be served: %s%s", model.name, version.number, error.message, then)

    def _will_retry(self, model: _Model, version: _Version) -> bool:
        passing = version.error is not None and version.error.code in TRANSIENT
        wanted = version.number in model.aspired and not self._stopped
        return passing and wanted and version.tries <= self._retries.most

    def _renew(self, model: _Model, version: _Version) -> None:
        """Start over where the files changed while they were read."""
        directory = model.aspired.get(version.number)
        if directory is not None and directory != version.directory:
            model.versions[version.number] = _Version(version.number, directory, version.release)

    def _try_again(self, model: _Model, version: _Version) -> None:
        with self._lock:
            if version.retry is None:  # given up in between
                return
            version.retry = None
            self._submit(self._loads, self._load_again, model, version)

    def _load_again(self, model: _Model, version: _Version) -> None:
        self._load_version(model, version)
        with self._lock:
            self._begin_settling(model)

    def _retire(self, model: _Model, version: _Version) -> None:
        with self._lock:
            drained = version.handles == 0
        if drained:
            self._end(model, version)

    def _release(self, model: _Model, version: _Version) -> None:
        with self._lock:
            version.handles -= 1
            drained = version.handles == 0 and version.state is State.UNLOADING
            if drained:
                # Freeing a large session takes a while, and this may be the thread that answers all the others.
                self._submit(self._unloads, self._end, model, version)

    def _end(self, model: _Model, version: _Version) -> None:
        with self._lock:
            if version.state is not State.UNLOADING:
                return
            servable, version.servable, version.state = version.servable, None, State.END
            if version.number in model.aspired:  # wanted again while it drained
                directory = model.aspired[version.number]
                model.versions[version.number] = _Version(version.number, directory, version.release)
            self._begin_settling(model)
            self._changed.notify_all()
        del servable
        self._unloaded()
        _log.info("Model %s version %d is unloaded.", model.name, version.number)


def _is_new(known: _Version, directory: VersionDirectory, model: _Model) -> bool:
    return known.number not in model.aspired or directory != known.directory


def _cancel_retry(version: _Version) -> None:
    if version.retry is not None:
        version.retry.cancel()
        version.retry = None


def _newest(model: _Model) -> _Version | None:
    return max(model.versions.values(), key=lambda version: version.number, default=None)


def _newest_status(model: _Model) -> VersionStatus | None:
    newest = _newest(model)
    return newest.status() if newest else None


def _reason(model: _Model) -> str:
    newest = _newest(model)
    if newest is None:
        return f"Model {model.name} has no version yet; export one into its base path."
    because = f": {newest.error.message}" if newest.error else "."
    return f"Model {model.name} version {newest.number} is in state {newest.state.name}{because}"
