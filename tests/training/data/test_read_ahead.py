"""Elements made in a thread: order, errors, and the end of the thread."""

import threading
import time

import pytest

from estimator_serving.training.data.dataset import Dataset


def test_prefetch_reads_ahead_in_a_thread():
    made = []

    def generate():
        for row in range(9):
            made.append((row, threading.current_thread().name))
            yield row

    elements = iter(Dataset.from_generator(generate).prefetch(3))
    assert next(elements) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {name for _, name in made} == {"read-ahead"}
    assert 4 <= len(made) <= 6
    elements.close()


def test_an_error_ahead_comes_where_its_element_would():
    def generate():
        yield 1
        raise OSError("the disk went away")

    elements = iter(Dataset.from_generator(generate).prefetch(2))
    assert next(elements) == 1
    with pytest.raises(OSError, match="the disk went away"):
        next(elements)


def test_an_abandoned_prefetch_ends_its_thread():
    before = threading.active_count()
    elements = iter(Dataset.from_generator(lambda: iter(range(10**6))).prefetch(2))
    next(elements)
    elements.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
