"""The queues of one version: what waits, what runs next, what is refused. No lock, no thread, no waiting.

Owns the bookkeeping of batching. BatchingRunner calls every method under its lock (count_full excepted, which only
reads), and does the runs and the waits. Two things move through states:

    a task (one request)

        enter ──▶ waiting ──take──▶ running ──add──▶ settled: its outputs are there
                     │                 └────fail────▶ settled: with an error
                     └─ fail, drop_unwanted ────────▶ settled: with an error; it never runs

      A task that is split by rows waits and runs at once, piece by piece; it is settled when its last piece is added,
      or when the first one fails, and what then still waits of it is removed.

    a slot (the right to run one batch; there are `num_batch_threads`)

        free ──assign──▶ held by a task's thread, with the piece its batch begins with ──free_slot──▶ free

Three rules hold whenever no method is running:

1. Work-conserving: if a slot is free, nothing waits that could run. A waiting piece cannot run only while its queue is
   `filling` (its batch waits for more rows), or while every thread in its queue holds a slot already.
2. Queues take turns; within a queue the oldest piece comes first. A batch holds pieces of one queue, and a queue holds
   requests that agree in signature and shapes.
3. Unwanted tasks (their deadline has passed, or their client has gone) leave when they come to the head of their
   queue, and never run.

An example, with two slots' worth of threads asking:

    queues = BatchQueues(BatchParameters(num_batch_threads=1, max_batch_size=4))
    queues.enter(first)      # a slot is free: first.lead is the piece its thread runs, first.wake() was called
    queues.enter(second)     # waits
    queues.enter(third)      # waits
    ...                      # the first thread runs first.lead
    queues.free_slot(first)  # second.lead is set; its thread takes the third along: queues.take_all(second.key, 3)
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from estimator_serving.serving.errors import (
    CancelledError,
    DeadlineExceededError,
    ResourceExhaustedError,
    ServingError,
    UnavailableError,
)
from estimator_serving.serving.request import Context, Outputs
from estimator_serving.serving.running import batch_arrays
from estimator_serving.serving.running.batch_arrays import Inputs
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.runner import Waiting

# Requests of one version that may be here at once: a version that hangs must leave threads for the others.
REQUESTS_MAX = 192

# What requests must have in common to share a batch: the signature, and the shape or rank of each input.
Shapes = frozenset[tuple[str, object]]
Key = tuple[str, Shapes]


class BatchObserver(Protocol):
    """Counts what happens in the queues of one version."""

    def ran(self, signature_name: str, rows: int, padded_rows: int, *, has_sizes: bool) -> None:
        """A batch of `rows` runs with `padded_rows`; has_sizes: because of the parameters' allowed_batch_sizes."""
        ...

    def waited(self, queued_s: float, rows: int) -> None:
        """A request leaves its queue after this time."""
        ...

    def refused(self, signature_name: str, reason: str) -> None:
        """A request does not run: `queue_full`, `expired` or `cancelled`. Without a name, its signature is unknown."""
        ...


class Task:
    """One request: what it brings, what its thread has to do next, what has come out so far.

    Attributes:
        key: its queue.
        inputs, outputs, context, rows: of the request.
        wake: called when its thread has something to do: a batch to run, or an answer to take.
        lead: the piece that the batch begins with which its thread has to run, None without one.
        is_busy: whether its thread holds a slot.
        error: what it failed with.
        rows_waiting, rows_left: of its rows, those in the queue and those without outputs.
    """

    def __init__(
        self, key: Key, inputs: Inputs, outputs: tuple[str, ...], context: Context, rows: int, wake: Callable[[], None]
    ) -> None:
        self.key = key
        self.inputs = inputs
        self.outputs = outputs
        self.context = context
        self.rows = rows
        self.wake = wake
        self.queued_s = time.monotonic()
        self.rows_waiting = rows
        self.rows_left = rows
        self.error: Exception | None = None
        self.lead: Piece | None = None
        self.is_busy = False
        self._parts: dict[int, Outputs] = {}

    @property
    def signature_name(self) -> str:
        return self.key[0]

    @property
    def is_settled(self) -> bool:
        return self.error is not None or not self.rows_left

    def add(self, piece: Piece, outputs: Outputs) -> None:
        """Take the outputs of one of its pieces."""
        self._parts[piece.start] = {alias: outputs[alias] for alias in self.outputs}
        self.rows_left -= piece.rows
        if not self.rows_left:
            self.wake()

    def answer(self) -> Outputs:
        """The outputs of a settled task, or its error, raised."""
        if self.error is not None:
            raise self.error
        parts = [self._parts[start] for start in sorted(self._parts)]
        return parts[0] if len(parts) == 1 else batch_arrays.concatenate(parts)

    def why_unwanted(self) -> ServingError | None:
        """Why nobody waits for it any more, None while somebody does."""
        try:
            self.context.check()
        except DeadlineExceededError:
            if self.rows_waiting < self.rows:
                return DeadlineExceededError(
                    "Timed out waiting for notification; the deadline passed while the model ran."
                )
            return ResourceExhaustedError(
                "Run() timeout exceeded while waiting in batching queue; send fewer requests at once, or wait longer."
            )
        except CancelledError as error:
            return error
        return None


class Piece(NamedTuple):
    """Rows of a task: all of them, unless it was split."""

    task: Task
    start: int
    rows: int

    def inputs(self) -> Inputs:
        if self.rows == self.task.rows:
            return self.task.inputs
        return {alias: array[self.start : self.start + self.rows] for alias, array in self.task.inputs.items()}


