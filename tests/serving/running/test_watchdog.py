import threading
import time
from types import SimpleNamespace

import pytest

from estimator_serving.serving.request import Context
from estimator_serving.serving.running.watchdog import LOOK_S, Watchdog


@pytest.fixture
def watchdog():
    return Watchdog()


def wait_for(run):
    deadline_s = time.monotonic() + 10
    while not run.terminate:
        assert time.monotonic() < deadline_s, "the run was not ended"
        time.sleep(LOOK_S / 5)


def test_late_runs_are_ended_and_others_are_not(watchdog, caplog):
    late, patient = SimpleNamespace(terminate=False), SimpleNamespace(terminate=False)
    now_s = time.monotonic()
    with watchdog.watching(patient, Context(now_s + 100)), watchdog.watching(late, Context(now_s + LOOK_S)):
        wait_for(late)
    assert not patient.terminate
    assert caplog.text.count("took longer than its callers wait") == 1


def test_a_run_whose_caller_left_is_ended(watchdog, caplog):
    """Without a word in the log: clients leave whenever they like."""
    gone, run = threading.Event(), SimpleNamespace(terminate=False)
    with watchdog.watching(run, Context(cancelled=gone.is_set)):
        time.sleep(3 * LOOK_S)
        assert not run.terminate
        gone.set()
        wait_for(run)
    assert not caplog.text


def test_a_run_that_is_over_is_let_be(watchdog):
    run = SimpleNamespace(terminate=False)
    with pytest.raises(ZeroDivisionError), watchdog.watching(run, Context(time.monotonic())):
        raise ZeroDivisionError
    assert not watchdog._runs


def test_one_thread_sleeps_between_runs(watchdog):
    for _ in range(3):
        before = threading.active_count()
        run = SimpleNamespace(terminate=False)
        with watchdog.watching(run, Context(time.monotonic())):
            wait_for(run)
        time.sleep(3 * LOOK_S)
        assert not watchdog._busy.is_set()
    assert threading.active_count() == before
