"""Who shares a run, when it begins, who is refused: BatchingRunner over runs that a test holds and lets go."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from servables import Uncounted

from estimator_serving.serving import errors
from estimator_serving.serving.request import PATIENT, Context, Request
from estimator_serving.serving.running import batch_queues
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.batching import BatchingRunner
from estimator_serving.serving.running.runner import Waiting

WAIT_S = 10


class Model:
    """Answers y = x + 1, remembers its batches, and waits in the middle of a run while it is held."""

    def __init__(self):
        self.batches = []
        self.contexts = []
        self.running = 0
        self._is_held = False
        self._passes = threading.Semaphore(0)

    def run(self, request, context):
        context.check()
        inputs = request.inputs
        self.batches.append(inputs["x"].tolist())
        self.contexts.append(context)
        self.running += 1
        assert not self._is_held or self._passes.acquire(timeout=WAIT_S)
        self.running -= 1
        if (inputs["x"] < 0).any():
            raise errors.InvalidArgumentError(f"negative at row {int(np.argmax(inputs['x'] < 0))}")
        answers = {"y": inputs["x"] + 1, "z": inputs["x"] * 2}
        return {alias: answers[alias] for alias in request.outputs}

    @contextmanager
    def held(self):
        self._is_held = True
        yield
        self._is_held = False
        self.let_through(100)

    def let_through(self, runs):
        self._passes.release(runs)


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as threads:
        yield threads


def make(model, observer=None, **parameters):
    has_rows = {"s": True, "t": True}
    return BatchingRunner(
        model, BatchParameters(**{"num_batch_threads": 1} | parameters), has_rows, observer or Uncounted()
    )


def ask(runner, values, outputs=("y",), context=PATIENT, signature_name="s"):
    return runner.run(Request(signature_name, {"x": np.array(values)}, outputs), context)


def until(condition):
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.001)


def waiting(runner):
    return sum(one.requests for one in runner.waiting().values())


class Callers:
    """Requests sent one after the other while the first of them is held in its run: all others wait."""

    def __init__(self, runner, model, pool):
        self.runner, self.model, self.pool = runner, model, pool
        self.answers = []

    def send(self, values, **more):
        before = waiting(self.runner), len(self.model.batches)
        self.answers.append(self.pool.submit(ask, self.runner, values, **more))
        until(lambda: (waiting(self.runner), len(self.model.batches)) != before)

    def results(self):
        return [answer.result(WAIT_S)["y"].tolist() for answer in self.answers]


def test_a_lone_request_runs_at_once_on_its_own_thread(model):
    seen, run = [], model.run
    model.run = lambda *arguments: seen.append(threading.current_thread()) or run(*arguments)
    assert ask(make(model), [1, 2])["y"].tolist() == [2, 3]
    assert seen == [threading.current_thread()]


def test_what_waits_runs_together(model, pool):
    callers = Callers(make(model), model, pool)
    with model.held():
        for values in ([1], [2, 3], [4], [5]):
            callers.send(values)
        assert callers.runner.waiting() == {"s": Waiting(3, 4)}
    assert callers.results() == [[2], [3, 4], [5], [6]]
    assert model.batches == [[1], [2, 3, 4, 5]]
    assert callers.runner.waiting() == {"s": Waiting(0, 0)}


def test_slots(model, pool):
    callers = Callers(make(model, num_batch_threads=2), model, pool)
    with model.held():
        for values in ([1], [2], [3]):
            callers.send(values)
        assert model.running == 2
    assert callers.results() == [[2], [3], [4]]


def test_a_batch_ends_where_the_next_does_not_fit(model, pool):
    callers = Callers(make(model, max_batch_size=4), model, pool)
    with model.held():
        for values in ([0], [1, 1], [2, 2, 2], [3]):
            callers.send(values)
    assert callers.results() == [[1], [2, 2], [3, 3, 3], [4]]
    assert model.batches == [[0], [1, 1], [2, 2, 2, 3]]


def test_shapes_and_signatures_do_not_mix(model, pool):
    callers = Callers(make(model), model, pool)
    with model.held():
        callers.send([[0]])
        for values in ([[1]], [[2, 2]], [[3]]):
            callers.send(values)
        callers.send([[4]], signature_name="t")
    assert callers.results() == [[[1]], [[2]], [[3, 3]], [[4]], [[5]]]
    assert sorted(model.batches) == [[[0]], [[1], [3]], [[2, 2]], [[4]]]


def test_shapes_are_compared_by_name(model, pool):
    """In whatever order the inputs come."""
    callers = Callers(make(model, max_batch_size=8), model, pool)
    x, w = np.array([[1, 2]]), np.array([[1, 2, 3]])
    with model.held():
        callers.send([0])
        for inputs in ({"x": x, "w": w}, {"w": x, "x": w}, {"w": w, "x": x}):
            callers.answers.append(pool.submit(callers.runner.run, Request("s", inputs, ("y",)), PATIENT))
        until(lambda: waiting(callers.runner) == 3)
    assert callers.results() == [[1], [[2, 3]], [[2, 3, 4]], [[2, 3]]]
    assert sorted(model.batches, key=len) == [[0], [[1, 2, 3]], [[1, 2], [1, 2]]]


def test_queues_take_turns(model, pool):
    callers = Callers(make(model, max_batch_size=1), model, pool)
    with model.held():
        callers.send([0])
        for values in ([1], [2], [3]):
            callers.send(values)
        callers.send([9], signature_name="t")
    callers.results()
    assert model.batches.index([9]) == 2


def test_padding_lets_shapes_mix(model, pool):
    callers = Callers(make(model, pad_variable_length_inputs=True), model, pool)
    with model.held():
        for values in ([[0]], [[1]], [[2, 3]]):
            callers.send(values)
    assert callers.results() == [[[1]], [[2, 2]], [[3, 4]]]
    assert model.batches[1] == [[1, 1], [2, 3]]


def test_padded_to_an_allowed_size(model):
    assert ask(make(model, max_batch_size=4, allowed_batch_sizes=(4,)), [1, 2])["y"].tolist() == [2, 3]
    assert model.batches == [[1, 2, 1, 1]]


def test_different_outputs_share_a_run(model, pool):
    callers = Callers(make(model), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1], outputs=("y",))
        callers.send([2], outputs=("z", "y"))
    assert [list(answer.result(WAIT_S)) for answer in callers.answers] == [["y"], ["y"], ["z", "y"]]
    assert model.batches == [[0], [1, 2]]


def test_only_the_culprit_fails(model, pool):
    callers = Callers(make(model), model, pool)
    with model.held():
        for values in ([0], [1], [5, -1], [3]):
            callers.send(values)
    innocent = [answer.result(WAIT_S)["y"].tolist() for answer in callers.answers if answer is not callers.answers[2]]
    assert innocent == [[1], [2], [4]]
    # Run alone, an error names the request's own row.
    with pytest.raises(errors.InvalidArgumentError, match="negative at row 1"):
        callers.answers[2].result(WAIT_S)


def test_no_rows_run_beside_the_queues(model, pool):
    runner = make(model)
    callers = Callers(runner, model, pool)
    with model.held():
        callers.send([1])
        empty = pool.submit(ask, runner, [])
        until(lambda: model.running == 2)
    assert empty.result(WAIT_S)["y"].tolist() == []


def test_too_many_rows(model):
    text = "Task size 3 is larger than maximum input batch size 2"
    with pytest.raises(errors.InvalidArgumentError, match=text):
        ask(make(model, max_batch_size=2), [1, 2, 3])


def test_large_requests_are_split(model, pool):
    splitting = {"enable_large_batch_splitting": True, "max_execution_batch_size": 3}
    callers = Callers(make(model, **splitting), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1, 2])
        callers.send([3, 4, 5, 6, 7, 8, 9])
    assert callers.results() == [[1], [2, 3], [4, 5, 6, 7, 8, 9, 10]]
    assert model.batches == [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_split_request_fails_whole_and_leaves_nothing(model, pool):
    runner = make(model, enable_large_batch_splitting=True, max_execution_batch_size=2)
    with pytest.raises(errors.InvalidArgumentError):
        ask(runner, [-1, 1, 2, 3, 4])
    assert model.batches == [[-1, 1]]
    assert runner.waiting() == {"s": Waiting(0, 0)}
    assert ask(runner, [1])["y"].tolist() == [2]


def test_full_queues_are_counted_by_signature(model, pool):
    runner = make(model, max_batch_size=2, max_enqueued_batches=2)
    assert runner._queues.count_full() == 0
    with model.held():
        first = pool.submit(ask, runner, [1])
        until(lambda: model.running)
        others = [pool.submit(ask, runner, [1, 1], signature_name=name) for name in "ss"]
        until(lambda: waiting(runner) == 2)
        assert runner._queues.count_full() == 1
        others += [pool.submit(ask, runner, [1], signature_name="t")]
        until(lambda: waiting(runner) == 3)
        assert runner._queues.count_full() == 1  # the second signature has room
    for answer in (first, *others):
        answer.result(WAIT_S)
    assert runner._queues.count_full() == 0


def test_a_full_queue_refuses_at_once(model, pool):
    callers = Callers(make(model, max_batch_size=2, max_enqueued_batches=2), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1, 1])
        callers.send([2])
        callers.send([3])
        with pytest.raises(errors.UnavailableError) as raised:
            ask(callers.runner, [4])
        assert str(raised.value).startswith(
            "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
            "max_enqueued_batches is 2"
        )
    assert callers.results() == [[1], [2, 2], [3], [4]]


def test_a_full_version_counts_what_never_came_to_it(model, pool):
    notes = Notes()
    parameters = BatchParameters(
        num_batch_threads=1, max_batch_size=2, max_enqueued_batches=2, allowed_batch_sizes=(2,)
    )
    callers = Callers(BatchingRunner(model, parameters, {"s": True}, notes), model, pool)
    with model.held():
        for values in ([0], [1, 1], [2, 2]):
            callers.send(values)
        assert callers.runner.is_full
        assert callers.runner.backlog_s == 0  # no run has ended yet
        assert "currently 2 batches enqueued" in str(callers.runner.refusal())
        callers.runner.count_refusal()
        model.let_through(1)
        until(lambda: model.running == 1 and len(model.batches) == 2)
        assert callers.runner.backlog_s > 0
    callers.results()
    assert notes.taken.count(("refused", "s", "queue_full")) == 2


def test_one_version_cannot_take_every_thread(model, pool, monkeypatch):
    monkeypatch.setattr(batch_queues, "REQUESTS_MAX", 3)
    callers = Callers(make(model), model, pool)
    with model.held():
        for values in ([0], [1], [2]):
            callers.send(values)
        with pytest.raises(errors.UnavailableError, match="queue .* is full; currently 3 requests"):
            ask(callers.runner, [4])
    callers.results()
    assert ask(callers.runner, [4])["y"].tolist() == [5]


def test_expired_requests_never_run(model, pool):
    callers = Callers(make(model), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1], context=Context(deadline_s=time.monotonic() + 0.05))
        callers.send([2])
        with pytest.raises(errors.ResourceExhaustedError, match=r"^Run\(\) timeout exceeded while waiting in batching"):
            callers.answers[1].result(WAIT_S)
        assert waiting(callers.runner) == 1
    assert callers.answers[2].result(WAIT_S)["y"].tolist() == [3]
    assert model.batches == [[0], [2]]


def test_cancelled_requests_never_run(model, pool):
    callers = Callers(make(model), model, pool)
    gone = threading.Event()
    with model.held():
        callers.send([0])
        callers.send([1], context=Context(cancelled=gone.is_set))
        callers.send([2])
        gone.set()
    with pytest.raises(errors.CancelledError):
        callers.answers[1].result(WAIT_S)
    assert callers.answers[2].result(WAIT_S)["y"].tolist() == [3]
    assert model.batches == [[0], [2]]


def test_a_cancelled_request_leaves_a_version_that_hangs(model, pool):
    callers = Callers(make(model), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1], context=Context(cancelled=lambda: True))
        with pytest.raises(errors.CancelledError):
            callers.answers[1].result(WAIT_S)


def test_a_deadline_in_the_run(model, pool):
    callers = Callers(make(model), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1])
        callers.send([2], context=Context(deadline_s=time.monotonic() + 0.3))
        model.let_through(1)
        with pytest.raises(errors.DeadlineExceededError, match="^Timed out waiting for notification"):
            callers.answers[2].result(WAIT_S)
    assert callers.answers[1].result(WAIT_S)["y"].tolist() == [2]
    assert model.batches == [[0], [1, 2]]


def test_a_batch_may_run_as_long_as_its_most_patient(model, pool):
    late_s = time.monotonic() + WAIT_S
    callers = Callers(make(model), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1], context=Context(deadline_s=late_s - 1))
        callers.send([2], context=Context(deadline_s=late_s))
    callers.results()
    assert [context.deadline_s for context in model.contexts] == [None, late_s]


def test_a_batch_runs_for_as_long_as_anybody_waits(model, pool):
    gone = [threading.Event(), threading.Event()]
    callers = Callers(make(model), model, pool)
    with model.held():
        callers.send([0])
        for event in gone:
            callers.send([1], context=Context(cancelled=event.is_set))
    callers.results()
    together = model.contexts[1]
    gone[0].set()
    assert not together.cancelled()
    gone[1].set()
    assert together.cancelled()


def test_a_batch_timeout_lets_a_batch_fill(model, pool):
    runner = make(model, batch_timeout_s=WAIT_S, max_batch_size=3, num_batch_threads=2)
    answers = [pool.submit(ask, runner, [value]) for value in (1, 2, 3)]
    assert sorted(answer.result(WAIT_S)["y"].tolist() for answer in answers) == [[2], [3], [4]]
    assert sorted(model.batches[0]) == [1, 2, 3]


def test_a_batch_timeout_ends(model):
    started_s = time.monotonic()
    ask(make(model, batch_timeout_s=0.05), [1])
    assert 0.05 <= time.monotonic() - started_s < WAIT_S


def test_what_does_not_fit_a_filling_batch_closes_it(model, pool):
    runner = make(model, batch_timeout_s=WAIT_S, max_batch_size=3)
    first = pool.submit(ask, runner, [1, 1])
    second = pool.submit(ask, runner, [2, 2, 2])
    assert first.result(WAIT_S)["y"].tolist() == [2, 2]
    assert second.result(WAIT_S)["y"].tolist() == [3, 3, 3]


class Notes:
    def __init__(self):
        self.taken = []

    def ran(self, *what, has_sizes):
        assert has_sizes
        self.taken.append(("ran", *what))

    def waited(self, queued_s, rows):
        assert queued_s >= 0
        self.taken.append(("waited", rows))

    def refused(self, *what):
        self.taken.append(("refused", *what))


def test_the_observer_is_told(model, pool):
    notes = Notes()
    sizes = {"max_batch_size": 4, "allowed_batch_sizes": (4,), "max_enqueued_batches": 1}
    callers = Callers(make(model, notes, **sizes), model, pool)
    with model.held():
        callers.send([0])
        callers.send([1, 1, 1])
        with pytest.raises(errors.UnavailableError):
            ask(callers.runner, [2, 2])
    callers.results()
    assert notes.taken == [
        ("waited", 1), ("ran", "s", 1, 4), ("refused", "s", "queue_full"), ("waited", 3), ("ran", "s", 3, 4),
    ]  # fmt: skip


def test_many_callers(model, pool):
    """Every caller gets its own answer, whatever batches they ended up in, and every slot comes back."""
    runner = make(model, num_batch_threads=2, max_batch_size=16, enable_large_batch_splitting=True,
                   max_execution_batch_size=5, max_enqueued_batches=1000)  # fmt: skip

    def caller(number):
        for turn in range(20):
            values = [number * 1000 + turn] * (1 + (number + turn) % 9)
            context = Context(deadline_s=time.monotonic() + (WAIT_S if turn % 5 else 0.0005))
            try:
                assert ask(runner, values, context=context)["y"].tolist() == [value + 1 for value in values]
            except (errors.ResourceExhaustedError, errors.DeadlineExceededError):
                assert turn % 5 == 0
        return True

    assert all(pool.map(caller, range(40), timeout=60))
    assert runner._queues.free_slots == 2
    assert runner._queues.requests == 0
    assert runner.waiting() == {"s": Waiting(0, 0)}
