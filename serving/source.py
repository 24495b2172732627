"""Looks at a base path and says which versions of a model are wanted: the whole set each time.

Owns the rules for version directories and the polling thread; loads nothing and knows no manager.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from estimator_serving.serving import policy

_log = logging.getLogger(__name__)

VERSION_MAX = 2**63 - 1
_VERSION_NAME = re.compile(r"[0-9]+")

Aspire = Callable[[Mapping[int, Path]], None]


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version directories under a base path, by number.

    A version directory is one whose whole name is an integer that fits int64; leading zeros are allowed. Everything
    else (temporary directories, files) is no version. Raises OSError when the base path cannot be read.
    """
    versions: dict[int, Path] = {}
    for path in sorted(base_path.iterdir()):
        if not _VERSION_NAME.fullmatch(path.name) or int(path.name) > VERSION_MAX or not path.is_dir():
            continue
        if int(path.name) in versions:
            _log.warning(
                "Both %s and %s are version %d; the first is used.", versions[int(path.name)], path, int(path.name)
            )
        versions.setdefault(int(path.name), path)
    return versions


class DirectorySource:
    """Watches one base path and hands the newest versions in it to `aspire`, again at every look.

    A base path that cannot be read changes nothing: what is served stays. One without versions asks for none.
    """

    def __init__(self, base_path: Path, aspire: Aspire, *, poll_wait_s: float) -> None:
        self._base_path = base_path
        self._aspire = aspire
        self._poll_wait_s = poll_wait_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="source", daemon=True)
        self._complaint = ""

    def start(self) -> None:
        """Look once, then keep looking in a thread (poll_wait_s > 0), leave it at that (0), or never look (< 0)."""
        if self._poll_wait_s >= 0:
            self.poll()
        if self._poll_wait_s > 0:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self) -> None:
        """Look once and hand over what is wanted."""
        try:
            found = find_versions(self._base_path)
        except OSError as error:
            return self._complain(
                f"The base path {self._base_path} cannot be read: {error.strerror}; create it or fix --model_base_path."
            )
        wanted = policy.Latest().choose(found)
        self._aspire({version: found[version] for version in wanted})
        if not found:
            return self._complain(
                f"The base path {self._base_path} holds no version directory; export a model into it."
            )
        self._complaint = ""
        return None

    def _watch(self) -> None:
        while not self._stopped.wait(self._poll_wait_s):
            try:
                self.poll()
            except Exception:
                # The thread has to outlive any one look, or new versions would never be seen again.
                _log.exception("Looking at %s failed; it will be looked at again.", self._base_path)

    def _complain(self, text: str) -> None:
        """Log a lasting complaint once, not at every look."""
        if text != self._complaint:
            _log.warning("%s", text)
        self._complaint = text
