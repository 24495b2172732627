"""Giving freed memory back to the system."""

import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from attacked import usage
from conformance_models import MODELS, write_model
from served import serve

from estimator_serving.serving.models import memory


def test_it_can_be_given_back_at_any_time(monkeypatch):
    memory.give_back()
    monkeypatch.setattr(memory, "_c", None)  # as where the C library is not glibc
    memory.give_back()
    memory.limit_arenas(2)


@pytest.mark.parametrize(("size", "since_s", "is_given_back"), [
    (memory.HUGE_BYTES + 1, 0, True), (memory.LARGE_BYTES + 1, 0, False), (memory.LARGE_BYTES + 1, 11, True),
    (memory.LARGE_BYTES, 11, False),
])  # fmt: skip
def test_large_requests_give_back_now_and_then(monkeypatch, size, since_s, is_given_back):
    given_back = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(size))
    monkeypatch.setattr(memory, "_given_back_s", time.monotonic() - since_s)
    memory.give_back_after(size)
    assert bool(given_back) is is_given_back


@pytest.fixture
def two_cores():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's arenas, and /proc")
def test_what_large_requests_of_many_threads_leave(tmp_path, two_cores):
    """With glibc's eight arenas for each core, 40 to 50 MB stay; with one for each core, 26."""
    write_model(tmp_path / "m", 1, *MODELS["half"])
    sizes = [random.Random(0).randrange(50_000, 250_000) for _ in range(80)]
    with (
        serve(tmp_path / "m", rest_api_num_threads=16) as served,
        httpx.Client(base_url=served.rest, timeout=60) as client,
        ThreadPoolExecutor(8) as pool,
    ):

        def ask(numbers):
            client.post("/v1/models/m:predict", content=b'{"instances":[%b1]}' % (b"1.5," * numbers)).raise_for_status()

        before_kib = usage(served.process.pid)["memory_kib"]
        list(pool.map(ask, sizes))
        ask(memory.HUGE_BYTES // 4)  # after which free memory is given back
        assert usage(served.process.pid)["memory_kib"] - before_kib < 34 * 1024
