"""The state of all versions at one moment, as the supervisor hands it to its worker processes.

Owns what a worker has to know of versions and models that it did not choose itself. A table says everything, each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.policy import State, VersionPolicy


class Ticket(NamedTuple):
    """One load of one version: what a worker needs to load it, too.

    number: of this load. copy: the directory to load from: `directory` itself, or a copy that this server made.
    """

    number: int
    name: str
    version: int
    directory: Path
    copy: Path


class VersionRow(NamedTuple):
    """A version. ticket: the number of its load, 0 where it is not loaded."""

    number: int
    directory: Path
    state: State
    error: ServingError | None
    is_withdrawn: bool
    ticket: int


class ModelRow(NamedTuple):
    """A model with its versions."""

    name: str
    is_configured: bool
    hint: str
    labels: Mapping[str, int]
    versions: tuple[VersionRow, ...]
    policy: VersionPolicy | None
    logging: LogSettings | None


class Table(NamedTuple):
    """The models; whether the first ones are being loaded; the names that the list of models knows; its trouble."""

    models: tuple[ModelRow, ...] = ()
    is_starting: bool = True
    names: tuple[str, ...] = ()
    trouble: str = ""
