"""Looks at base paths and says which versions of each model are wanted: the whole set each time.

Owns the rules for version directories, and when one is taken for whole; loads nothing and knows no manager.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from estimator_serving.serving.models.model_config import ModelConfig, VersionDirectory
from estimator_serving.serving.models.poll import Poll
from estimator_serving.serving.policy import Specific

_log = logging.getLogger(__name__)

VERSION_MAX = 2**63 - 1
_VERSION_NAME = re.compile(r"[0-9]+")
_ALMOST_VERSION_NAME = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*")
# A directory that nobody wrote into for this long is not being copied any more.
QUIET_S = 2.0
# Whoever still copies into a directory does so within this time.
SETTLE_S = 0.05
# Files looked at for a stamp; more than a version directory has, fewer than take long.
STAMPED_FILES_MAX = 10_000

Aspire = Callable[[str, Mapping[int, VersionDirectory]], None]


def find_versions(base_path: Path) -> tuple[dict[int, Path], list[str]]:
    """The version directories under a base path by number, and why other entries are none although they look like one.

    A version directory is one whose whole name is an integer that fits int64; leading zeros are allowed. Everything
    else (temporary directories, files) is no version. Raises OSError when the base path cannot be read.
    """
    versions: dict[int, Path] = {}
    complaints: list[str] = []
    for path in sorted(base_path.iterdir()):
        if not _ALMOST_VERSION_NAME.fullmatch(path.name):
            continue
        reason = _why_not(path)
        if reason:
            complaints.append(f"{path} is no version: {reason}.")
        elif int(path.name) in versions:
            complaints.append(
                f"Both {versions[int(path.name)]} and {path} are version {int(path.name)}; the first is used."
            )
        else:
            versions[int(path.name)] = path
    return versions, complaints


def _why_not(path: Path) -> str:
    """Why something whose name is almost a number is no version directory; empty where it is one."""
    if not _VERSION_NAME.fullmatch(path.name):
        return "its name is not a whole number of digits alone"
    if int(path.name) > VERSION_MAX:
        return f"its number is above {VERSION_MAX}"
    if not path.is_dir():
        return "it is a file" if path.is_file() else "it is a link that leads nowhere, or no directory"
    return "" if os.access(path, os.R_OK | os.X_OK) else "it cannot be read; grant the server's user access"


class Look(NamedTuple):
    """What one look at a version directory saw.

    stamp: a number that changes with any of its files.
    written_s: when one of them was written last, in seconds since 1970.
    """

    stamp: int
    written_s: float

    @property
    def is_quiet(self) -> bool:
        """Whether nobody wrote lately. A clock that jumped costs a pause or spares one, no more."""
        return abs(time.time() - self.written_s) > QUIET_S


def look_at(directory: Path) -> Look:
    """Look at every file of a version directory."""
    seen: list[tuple[str, int, int]] = []
    for path in _files(directory):
        try:
            status = path.lstat()
        except OSError:  # gone in between
            continue
        seen.append((str(path), status.st_size, status.st_mtime_ns))
    return Look(hash(tuple(sorted(seen))), max((written_ns for _, _, written_ns in seen), default=0) / 1e9)


def _files(directory: Path) -> Iterator[Path]:
    count = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            count += 1
            if count > STAMPED_FILES_MAX:
                return
            yield Path(folder, name)


class DirectorySource:
    """Watches the base paths of models and hands the wanted versions of each to `aspire`, again at every look.

    A base path that cannot be read changes nothing: what is served stays; the other models are looked at all the same.
    One without versions asks for none, unless `always_present`. A new version directory counts once nobody writes into
    it any more; with a single look there is no later, so it counts at once.
    """

    def __init__(
        self, aspire: Aspire, *, poll_wait_s: float, always_present: bool = False, settle_s: float = SETTLE_S
    ) -> None:
        self._aspire = aspire
        self._poll_wait_s = poll_wait_s
        self._always_present = always_present
        self._settle_s = settle_s if poll_wait_s > 0 else 0
        self._models: tuple[ModelConfig, ...] = ()
        self._stamps: dict[Path, int] = {}
        self._complaints: dict[str, tuple[str, ...]] = {}
        # One look at a time: a later one must not be overtaken by what an earlier one saw.
        self._looking = threading.Lock()
        self._poll = Poll("source", self.look, poll_wait_s)

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Watch these models instead of the earlier ones, and look once, unless looks are off (poll_wait_s < 0)."""
        with self._looking:
            self._models = tuple(models)
            if self._poll_wait_s >= 0:
                self._look()

    def start(self) -> None:
        """Keep looking in a thread, where poll_wait_s > 0."""
        self._poll.start()

    def stop(self) -> None:
        self._poll.stop()

    def look(self) -> None:
        """Look once, now, and hand over what is wanted."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        found = {model.name: versions for model in self._models if (versions := self._find(model)) is not None}
        unsettled = self._unsettled(found)
        for model in self._models:
            if model.name not in found:
                continue
            whole = {number: path for number, path in found[model.name].items() if path not in unsettled}
            try:
                self._hand_over(model, whole, is_empty=not found[model.name])
            except Exception:
                # The thread has to outlive any one look, or new versions would never be seen again.
                _log.exception("Looking at %s failed; it will be looked at again.", model.base_path)

    def _find(self, model: ModelConfig) -> dict[int, Path] | None:
        """A model's version directories; None where its base path cannot be read."""
        try:
            versions, complaints = find_versions(model.base_path)
        except OSError as error:
            self._complain(
                model,
                [f"The base path {model.base_path} cannot be read: {error.strerror}; create it, or fix the path."],
            )
            return None
        if isinstance(model.version_policy, Specific):
            absent = sorted(model.version_policy.versions - versions.keys())
            complaints += [f"Version {number} of model {model.name} is wanted and not there." for number in absent]
        if not versions:
            complaints.append(f"The base path {model.base_path} holds no version directory; export a model into it.")
        self._complain(model, complaints)
        return versions

    def _unsettled(self, found: Mapping[str, Mapping[int, Path]]) -> set[Path]:
        """Which of the new directories somebody is still writing into."""
        if not self._settle_s:
            return set()
        wanted = [
            versions[number]
            for model in self._models
            for versions in [found.get(model.name, {})]
            for number in model.version_policy.choose(versions)
        ]
        before = {path: look_at(path) for path in wanted if path not in self._stamps}
        fresh = [path for path, look in before.items() if not look.is_quiet]
        if fresh:
            self._poll.pause(self._settle_s)
        return {path for path in fresh if look_at(path).stamp != before[path].stamp}

    def _hand_over(self, model: ModelConfig, versions: Mapping[int, Path], *, is_empty: bool) -> None:
        if is_empty and self._always_present:
            return
        chosen = sorted(model.version_policy.choose(versions))
        self._aspire(
            model.name, {number: VersionDirectory(versions[number], self._stamp(versions[number])) for number in chosen}
        )

    def _stamp(self, path: Path) -> int:
        """The stamp to hand over: a changed one once the change is over."""
        look = look_at(path)
        known = self._stamps.setdefault(path, look.stamp)
        if look.stamp == known or not look.is_quiet:
            return known
        _log.warning("Files of %s changed after it was found. A version that is loaded stays as it is.", path)
        self._stamps[path] = look.stamp
        return look.stamp

    def _complain(self, model: ModelConfig, texts: Sequence[str]) -> None:
        """Log a lasting complaint once, not at every look."""
        known = self._complaints.get(model.name, ())
        for text in texts:
            if text not in known:
                _log.warning("%s", text)
        self._complaints[model.name] = tuple(texts)
