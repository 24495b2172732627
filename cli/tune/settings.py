"""The settings of the server that `tune` chooses among, and how they are written for the server.

Owns their names, their defaults (those of the server) and the order from simple to special. Does not know how fast a
setting is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf import text_format

from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.wire.pb import serving_pb

DEFAULTS = BatchParameters(num_batch_threads=1)


@dataclass(frozen=True)
class Batching:
    """The parameters of batching that are measured; the server's other parameters keep their defaults.

    Attributes:
        rows_max: the largest batch that is run. Larger requests are split, so that none is refused for its size.
        timeout_micros: how long a free slot waits for a batch to fill.
        threads: batches that run at the same time; 0 for the number of cores, the server's default.
        queue: full batches that may wait.
    """

    rows_max: int = DEFAULTS.max_batch_size
    timeout_micros: int = 0
    threads: int = 0
    queue: int = DEFAULTS.max_enqueued_batches

    def as_text(self) -> str:
        """The file that the server reads with --batching_parameters_file: a text BatchingParameters."""
        message = serving_pb.BatchingParameters()
        message.max_batch_size.value = max(DEFAULTS.max_batch_size, self.rows_max)
        message.batch_timeout_micros.value = self.timeout_micros
        message.max_enqueued_batches.value = self.queue
        if self.threads:
            message.num_batch_threads.value = self.threads
        if self.rows_max < message.max_batch_size.value:
            message.enable_large_batch_splitting.value = True
            message.max_execution_batch_size.value = self.rows_max
        return text_format.MessageToString(message)


@dataclass(frozen=True)
class Setting:
    """What the server is started with; the defaults are the server's.

    Attributes:
        threads: threads inside one operator of the model; 0 for the server's own choice, its share of the cores.
        workers: processes that answer; 0 for one process without a supervisor.
        batching: None for none.
    """

    threads: int = 0
    workers: int = 0
    batching: Batching | None = None

    def flags(self, batching_file: Path) -> dict[str, str]:
        """The flags of `serve`, without those that have their defaults. batching_file: where `as_text` is written."""
        flags = {}
        if self.threads:
            flags["tensorflow_intra_op_parallelism"] = str(self.threads)
        if self.workers:
            flags["workers"] = str(self.workers)
        if self.batching is not None:
            flags |= {"enable_batching": "true", "batching_parameters_file": str(batching_file)}
        return flags

    def changes(self) -> list[str]:
        """In words, each difference from the server's defaults."""
        words = []
        if self.threads:
            words.append(f"{self.threads} thread{'s' * (self.threads > 1)}")
        if self.workers:
            words.append(f"{self.workers} workers")
        if self.batching is not None:
            words.append("batching")
            default = Batching()
            if self.batching.rows_max != default.rows_max:
                words.append(f"up to {self.batching.rows_max} rows")
            if self.batching.threads != default.threads:
                words.append(f"{self.batching.threads} at once")
            if self.batching.timeout_micros != default.timeout_micros:
                words.append(f"wait {self.batching.timeout_micros} µs")
            if self.batching.queue != default.queue:
                words.append(f"queue {self.batching.queue}")
        return words

    def __str__(self) -> str:
        return ", ".join(self.changes()) or "defaults"


@dataclass(frozen=True)
class Space:
    """What may be measured here.

    Attributes:
        cores: that the server and the load share.
        takes_workers: whether this system has worker processes.
        is_batched: whether requests of the signature can share a run.
        rows: rows of a request.
        clients_max: the most clients that ask at the same time.
    """

    cores: int
    takes_workers: bool = True
    is_batched: bool = True
    rows: int = 1
    clients_max: int = 64


def thread_counts(best: Setting, space: Space, _latency_s: float) -> list[Setting]:
    """Fewer threads than cores; all cores are the default."""
    return [replace(best, threads=count) for count in _levels(space.cores // 2)]


def worker_counts(best: Setting, space: Space, _latency_s: float) -> list[Setting]:
    """Several processes, each with its share of the cores where the threads would be more than the cores."""
    if not space.takes_workers or space.cores < 2:
        return []
    return [
        replace(best, workers=count, threads=best.threads if best.threads * count <= space.cores else 0)
        for count in _levels(space.cores)
        if count > 1
    ]


def batching(best: Setting, space: Space, _latency_s: float) -> list[Setting]:
    """Batching with the server's parameters, and with one batch at a time."""
    if not space.is_batched:
        return []
    at_once = (0, 1) if space.cores // max(1, best.workers) > 1 else (0,)
    # A request must fit into a batch.
    rows_max = max(DEFAULTS.max_batch_size, space.rows)
    return [replace(best, batching=Batching(rows_max, threads=threads)) for threads in at_once]


def batch_sizes(best: Setting, space: Space, _latency_s: float) -> list[Setting]:
    """Batches of a few requests. What is more than all clients together send at once makes no difference."""
    if best.batching is None:
        return []
    sizes = (requests * space.rows for requests in (4, 16, 64) if requests <= space.clients_max // 2)
    return [
        replace(best, batching=replace(best.batching, rows_max=size)) for size in sizes if size < best.batching.rows_max
    ]


def batch_timeouts(best: Setting, _space: Space, latency_s: float) -> list[Setting]:
    """Waiting for a batch to fill, for a small part of the latency that is accepted."""
    if best.batching is None:
        return []
    return [
        replace(best, batching=replace(best.batching, timeout_micros=micros))
        for micros in (500, 2000)
        if micros / 1e6 <= latency_s / 4
    ]


# The best setting so far, what may be measured, the accepted latency in seconds -> settings to try on top of it.
Stage = Callable[[Setting, Space, float], list[Setting]]
STAGES: tuple[Stage, ...] = (thread_counts, worker_counts, batching, batch_sizes, batch_timeouts)


def with_queue_for(setting: Setting, rows: int, rows_of_request: int) -> Setting:
    """The setting with a queue that holds about so many rows; smaller batches, if one of them would hold more."""
    assert setting.batching is not None
    size = setting.batching.rows_max
    while size > rows and size // 2 >= rows_of_request:
        size //= 2
    queue = min(max(1, rows // size), setting.batching.queue)
    return replace(setting, batching=replace(setting.batching, rows_max=size, queue=queue))


def _levels(most: int) -> list[int]:
    """A few counts up to `most`, ascending, far enough apart to make a difference; none if `most` is 0."""
    return sorted({1, math.isqrt(most), most}) if most else []
