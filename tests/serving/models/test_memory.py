"""Giving freed memory back to the system."""

import os
import subprocess
import sys
import threading
import time

import pytest

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
    given_back = threading.Event()
    monkeypatch.setattr(memory, "give_back", given_back.set)
    monkeypatch.setattr(memory, "DELAY_S", 0.0)
    monkeypatch.setattr(memory, "_given_back_s", time.monotonic() - since_s)
    memory.give_back_after(size)
    assert given_back.wait(10 if is_given_back else 0.01) is is_given_back


def test_memory_is_given_back_after_the_last_of_many_requests(monkeypatch):
    given_back_s = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back_s.append(time.monotonic()))
    monkeypatch.setattr(memory, "DELAY_S", 0.1)
    for _ in range(5):
        memory.give_back_after(memory.HUGE_BYTES + 1)
    ended_s = time.monotonic()
    time.sleep(1.0)
    assert len(given_back_s) in (1, 2)  # a second time for those that ended during the first wait
    assert given_back_s[-1] - ended_s >= 0.09


ARENAS = """
import ctypes, sys, threading
from estimator_serving.serving.models import memory
memory.limit_arenas(int(sys.argv[1]))
c = ctypes.CDLL(None)
together = threading.Barrier(16)

def work():
    for _ in range(50):
        together.wait()
        c.free(ctypes.c_void_p(c.malloc(50_000)))

c.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=work) for _ in range(16)]
[each.start() for each in threads]
[each.join() for each in threads]
c.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(c.fdopen(1, b"w"))
c.malloc_info(0, out)
c.fflush(out)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's arenas")
@pytest.mark.parametrize(("chosen", "expected"), [(None, 3), ("5", 5)])
def test_threads_share_the_arenas(chosen, expected):
    """glibc's own choice would be one for each of 16 threads, where there are two cores."""
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", ARENAS, "3"], capture_output=True, text=True, check=True,
        env=environment | ({} if chosen is None else {"MALLOC_ARENA_MAX": chosen}),
    )  # fmt: skip
    assert done.stdout.count("<heap nr=") == expected
