"""Which models are configured: one whole list, replaced by another, one change at a time.

Owns the order of such a change (checks, labels, what is wanted, the wait for what is new) and the file it may come
from. Knows no rpc; the manager loads, and the source polls the base paths.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from estimator_serving.serving.config import ConfigError
from estimator_serving.serving.errors import (
    STOPPING_TEXT,
    FailedPreconditionError,
    NotFoundError,
    ServingError,
    UnavailableError,
    UnknownError,
    as_serving_error,
)
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.models import model_config
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import ModelConfig
from estimator_serving.serving.models.poll import Poll
from estimator_serving.serving.models.sources.directory import DirectorySource
from estimator_serving.serving.policy import VersionPolicy

_log = logging.getLogger(__name__)

# A path of several parts, as far as texts quote it without spaces; its last part.
_PATH = re.compile(r"[^\s'\"=(]*/([^\s'\"/:;,)]+)")


class ModelList(Protocol):
    """The configured models, as requests see and change them; `Catalog` says what each method does."""

    def log_settings(self, name: str) -> LogSettings | None: ...

    def version_policy(self, name: str) -> VersionPolicy | None: ...

    def names(self) -> list[str]: ...

    def replace(self, models: Sequence[ModelConfig]) -> None: ...

    def load(self, name: str) -> None: ...

    def unload(self, name: str) -> None: ...


class Catalog:
    """The configured models. `start` takes the first list, `replace` every later one.

    Attributes:
        log_settings: how a model's requests are logged, None for not at all.
    """

    def __init__(self, manager: Manager, source: DirectorySource, *, labels_for_unavailable: bool = False) -> None:
        self._manager = manager
        self._source = source
        self._labels_for_unavailable = labels_for_unavailable
        self._changing = threading.Lock()
        self._stopped = False
        self.models: tuple[ModelConfig, ...] = ()
        # Models that `unload` took out of service, as they were configured.
        self._unloaded: dict[str, ModelConfig] = {}
        self._log_settings: dict[str, LogSettings] = {}
        self.log_settings: Callable[[str], LogSettings | None] = self._log_settings.get

    def version_policy(self, name: str) -> VersionPolicy | None:
        """Which versions of a model are served, None for an unknown one."""
        return next((model.version_policy for model in self.models if model.name == name), None)

    def start(self, models: Sequence[ModelConfig]) -> list[str]:
        """Begin to serve these models; returns once each is loaded or has failed, or `stop` is called.

        Their labels are assigned then. One that names a version which did not become available is left out, and a
        sentence about it returned: it must not keep the others from being served.
        """
        left_out: list[str] = []
        with self._changing:
            self._watch(models)
            self._manager.wait_until_settled()
            for model in models:
                possible = {}
                for label, version in model.labels.items():
                    try:
                        self._check_label(model.name, label, version)
                        possible[label] = version
                    except FailedPreconditionError as error:
                        left_out.append(f"The label {label} is not assigned. {error.message}")
                        _log.error("%s", left_out[-1])
                self._manager.set_labels(model.name, possible)
        return left_out

    def replace(self, models: Sequence[ModelConfig]) -> None:
        """Serve these models instead of the earlier ones; returns once each new one serves or has failed.

        Raises:
            InvalidArgumentError: a model would change its platform. Nothing changed then.
            FailedPreconditionError: a label names a version that is not available. Nothing changed then.
            UnknownError: a new model did not become available; the list is in force all the same.
            UnavailableError: the server is shutting down.
        """
        with self._changing:
            self._replace(models)

    def load(self, name: str) -> None:
        """Serve a model that `unload` took out of service; of one that is served, look for versions that changed.

        Returns once it serves. Raises NotFoundError for a model that is not configured, and as `replace` does.
        """
        with self._changing:
            if name in self._unloaded:
                self._replace((*self.models, self._unloaded[name]))
            elif all(model.name != name for model in self.models):
                raise NotFoundError(
                    f"failed to load '{name}', failed to poll from model repository: no model of this name is "
                    "configured."
                )
            else:
                self._source.poll()
                self._manager.wait_until_settled()
                self._check_decided([name])

    def unload(self, name: str) -> None:
        """Serve a model no longer, until `load` or a new list; returns once it takes no more requests.

        Raises NotFoundError for a model that is not configured.
        """
        with self._changing:
            gone = next((model for model in self.models if model.name == name), None)
            if gone is not None:
                self._replace([model for model in self.models if model is not gone])
                self._unloaded[name] = gone
                self._manager.wait_until_settled()
            elif name not in self._unloaded:
                raise NotFoundError(f"failed to unload '{name}': no model of this name is configured.")

    def names(self) -> list[str]:
        """The models that are configured, those out of service included, sorted."""
        return sorted({model.name for model in self.models} | self._unloaded.keys())

    def _replace(self, models: Sequence[ModelConfig]) -> None:
        """With the lock held."""
        model_config.check_change(self.models, models)
        for model in models:
            # Nothing of a model that was out of service is available yet; its labels come with its versions.
            for label, version in model.labels.items() if model.name not in self._unloaded else ():
                self._check_label(model.name, label, version)
        known = {model.name for model in self.models}
        # Labels first: one that moves must not name the version that goes while the base paths are polled.
        for model in models:
            self._manager.set_labels(model.name, model.labels)
        self._watch(models)
        listed = {model.name for model in models}
        self._unloaded = {name: model for name, model in self._unloaded.items() if name not in listed}
        self._check_decided([model.name for model in models if model.name not in known])

    def _check_decided(self, names: Sequence[str]) -> None:
        """Wait until these models serve or have failed. Raises UnknownError for the latter."""
        failed = self._manager.wait_until_decided(names)
        if self._stopped:
            raise UnavailableError(STOPPING_TEXT)
        if failed:
            entries = ""
            for name, status in failed.items():
                which = f"{name} version: {status.version}" if status.version >= 0 else name
                entries += f"{{{{name: {which}}} due to error: {status.code.name}: {status.message}}}, "
            raise UnknownError(f"{len(failed)} model(s) did not become available: {{{entries}}}")

    def poll(self) -> None:
        """Poll the base paths now."""
        self._source.poll()

    def stop(self) -> None:
        """Change nothing any more, and wait for nothing."""
        self._stopped = True
        self._manager.interrupt()
        self._source.stop()

    def _watch(self, models: Sequence[ModelConfig]) -> None:
        for model in models:
            for remark in model.remarks if model not in self.models else ():
                _log.warning("%s", remark)
        self.models = tuple(models)
        # In place, since requests ask meanwhile.
        self._log_settings |= {model.name: model.logging for model in models if model.logging}
        for name in self._log_settings.keys() - {model.name for model in models if model.logging}:
            del self._log_settings[name]
        names = [model.name for model in models]
        self._manager.serve_only(names)
        self._source.watch(models)
        # Once more, because a poll that had begun before may have asked for what is gone.
        self._manager.serve_only(names)

    def _check_label(self, name: str, label: str, version: int) -> None:
        """A label names an available version; where the flag allows it, a new one may name any version."""
        if self._manager.is_available(name, version):
            return
        if self._labels_for_unavailable and self._manager.labels(name).get(label, version) == version:
            return
        raise FailedPreconditionError(
            f"Request to assign label to version {version} of model {name}, which is not currently available for "
            "inference; load the version first, or start with --allow_version_labels_for_unavailable_models."
        )


class ConfigFile:
    """Reads the file of models again and again, and applies it where it changed or could not be applied before.

    A file that is gone, empty or wrong changes nothing: it is logged once, and what is served stays. `trouble` says why
    the last reading is not in force, and is empty where it is; it is for clients, and names the flag, not the path.
    """

    def __init__(self, path: str, catalog: Catalog, *, poll_wait_s: float) -> None:
        self._path = path
        self._catalog = catalog
        self._applied: tuple[ModelConfig, ...] | None = None
        self.trouble = self._logged = ""
        self._polling = threading.Lock()
        self._poll = Poll("config", self.poll, poll_wait_s)

    def start(self, left_out: Sequence[str] = ()) -> None:
        """Take what the catalog was started with as read; keep polling in a thread, if poll_wait_s > 0.

        left_out: what of it is not in force; then the next poll tries it again.
        """
        if left_out:
            self._note(" ".join(left_out))
        else:
            self._applied = self._catalog.models
        self._poll.start()

    def stop(self) -> None:
        self._poll.stop()

    def poll(self) -> None:
        """Read the file now, and apply it if it says something new, or could not be applied before."""
        with self._polling:
            trouble = ""
            try:
                models = model_config.read_file(self._path)
                if models is None:
                    trouble = "It configures nothing, so no action is taken for it."
                elif models != self._applied:
                    self._applied = None  # until it is: what could not be applied is tried again
                    names = ", ".join(model.name for model in models) or "no models"
                    try:
                        self._catalog.replace(models)
                    except UnknownError as error:  # the list is in force all the same
                        _log.error("%s is in force: %s. But %s", self._path, names, error.message)
                    else:
                        _log.info("%s is in force: %s.", self._path, names)
                    self._applied = models
            except UnavailableError:  # shutting down
                return
            except (ConfigError, ServingError) as error:
                trouble = str(error)
            except Exception as error:
                # The thread has to outlive any one poll, or a mended file would never be read.
                trouble = as_serving_error(error).message
            if (whole := self._note(trouble)) != self._logged and whole:
                _log.error("%s", whole)
            self._logged = whole

    def _note(self, trouble: str) -> str:
        """Keep what is wrong, for clients; returns it for the log. Both are empty for nothing."""
        whole = f"{self._path} is not in force as a whole: {trouble}" if trouble else ""
        # Of other paths in the file, clients see the last part.
        self.trouble = _PATH.sub(r"\1", whole.replace(self._path, "--model_config_file"))
        return whole
