"""The logging and trace extensions.

Owns what a client may ask and set: which lines the server logs. A log's file is never a client's choice. The server
traces nothing; its trace settings say so, and can only be set to what they are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError

_LOGGER = logging.getLogger("estimator_serving")
# The setting that turns on lines of each level, from the least important.
_LEVELS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
_VERBOSE, _FORMAT, _FILE = "log_verbose_level", "log_format", "log_file"
_FIXED: Mapping[str, Any] = {_FORMAT: "default", _FILE: ""}

TRACE: Mapping[str, list[str]] = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "log_frequency": ["0"],
    "trace_file": [""],
    "trace_mode": ["triton"],
}


def read_log() -> dict[str, Any]:
    """The log settings that are in force."""
    level = _LOGGER.getEffectiveLevel()
    shown = {name: level <= threshold for name, threshold in _LEVELS.items()}
    return {**shown, _VERBOSE: int(level <= logging.DEBUG), **_FIXED}


def change_log(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change which lines are logged; returns what is in force then.

    A level is logged with all that are more important. Raises InvalidArgumentError for an unknown setting or a value of
    another type, UnimplementedError for a file or format.
    """
    wanted = read_log()
    if not changes:
        return wanted
    for name, value in changes.items():
        if name in _FIXED:
            if value != _FIXED[name]:
                raise UnimplementedError(
                    f"{name} cannot be changed; the operator decides where and how the server logs."
                )
        elif name == _VERBOSE:
            if type(value) is not int or value < 0:
                raise InvalidArgumentError(f"{_VERBOSE} must be a number from 0.")
            wanted[name] = value
        elif name not in _LEVELS:
            raise InvalidArgumentError(f"There is no log setting {name[:64]!r}; there are {', '.join(sorted(wanted))}.")
        elif type(value) is not bool:
            raise InvalidArgumentError(f"{name} must be true or false.")
        else:
            wanted[name] = value
    levels = [threshold for name, threshold in _LEVELS.items() if wanted[name]]
    _LOGGER.setLevel(logging.DEBUG if wanted[_VERBOSE] else min(levels, default=logging.CRITICAL))
    return read_log()


def change_trace(changes: Mapping[str, Any]) -> dict[str, list[str]]:
    """The trace settings. changes: by name, a text or a list of texts; none at all resets a setting.

    Raises UnimplementedError for a setting that would differ from what it is.
    """
    for name, value in changes.items():
        values = [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
        if value is not None and value != [] and TRACE.get(name) != values:
            raise UnimplementedError(
                f"The trace setting {name[:64]!r} cannot be changed to {values}: this server traces nothing; see its "
                "access log and metrics."
            )
    return {name: list(values) for name, values in TRACE.items()}
