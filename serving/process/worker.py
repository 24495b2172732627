"""One of several processes that answer: it loads what its supervisor says, and shows the state that is in force.

Owns the worker's side of the calls: `Replica`, a Manager whose versions another process decides about, and the list of
models, whose changes are handed on. A new state comes in two steps: the supervisor sends it to every worker, and when
all have it, writes its number into memory that they share. Each request looks at that number, so a client that was
answered by one worker in the new state is never answered by another one in the old.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from estimator_serving.serving import startup
from estimator_serving.serving.config import Config
from estimator_serving.serving.errors import Code, as_serving_error
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.metrics import BatchMetrics, LoadMetrics
from estimator_serving.serving.models import memory
from estimator_serving.serving.models.loader import Loader
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import ModelConfig, VersionDirectory
from estimator_serving.serving.models.versions import Model, Version
from estimator_serving.serving.policy import State, VersionPolicy
from estimator_serving.serving.process import garbage
from estimator_serving.serving.process.cells import Cells, Notes
from estimator_serving.serving.process.channel import Channel, Methods
from estimator_serving.serving.process.ports import high_descriptors
from estimator_serving.serving.process.signals import Signals
from estimator_serving.serving.process.table import ModelRow, Table, Ticket
from estimator_serving.serving.process.tally import Counts
from estimator_serving.serving.running.servable import Servable
from estimator_serving.serving.server import Server, replay_warmup
from estimator_serving.serving.startup import StartError

_log = logging.getLogger(__name__)

# How long a worker waits for the others' counts.
GATHER_S = 10.0


class Replica(Manager):
    """The versions that the supervisor decided to load, in the state that is in force. A process that replaces another
    one has no state while it loads; its versions run then, too, for their warmups.

    open_ticket: makes a servable of a ticket. generation: the number of the state that is in force.
    """

    def __init__(self, open_ticket: Callable[[Ticket], Servable], generation: Callable[[], int]) -> None:
        super().__init__(lambda name, version, directory: open_ticket(Ticket(0, name, version, directory, directory)))
        self._open = open_ticket
        self._generation = generation
        self._current = 0
        self._tables: dict[int, Table] = {0: Table()}
        self._held: dict[int, Version] = {}
        self._unwanted: set[int] = set()  # tickets that were let go while they were being opened
        self._switching = threading.Lock()
        self.starting = True
        self._rows: dict[str, ModelRow] = {}

    @property
    def table(self) -> Table:
        """The state that is in force."""
        self._look()
        return self._tables[self._current]

    def row(self, name: str) -> ModelRow | None:
        """What is known of a model, None for nothing."""
        self._look()
        return self._rows.get(name)

    def take(self, generation: int, table: Table) -> None:
        """Keep a state that will be in force soon, or is already."""
        with self._switching:
            self._tables[generation] = table

    def load_ticket(self, ticket: Ticket) -> None:
        """Open a version; it takes requests as soon as the state says so. Raises as the loader does."""
        servable = self._open(ticket)
        directory = VersionDirectory(ticket.directory)
        with self._lock:
            if ticket.number not in self._unwanted:
                self._held[ticket.number] = Version(ticket.version, directory, self._let_go, servable=servable)
            self._unwanted.discard(ticket.number)

    def unload_ticket(self, number: int) -> None:
        """Let a version go once its last request has ended; the state in force does not offer it any more."""
        self._look()
        with self._changed:
            version = self._held.get(number)
            if version is None:
                self._unwanted.add(number)
                return
            version.state = State.UNLOADING
            self._changed.wait_for(lambda: version.handles == 0)
            del self._held[number]
            version.servable = None
        memory.give_back()

    def check(self, ticket: Ticket) -> None:
        """Raise the error of a version that was taken out of service."""
        model = self._look().get(ticket.name)
        version = model.versions.get(ticket.version) if model else None
        if version is not None and version.is_withdrawn and version.error is not None:
            raise version.error

    def _let_go(self, version: Version) -> None:
        with self._lock:
            version.handles -= 1
            if version.handles == 0 and version.state is not State.AVAILABLE:
                self._changed.notify_all()

    def _look(self) -> dict[str, Model]:
        generation = self._generation()
        if generation != self._current:
            with self._switching:
                # Another thread may have been faster.
                if (generation := self._generation()) != self._current:
                    if not self._current and generation not in self._tables:
                        return self._models  # it loads what the others have, and is sent their state afterwards
                    table = self._tables[generation]
                    models = {row.name: self._model_of(row) for row in table.models}
                    self.starting = table.is_starting
                    self._rows = {row.name: row for row in table.models}
                    self._models = models
                    self._current = generation
                    for old in [number for number in self._tables if number < generation]:
                        del self._tables[old]
        return self._models

    def _model_of(self, row: ModelRow) -> Model:
        model = Model(row.name, row.is_configured, labels=row.labels, hint=row.hint)
        for entry in row.versions:
            directory = VersionDirectory(entry.directory)
            version = self._held.get(entry.ticket) or Version(entry.number, directory, self._let_go)
            version.state, version.error, version.is_withdrawn = entry.state, entry.error, entry.is_withdrawn
            model.versions[entry.number] = version
        available = [version for version in model.versions.values() if version.state is State.AVAILABLE]
        model.newest = max(available, key=lambda version: version.number, default=None)
        return model


class FollowedList:
    """The list of models as the supervisor has it; its changes are the supervisor's to make. A ModelList."""

    def __init__(self, replica: Replica, channel: Channel) -> None:
        self._replica = replica
        self._channel = channel

    def log_settings(self, name: str) -> LogSettings | None:
        row = self._replica.row(name)
        return row.logging if row else None

    def version_policy(self, name: str) -> VersionPolicy | None:
        row = self._replica.row(name)
        return row.policy if row else None

    def names(self) -> list[str]:
        return list(self._replica.table.names)

    def replace(self, models: Sequence[ModelConfig]) -> None:
        self._channel.call("replace", tuple(models))

    def load(self, name: str) -> None:
        self._channel.call("load", name)

    def unload(self, name: str) -> None:
        self._channel.call("unload", name)


