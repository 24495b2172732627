"""The rules of the queues, held by random histories: no lock, no thread, no run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servables import Uncounted

from estimator_serving.serving.errors import CancelledError, InternalError, UnavailableError
from estimator_serving.serving.request import Context
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.batch_queues import BatchQueues, Task

ROWS_MAX = 6


class History:
    """Queues, every task that entered them, and the batches that run now by the task that leads them."""

    def __init__(self, **parameters):
        self.parameters = BatchParameters(max_batch_size=ROWS_MAX, **parameters)
        self.queues = BatchQueues(self.parameters, Uncounted())
        self.tasks = []
        self.running = {}
        self.taken = []
        self.gone = set()

    def enter(self, key, rows):
        number = len(self.tasks)
        context = Context(cancelled=lambda: number in self.gone)
        task = Task((key, ()), {"x": np.arange(rows)}, ("x",), context, rows, lambda: None)
        self.tasks.append(task)
        try:
            self.queues.enter(task)
        except UnavailableError as error:
            task.error = error
        self.begin()

    def begin(self):
        """What the woken threads do: take along what fits."""
        for task in [task for task in self.tasks if task.lead is not None]:
            room = self.parameters.batch_rows_max - task.lead.rows
            self.running[task] = [task.lead, *self.queues.take_all(task.key, room)]
            self.taken += self.running[task]
            task.lead = None

    def end(self, index, *, fails):
        if self.running:
            leader = list(self.running)[index % len(self.running)]
            for piece in self.running.pop(leader):
                if fails:
                    self.queues.fail(piece.task, InternalError("x"))
                else:
                    piece.task.add(piece, piece.inputs())
            self.queues.free_slot(leader)
            self.begin()

    def leave(self, index):
        if self.tasks:
            self.gone.add(index % len(self.tasks))

    def check(self):
        queued = [task for task in self.tasks if task.rows_waiting and task.error is None]
        assert self.queues.free_slots + len(self.running) == self.parameters.num_batch_threads
        # Work-conserving: while a slot is free, nothing waits but the rest of what a busy thread has split.
        assert not self.queues.free_slots or all(task.is_busy for task in queued)
        waiting = self.queues.waiting
        assert sum(one.rows for one in waiting.values()) == sum(task.rows_waiting for task in queued)
        assert sum(one.requests for one in waiting.values()) == len(queued)
        for batch in self.running.values():
            assert sum(piece.rows for piece in batch) <= self.parameters.batch_rows_max
            assert len({piece.task.key for piece in batch}) == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from("ab"), st.integers(1, ROWS_MAX)),
        st.tuples(st.just("end"), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 50)),
    ),
    max_size=60,
)
PARAMETERS = st.fixed_dictionaries(
    {"num_batch_threads": st.integers(1, 3), "max_enqueued_batches": st.integers(1, 4)},
    optional={"enable_large_batch_splitting": st.just(True), "max_execution_batch_size": st.integers(1, ROWS_MAX)},
)


@given(PARAMETERS, STEPS)
@settings(max_examples=300, deadline=None)
def test_every_history_keeps_the_rules(parameters, steps):
    history = History(**parameters)
    for step, *values in steps:
        if step == "end":
            history.end(values[0], fails=values[1])
        else:
            getattr(history, step)(*values)
        history.check()
    while history.running:
        history.end(0, fails=False)
        history.check()
    for task in history.tasks:
        assert task.is_settled
        assert task.error is not None or task.answer()["x"].tolist() == list(range(task.rows))
    # Within a queue, the oldest comes first.
    for key in "ab":
        order = [(history.tasks.index(p.task), p.start) for p in history.taken if p.task.key[0] == key]
        assert order == sorted(order)


def test_unwanted_tasks_never_run():
    history = History(num_batch_threads=1)
    for _ in range(3):
        history.enter("a", 1)
    history.leave(1)
    history.end(0, fails=False)
    history.end(0, fails=False)
    assert [history.tasks.index(piece.task) for piece in history.taken] == [0, 2]
    with pytest.raises(CancelledError):
        history.tasks[1].answer()


def test_a_filling_queue_gets_no_other_slot():
    history = History(num_batch_threads=2)
    history.enter("a", 1)
    history.queues.filling.add(("a", ()))
    history.enter("a", 1)
    assert history.queues.free_slots == 1
    history.queues.filling.clear()
    history.queues.assign_slots()
    assert history.queues.free_slots == 0


def test_queues_take_turns():
    history = History(num_batch_threads=1)
    for key in "aaab":
        history.enter(key, ROWS_MAX)
    while history.running:
        history.end(0, fails=False)
    assert [piece.task.key[0] for piece in history.taken] == ["a", "a", "b", "a"]
