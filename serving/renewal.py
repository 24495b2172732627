"""Files that are read again when they change: keys, certificates.

Owns how a change is seen, and that a file which cannot be used changes nothing: what was in force stays, and the log
says why, once. Knows nothing of what the files hold.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from estimator_serving.serving.config import ConfigError
from estimator_serving.serving.models.poll import Poll

_log = logging.getLogger(__name__)

PERIOD_S = 1.0


class Renewal:
    """Follows some files that belong together.

    what: they are, for the log. apply: reads them and puts them in force, as a whole or not at all; raises ConfigError.

    Raises ConfigError if they cannot be used now.
    """

    def __init__(self, what: str, paths: Sequence[str], apply: Callable[[], None]) -> None:
        self._what = what
        self._paths = tuple(path for path in paths if path)
        self._apply = apply
        self._trouble = ""
        self._stamps = self._look()
        apply()

    def poll(self) -> None:
        """Put the files in force if they changed, or could not be used before."""
        stamps = self._look()
        if stamps == self._stamps and not self._trouble:
            return
        trouble = ""
        try:
            self._apply()
        except ConfigError as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            _log.error("%s: what was read before stays in force. %s", self._what, trouble)
        elif not trouble:
            _log.info("%s: read again.", self._what)
        # Taken before the files were read: what was written meanwhile is seen at the next poll.
        self._stamps, self._trouble = stamps, trouble

    def _look(self) -> list[tuple[int, ...]]:
        """A stamp of each file that changes with its content, also where a link is turned to another file."""
        stamps: list[tuple[int, ...]] = []
        for path in self._paths:
            try:
                status = Path(path).stat()
                stamps.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
            except OSError:
                stamps.append(())
        return stamps


class Renewals:
    """Polls several of them on one thread, which is started only if there are any."""

    def __init__(self, renewals: Sequence[Renewal]) -> None:
        self._renewals = tuple(renewals)
        self._polling = threading.Lock()
        self._poll = Poll("renewal", self.poll, PERIOD_S if renewals else 0)

    def start(self) -> None:
        self._poll.start()

    def stop(self) -> None:
        self._poll.stop()

    def poll(self) -> None:
        """Look at all of them now."""
        with self._polling:
            for renewal in self._renewals:
                try:
                    renewal.poll()
                except Exception:
                    # The thread has to outlive any one poll.
                    _log.exception("Reading a file of keys or certificates again failed.")
