"""Giving freed memory back to the system."""

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
    given_back = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(size))
    monkeypatch.setattr(memory, "_given_back_s", time.monotonic() - since_s)
    memory.give_back_after(size)
    assert bool(given_back) is is_given_back
