"""The versions that are loaded, and the threads that load and unload them.

Owns the lock around every model's bookkeeping, the order of the steps, and the counted handles that keep a version
alive while a request runs on it. Knows neither where versions come from (a source says what is aspired) nor what a
servable does (a loader makes it). The states of a version and the rules between them are in `versions`.

Who moves a version, and on which thread:

    START ▶ LOADING                a thread of the load pool, in `_settle`: one step at a time for each model
    LOADING ▶ AVAILABLE or END     the same thread, when `load` has returned or raised
    LOADING ▶ LOADING              a timer, after a failure that may pass; the load pool then tries again
    AVAILABLE ▶ UNLOADING          a thread of the load pool, in `_settle`
    UNLOADING ▶ END                that thread if nobody holds a handle; else the unload pool, after the last release

Every one of these happens under the manager's one lock, and so does everything that requests and sources ask. Loading
and freeing, which take long, happen outside it. A model *settles* while steps are left; at most one thread works on a
model, and models settle beside each other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from estimator_serving.serving import errors, policy
from estimator_serving.serving.errors import Code, NotFoundError, ServingError, UnavailableError
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.models.versions import Model, Version, VersionStatus, why_unready
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


class Handle(Protocol):
    """Keeps one version loaded until `release`, which is called once; a `with` block calls it at its end."""

    @property
    def servable(self) -> Servable | None: ...

    def release(self) -> None: ...

    def __enter__(self) -> Servable: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...


class Manager:
    """Brings what is loaded to what is aspired.

    load: makes a servable of a name, a version and its directory. unloaded: called after each version that was let go.

    Attributes:
        starting: whether the first models are being loaded. Until then, what is not there yet is no mistake of clients.
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
        self.starting = False
        self._models: dict[str, Model] = {}
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
                self._models.setdefault(name, Model(name)).configured = True
            unwanted = (model for model in self._models.values() if model.name not in names)
            gone = [model for model in unwanted if model.configured or model.aspired]
            for model in gone:
                model.configured, model.labels = False, {}
        for model in gone:
            self.aspire(model.name, {})

    def aspire(
        self,
        name: str,
        versions: Mapping[int, VersionDirectory],
        spare: Mapping[int, VersionDirectory] = MappingProxyType({}),
        /,
    ) -> None:
        """Say which versions of a model are wanted: the whole set, each time. Returns before they are loaded.

        spare: see `Model.aspire`.
        """
        with self._lock:
            model = self._models.setdefault(name, Model(name))
            model.aspire(versions, partial(self._release, model), spare)
            self._begin_settling(model)
            self._changed.notify_all()

    def set_hint(self, name: str, hint: str) -> None:
        """Say why a model may have no version, and what to do then, in sentences for clients; empty if plain."""
        with self._lock:
            self._models.setdefault(name, Model(name)).hint = hint
            self._changed.notify_all()

    def set_labels(self, name: str, labels: Mapping[str, int]) -> None:
        """Replace a model's labels. The caller checks whether they may name these versions."""
        with self._lock:
            self._models.setdefault(name, Model(name)).labels = dict(labels)
            self._changed.notify_all()

    # --- what requests ask ---

    def servable(self, spec: ModelSpec) -> Handle:
        """Pin the version a request names, to be used as `with manager.servable(spec) as servable`.

        Raises:
            NotFoundError: no such model, or no such version available (the text is TensorFlow Serving's).
            InvalidArgumentError: an unknown label.
            UnavailableError: not yet.
        """
        with self._lock:
            models = self._look()
            model = models.get(spec.name) or Model(spec.name)
            try:
                version = model.find(spec)
            except ServingError:
                if self.starting and (not models or spec.name in models):
                    raise UnavailableError(
                        f"Model {spec.name} is not served yet: the server loads its first models. Ask again later."
                    ) from None
                raise
            version.handles += 1
        return version

    # --- how things stand ---

    def servables(self) -> list[Servable]:
        """What is loaded now, unpinned: to look at, not to run.

        Takes no lock, because a list that is a moment old is as good.
        """
        return [
            servable
            for model in list(self._look().values())
            for version in list(model.versions.values())
            if (servable := version.servable) is not None
        ]

    def knows(self, name: str) -> bool:
        return name in self._look()

    def names(self) -> list[str]:
        """The configured models, sorted."""
        with self._lock:
            return sorted(model.name for model in self._look().values() if model.configured)

    def labels(self, name: str) -> Mapping[str, int]:
        """A model's labels and the versions they name."""
        return self._model(name).labels

    def named_version(self, spec: ModelSpec) -> int | None:
        """The version a request names by number or label, whatever its state; None where it leaves that open.

        Raises InvalidArgumentError for an unknown label.
        """
        return self._model(spec.name).named_version(spec)

    def is_available(self, name: str, version: int) -> bool:
        with self._lock:
            found = self._model(name).versions.get(version)
            return found is not None and found.state is State.AVAILABLE

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of all versions known since the start, newest first, or of one.

        Raises NotFoundError for an unknown model or version.
        """
        with self._lock:
            statuses = [found.status() for found in self._model(name).by_age()]
        if not statuses:
            raise NotFoundError(f"Could not find any versions of model {name}")
        chosen = [status for status in statuses if version in (None, status.version)]
        if not chosen:
            raise NotFoundError(f"Could not find version {version} of model {name}")
        return chosen

    def unready(self) -> str:
        """Why requests cannot be answered yet, in sentences; empty when every model has an available version."""
        with self._lock:
            return why_unready([model for model in self._look().values() if model.configured], starting=self.starting)

    def wait_until_settled(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is left to load or retire, or `stop`; False when the time was up first.

        A load that waits for its next try is not waited for.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self._stopped or not any(model.settling for model in self._models.values()), timeout_s
            )

    def wait_until_decided(self, names: Collection[str]) -> dict[str, VersionStatus]:
        """Wait until each of these models serves a version or has none left to try, or until `stop`.

        Returns what stopped those that do not serve: see `Model.newest_status`.
        """
        with self._changed:
            models = [self._models[name] for name in names]
            self._changed.wait_for(lambda: self._stopped or all(model.is_decided for model in models))
            return {model.name: model.newest_status() for model in models if model.newest is None}

    def interrupt(self) -> None:
        """End every wait, begin no further load, and try no failed one again."""
        with self._lock:
            self._stopped = True
            for model in self._models.values():
                for version in model.versions.values():
                    version.give_up()
            self._changed.notify_all()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Finish the steps at hand and take no more. False when one of them is still going after `timeout_s`."""
        self.interrupt()
        for pool in (self._loads, self._unloads):
            pool.shutdown(wait=False, cancel_futures=True)
        with self._changed:
            return self._changed.wait_for(lambda: self._busy == 0, timeout_s)

    # --- inside ---

    def _look(self) -> dict[str, Model]:
        """The models by name, as whoever asks finds them now."""
        return self._models

    def _model(self, name: str) -> Model:
        """A model; one without versions where it is unknown."""
        return self._look().get(name) or Model(name)

    def _begin_settling(self, model: Model) -> None:
        """With the lock held: see to it that a thread takes the model's next steps."""
        if not model.settling and not self._stopped and model.next_action(self._policy):
            model.settling = True
            self._submit(self._loads, self._settle, model)

    def _submit(self, pool: ThreadPoolExecutor, step: Callable[..., None], *arguments: Any) -> None:
        """With the lock held."""
        if not self._stopped:
            pool.submit(self._take_step, step, *arguments)

    def _take_step(self, step: Callable[..., None], *arguments: Any) -> None:
        """A step on a thread of a pool; `stop` waits for those that have begun."""
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

    def _settle(self, model: Model) -> None:
        """Take one step after the other until the model is as aspired."""
        while True:
            with self._lock:
                action = None if self._stopped else model.next_action(self._policy)
                if action is None:
                    model.settling = False
                    self._changed.notify_all()
                    return
                version = model.begin(action)
                drained = version.handles == 0
                self._changed.notify_all()
            if action.verb is Verb.LOAD:
                self._load_version(model, version)
            elif drained:
                self._end(model, version)

    def _load_version(self, model: Model, version: Version) -> None:
        _log.info("Loading model %s version %d from %s.", model.name, version.number, version.directory.path)
        try:
            servable = self._load(model.name, version.number, version.directory.path)
        except Exception as failure:
            # Whatever a file makes a loader do, it concerns only this version: the others go on serving.
            error, then = errors.as_serving_error(failure), ""
            with self._lock:
                version.error = type(error)(version.hide_path(str(error)))
                version.tries += 1
                wanted = version.number in model.aspired and not self._stopped
                if error.code in TRANSIENT and wanted and version.tries <= self._retries.most:
                    timer = threading.Timer(self._retries.interval_s, self._try_again, (model, version))
                    timer.daemon = True
                    version.cancel_retry = timer.cancel
                    timer.start()
                    model.fall_back()
                    then = f"; try {version.tries + 1} follows in {self._retries.interval_s:g} s"
                else:
                    model.note_failed(version)
                self._begin_settling(model)  # where this was another try
                self._changed.notify_all()
            _log.error("Model %s version %d cannot be served: %s%s", model.name, version.number, error.message, then)
            return
        with self._lock:
            model.note_loaded(version, servable)
            self._begin_settling(model)  # where this was another try
            self._changed.notify_all()
        _log.info("Model %s version %d is available.", model.name, version.number)
        if self.starting:
            served = sum(one.newest is not None for one in list(self._models.values()))
            _log.info("%d of %d models are served.", served, len(self._models))

    def _try_again(self, model: Model, version: Version) -> None:
        """On the timer's thread."""
        with self._lock:
            if version.cancel_retry is not None:  # else it was given up while the timer fired
                version.cancel_retry = None
                self._submit(self._loads, self._load_version, model, version)

    def _release(self, model: Model, version: Version) -> None:
        with self._lock:
            version.handles -= 1
            if version.handles == 0 and version.state is State.UNLOADING:
                # Freeing a large session takes a while, and this may be the thread that answers all the others.
                self._submit(self._unloads, self._end, model, version)

    def _end(self, model: Model, version: Version) -> None:
        with self._lock:
            servable = model.note_ended(version)
            self._begin_settling(model)
            self._changed.notify_all()
        del servable
        self._unloaded()
        _log.info("Model %s version %d is unloaded.", model.name, version.number)
