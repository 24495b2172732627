"""The versions of one model: their states, labels, and which of them a request names. No lock, no thread, no loading.

Owns the bookkeeping of a model; the Manager calls every method under its lock, and does the loads and the waits. A
version moves through TensorFlow Serving's states:

    START ──begin──▶ LOADING ──loaded──▶ AVAILABLE ──begin──▶ UNLOADING ──ended──▶ END
      │                 └────────────────failed─────────────────────────────────────▲
      └─ no longer aspired before it began: forgotten

- `begin` takes the step that the transition policy chose.
- A load that failed for a passing reason stays LOADING until it is tried again; no longer aspired, it is given up.
- UNLOADING lasts until the last handle is released: the version drains.
- END is final for a `Version`; if its number is aspired anew, or its files changed, a new Version takes its place.

While every version that was asked for has failed, or waits for another try, the newest spare version that has not
failed is aspired, too: a new version that is broken does not cost the old one.

A version counts as *decided* once it has left START and LOADING.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from estimator_serving.serving.errors import Code, InvalidArgumentError, NotFoundError, ServingError
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.policy import Action, NextAction, State, Verb
from estimator_serving.serving.request import ModelSpec
from estimator_serving.serving.running.servable import Servable


class VersionStatus(NamedTuple):
    """One version's state, with the error that ended it where one did."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclass(eq=False)
class Version:
    """A version, which is also the counted handle on it: `with version as servable` releases it at the end.

    release_to: is given the version when a handle is released, under no lock.
    cancel_retry: keeps a failed load from being tried again; None where no try is to come.
    is_withdrawn: whether it was served, and was taken out of service for its error.
    """

    number: int
    directory: VersionDirectory
    release_to: Callable[[Version], None]
    state: State = State.START
    servable: Servable | None = None
    handles: int = 0
    tries: int = 0
    error: ServingError | None = None
    cancel_retry: Callable[[], None] | None = None
    is_withdrawn: bool = False

    def __post_init__(self) -> None:
        # Not a method, because that would be another frame for each request.
        self.release: Callable[[], None] = partial(self.release_to, self)

    def __enter__(self) -> Servable:
        assert self.servable is not None, "a handle is only made of an available version"
        return self.servable

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        self.release_to(self)

    def status(self) -> VersionStatus:
        if self.error is None or self.state is not State.END:
            return VersionStatus(self.number, self.state)
        return VersionStatus(self.number, self.state, self.error.code, self.error.message)

    @property
    def has_failed(self) -> bool:
        """Whether it could not be loaded. Also while it is tried again: what stands in for it stays until then."""
        return self.error is not None and self.state in (State.END, State.LOADING)

    def hide_path(self, text: str) -> str:
        """A text for clients: what lies in the version's base path without the way there."""
        path = self.directory.path
        for base in dict.fromkeys((path.parent, path.parent.resolve(), path.resolve().parent)):
            text = text.replace(f"{base}{os.sep}", "")
        return text

    def give_up(self) -> None:
        """Do not try a failed load again."""
        if self.cancel_retry is not None:
            self.cancel_retry()
            self.cancel_retry = None


