"""The process above the workers: decides what is served, starts the workers, and answers nothing itself.

Owns the composition: a Manager as in a server of one process, which decides about versions by the same sources,
policies and retries, but whose loads happen in the worker processes. Before a version reaches any of them, a process
made for that opens it once and writes the copy that they open, so a graph that ends its process at its load costs none
of them.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from prometheus_client.core import Metric

from estimator_serving.serving import startup
from estimator_serving.serving.config import Config
from estimator_serving.serving.errors import FailedPreconditionError, ResourceExhaustedError, ServingError
from estimator_serving.serving.holdings import OwnHoldings
from estimator_serving.serving.metrics import BatchMetrics, Done, Exposition, LoadMetrics
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.poll import Poll
from estimator_serving.serving.models.versions import Model, Version
from estimator_serving.serving.observing import monitoring
from estimator_serving.serving.observing.monitoring import ConfigGauge, VersionGauges
from estimator_serving.serving.policy import State
from estimator_serving.serving.process import worker
from estimator_serving.serving.process.cells import Cells
from estimator_serving.serving.process.channel import Methods
from estimator_serving.serving.process.fleet import Fleet, read_fault
from estimator_serving.serving.process.nursery import Nursery, how
from estimator_serving.serving.process.table import ModelRow, Table, Ticket, VersionRow
from estimator_serving.serving.process.tally import Counts, Tally
from estimator_serving.serving.running.servable import Servable
from estimator_serving.serving.server import replay_warmup
from estimator_serving.serving.startup import StartError

_log = logging.getLogger(__name__)

# What is missing of the sums if a worker is killed was counted in this time.
COUNT_S = 1.0
_PREFIX, _LOCK = "estimator-serving-", "lock"
# A directory younger than this may be about to be locked.
STALE_S = 60.0
# Beyond the time that requests in flight get.
END_S = 5.0


class Director(Manager):
    """A Manager whose servables are tickets: what they stand for is loaded in the workers of its fleet."""

    fleet: Fleet

    def servables(self) -> list[Servable]:
        """Nothing is loaded in this process."""
        return []

    def rows(self) -> list[tuple[str, bool, str, Mapping[str, int], tuple[VersionRow, ...]]]:
        """The models as they are now."""
        with self._lock:
            found = []
            for model in self._models.values():
                versions = []
                for version in model.versions.values():
                    ticket: Any = version.servable
                    versions.append(
                        VersionRow(
                            version.number, version.directory.path, version.state, version.error,
                            version.is_withdrawn, ticket.number if ticket else 0,
                        )
                    )  # fmt: skip
                found.append((model.name, model.configured, model.hint, model.labels, tuple(versions)))
            return found

    def wait_for_change(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait(timeout_s)

    def withdraw(self, ticket: Ticket, error: ServingError) -> None:
        """Take a version out of service for an error, which its requests get from now on."""
        with self._lock:
            model = self._model(ticket.name)
            version = model.versions.get(ticket.version)
            served: Any = version.servable if version else None
            if version is None or served is not ticket or version.state is not State.AVAILABLE:
                return
            model.withdraw(version, error)
            version.servable = None
            self._begin_settling(model)
            self._changed.notify_all()
        _log.error("%s", error.message)
        threading.Thread(target=self._retire, args=(ticket,), name="retire", daemon=True).start()

    def _end(self, model: Model, version: Version) -> None:
        def drain() -> None:
            ticket: Any = version.servable
            self._retire(ticket)
            super(Director, self)._end(model, version)

        # In a thread, because the workers' last requests on it may take long.
        threading.Thread(target=drain, name="drain", daemon=True).start()

    def _retire(self, ticket: Ticket) -> None:
        self.fleet.unload(ticket)
        if ticket.copy != ticket.directory:
            shutil.rmtree(ticket.copy, ignore_errors=True)


class Supervisor:
    """A server whose requests are answered by worker processes.

    To be made while this process has no other thread.
    held: what holds the ports. lost: called if no worker can be started any more.

    Raises StartError for files that cannot be read or break a rule.
    """

    def __init__(self, config: Config, held: ExitStack, lost: Callable[[], None]) -> None:
        self._config, self._held = config, held
        self._loads = loads = LoadMetrics()
        startup.make_loader(config, replay_warmup, BatchMetrics(), loads)  # raises what is wrong with its files
        self._director = startup.make_manager(config, monitoring.timed(self.load, loads), Director)
        self._holdings = OwnHoldings(config, self._director, BatchMetrics(), loads)
        gauges = VersionGauges(self._director)
        self._exposition = Exposition(
            loads, gauges, ConfigGauge(self._holdings.trouble), paths=startup.read_metrics_paths(config)
        )
        self._directory, self._lock = _claim_directory(Path(tempfile.gettempdir()))
        cells = Cells(config.worker_processes)
        roles = {"worker": partial(worker.run, config, cells), "probe": partial(worker.probe, config)}
        self._nursery = Nursery(roles, lost)
        self._nursery.watch()
        self._tally = Tally(gauges.loaded)
        self._tallying = threading.Lock()
        self._tickets = itertools.count(1)
        catalog = self._holdings.catalog
        methods: Methods = {
            "replace": lambda models: self._change(partial(catalog.replace, models)),
            "load": lambda name: self._change(partial(catalog.load, name)),
            "unload": lambda name: self._change(partial(catalog.unload, name)),
            "families": self.families,
            "did": self.did,
        }
        self._fleet = self._director.fleet = Fleet(
            cells.workers, self._nursery, cells, self._directory,
            table=self.table, methods=methods, blame=self.blame, count=self.note,
        )  # fmt: skip
        self._stopped = threading.Event()
        self._counting = Poll("counts", self._fleet.count, COUNT_S)

    def start(self) -> None:
        """Start the workers and load what there is; a version that fails does not keep the others from being served.

        Raises StartError where no worker can listen.
        """

        def publish() -> None:
            """Bring each change into force, until the end."""
            while not self._stopped.is_set():
                self._fleet.publish()
                self._director.wait_for_change(COUNT_S)

        threading.Thread(target=publish, name="publish", daemon=True).start()
        refusal = self._fleet.start()
        if refusal:
            raise StartError(refusal)
        self._counting.start()
        self._holdings.start()
        self._fleet.publish()

    def poll(self) -> None:
        """Read the file of models, the base paths, keys and certificates now, without waiting for the next poll."""
        self._fleet.renew()
        self._holdings.poll()

    def stop(self) -> bool:
        """Let every worker finish what it has begun, and end it. Returns False if a load is still going on."""
        self._stopped.set()
        self._holdings.interrupt()
        self._fleet.stop(self._config.shutdown_grace_seconds + END_S)
        self._counting.stop()
        self._nursery.close()
        self._held.close()
        ended = self._holdings.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
        return ended

    def _change(self, change: Any) -> None:
        """A change that a client asked a worker for: in force everywhere when this returns."""
        try:
            change()
        finally:
            self._fleet.publish()

    def table(self) -> Table:
        catalog = self._holdings.catalog
        rows = [
            ModelRow(*row, policy=catalog.version_policy(row[0]), logging=catalog.log_settings(row[0]))
            for row in self._director.rows()
        ]
        trouble = self._holdings.trouble()
        return Table(tuple(rows), self._director.starting, tuple(catalog.names()), trouble)

    # --- loads ---

    def load(self, name: str, version: int, directory: Path) -> Any:
        """A ticket for a version that every worker has loaded. Raises what is wrong with it."""
        number = next(self._tickets)
        # Where the operator says that files never change, workers map them where they are.
        copy = directory if self._config.map_model_files else self._directory / str(number)
        ticket = Ticket(number, name, version, directory, copy)
        try:
            self._probe(ticket)
            self._fleet.load(ticket)
        except Exception:
            if copy != directory:
                shutil.rmtree(copy, ignore_errors=True)
            raise
        return ticket

    def _probe(self, ticket: Ticket) -> None:
        """Open a version in a process made for that, which writes the copy that workers open."""
        fault = self._directory / f"probe-{ticket.number}"
        copy = "" if ticket.copy == ticket.directory else str(ticket.copy)
        child = self._nursery.start(
            "probe",
            {"name": ticket.name, "version": ticket.version, "directory": str(ticket.directory), "copy": copy,
             "fault": str(fault)},
        )  # fmt: skip
        connection = Connection(child.end.detach())
        try:
            error, warmups = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            code = child.ended.result()
            _, told = read_fault(fault)
            _log.error(
                "The process that opened model %s version %d first ended: %s. %s",
                ticket.name,
                ticket.version,
                how(code),
                told,
            )
            if code == -9:
                raise ResourceExhaustedError(
                    f"The process that opened model {ticket.name} version {ticket.version} was killed, as the kernel "
                    "does when no memory is left; unload another model, or give the server more memory."
                ) from None
            raise _fatal(ticket, how(code), "was loaded") from None
        finally:
            connection.close()
            fault.unlink(missing_ok=True)
        for elapsed_s, code, records in warmups:
            self._loads.warmed_up(str(ticket.directory), elapsed_s, code, records)
        if error is not None:
            raise error

    def blame(self, ticket: Ticket, how_it_ended: str) -> None:
        """Take a version out of service that ends processes, before another one runs it."""
        self._director.withdraw(ticket, _fatal(ticket, how_it_ended, "ran a request"))
        self._fleet.publish()

    # --- counts ---

    def note(self, process: int, counts: Counts | None) -> None:
        with self._tallying:
            if counts is None:
                self._tally.end(process)
            else:
                self._tally.note(process, counts)

    def families(self) -> list[Metric]:
        self._fleet.count()
        with self._tallying:
            return self._tally.families(self._exposition.families())

    def did(self, model: str, version: int) -> Done:
        self._fleet.count()
        with self._tallying:
            return self._tally.did(model, version)


def _claim_directory(parent: Path) -> tuple[Path, TextIO]:
    """A new directory for this server's copies, and the file whose lock says that it is in use.

    Directories that servers left behind which were killed are removed.
    """
    for old in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE_S:
                with open(old / _LOCK, "r+") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    file = open(directory / _LOCK, "w")  # noqa: SIM115  (it stays open as long as this process and its workers live)
    fcntl.flock(file, fcntl.LOCK_EX)
    return directory, file


def _fatal(ticket: Ticket, how_it_ended: str, when: str) -> ServingError:
    return FailedPreconditionError(
        f"Model {ticket.name} version {ticket.version} ended its process ({how_it_ended}) when it {when}, and is out "
        "of service; export another version, or unload and load the model to try this one again."
    )
