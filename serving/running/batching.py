"""Requests of many callers in one run: who shares it, when it begins, who is turned away.

Owns the queues of one model version, their bounds, and the places in which its batches run. Knows arrays by name and a
function that runs them, nothing of sessions and wires.

There is no thread here and no timer. A request that finds a place free runs at once, on its caller's own thread; while
all places are taken, requests wait. Who frees a place hands it to the oldest waiting request of the next queue, which
takes along as many others as fit and runs them all. So batches grow with the load, and a version that is gone leaves
nothing behind.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from estimator_serving.serving.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ServingError,
    UnavailableError,
)
from estimator_serving.serving.request import Context, Outputs
from estimator_serving.serving.running import batch_arrays
from estimator_serving.serving.running.batch_arrays import Inputs
from estimator_serving.serving.running.batch_parameters import BatchParameters

# Threads a front needs where its requests wait for each other.
REQUEST_THREADS = 256
# Requests of one version that may be here at once: a version that hangs must leave threads for the others.
REQUESTS_MAX = 192
# How often a waiting request looks whether its client is still there.
CANCELLED_LOOK_S = 0.5

# Signature, inputs, outputs wanted, and who waits for them.
Run = Callable[[str, Inputs, tuple[str, ...], Context], Outputs]
# What requests must have in common to share a batch: the signature, and the shapes or ranks of their inputs.
_Key = tuple[str, tuple[object, ...]]


class Meter(Protocol):
    """Takes note of what happens in the queues of one version."""

    def ran(self, signature_name: str, rows: int, padded_rows: int, *, has_sizes: bool) -> None: ...

    def waited(self, queued_s: float, rows: int) -> None: ...

    def rejected(self, signature_name: str, reason: str) -> None: ...


class _Unmetered:
    def ran(self, signature_name: str, rows: int, padded_rows: int, *, has_sizes: bool) -> None: ...

    def waited(self, queued_s: float, rows: int) -> None: ...

    def rejected(self, signature_name: str, reason: str) -> None: ...


class Waiting(NamedTuple):
    """What waits for a place."""

    requests: int
    rows: int


class _Task:
    """One request: what it brings, what its thread has to do next, what has come out so far."""

    def __init__(self, key: _Key, inputs: Inputs, outputs: tuple[str, ...], context: Context, rows: int) -> None:
        self.key = key
        self.inputs = inputs
        self.outputs = outputs
        self.context = context
        self.rows = rows
        self.queued_s = time.monotonic()
        self.rows_waiting = rows
        self.rows_left = rows
        self.error: Exception | None = None
        # What the batch begins with that its thread is to run, and whether its thread has such work.
        self.lead: _Piece | None = None
        self.is_busy = False
        self._parts: dict[int, Outputs] = {}
        # Released when there is something for its thread to do: half the cost of an Event.
        self._turn = threading.Lock()
        self._turn.acquire()

    @property
    def signature_name(self) -> str:
        return self.key[0]

    @property
    def is_settled(self) -> bool:
        return self.error is not None or not self.rows_left

    def notify(self) -> None:
        if self._turn.locked():
            self._turn.release()

    def wait(self) -> bool:
        """Wait for a turn; False after a while, or at the deadline, without one."""
        deadline_s = self.context.deadline_s
        left_s = CANCELLED_LOOK_S if deadline_s is None else min(CANCELLED_LOOK_S, deadline_s - time.monotonic())
        return self._turn.acquire(timeout=max(0.0, left_s))

    def fail(self, error: Exception) -> None:
        if not self.is_settled:
            self.error = error
            self.notify()

    def add(self, piece: _Piece, outputs: Outputs) -> None:
        self._parts[piece.start] = {alias: outputs[alias] for alias in self.outputs}
        self.rows_left -= piece.rows
        if not self.rows_left:
            self.notify()

    def answer(self) -> Outputs:
        if self.error is not None:
            raise self.error
        parts = [self._parts[start] for start in sorted(self._parts)]
        return parts[0] if len(parts) == 1 else batch_arrays.concatenate(parts)


class _Piece(NamedTuple):
    """Rows of a request: all of them, unless it was split."""

    task: _Task
    start: int
    rows: int

    def cut(self, rows: int) -> tuple[_Piece, _Piece]:
        return self._replace(rows=rows), _Piece(self.task, self.start + rows, self.rows - rows)

    def inputs(self) -> Inputs:
        if self.rows == self.task.rows:
            return self.task.inputs
        return {alias: array[self.start : self.start + self.rows] for alias, array in self.task.inputs.items()}


class Batcher:
    """The queues of one version. `run` may be called from many threads at once, and returns on each its own answer."""

    def __init__(self, run: Run, parameters: BatchParameters, meter: Meter | None = None) -> None:
        self._run = run
        self._parameters = parameters
        self._meter: Meter = meter or _Unmetered()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._free_places = parameters.num_batch_threads
        # By turns: a queue that was served goes to the end.
        self._queues: OrderedDict[_Key, deque[_Piece]] = OrderedDict()
        # Queues whose executor waits for more, where a batch timeout is set.
        self._filling: set[_Key] = set()
        self._waiting: dict[str, Waiting] = {}
        self._requests = 0

    def run(self, signature_name: str, inputs: Inputs, outputs: tuple[str, ...], context: Context) -> Outputs:
        """The outputs of these inputs, computed together with those of other callers where there are any.

        Raises:
            UnavailableError: too much waits already.
            ResourceExhaustedError: the deadline passed in the queue, and the request did not run.
            DeadlineExceededError: the deadline passed while it ran.
            CancelledError: the caller went away before it ran.
            InvalidArgumentError: inputs without a common number of rows, or with more than a request may have.
            FailedPreconditionError: outputs that cannot be split by rows.
        """
        rows = batch_arrays.count_rows(inputs)
        if rows == 0:
            return self._run(signature_name, inputs, outputs, context)
        if rows > self._parameters.max_batch_size:
            raise InvalidArgumentError(
                f"Task size {rows} is larger than maximum input batch size {self._parameters.max_batch_size}; "
                "send fewer rows in one request, or raise max_batch_size in the batching parameters."
            )
        task = _Task(self._key(signature_name, inputs), inputs, outputs, context, rows)
        with self._lock:
            self._admit(task)
            self._enqueue(task)
            self._hand_out_places()
        try:
            self._see_through(task)
        finally:
            with self._lock:
                self._requests -= 1
        return task.answer()

    def _see_through(self, task: _Task) -> None:
        """Wait for the task's answer, and run batches where it is given a place: also when its own answer is there."""
        while task.lead is not None or not task.is_settled:
            if task.lead is not None:
                self._lead(task)
            elif not task.wait():
                self._leave_if_unwanted(task)

    def waiting(self) -> Mapping[str, Waiting]:
        """What waits now, by signature."""
        with self._lock:
            return dict(self._waiting)

    def count_full(self) -> int:
        """How many signatures' queues take not one row more, all of them (REQUESTS_MAX) where that many are here.

        Looks without the lock: an answer that is a moment old is as good.
        """
        if self._requests >= REQUESTS_MAX:
            return REQUESTS_MAX
        if self._free_places:
            return 0
        room = self._parameters.max_enqueued_batches * self._parameters.batch_rows_max
        return sum(waiting.rows >= room for waiting in list(self._waiting.values()))

    def note_turned_away(self, signature_name: str) -> None:
        """Count a request that was refused for want of room before it came here; '' where its signature is unknown."""
        self._meter.rejected(signature_name, "queue_full")

    def _key(self, signature_name: str, inputs: Inputs) -> _Key:
        if self._parameters.pad_variable_length_inputs:
            return signature_name, tuple(array.ndim for array in inputs.values())
        return signature_name, tuple(array.shape[1:] for array in inputs.values())

    # Everything from here to `_lead` is called with the lock held.

    def _admit(self, task: _Task) -> None:
        """Raise UnavailableError where more may not wait."""
        waiting = self._waiting.get(task.signature_name, Waiting(0, 0))
        rows_max, limit = self._parameters.batch_rows_max, self._parameters.max_enqueued_batches
        enqueued = _batches(waiting.rows, rows_max)
        if self._requests >= REQUESTS_MAX:
            bound = f"currently {self._requests} requests are in it or running"
        elif waiting.rows and _batches(waiting.rows + task.rows, rows_max) > limit and not self._free_places:
            bound = f"currently {enqueued} batches enqueued and max_enqueued_batches is {limit}"
        else:
            return
        self._meter.rejected(task.signature_name, "queue_full")
        raise UnavailableError(
            f"The batch scheduling queue to which this task was submitted is full; {bound}. Send it again later."
        )

    def _enqueue(self, task: _Task) -> None:
        self._queues.setdefault(task.key, deque()).append(_Piece(task, 0, task.rows))
        self._count(task.signature_name, 1, task.rows)
        self._requests += 1
        if task.key in self._filling:
            self._arrived.notify_all()

    def _count(self, signature_name: str, requests: int, rows: int) -> None:
        waiting = self._waiting.get(signature_name, Waiting(0, 0))
        self._waiting[signature_name] = Waiting(waiting.requests + requests, waiting.rows + rows)

    def _hand_out_places(self) -> None:
        while self._free_places and (turn := self._next_turn()) is not None:
            leader, piece = turn
            self._free_places -= 1
            leader.lead, leader.is_busy = piece, True
            leader.notify()

    def _next_turn(self) -> tuple[_Task, _Piece] | None:
        """What runs next, and on whose thread: that of the oldest request which has none to run already."""
        for key in [key for key in self._queues if key not in self._filling]:
            self._queues.move_to_end(key)
            if self._head(key) is None:
                continue
            leader = next((piece.task for piece in self._queues[key] if not piece.task.is_busy), None)
            piece = self._take(key, self._parameters.batch_rows_max) if leader else None
            if leader and piece:
                return leader, piece
        return None

    def _head(self, key: _Key) -> _Piece | None:
        """A queue's oldest piece; those nobody waits for are thrown out on the way, and an empty queue is dropped."""
        queue = self._queues.get(key)
        while queue:
            error = _unwanted(queue[0].task)
            if error is None:
                return queue[0]
            self._throw_out(queue[0].task, error)
        self._queues.pop(key, None)
        return None

    def _take(self, key: _Key, room: int) -> _Piece | None:
        """A queue's oldest piece, or what there is room for where it may be cut."""
        piece = self._head(key)
        if piece is None or not room or (piece.rows > room and not self._parameters.enable_large_batch_splitting):
            return None
        queue = self._queues[key]
        queue.popleft()
        if piece.rows > room:
            piece, rest = piece.cut(room)
            queue.appendleft(rest)
        self._leave_queue(piece.task, piece.rows)
        return piece

    def _leave_queue(self, task: _Task, rows: int) -> None:
        if task.rows_waiting == task.rows:
            self._meter.waited(time.monotonic() - task.queued_s, task.rows)
        task.rows_waiting -= rows
        self._count(task.signature_name, -1 if not task.rows_waiting else 0, -rows)

    def _throw_out(self, task: _Task, error: ServingError) -> None:
        """Take what of a task still waits out of its queue, and fail it."""
        queue = self._queues.get(task.key, deque())
        for piece in [piece for piece in queue if piece.task is task]:
            queue.remove(piece)
        if task.rows_waiting:
            self._leave_queue(task, task.rows_waiting)
        reason = "cancelled" if isinstance(error, CancelledError) else "expired"
        self._meter.rejected(task.signature_name, reason)
        task.fail(error)

    def _fill(self, first: _Piece) -> list[_Piece]:
        """The batch that begins with this piece: what waits and fits, and what comes within the batch timeout."""
        key, rows_max = first.task.key, self._parameters.batch_rows_max
        batch = [first, *self._take_all(key, rows_max - first.rows)]
        closes_s = first.task.queued_s + self._parameters.batch_timeout_s
        self._filling.add(key)
        while key not in self._queues and _rows(batch) < rows_max and (left_s := closes_s - time.monotonic()) > 0:
            self._arrived.wait(left_s)
            batch += self._take_all(key, rows_max - _rows(batch))
        self._filling.discard(key)
        # What came meanwhile and did not fit may run beside this batch.
        self._hand_out_places()
        return batch

    def _take_all(self, key: _Key, room: int) -> Iterator[_Piece]:
        while (piece := self._take(key, room)) is not None:
            room -= piece.rows
            yield piece

    def _lead(self, task: _Task) -> None:
        """Run a batch in the place this task was given, and hand the place on."""
        first, task.lead = task.lead, None
        assert first is not None, "who leads was given the rows to begin with"
        try:
            with self._lock:
                batch = self._fill(first)
            self._run_batch(batch)
        finally:
            with self._lock:
                task.is_busy = False
                self._free_places += 1
                self._hand_out_places()

    def _run_batch(self, batch: list[_Piece]) -> None:
        """Run the batch; where that fails, each request alone, so that only the culprit fails."""
        try:
            self._run_together(batch)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0].task, error)
                return
            for piece in batch:
                self._run_alone(piece)

    def _run_alone(self, piece: _Piece) -> None:
        try:
            piece.task.context.check()
            self._run_together([piece])
        except Exception as error:
            self._fail(piece.task, error)

    def _run_together(self, batch: list[_Piece]) -> None:
        rows = _rows(batch)
        padded_rows = self._parameters.padded_rows(rows)
        signature_name = batch[0].task.signature_name
        outputs = tuple(dict.fromkeys(alias for piece in batch for alias in piece.task.outputs))
        inputs = batch_arrays.join([piece.inputs() for piece in batch], padded_rows, self._parameters.padding_value)
        self._meter.ran(signature_name, rows, padded_rows, has_sizes=bool(self._parameters.allowed_batch_sizes))
        answer = self._run(signature_name, inputs, outputs, _joint_context(batch))
        parts = batch_arrays.split(answer, [piece.rows for piece in batch], padded_rows)
        with self._lock:
            for piece, part in zip(batch, parts, strict=True):
                piece.task.add(piece, part)

    def _fail(self, task: _Task, error: Exception) -> None:
        with self._lock:
            if task.rows_waiting:
                self._queues[task.key].remove(next(piece for piece in self._queues[task.key] if piece.task is task))
                self._leave_queue(task, task.rows_waiting)
            task.fail(error)

    def _leave_if_unwanted(self, task: _Task) -> None:
        with self._lock:
            # With a place in hand it goes on, if only to hand the place on.
            error = None if task.lead is not None or task.is_settled else _unwanted(task)
            if error is not None:
                self._throw_out(task, error)


def _batches(rows: int, rows_max: int) -> int:
    return -(-rows // rows_max)


def _rows(batch: list[_Piece]) -> int:
    return sum(piece.rows for piece in batch)


def _joint_context(batch: list[_Piece]) -> Context:
    """Who waits for a batch: as long as any of its callers does."""
    contexts = [piece.task.context for piece in batch]
    if len(contexts) == 1:
        return contexts[0]
    deadlines = [context.deadline_s for context in contexts if context.deadline_s is not None]
    latest_s = max(deadlines) if len(deadlines) == len(contexts) else None
    return Context(latest_s, lambda: all(context.cancelled() for context in contexts))


def _unwanted(task: _Task) -> ServingError | None:
    """Why nobody waits for a task any more, None where somebody does."""
    try:
        task.context.check()
    except DeadlineExceededError:
        if task.rows_waiting < task.rows:
            return DeadlineExceededError("Timed out waiting for notification; the deadline passed while the model ran.")
        return ResourceExhaustedError(
            "Run() timeout exceeded while waiting in batching queue; send fewer requests at once, or wait longer."
        )
    except CancelledError as error:
        return error
    return None