class Worker:
    """The parts of a worker process, and what its supervisor may call. They are its holdings, too: see there."""

    def __init__(self, config: Config, cells: Cells, end: socket.socket, slot: int) -> None:
        self._config, self._slot = config, slot
        self._notes = Notes(cells, slot)
        self.batches, self.loads = BatchMetrics(), LoadMetrics()
        self._loader = startup.make_loader(config, replay_warmup, self.batches, self.loads)
        # The copy that it opens never changes, is shared, and was counted by the supervisor.
        opening = partial(self._loader.open, mapped=True)  # type: ignore[call-arg]
        self._loader = replace(self._loader, open=opening, drops_cache=False, metrics=None)
        self.manager = Replica(self._open, lambda: cells.generation)
        self.signals = Signals()
        self.server: Server | None = None
        methods: Methods = {
            "load": self.manager.load_ticket, "unload": self.manager.unload_ticket, "take": self.manager.take,
            "serve": self.serve, "stop": self.signals.stop, "count": self.count,
            "poll": self.renew,
        }  # fmt: skip
        self.channel = Channel(end, methods, quick=("take", "stop"), ended=self.leave)
        self.catalog = FollowedList(self.manager, self.channel)
        self.channel.start()

    def leave(self) -> None:
        """The supervisor has ended. Ended while this process drains, it was told to end at once."""
        if self.signals.stop_wanted:
            os._exit(1)
        self.signals.stop()

    def _open(self, ticket: Ticket) -> Servable:
        around = partial(self._notes.noted, ticket.number, partial(self.manager.check, ticket))
        loader: Loader = replace(self._loader, open=partial(self._loader.open, around=around))  # type: ignore[call-arg]
        with self._notes.during(ticket.number):
            return loader(ticket.name, ticket.version, ticket.copy)

    def serve(self) -> str:
        """Open the ports. Returns why they cannot be opened, as a sentence; empty where they are."""
        try:
            with high_descriptors():
                self.server = Server(self._config, self)
        except StartError as error:
            return str(error)
        if self._slot:
            self.server.open_to_all = ""  # one of the workers says it
        self.server.exposition.gather = partial(self.channel.call, "families", timeout_s=GATHER_S)
        self.server.statistics.gather = partial(self.channel.call, "did", timeout_s=GATHER_S)
        self.server.start()
        return ""

    def renew(self) -> None:
        """Read keys and certificates now."""
        if self.server:
            self.server.poll()

    def count(self) -> Counts:
        if self.server is None:
            return Counts()
        loaded = [(servable.name, servable.version) for servable in self.manager.servables()]
        return Counts(self.server.exposition.families(), {key: self.server.statistics.own(*key) for key in loaded})

    def end(self) -> None:
        """Finish the requests in flight."""
        if self.server:
            self.server.stop()
        # Whatever still runs is given up, and no fault of its version.
        self._notes.clear()

    # --- holdings ---

    def trouble(self) -> str:
        return self.manager.table.trouble

    def start(self) -> None:
        """Nothing is left to load: the supervisor says when to serve."""

    def poll(self) -> None:
        """Polling is the supervisor's."""

    def interrupt(self) -> None:
        """What the supervisor wants goes on until the process ends."""

    def stop(self) -> bool:
        return True


def run(config: Config, cells: Cells, end: socket.socket, argument: Mapping[str, Any]) -> int:
    """The life of a worker process. argument: its `slot`, and the file that is told of a crash, as `fault`."""
    slot = argument["slot"]
    garbage.settle()
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname)s worker {slot} %(name)s: %(message)s", force=True
    )
    with open(argument["fault"], "w") as fault:
        faulthandler.enable(fault, all_threads=True)
        cells.live(slot)
        worker = Worker(config, cells, end, slot)
        worker.signals.wait(lambda: None)
        worker.end()
    return 0


def probe(config: Config, end: socket.socket, argument: Mapping[str, Any]) -> int:
    """Open a version once, in a process that serves nothing: should it end its process, no request is lost by it.

    argument: the `name`, `version` and `directory` of the version; `copy`, a directory to make with what workers open,
    empty for none. Sends the error, None for none, and the warmups as `LoadMetrics.warmed_up` takes them.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warmups: list[tuple[float, Code, int]] = []

    class Recorded(LoadMetrics):
        def warmed_up(self, path: str, elapsed_s: float, code: Code, records: int) -> None:
            warmups.append((elapsed_s, code, records))

    loader = startup.make_loader(config, replay_warmup, BatchMetrics(), Recorded())
    copy_to = Path(argument["copy"]) if argument["copy"] else None
    loader = replace(loader, open=partial(loader.open, copy_to=copy_to))  # type: ignore[call-arg]
    error = None
    with open(argument["fault"], "w") as fault:
        faulthandler.enable(fault, all_threads=True)
        try:
            loader(argument["name"], argument["version"], Path(argument["directory"]))
        except Exception as failure:
            error = as_serving_error(failure)
    Connection(end.detach()).send_bytes(pickle.dumps((error, warmups)))
    return 0
