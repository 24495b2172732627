"""Turns: how many run at once, who is next, who never runs, and when a version is full."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from running import until

from estimator_serving.serving.errors import DeadlineExceededError, UnavailableError
from estimator_serving.serving.request import PATIENT, Context, Request
from estimator_serving.serving.running.turns import TurnsRunner


class Inner:
    """Runs while its gate is closed; remembers what ran, in order, and how many at once."""

    is_quick = False
    is_full = False

    def __init__(self):
        self.gate = threading.Event()
        self.ran = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()

    def run(self, request, _context):
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.ran.append(request.signature_name)
        assert self.gate.wait(20)
        with self._lock:
            self.at_once -= 1
        if request.signature_name == "bad":
            raise ValueError("bad")
        return {}


@pytest.fixture
def inner():
    return Inner()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def ask(pool, runner, name, context=PATIENT):
    return pool.submit(runner.run, Request(name, {}), context)


@pytest.mark.parametrize("slots", [1, 2])
def test_so_many_run_at_once_and_the_others_in_their_order(inner, pool, slots):
    runner = TurnsRunner(inner, slots, 16)
    asked = []
    for index in range(8):
        asked.append(ask(pool, runner, str(index)))
        until(lambda: runner._here == index + 1)  # noqa: B023
    inner.gate.set()
    assert [one.result(20) for one in asked] == [{}] * 8
    assert inner.most == slots
    assert sorted(inner.ran) == [str(index) for index in range(8)]
    assert slots > 1 or inner.ran == sorted(inner.ran)


def test_an_error_passes_the_turn_on(inner, pool):
    runner = TurnsRunner(inner, 1, 16)
    bad, good = ask(pool, runner, "bad"), ask(pool, runner, "good")
    inner.gate.set()
    with pytest.raises(ValueError, match="bad"):
        bad.result(20)
    assert good.result(20) == {}
    assert ask(pool, runner, "again").result(20) == {}


@pytest.mark.parametrize("leaves", ["late", "gone"])
def test_a_request_nobody_waits_for_never_runs(inner, pool, leaves):
    runner, gone = TurnsRunner(inner, 1, 16), threading.Event()
    first = ask(pool, runner, "first")
    until(lambda: inner.ran)
    context = Context(time.monotonic() + 0.1) if leaves == "late" else Context(None, gone.is_set)
    waiting = ask(pool, runner, "waiting", context)
    gone.set()
    with pytest.raises(Exception, match=r"deadline has passed|cancelled the request") as raised:
        waiting.result(20)
    assert isinstance(raised.value, DeadlineExceededError) == (leaves == "late")
    inner.gate.set()
    assert (first.result(20), ask(pool, runner, "next").result(20)) == ({}, {})
    assert inner.ran == ["first", "next"]


def test_more_than_fit_are_refused_at_once(inner, pool):
    runner = TurnsRunner(inner, 1, 2)
    asked = [ask(pool, runner, str(index)) for index in range(2)]
    until(lambda: runner.is_full)
    with pytest.raises(
        UnavailableError,
        match="The model has as many requests at work and waiting as it takes",
    ):
        runner.run(Request("more", {}), PATIENT)
    inner.gate.set()
    assert [one.result(20) for one in asked] == [{}, {}]
    assert not runner.is_full


def test_the_backlog_is_what_waits_by_the_last_run(inner, pool):
    runner = TurnsRunner(inner, 1, 3)
    first = ask(pool, runner, "first")
    assert runner.backlog_s == 0
    time.sleep(0.05)
    inner.gate.set()
    first.result(20)
    inner.gate.clear()
    asked = [ask(pool, runner, str(index)) for index in range(3)]
    until(lambda: runner.is_full)
    assert runner.backlog_s >= 2 * 0.05
    inner.gate.set()
    assert [one.result(20) for one in asked] == [{}] * 3


def test_quick_runs_take_no_turns(inner):
    inner.is_quick = True
    inner.gate.set()
    assert TurnsRunner(inner, 1, 0).run(Request("quick", {}), PATIENT) == {}
