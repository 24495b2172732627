"""The counts of requests in C++ against the same counts by a list and bisect."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire import native

TIMES_US, SIZES = (10.0, 20.0, 1000.0), (1.0, 4.0)
SECONDS = st.one_of(st.floats(0, 0.01), st.sampled_from([1e-5, 2e-5, 1e-3]))
REQUESTS = st.lists(st.tuples(SECONDS, SECONDS, SECONDS, st.integers(0, 9), st.integers(0, 9)), max_size=20)


def counted(requests):
    counts = {"key": native.request_counts(TIMES_US, SIZES)}
    for request in requests:
        assert native.count_request(counts, "key", *request)
    return counts["key"]


def histogram(bounds, values):
    buckets = [0] * (len(bounds) + 1)
    for value in values:
        buckets[bisect_left(bounds, value)] += 1
    return buckets, pytest.approx(sum(values))


def expected(requests):
    elapsed, read, run, rows, examples = zip(*requests, strict=True) if requests else ((),) * 5
    return (
        pytest.approx(sum(one * 1e6 for one in read)),
        sum(rows),
        histogram(TIMES_US, [one * 1e6 for one in elapsed]),
        histogram(TIMES_US, [one * 1e6 for one in run]),
        histogram(SIZES, [one for one in examples if one]),
    )


@given(REQUESTS, REQUESTS)
def test_counts_add_up(first, second):
    counts = counted(first)
    native.merge_counts(counts, counted(second))
    read_us, rows, last_s, *histograms = native.read_counts(counts)
    assert (read_us, rows, *histograms) == expected(first + second)
    assert last_s == pytest.approx(time.time(), abs=5) if first + second else last_s == 0


def test_an_unknown_key_counts_nothing():
    assert native.count_request({}, ("m", 1), 1.0, 0.0, 0.0, 1, 0) is False


@pytest.mark.parametrize("wrong", [("x", 0.0, 0.0, 1, 0), (0.0, 0.0, 0.0, 1.5, 0), (0.0,)])
def test_wrong_arguments(wrong):
    with pytest.raises(TypeError):
        native.count_request({"key": native.request_counts(TIMES_US, SIZES)}, "key", *wrong)


def test_other_bounds_do_not_merge():
    with pytest.raises(ValueError, match="same bounds"):
        native.merge_counts(native.request_counts(TIMES_US, SIZES), native.request_counts(SIZES, SIZES))


def test_nothing_is_lost_between_threads():
    counts = {"key": native.request_counts(TIMES_US, SIZES)}

    def count():
        for _ in range(20_000):
            native.count_request(counts, "key", 1e-4, 0.0, 0.0, 1, 0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert native.read_counts(counts["key"])[1] == 80_000