@dataclass(eq=False)
class Model:
    """The versions of one model.

    Attributes:
        configured: whether it is one of the models to serve; if not, its last versions are on their way out.
        aspired: the directories of the versions that are wanted, one that stands in for them included.
        asked, spare: as `aspire` was given them.
        release_to: of its versions.
        hint: why it may have no version, and what to do then; empty if that is plain.
        newest: the newest available version.
        settling: whether a thread is at work on its next steps.
    """

    name: str
    configured: bool = True
    versions: dict[int, Version] = field(default_factory=dict)
    aspired: Mapping[int, VersionDirectory] = field(default_factory=dict)
    asked: Mapping[int, VersionDirectory] = field(default_factory=dict)
    spare: Mapping[int, VersionDirectory] = field(default_factory=dict)
    release_to: Callable[[Version], None] = lambda _version: None
    labels: Mapping[str, int] = field(default_factory=dict)
    hint: str = ""
    newest: Version | None = None
    settling: bool = False

    # --- which version a request names ---

    def named_version(self, spec: ModelSpec) -> int | None:
        """The version a spec names by number or label, whatever its state; None where it leaves that open.

        Raises InvalidArgumentError for an unknown label.
        """
        if spec.label is None:
            return spec.version
        number = self.labels.get(spec.label)
        if number is None:
            raise InvalidArgumentError(f"Unrecognized servable version label: {spec.label}")
        return number

    def find(self, spec: ModelSpec) -> Version:
        """The available version a spec names: the newest one where it leaves that open.

        Raises NotFoundError where that is not available, or the error for which it was taken out of service;
        InvalidArgumentError for an unknown label.
        """
        number = spec.version if spec.label is None else self.named_version(spec)
        version = self.newest if number is None else self.versions.get(number)
        if version is not None and version.state is State.AVAILABLE:
            return version
        for one in self.by_age():
            if one.is_withdrawn and one.error is not None and number in (None, one.number):
                raise one.error
        which = f"Latest({self.name})" if number is None else f"Specific({self.name}, {number})"
        raise NotFoundError(f"Servable not found for request: {which}")

    # --- its steps ---

    def aspire(
        self,
        directories: Mapping[int, VersionDirectory],
        release_to: Callable[[Version], None],
        spare: Mapping[int, VersionDirectory] = MappingProxyType({}),
    ) -> None:
        """Want these versions and no others; while none of them can be served, the newest spare one that can.

        spare: is asked for a version's directory only when that version is needed, and may read its files then.

        A version that failed is tried anew if it was not wanted in between, or if its files changed.
        """
        for number, directory in directories.items():
            known = self.versions.get(number)
            is_new = number not in self.aspired or (known is not None and directory != known.directory)
            if known is None or (known.state is State.END and is_new):
                self.versions[number] = Version(number, directory, release_to)
        self.asked, self.spare, self.release_to = dict(directories), spare, release_to
        self.fall_back()
        for version in [version for version in self.versions.values() if version.number not in self.aspired]:
            if version.state is State.START:
                del self.versions[version.number]
            elif version.cancel_retry is not None:
                version.give_up()
                version.state = State.END

    def fall_back(self) -> None:
        """Aspire a spare version if every version that was asked for has failed; else none."""
        self.aspired = dict(self.asked)
        if not self.asked or not all(self.versions[number].has_failed for number in self.asked):
            return
        for number in sorted(self.spare, reverse=True):
            known = self.versions.get(number)
            if known is None or (known.state is State.END and known.directory != self.spare[number]):
                known = self.versions[number] = Version(number, self.spare[number], self.release_to)
            if not known.has_failed:
                if known.state is State.END:  # it was served before
                    self.versions[number] = Version(number, self.spare[number], self.release_to)
                self.aspired[number] = self.spare[number]
                return

    def next_action(self, policy: NextAction) -> Action | None:
        return policy({number: version.state for number, version in self.versions.items()}, frozenset(self.aspired))

    def begin(self, action: Action) -> Version:
        """Take a step: the version is loading or unloading now, and takes no more requests."""
        version = self.versions[action.version]
        version.state = State.LOADING if action.verb is Verb.LOAD else State.UNLOADING
        self._settle_newest()
        return version

    def note_loaded(self, version: Version, servable: Servable) -> None:
        version.servable, version.state, version.error = servable, State.AVAILABLE, None
        self.fall_back()
        self._settle_newest()

    def note_failed(self, version: Version) -> None:
        """It is not tried again; but if its files changed while they were read, it starts over."""
        version.state = State.END
        directory = self.aspired.get(version.number)
        if directory is not None and directory != version.directory:
            self.versions[version.number] = Version(version.number, directory, version.release_to)
        self.fall_back()

    def withdraw(self, version: Version, error: ServingError) -> None:
        """Take an available version out of service for an error, until its files change or it is aspired anew."""
        version.state, version.error, version.is_withdrawn = State.END, error, True
        self.fall_back()
        self._settle_newest()

    def note_ended(self, version: Version) -> Servable | None:
        """It is drained. Returns what was loaded, to be let go; if it is wanted again by now, it starts over."""
        servable, version.servable, version.state = version.servable, None, State.END
        directory = self.aspired.get(version.number)
        if directory is not None:
            self.versions[version.number] = Version(version.number, directory, version.release_to)
        return servable

    def _settle_newest(self) -> None:
        available = [version for version in self.versions.values() if version.state is State.AVAILABLE]
        self.newest = max(available, key=lambda version: version.number, default=None)

    # --- how it stands ---

    def by_age(self) -> list[Version]:
        """Its versions, newest first."""
        return sorted(self.versions.values(), key=lambda version: -version.number)

    @property
    def is_decided(self) -> bool:
        """Whether it serves a version, or has none left to try."""
        # One that is wanted again while it drains starts over.
        undecided = (State.START, State.LOADING, State.UNLOADING)
        return self.newest is not None or not any(
            version.number in self.aspired and version.state in undecided for version in self.versions.values()
        )

    def newest_status(self) -> VersionStatus:
        """The status of its newest version, whatever its state; where it has none, of version -1, with the reason."""
        reason = self.hint or "its base path holds no version that is wanted"
        none = VersionStatus(-1, State.END, Code.NOT_FOUND, reason)
        return next((version.status() for version in self.by_age()), none)

    def why_unready(self, *, starting: bool = False) -> str:
        """Why it serves nothing, as a sentence; empty where it serves. starting: whether it may not be polled yet."""
        if self.newest is not None:
            return ""
        newest = next(iter(self.by_age()), None)
        if newest is None:
            usual = "The server begins to look for its versions." if starting else "Export one into its base path."
            return f"Model {self.name} has no version yet. {self.hint or usual}"
        because = f": {newest.error.message}" if newest.error else "."
        return f"Model {self.name} version {newest.number} is in state {newest.state.name}{because}"


def why_unready(models: Collection[Model], *, starting: bool) -> str:
    """Why requests to these models cannot be answered yet, in sentences; empty when each has an available version.

    starting: whether the first models, or their versions, may not be known yet.
    """
    if not models:
        return "The server begins to load its first models." if starting else "No model is configured."
    reasons = [reason for model in models if (reason := model.why_unready(starting=starting))]
    if len(models) > 1 and reasons:
        reasons.insert(0, f"{len(models) - len(reasons)} of {len(models)} models are served.")
    return " ".join(reasons)
