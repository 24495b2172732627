"""The worker processes: started, kept alike, replaced when they end.

Owns which workers there are and what each has loaded; how a new state comes into force in all of them at once; how long
a worker that keeps ending waits for its next start; and which version is to blame for a worker that crashed. Knows no
policy: what to load and when is decided above (`supervisor`).

A worker's way, in a thread for each place:

    forked ──▶ loads what is wanted ──▶ takes the state in force: a member ──▶ opens its ports ──▶ ends
       ◀────────────────────────────────── pause ───────────────────────────────────────────────────────┘

A state comes into force in two steps (`publish`): every member has it, then its number is written into shared memory.
"""

from __future__ import annotations

import logging
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from os import kill
from pathlib import Path
from typing import Any

from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.process.cells import Cells
from estimator_serving.serving.process.channel import Channel, GoneError, Methods
from estimator_serving.serving.process.nursery import Child, Nursery, how
from estimator_serving.serving.process.table import Table, Ticket
from estimator_serving.serving.process.tally import Counts

_log = logging.getLogger(__name__)

# A worker that does not even take a new state in this time hangs, and is replaced.
ANSWER_S = 30.0
# How long a worker's counts are waited for, before its last ones are taken.
COUNTS_S = 1.0
# A worker that lived no longer than this is started again after a pause, which doubles each time.
SHORT_LIFE_S = 10.0
PAUSE_S = 0.05
PAUSE_S_MAX = 5.0
# Ends that say nothing about a version: who is killed or asked to end did not crash.
_ASKED = frozenset({0, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT})
_CRASHED_THREAD = re.compile(r"^Current thread 0x([0-9a-f]+)[^\n]*\n(?:  [^\n]*\n)*", re.MULTILINE)

# Called with a version that ends processes, and how.
Blame = Callable[[Ticket, str], None]


@dataclass(eq=False)
class Worker:
    """A worker process. loads: by ticket number, the loads that it was asked for."""

    child: Child
    channel: Channel
    loads: dict[int, Future[Any]] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)

    def kill(self) -> None:
        if not self.child.ended.done():  # afterwards, its number may be another process's
            with suppress(ProcessLookupError):
                kill(self.child.pid, signal.SIGKILL)


