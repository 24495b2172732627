"""Giving freed memory back to the system."""

from estimator_serving.serving.models import memory


def test_it_can_be_given_back_at_any_time(monkeypatch):
    memory.give_back()
    monkeypatch.setattr(memory, "_trim", None)  # as where the C library is not glibc
    memory.give_back()
