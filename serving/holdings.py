"""What a server holds for its clients: the versions, the list of models, and what changes both.

Owns how these parts belong together. A server that has its models itself makes `OwnHoldings`; in one of several worker
processes it is given holdings that follow a supervisor (`process.worker`).
"""

from __future__ import annotations

from typing import Protocol

from estimator_serving.serving import startup
from estimator_serving.serving.config import Config
from estimator_serving.serving.metrics import BatchMetrics, LoadMetrics
from estimator_serving.serving.models.catalog import Catalog, ConfigFile, ModelList
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.sources.directory import DirectorySource
from estimator_serving.serving.models.warmup import Replay
from estimator_serving.serving.observing import monitoring

# How long `stop` waits for a load, which nothing can interrupt and whose result nobody needs any more.
LOAD_END_S = 2.0


class Holdings(Protocol):
    """What a server asks of its holdings.

    Attributes:
        manager: the versions.
        catalog: the list of models.
        batches, loads: what loaded versions and loads count.
    """

    @property
    def manager(self) -> Manager: ...

    @property
    def catalog(self) -> ModelList: ...

    @property
    def batches(self) -> BatchMetrics: ...

    @property
    def loads(self) -> LoadMetrics: ...

    def trouble(self) -> str:
        """What an operator has to mend although requests can be answered; empty for nothing."""

    def start(self) -> None:
        """Load what there is; returns once each version is served or has failed, or `interrupt` is called."""

    def poll(self) -> None:
        """Look for changes now, without waiting for the next poll."""

    def interrupt(self) -> None:
        """Change nothing any more, and wait for nothing."""

    def stop(self) -> bool:
        """Unload the models. False if a load is still going on, which nothing can interrupt."""


class OwnHoldings:
    """Models that this process loads, by the flags. Raises StartError for files that cannot be read or break a rule."""

    def __init__(self, config: Config, manager: Manager, batches: BatchMetrics, loads: LoadMetrics) -> None:
        self.manager, self.batches, self.loads = manager, batches, loads
        self._reads_file = bool(config.model_config_file)
        self._models = startup.read_models(config)
        self._source = DirectorySource(
            manager.aspire,
            manager.set_hint,
            poll_wait_s=config.file_system_poll_wait_seconds,
            always_present=config.servable_versions_always_present,
        )
        self.catalog = Catalog(
            manager, self._source, labels_for_unavailable=config.allow_version_labels_for_unavailable_models
        )
        self._file = ConfigFile(
            config.model_config_file, self.catalog, poll_wait_s=config.model_config_file_poll_wait_seconds
        )
        self._stopping = False
        manager.starting = True

    def trouble(self) -> str:
        return self._file.trouble

    def start(self) -> None:
        left_out = self.catalog.start(self._models)
        self.manager.starting = False
        if self._stopping:
            return
        self._source.start()
        if self._reads_file:
            self._file.start(left_out)

    def poll(self) -> None:
        if self._reads_file:
            self._file.poll()
        self.catalog.poll()

    def interrupt(self) -> None:
        self._stopping = True
        self.catalog.stop()
        self._file.stop()

    def stop(self) -> bool:
        return self.manager.stop(LOAD_END_S)


def own_holdings(config: Config, answer: Replay) -> OwnHoldings:
    """The models of a server that is one process. answer: answers the requests of warmup files. Raises StartError."""
    batches, loads = BatchMetrics(), LoadMetrics()
    loader = startup.make_loader(config, answer, batches, loads)
    manager = startup.make_manager(config, monitoring.timed(loader, loads), Manager)
    return OwnHoldings(config, manager, batches, loads)
