import logging
import threading

import pytest

from estimator_serving.serving.observing import spool as spool_module
from estimator_serving.serving.observing.spool import Spool

WAIT_S = 10


def test_everything_is_written_in_order():
    written = []
    spool = Spool("log", written.extend)
    for item in range(1000):
        assert spool.put(item, 1)
    spool.close()
    assert written == list(range(1000))
    assert not spool.put(1, 1)


def test_what_does_not_fit_is_dropped():
    begun, go, written = threading.Event(), threading.Event(), []

    def write(items):
        begun.set()
        assert go.wait(WAIT_S)
        written.extend(items)

    spool = Spool("log", write, bytes_max=10)
    assert spool.put("first", 10)
    assert begun.wait(WAIT_S)
    assert spool.put("second", 10)
    assert not spool.put("third", 1)
    go.set()
    spool.close()
    assert written == ["first", "second"]


def test_a_full_disk_is_complained_about_once(caplog):
    tries = threading.Semaphore(0)

    def write(_items):
        tries.release()
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING):
        spool = Spool("log", write)
        for _ in range(3):
            spool.put("item", 1)
            assert tries.acquire(timeout=WAIT_S)
        spool.close()
    assert caplog.text.count("The log cannot write") == 1


@pytest.mark.parametrize(("pause_s", "complaints"), [(60, 1), (0, 3)])
def test_a_disk_that_is_full_now_and_then_is_complained_about_once_a_minute(caplog, monkeypatch, pause_s, complaints):
    monkeypatch.setattr(spool_module, "COMPLAINT_S", pause_s)
    done, fails = threading.Semaphore(0), iter([True, False] * 3)

    def write(_items):
        done.release()
        if next(fails):
            raise OSError(28, "No space left on device")

    spool = Spool("log", write)
    for _ in range(6):
        spool.put("item", 1)
        assert done.acquire(timeout=WAIT_S)
    spool.close()
    assert caplog.text.count("The log cannot write") == complaints
    assert ("3 entries were lost by now" in caplog.text) == (complaints == 3)


def test_an_error_of_any_kind_does_not_end_it(caplog):
    written, failed = [], threading.Event()

    def write(items):
        if not failed.is_set():
            failed.set()
            raise KeyError("bad")
        written.extend(items)

    spool = Spool("log", write)
    spool.put("bad", 1)
    assert failed.wait(WAIT_S)
    spool.put("good", 1)
    spool.close()
    assert written == ["good"]
    assert "The log could not write 1 entries" in caplog.text
    assert not spool._thread.is_alive()
