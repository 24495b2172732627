"""What a process leaves behind in shared memory."""

import os
import signal
import threading

import pytest

from estimator_serving.serving.process.cells import NOTES, Cells, Notes

WORKING = []


def work(cells, worker, ticket):
    """Be at work on a ticket until the process ends."""
    WORKING.append(Notes(cells, worker).during(ticket))
    WORKING[-1].__enter__()


@pytest.fixture
def forked():
    """Forks a child that runs a function and waits; returns what kills it."""
    children = []

    def fork(run):
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                run()
                os.write(write, b".")
                os.close(write)
                signal.pause()
            finally:
                os._exit(0)
        children.append(pid)
        os.close(write)
        os.read(read, 1)
        os.close(read)
        return lambda: kill(pid)

    def kill(pid):
        children.remove(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    yield fork
    for pid in tuple(children):
        kill(pid)


def test_the_others_see_that_a_worker_has_died(forked):
    cells = Cells(2)
    end = forked(lambda: cells.live(1))
    assert not cells.has_died(1)
    end()
    assert [cells.has_died(worker) for worker in (0, 1)] == [False, True]
    cells.forget(1)
    assert not cells.has_died(1)


def test_a_place_can_be_taken_again(forked):
    cells = Cells(1)
    for _ in range(2):
        forked(lambda: cells.live(0))()
        assert cells.has_died(0)
        cells.forget(0)


def test_what_a_worker_ran_outlives_it(forked):
    cells = Cells(2)
    forked(lambda: work(cells, 1, 7))()
    assert (list(cells.running(1).values()), cells.running(0)) == ([7], {})
    cells.forget(1)
    assert cells.running(1) == {}


def test_a_run_is_noted_while_it_lasts_and_inside_a_load():
    cells = Cells(1)
    notes, seen = Notes(cells, 0), []
    run = notes.noted(3, lambda: None, lambda *_: seen.append(cells.running(0)))
    with notes.during(5):
        run([], {}, None)
        assert cells.running(0) == {threading.get_ident(): 5}
    assert seen == [{threading.get_ident(): 3}]
    assert cells.running(0) == {}


def test_more_threads_than_places():
    cells = Cells(1)
    notes = Notes(cells, 0)
    run = notes.noted(3, lambda: None, lambda *_: None)
    for _ in range(NOTES + 2):
        thread = threading.Thread(target=run, args=([], {}, None))
        thread.start()
        thread.join()
    assert cells.running(0) == {}


def test_a_version_in_which_a_worker_died_waits_for_the_verdict(forked):
    cells = Cells(2)
    end = forked(lambda: (cells.live(1), work(cells, 1, 7)))
    notes, ran, withdrawn = Notes(cells, 0), [], set()

    def judge():
        withdrawn.add(7)
        cells.forget(1)

    def check():
        if 7 in withdrawn:
            raise PermissionError

    held = notes.noted(7, check, lambda *_: ran.append(7))
    other = notes.noted(8, lambda: None, lambda *_: ran.append(8))
    end()
    other([], {}, None)
    threading.Timer(0.05, judge).start()
    with pytest.raises(PermissionError):
        held([], {}, None)
    assert ran == [8]


def test_a_version_that_was_chosen_before_it_was_withdrawn_does_not_run():
    def check():
        raise PermissionError

    with pytest.raises(PermissionError):
        Notes(Cells(1), 0).noted(7, check, lambda *_: None)([], {}, None)