class BatchQueues:
    """The queues and slots of one version; see the module for their rules.

    Attributes:
        free_slots: how many batches could begin now.
        requests: tasks that have entered and not left.
        waiting: what waits, by signature.
        filling: the keys of queues whose batch waits for more rows (where a batch timeout is set).
    """

    def __init__(self, parameters: BatchParameters, observer: BatchObserver) -> None:
        self._parameters = parameters
        self._observer = observer
        self.free_slots = parameters.num_batch_threads
        self.requests = 0
        self.waiting: dict[str, Waiting] = {}
        self.filling: set[Key] = set()
        # By turns: a queue that was served goes to the end.
        self._queues: OrderedDict[Key, deque[Piece]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        """Whether anything waits in this queue."""
        return key in self._queues

    def refusal(self, signature_name: str, rows: int) -> UnavailableError | None:
        """The error for a request with so many rows, None where it may wait here."""
        waiting = self.waiting.get(signature_name, Waiting(0, 0))
        rows_max, limit = self._parameters.batch_rows_max, self._parameters.max_enqueued_batches
        if self.requests >= REQUESTS_MAX:
            bound = f"currently {self.requests} requests are in it or running"
        elif waiting.rows and not self.free_slots and -(-(waiting.rows + rows) // rows_max) > limit:
            bound = f"currently {-(-waiting.rows // rows_max)} batches enqueued and max_enqueued_batches is {limit}"
        else:
            return None
        return UnavailableError(
            f"The batch scheduling queue to which this task was submitted is full; {bound}. Send it again later."
        )

    def enter(self, task: Task) -> None:
        """Put a task into its queue, and let what can run begin. Raises UnavailableError where no more may wait."""
        if refusal := self.refusal(task.signature_name, task.rows):
            self._observer.refused(task.signature_name, "queue_full")
            raise refusal
        self._queues.setdefault(task.key, deque()).append(Piece(task, 0, task.rows))
        self._count(task.signature_name, 1, task.rows)
        self.requests += 1
        self.assign_slots()

    def leave(self) -> None:
        """A task that entered goes."""
        self.requests -= 1

    def count_full(self) -> int:
        """How many signatures' queues take not one row more, all of them (REQUESTS_MAX) where that many are here."""
        if self.requests >= REQUESTS_MAX:
            return REQUESTS_MAX
        if self.free_slots:
            return 0
        room = self._parameters.max_enqueued_batches * self._parameters.batch_rows_max
        return len([waiting for waiting in list(self.waiting.values()) if waiting.rows >= room])

    def assign_slots(self) -> None:
        """Give free slots to the oldest waiting tasks whose threads hold none, queue by queue in turns."""
        while self.free_slots:
            for key in [key for key in self._queues if key not in self.filling]:
                self._queues.move_to_end(key)
                if self._oldest(key) is None:
                    continue
                leader = next((piece.task for piece in self._queues[key] if not piece.task.is_busy), None)
                if leader and (piece := self.take(key, self._parameters.batch_rows_max)):
                    self.free_slots -= 1
                    leader.lead, leader.is_busy = piece, True
                    leader.wake()
                    break
            else:
                return

    def free_slot(self, task: Task) -> None:
        """The task's thread has run its batch: its slot goes to the next that waits."""
        task.is_busy = False
        self.free_slots += 1
        self.assign_slots()

    def take(self, key: Key, room: int) -> Piece | None:
        """A queue's oldest piece, or as much of it as there is room for, where large requests are split."""
        piece = self._oldest(key)
        if piece is None or not room or (piece.rows > room and not self._parameters.enable_large_batch_splitting):
            return None
        queue = self._queues[key]
        queue.popleft()
        if piece.rows > room:
            queue.appendleft(Piece(piece.task, piece.start + room, piece.rows - room))
            piece = piece._replace(rows=room)
        if not queue:
            del self._queues[key]
        self._note_left(piece.task, piece.rows)
        return piece

    def take_all(self, key: Key, room: int) -> list[Piece]:
        """What waits in a queue and fits, oldest first."""
        taken: list[Piece] = []
        while (piece := self.take(key, room)) is not None:
            room -= piece.rows
            taken.append(piece)
        return taken

    def drop_unwanted(self, task: Task) -> bool:
        """Whether a task is unwanted; it has then failed."""
        error = task.why_unwanted()
        if error is None:
            return False
        reason = "cancelled" if isinstance(error, CancelledError) else "expired"
        self._observer.refused(task.signature_name, reason)
        self.fail(task, error)
        return True

    def fail(self, task: Task, error: Exception) -> None:
        """Settle a task with an error; what of it still waits leaves its queue."""
        if task.rows_waiting:
            queue = self._queues[task.key]
            queue.remove(next(piece for piece in queue if piece.task is task))
            if not queue:
                del self._queues[task.key]
            self._note_left(task, task.rows_waiting)
        if not task.is_settled:
            task.error = error
            task.wake()

    def _oldest(self, key: Key) -> Piece | None:
        """A queue's oldest piece that somebody waits for; unwanted ones are dropped on the way."""
        while key in self._queues:
            piece = self._queues[key][0]
            if not self.drop_unwanted(piece.task):
                return piece
        return None

    def _note_left(self, task: Task, rows: int) -> None:
        """Rows of a task have left its queue."""
        if task.rows_waiting == task.rows:
            self._observer.waited(time.monotonic() - task.queued_s, task.rows)
        task.rows_waiting -= rows
        self._count(task.signature_name, -1 if not task.rows_waiting else 0, -rows)

    def _count(self, signature_name: str, requests: int, rows: int) -> None:
        waiting = self.waiting.get(signature_name, Waiting(0, 0))
        self.waiting[signature_name] = Waiting(waiting.requests + requests, waiting.rows + rows)
