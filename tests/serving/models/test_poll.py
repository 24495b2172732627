"""Looking again and again until it is to stop."""

import threading
import time

from estimator_serving.serving.models.poll import Poll

WAIT_S = 20


def test_it_looks_until_it_stops():
    looks = threading.Semaphore(0)
    poll = Poll("p", looks.release, 0.001)
    poll.start()
    assert looks.acquire(timeout=WAIT_S)
    assert looks.acquire(timeout=WAIT_S)
    poll.stop()
    assert "p" not in [thread.name for thread in threading.enumerate()]


def test_without_a_pause_it_never_looks():
    looks = []
    poll = Poll("p", lambda: looks.append(1), 0)
    poll.start()
    poll.stop()
    assert not looks


def test_a_stop_ends_a_pause():
    begun = threading.Event()

    def look():
        begun.set()
        poll.pause(WAIT_S)

    poll = Poll("p", look, 0.001)
    poll.start()
    assert begun.wait(WAIT_S)
    started_s = time.monotonic()
    poll.stop()
    assert time.monotonic() - started_s < WAIT_S / 2
