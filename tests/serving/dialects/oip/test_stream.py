"""The order of a stream's answers, how many are under way at once, and its ends."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from running import until

from estimator_serving.serving.dialects.oip.stream import AHEAD_MAX, answer_in_order


@pytest.fixture
def pool():
    with ThreadPoolExecutor(AHEAD_MAX) as pool:
        yield pool


def test_answers_keep_their_order(pool):
    def answer(payload):
        time.sleep(0.02 if payload == b"0" else 0)
        return payload * 2

    payloads = [b"%d" % index for index in range(100)]
    assert list(answer_in_order(answer, iter(payloads), pool)) == [payload * 2 for payload in payloads]


def test_several_are_under_way_at_once(pool):
    together = threading.Barrier(3, timeout=20)

    def answer(payload):
        together.wait()
        return payload

    assert list(answer_in_order(answer, iter([b"a", b"b", b"c"]), pool)) == [b"a", b"b", b"c"]


def test_a_client_that_does_not_read_is_not_read_from(pool):
    taken = itertools.count()
    answers = answer_in_order(lambda payload: payload, (b"%d" % next(taken) for _ in itertools.repeat(None)), pool)
    assert next(answers) == b"0"
    time.sleep(0.3)
    answers.close()
    assert next(taken) <= AHEAD_MAX + 4
    until(lambda: not any(thread.name == "stream" for thread in threading.enumerate()))


def test_an_error_of_reading_comes_after_what_was_read(pool):
    def payloads():
        yield b"a"
        raise ConnectionError("gone")

    answers = answer_in_order(lambda payload: payload, payloads(), pool)
    assert next(answers) == b"a"
    with pytest.raises(ConnectionError):
        next(answers)