class Fleet:
    """So many workers, alike.

    table: the state to publish, as it is now. methods: what a worker may call. blame: see Blame. count: called with a
    worker's process id and its counts, None when it has ended. directory: for what workers leave behind.
    """

    def __init__(
        self, size: int, nursery: Nursery, cells: Cells, directory: Path, *,
        table: Callable[[], Table], methods: Methods, blame: Blame,
        count: Callable[[int, Counts | None], None],
    ) -> None:  # fmt: skip
        self._nursery, self._cells, self._directory = nursery, cells, directory
        self._describe, self._methods, self._blame, self._count = table, methods, blame, count
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._counting = threading.Lock()
        self._workers: set[Worker] = set()
        self._members: set[Worker] = set()
        self._wanted: dict[int, Ticket] = {}
        self._suspicion: dict[int, float] = {}
        self._published: Table | None = None
        self._stopping = threading.Event()
        self._opened = threading.Event()
        self.refusal = ""
        self._places = [
            threading.Thread(target=self._keep, args=(place,), name=f"worker {place}", daemon=True)
            for place in range(size)
        ]

    def start(self) -> str:
        """Start all workers, and wait until the first answers. Returns why it cannot, or nothing."""
        for place in self._places:
            place.start()
        self._opened.wait()
        return self.refusal

    def load(self, ticket: Ticket) -> None:
        """Load a version in every worker, and in those to come. Raises what a worker raised."""
        with self._lock:
            self._wanted[ticket.number] = ticket
            workers = list(self._workers)
        loads = [self._load(worker, ticket) for worker in workers]
        try:
            for one in loads:
                with suppress(GoneError):
                    one.result()
        except Exception:
            self.unload(ticket)
            raise

    def unload(self, ticket: Ticket) -> None:
        """Let a version go in every worker, once its last request has ended."""
        with self._lock:
            self._wanted.pop(ticket.number, None)
            self._suspicion.pop(ticket.number, None)
        self.publish()
        with self._lock:
            workers = [worker for worker in self._workers if worker.loads.pop(ticket.number, None)]
        for ended in [worker.channel.begin("unload", ticket.number) for worker in workers]:
            with suppress(ServingError):
                ended.result()

    def publish(self) -> None:
        """Bring the present state into force in every worker at once; returns then."""
        with self._publishing:
            table = self._describe()
            if table == self._published:
                return
            generation = self._cells.generation + 1
            taken = {worker: worker.channel.begin("take", generation, table) for worker in list(self._members)}
            ends_s = time.monotonic() + ANSWER_S
            for worker, one in taken.items():
                try:
                    one.result(max(0.0, ends_s - time.monotonic()))
                except GoneError:
                    continue
                except FutureTimeoutError:
                    _log.error("Worker process %d does not answer, and is replaced.", worker.child.pid)
                    self._members.discard(worker)
                    worker.kill()
                    worker.child.ended.result()  # it must not answer in the old state any more
            self._cells.generation = generation
            self._published = table

    def count(self) -> None:
        """Ask every worker for its counts."""
        with self._counting:
            ends_s = time.monotonic() + COUNTS_S
            asked = {worker: worker.channel.begin("count") for worker in list(self._members)}
            for worker, one in asked.items():
                with suppress(ServingError, FutureTimeoutError):
                    self._count(worker.child.pid, one.result(max(0.0, ends_s - time.monotonic())))

    def renew(self) -> None:
        """Let every worker read keys and certificates now."""
        for worker in list(self._members):
            worker.channel.begin("poll")

    def stop(self, grace_s: float) -> None:
        """Let every worker finish what it has begun, and end it."""
        self._stopping.set()
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.channel.begin("stop")
        ends_s = time.monotonic() + grace_s
        for place in self._places:
            place.join(max(0.0, ends_s - time.monotonic()))
        for worker in workers:
            worker.kill()

    # --- one place ---

    def _keep(self, place: int) -> None:
        """Keep a worker in a place until the end."""
        pause_s, fault = 0.0, self._directory / f"worker-{place}"
        while not self._stopping.wait(pause_s):
            began_s = time.monotonic()
            try:
                child = self._nursery.start("worker", {"slot": place, "fault": str(fault)})
            except OSError as error:
                _log.error("No worker process can be started (%s); it is tried again.", error)
                pause_s = PAUSE_S_MAX
                continue
            gone = threading.Event()
            worker = Worker(child, Channel(child.end, self._methods, ended=gone.set), gone=gone)
            worker.channel.start()
            with self._lock:
                self._workers.add(worker)
            if self._stopping.is_set():
                worker.kill()
            try:
                self._join(worker)
            except ServingError as error:
                if not worker.gone.is_set():
                    _log.error("A worker process cannot load what the others have, and is replaced: %s", error)
                    worker.kill()
            worker.gone.wait()
            code = child.ended.result()
            with self._lock:
                self._workers.discard(worker)
            self._members.discard(worker)
            if self.refusal:
                return
            if not self._stopping.is_set():
                self._judge(place, code, fault)
            # From now on, what it ran may run elsewhere.
            self._cells.forget(place)
            with self._counting:
                self._count(child.pid, None)
            is_short = time.monotonic() - began_s < SHORT_LIFE_S
            pause_s = min(PAUSE_S_MAX, max(PAUSE_S, 2 * pause_s)) if is_short else 0.0

    def _join(self, worker: Worker) -> None:
        """Load what is wanted, take the state in force, and answer."""
        self._load_wanted(worker)
        with self._publishing:
            # Nothing comes into force meanwhile that it has not got.
            self._load_wanted(worker)
            worker.channel.call("take", self._cells.generation, self._published or Table(), timeout_s=ANSWER_S)
            self._members.add(worker)
        why = worker.channel.call("serve")
        if why and not self._opened.is_set():
            self.refusal = why
        elif why:
            _log.error("A worker process cannot answer: %s", why)
        self._opened.set()
        if why:
            worker.kill()

    def _load_wanted(self, worker: Worker) -> None:
        with self._lock:
            wanted = list(self._wanted.values())
        for ticket, loaded in [(ticket, self._load(worker, ticket)) for ticket in wanted]:
            try:
                loaded.result()
            except ServingError:
                if ticket.number in self._wanted:
                    raise

    def _load(self, worker: Worker, ticket: Ticket) -> Future[Any]:
        with self._lock:
            if ticket.number not in worker.loads:
                worker.loads[ticket.number] = worker.channel.begin("load", ticket)
            return worker.loads[ticket.number]

    def _judge(self, place: int, code: int, fault: Path) -> None:
        """Say why a worker ended, and blame the version that it ended in."""
        running = self._cells.running(place)
        if code in _ASKED:
            _log.warning("Worker %d ended (%s); it is started again.", place, how(code))
            return
        thread, told = read_fault(fault)
        _log.error("Worker %d crashed (%s); it is started again. %s", place, how(code), told)
        suspects = {running[thread]} if thread in running else set(running.values())
        for number in suspects:
            # Several may have run, and only one is at fault: the next crash tells more.
            with self._lock:
                ticket = self._wanted.get(number)
                self._suspicion[number] = self._suspicion.get(number, 0.0) + 1 / len(suspects)
                is_sure = self._suspicion[number] > 0.99
            if ticket is not None and is_sure:
                self._blame(ticket, how(code))


def read_fault(fault: Path) -> tuple[int, str]:
    """The identifier of the thread that ended a process, 0 if it is none of Python's, and what is told of it."""
    with suppress(OSError):
        text = fault.read_text(errors="replace")
        found = _CRASHED_THREAD.search(text)
        return (int(found[1], 16), found[0]) if found else (0, text.partition("\n\n")[0])
    return 0, ""
