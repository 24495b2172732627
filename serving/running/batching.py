"""Requests of many callers in one run.

Owns the threads' part of batching: one lock around the queues of a version, the waiting of its callers, and the runs.
BatchQueues decides which requests share a batch, which run next and which are refused.

There is no thread and no timer of batching. A request that finds a slot free runs at once, on its caller's own thread.
While all slots are held, requests wait. When a batch finishes, its slot goes to the oldest request in the next queue;
that request's thread takes as many others along as fit and runs them together. So batches grow with the load, and a
version that is gone leaves nothing behind.

What the thread of a request does, in `run`:

    enter the queues
    until the task is settled and leads nothing:
        asleep ──wake──▶ it leads a batch: fill it (lock), run it (no lock), hand over the outputs, free the slot (lock)
           │         └─▶ it is settled: another thread ran it
           └─ CANCELLED_POLL_S or its deadline: does anybody still wait for it? if not, drop it (lock)
    leave the queues

A woken thread may find both: an answer, and a batch to lead. It leads first, because others wait for that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from estimator_serving.serving.errors import FULL_TEXT, InvalidArgumentError, UnavailableError
from estimator_serving.serving.request import Context, Outputs, Request
from estimator_serving.serving.running import batch_arrays
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.batch_queues import BatchObserver, BatchQueues, Piece, Shapes, Task
from estimator_serving.serving.running.runner import Runner, Waiting

# Threads a front needs where its requests wait for each other.
REQUEST_THREADS = 256
# How often a waiting request checks whether its client is still there.
CANCELLED_POLL_S = 0.5


class BatchingRunner:
    """Lets the requests of one version share runs of another Runner. A Runner itself; see there.

    inner: runs the batches.
    has_rows: by signature, whether dimension 0 of its inputs and outputs may be a batch; the requests of other
        signatures go to `inner` one by one.
    observer: counts what happens; called on the threads of requests, mostly under the lock.
    """

    # A request may have to wait for others, however short a run is.
    is_quick = False

    def __init__(
        self,
        inner: Runner,
        parameters: BatchParameters,
        has_rows: Mapping[str, bool],
        observer: BatchObserver,
    ) -> None:
        self.inner = inner
        self._parameters = parameters
        self._has_rows = has_rows
        self._only_signature = next(iter(has_rows)) if len(has_rows) == 1 else ""
        self._observer = observer
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._queues = BatchQueues(parameters, observer)
        self._run_s = 0.0  # of the last batch

    @property
    def is_full(self) -> bool:
        """Takes no lock, because an answer that is a moment old is as good."""
        return self._queues.count_full() >= len(self._has_rows)

    def run(self, request: Request, context: Context) -> Outputs:
        """The outputs of a request, computed together with those of other callers where there are any.

        Raises what the inner runner raises, and:
            UnavailableError: too much waits already.
            ResourceExhaustedError: the deadline passed in the queue, and the request did not run.
            DeadlineExceededError: the deadline passed while it ran.
            CancelledError: the caller went away before it ran.
            InvalidArgumentError: inputs without a common number of rows, or with more than a request may have.
            FailedPreconditionError: outputs that cannot be split by rows.
        """
        if not self._has_rows[request.signature_name]:
            return self.inner.run(request, context)
        rows = batch_arrays.count_rows(request.inputs)
        if rows == 0:
            return self.inner.run(request, context)
        if rows > self._parameters.max_batch_size:
            raise InvalidArgumentError(
                f"Task size {rows} is larger than maximum input batch size {self._parameters.max_batch_size}; "
                "send fewer rows in one request, or raise max_batch_size in the batching parameters."
            )
        # By name: clients send the inputs in any order.
        if self._parameters.pad_variable_length_inputs:
            shapes: Shapes = frozenset([(alias, array.ndim) for alias, array in request.inputs.items()])
        else:
            shapes = frozenset([(alias, array.shape[1:]) for alias, array in request.inputs.items()])
        # Released to wake this thread: half the cost of an Event.
        turn = threading.Lock()
        turn.acquire()

        def wake() -> None:  # under the lock, like everything that queues do
            if turn.locked():
                turn.release()

        task = Task((request.signature_name, shapes), request.inputs, request.outputs, context, rows, wake)
        with self._lock:
            self._queues.enter(task)
            if task.key in self._queues.filling:
                self._arrived.notify_all()
        try:
            self._see_through(task, turn)
        finally:
            with self._lock:
                self._queues.leave()
        return task.answer()

    def waiting(self) -> Mapping[str, Waiting]:
        with self._lock:
            return dict(self._queues.waiting)

    def refusal(self) -> UnavailableError:
        self.count_refusal()
        # Without the lock, as in `is_full`: it may have room again by now.
        return self._queues.refusal(self._only_signature, 1) or UnavailableError(FULL_TEXT)

    def count_refusal(self) -> None:
        self._observer.refused(self._only_signature, "queue_full")

    @property
    def backlog_s(self) -> float:
        rows = sum([waiting.rows for waiting in list(self._queues.waiting.values())])
        runs = rows / self._parameters.batch_rows_max / self._parameters.num_batch_threads
        return runs * self._run_s

    def _see_through(self, task: Task, turn: threading.Lock) -> None:
        """Return when the task is settled, and has run every batch that it was given to lead."""
        while task.lead is not None or not task.is_settled:
            if task.lead is not None:
                self._lead(task, task.lead)
                continue
            sleep_s = CANCELLED_POLL_S
            if task.context.deadline_s is not None:
                sleep_s = max(0.0, min(sleep_s, task.context.deadline_s - time.monotonic()))
            if not turn.acquire(timeout=sleep_s):
                with self._lock:
                    # With a slot in hand the task goes on, if only to pass the slot on.
                    if task.lead is None and not task.is_settled:
                        self._queues.drop_unwanted(task)

    def _lead(self, task: Task, first: Piece) -> None:
        """Run the batch that begins with this piece, in the slot that the task was given."""
        task.lead = None
        key, rows_max = task.key, self._parameters.batch_rows_max
        queues = self._queues
        try:
            with self._lock:
                batch = [first, *queues.take_all(key, rows_max - first.rows)]
                closes_s = first.task.queued_s + self._parameters.batch_timeout_s
                queues.filling.add(key)
                while key not in queues and _rows(batch) < rows_max and (left_s := closes_s - time.monotonic()) > 0:
                    self._arrived.wait(left_s)
                    batch += queues.take_all(key, rows_max - _rows(batch))
                queues.filling.discard(key)
                # What came meanwhile and did not fit may run beside this batch.
                queues.assign_slots()
            self._run_batch(batch)
        finally:
            with self._lock:
                queues.free_slot(task)

    def _run_batch(self, batch: list[Piece]) -> None:
        """Run the pieces together; where that fails, each by itself, so that only the culprit fails."""
        rows, signature_name = _rows(batch), batch[0].task.signature_name
        padded_rows = self._parameters.padded_rows(rows)
        outputs, context = batch[0].task.outputs, batch[0].task.context
        if len(batch) > 1:
            outputs = tuple(dict.fromkeys(alias for piece in batch for alias in piece.task.outputs))
            # A batch is waited for as long as any of its callers waits.
            contexts = [piece.task.context for piece in batch]
            deadlines = [context.deadline_s for context in contexts if context.deadline_s is not None]
            latest_s = max(deadlines) if len(deadlines) == len(contexts) else None
            context = Context(latest_s, lambda: all(one.cancelled() for one in contexts))
        try:
            inputs = batch_arrays.join([piece.inputs() for piece in batch], padded_rows, self._parameters.padding_value)
            self._observer.ran(signature_name, rows, padded_rows, has_sizes=bool(self._parameters.allowed_batch_sizes))
            began_s = time.monotonic()
            together = self.inner.run(Request(signature_name, inputs, outputs), context)
            self._run_s = time.monotonic() - began_s
            parts = batch_arrays.split(together, [piece.rows for piece in batch], padded_rows)
        except Exception as error:
            if len(batch) > 1:
                for piece in batch:
                    self._run_batch([piece])
                return
            with self._lock:
                self._queues.fail(batch[0].task, error)
            return
        with self._lock:
            for piece, part in zip(batch, parts, strict=True):
                piece.task.add(piece, part)


def _rows(batch: list[Piece]) -> int:
    return sum(piece.rows for piece in batch)
