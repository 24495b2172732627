"""The model repository extension: which models there are, and taking one into or out of service.

Owns the extension's states and the right to change them, which an operator grants. What taking in and out means is the
catalog's business.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from estimator_serving.serving.errors import (
    Code,
    InvalidArgumentError,
    NotFoundError,
    UnimplementedError,
)
from estimator_serving.serving.models.catalog import ModelList
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.policy import State
from estimator_serving.serving.request import Context

_STATES = {
    State.START: "LOADING",
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}


@dataclass(frozen=True)
class Repository:
    """is_controlled: whether every client may load and unload models, where the server asks for no keys."""

    manager: Manager
    catalog: ModelList
    is_controlled: bool

    def index(self, repository_name: str = "", *, ready: bool = False) -> list[dict[str, str]]:
        """The models and versions, with their states. ready: only those that answer. Raises UnimplementedError."""
        _check_repository(repository_name)
        models = []
        for name in self.catalog.names():
            try:
                statuses = self.manager.status(name)
            except NotFoundError:
                if not ready:
                    models.append({"name": name, "state": "UNAVAILABLE", "reason": "no version was found"})
                continue
            for status in reversed(statuses):
                entry = {"name": name, "version": str(status.version), "state": _STATES[status.state]}
                if status.state is State.END:
                    entry["reason"] = status.message if status.code is not Code.OK else "unloaded"
                if not ready or status.state is State.AVAILABLE:
                    models.append(entry)
        return models

    def load(self, name: str, parameters: Collection[str], context: Context, repository_name: str = "") -> None:
        """Take a model into service. parameters: the names of those that came.

        Raises PermissionDeniedError, NotFoundError, UnimplementedError for files or a configuration in the request,
        UnknownError if the model cannot be loaded.
        """
        self._check_change(name, context, repository_name)
        if parameters:
            raise UnimplementedError(
                "A load takes neither a configuration nor files, because models are served only from their base paths; "
                f"leave out {', '.join(sorted(parameter[:64] for parameter in parameters))}."
            )
        self.catalog.load(name)

    def unload(self, name: str, parameters: Collection[str], context: Context, repository_name: str = "") -> None:
        """Take a model out of service. Raises PermissionDeniedError, NotFoundError, UnimplementedError."""
        self._check_change(name, context, repository_name)
        others = set(parameters) - {"unload_dependents"}
        if others:
            raise InvalidArgumentError(f"An unload takes the parameter unload_dependents; leave out {sorted(others)}.")
        self.catalog.unload(name)

    def _check_change(self, name: str, context: Context, repository_name: str) -> None:
        self.check_right(name, context)
        _check_repository(repository_name)
        if not name:
            raise InvalidArgumentError("The request names no model; set model_name.")

    def check_right(self, model: str | None, context: Context) -> None:
        """Raises PermissionDeniedError if this client may not change what the server does."""
        context.require_management(model, is_open=self.is_controlled, flag="--enable_repository_control")


def _check_repository(name: Any) -> None:
    if name:
        raise UnimplementedError("'repository_name' specification is not supported; leave it out.")
