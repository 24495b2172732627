"""Polls base paths and says which versions of each model are wanted: the whole set each time.

Owns the rules for version directories, and the rule when a directory counts as whole; loads nothing and knows no
manager.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from estimator_serving.serving.models.model_config import ModelConfig, VersionDirectory
from estimator_serving.serving.models.model_files import (
    AS_TEXT_HINT,
    MODEL_FILE,
    SAVED_MODEL_FILE,
    SAVED_MODEL_TEXT_FILE,
    import_command,
)
from estimator_serving.serving.models.poll import Poll
from estimator_serving.serving.policy import Latest, Specific

_log = logging.getLogger(__name__)

VERSION_MAX = 2**63 - 1
_VERSION_NAME = re.compile(r"[0-9]+")
_ALMOST_VERSION_NAME = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*")
# A directory that nobody wrote into for this long is not being copied any more.
QUIET_S = 2.0
# Whoever still copies into a directory does so within this time.
SETTLE_S = 0.05
# Files that a stamp covers; more than a version directory has, fewer than take long.
STAMPED_FILES_MAX = 10_000


# What clients are told of a base path that cannot be read, without its name, by the kind of the error.
_UNREADABLE: Mapping[type[OSError], str] = {
    FileNotFoundError: "does not exist; create it, or correct the path in the server's configuration",
    NotADirectoryError: "is a file; give the directory that holds the version directories",
    PermissionError: "cannot be read; grant the server's user access",
    OSError: "cannot be read; the server's log says why",
}
_ABSENT = (
    "Its base path has none of the specific versions that the configuration asks for; export one of them, or ask for "
    "another."
)


class Aspire(Protocol):
    """Says which versions of a model are wanted.

    spare: older versions, for as long as none of those can be served.
    """

    def __call__(
        self, name: str, versions: Mapping[int, VersionDirectory], spare: Mapping[int, VersionDirectory], /
    ) -> None: ...


def find_versions(base_path: Path) -> tuple[dict[int, Path], list[str]]:
    """The version directories under a base path by number, and sentences about entries that only look like one.

    A version directory is one whose whole name is an integer that fits int64; leading zeros are allowed. Everything
    else (temporary directories, files) is no version. Raises OSError when the base path cannot be read.
    """
    versions: dict[int, Path] = {}
    complaints: list[str] = []
    for path in sorted(base_path.iterdir()):
        if not _ALMOST_VERSION_NAME.fullmatch(path.name):
            continue
        reason = ""
        if not _VERSION_NAME.fullmatch(path.name):
            reason = "its name is not a whole number in digits"
        elif int(path.name) > VERSION_MAX:
            reason = f"its number is above {VERSION_MAX}"
        elif not path.is_dir():
            reason = "it is a file" if path.is_file() else "it is a link that leads nowhere, or no directory"
        elif not os.access(path, os.R_OK | os.X_OK):
            reason = "it cannot be read; grant the server's user access"
        if reason:
            complaints.append(f"{path} is no version: {reason}.")
        elif int(path.name) in versions:
            complaints.append(
                f"Both {versions[int(path.name)]} and {path} are version {int(path.name)}; the first is used."
            )
        else:
            versions[int(path.name)] = path
    return versions, complaints


def misplaced(base_path: Path) -> tuple[str, str]:
    """What to do with a model that lies in the base path itself, for clients, empty where none does; and for the log,
    why the base path has no version."""
    if (base_path / MODEL_FILE).is_file():
        if _VERSION_NAME.fullmatch(base_path.name):
            hint = f"The base path is the directory of version {base_path.name}; give the directory above it."
        else:
            hint = f"The base path holds {MODEL_FILE} itself; put it into a directory 1/ there."
        return hint, f"{base_path} is not served. {hint}"
    if (base_path / SAVED_MODEL_FILE).is_file():
        hint = "The base path holds a TensorFlow SavedModel; convert it with `estimator-serving import`"
        command = import_command(base_path, base_path)
        return f"{hint}, and serve the result. The log has the whole command.", f"{hint}: {command}"
    if (base_path / SAVED_MODEL_TEXT_FILE).is_file():
        hint = f"The base path holds a TensorFlow SavedModel as text. {AS_TEXT_HINT}"
        return hint, f"{base_path} is not served. {hint}"
    return "", f"The base path {base_path} holds no version directory; export a model into it."


class Scan(NamedTuple):
    """What the files of a version directory were like at one moment.

    stamp: a number that changes with any of its files.
    written_s: when one of them was written last, in seconds since 1970.
    """

    stamp: int
    written_s: float

    @property
    def is_quiet(self) -> bool:
        """Whether nobody wrote lately. A clock that jumped costs a pause or spares one, no more."""
        return abs(time.time() - self.written_s) > QUIET_S


def scan(directory: Path) -> Scan:
    """Scan every file of a version directory."""
    seen: list[tuple[str, int, int]] = []
    paths = (Path(folder, name) for folder, _, names in os.walk(directory) for name in names)
    for path in islice(paths, STAMPED_FILES_MAX):
        try:
            status = path.stat()
        except OSError:  # gone in between
            continue
        seen.append((str(path), status.st_size, status.st_mtime_ns))
    return Scan(hash(tuple(sorted(seen))), max((written_ns for _, _, written_ns in seen), default=0) / 1e9)


class Spares(Mapping[int, VersionDirectory]):
    """Older versions of one model. The files of one are scanned when it is asked for, so that the others cost nothing.

    Attributes:
        asked: the numbers that were asked for.
    """

    def __init__(self, paths: Mapping[int, Path], stamp: Callable[[Path], int], again: Collection[int] = ()) -> None:
        """again: numbers that will be asked for as before. They are scanned now, where nobody waits for it."""
        self._paths = paths
        self._stamp = stamp
        self._scanned = {number: VersionDirectory(paths[number], stamp(paths[number])) for number in again}
        self.asked: set[int] = set()

    def __getitem__(self, number: int) -> VersionDirectory:
        path = self._paths[number]
        self.asked.add(number)
        if number not in self._scanned:
            self._scanned[number] = VersionDirectory(path, self._stamp(path))
        return self._scanned[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class DirectorySource:
    """Watches the base paths of models and hands the wanted versions of each to `aspire`, again at every poll.

    set_hint: is told why a model may have no version, and what to do then, in sentences for clients; empty if that is
    plain.

    A base path that cannot be read changes nothing: what is served stays, and the other models are polled all the same.
    One without versions asks for none, unless `always_present`. A new version directory counts once nobody writes into
    it any more; with a single poll there is no later, so it counts at once.

        source = DirectorySource(manager.aspire, manager.set_hint, poll_wait_s=1.0)
        source.watch([ModelConfig("titanic", Path("/models/titanic"))])  # aspires what is there, at once
        source.start()                                                   # and again after each second
    """

    def __init__(
        self, aspire: Aspire, set_hint: Callable[[str, str], None], *,
        poll_wait_s: float, always_present: bool = False, settle_s: float = SETTLE_S,
    ) -> None:  # fmt: skip
        self._aspire = aspire
        self._set_hint = set_hint
        self._poll_wait_s = poll_wait_s
        self._always_present = always_present
        self._settle_s = settle_s if poll_wait_s > 0 else 0
        self._models: tuple[ModelConfig, ...] = ()
        self._stamps: dict[Path, int] = {}
        self._spares: dict[str, Spares] = {}
        self._complaints: dict[str, tuple[str, ...]] = {}
        # One poll at a time: a later one must not be overtaken by what an earlier one saw.
        self._polling = threading.Lock()
        self._poll = Poll("source", self.poll, poll_wait_s)

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Watch these models instead of the earlier ones, and poll once, unless polling is off (poll_wait_s < 0)."""
        with self._polling:
            self._models = tuple(models)
            self._spares.clear()
            if self._poll_wait_s >= 0:
                self._poll_models()

    def start(self) -> None:
        """Keep polling in a thread, if poll_wait_s > 0."""
        self._poll.start()

    def stop(self) -> None:
        self._poll.stop()

    def poll(self) -> None:
        """Poll once, now, and hand over what is wanted."""
        with self._polling:
            self._poll_models()

    def _find(self) -> dict[str, dict[int, Path]]:
        """The version directories of each model whose base path can be read; says what is wrong with the others'."""
        found: dict[str, dict[int, Path]] = {}
        for model in self._models:
            base = model.base_path
            try:
                versions, complaints = find_versions(base)
            except OSError as error:
                self._set_hint(model.name, f"Its base path {_UNREADABLE.get(type(error), _UNREADABLE[OSError])}.")
                text = f"The base path {base} cannot be read: {error.strerror}; create it, or fix the path."
                self._complain(model, [text])
                continue
            hint = ""
            if not versions:
                hint, complaint = misplaced(base)
                complaints.append(complaint)
            if isinstance(model.version_policy, Specific):
                absent = sorted(model.version_policy.versions - versions.keys())
                complaints += [f"Version {number} of model {model.name} is wanted and not there." for number in absent]
                if len(absent) == len(model.version_policy.versions):
                    hint = hint or _ABSENT
            self._set_hint(model.name, hint)
            self._complain(model, complaints)
            found[model.name] = versions
        return found

    def _poll_models(self) -> None:
        found = self._find()
        unsettled = self._unsettled(found)
        for model in self._models:
            if model.name not in found:
                continue
            if self._always_present and not found[model.name]:
                continue
            whole = {number: path for number, path in found[model.name].items() if path not in unsettled}
            try:
                chosen = {number: whole[number] for number in sorted(model.version_policy.choose(whole))}
                wanted = {number: VersionDirectory(path, self._stamp(path)) for number, path in chosen.items()}
                older: dict[int, Path] = {}
                if isinstance(model.version_policy, Latest):
                    older = {number: path for number, path in whole.items() if number not in wanted}
                before = self._spares.get(model.name)
                again = before.asked & older.keys() if before else ()
                self._spares[model.name] = Spares(older, self._stamp, again)
                self._aspire(model.name, wanted, self._spares[model.name])
            except Exception:
                # The thread has to outlive any one poll, or new versions would never be seen again.
                _log.exception("Polling %s failed; it will be polled again.", model.base_path)

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
        before = {path: scan(path) for path in wanted if path not in self._stamps}
        fresh = [path for path, scanned in before.items() if not scanned.is_quiet]
        if fresh:
            self._poll.pause(self._settle_s)
        return {path for path in fresh if scan(path).stamp != before[path].stamp}

    def _stamp(self, path: Path) -> int:
        """The stamp to hand over: a changed one once the change is over."""
        scanned = scan(path)
        known = self._stamps.setdefault(path, scanned.stamp)
        if scanned.stamp == known or not scanned.is_quiet:
            return known
        _log.warning("Files of %s changed after it was found. A version that is loaded stays as it is.", path)
        self._stamps[path] = scanned.stamp
        return scanned.stamp

    def _complain(self, model: ModelConfig, texts: Sequence[str]) -> None:
        """Log a lasting complaint once, not at every poll."""
        known = self._complaints.get(model.name, ())
        for text in texts:
            if text not in known:
                _log.warning("%s", text)
        self._complaints[model.name] = tuple(texts)
