"""What a run shows by itself, in a program that has set up no logging: TensorFlow's lines on standard error.

The theory. The packages log like every library, to loggers below `estimator_serving`, and a program that configures
logging decides what becomes of the lines. Most Estimator programs configure none and expect to see the run. So, while a
call of an estimator is going on, `shown` lets INFO through and hands the lines to a handler that writes to standard
error. The handler is silent as soon as the program has a handler of its own, on the root logger or on ours, and level
and handler are taken away again when the call is over. On a terminal a progress bar (progress_bar.py) comes with them.

Owns when lines and bar are shown. Does not know what is said.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOGGERS = tuple(map(logging.getLogger, ("estimator_serving.training", "estimator_serving", "")))
"""From the one that most lines go to up to the root; handlers of all three see them."""
_OURS, _ROOT = _LOGGERS[1:]


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what sys.stderr is at the moment, which a progress bar and a notebook exchange."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """It has none of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not is_set_up():
            super().emit(record)


_handler = _StandardError()
_lock = threading.Lock()
_depth = 0


@contextmanager
def shown(wanted: bool) -> Iterator[None]:
    """Show the lines that are logged inside, if that is `wanted` and the program has set up no logging itself."""
    global _depth
    if not wanted or is_set_up():
        yield
        return
    with _lock:
        _depth += 1
        if _depth == 1:
            _OURS.addHandler(_handler)
            # A level that the program has chosen stays, on the root too.
            if _OURS.level == logging.NOTSET and _ROOT.level == logging.WARNING:
                _OURS.setLevel(logging.INFO)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                _OURS.removeHandler(_handler)
                if _OURS.level == logging.INFO:
                    _OURS.setLevel(logging.NOTSET)


def is_set_up() -> bool:
    """Whether the program has a handler that sees the lines."""
    handlers = [handler for logger in _LOGGERS for handler in logger.handlers]
    return any(handler is not _handler and not isinstance(handler, logging.NullHandler) for handler in handlers)


def has_bar(wanted: bool) -> bool:
    """Whether a run that is shown gets a progress bar: on a terminal that can move its cursor, and not in CI."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
    return wanted and is_terminal and not os.environ.get("CI") and not is_set_up()
