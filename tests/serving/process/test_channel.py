"""Calls between two processes, here two ends in one."""

import contextlib
import socket
import threading

import pytest

from estimator_serving.serving.errors import InternalError, NotFoundError
from estimator_serving.serving.process.channel import Channel, GoneError


@contextlib.contextmanager
def connected(methods, quick=()):
    """A channel to an end with these methods, and what hangs that end up."""
    here, there = socket.socketpair()
    keep = there.dup()
    gone = threading.Event()
    channel = Channel(here, {}, ended=gone.set)
    for one in (channel, Channel(there, methods, quick)):
        one.start()
    try:
        yield channel, lambda: keep.shutdown(socket.SHUT_RDWR)
    finally:
        keep.shutdown(socket.SHUT_RDWR)
        keep.close()
        assert gone.wait(10)


def raising(error):
    def method():
        raise error

    return method


def test_a_call_has_the_result_of_the_other_end():
    with connected({"add": lambda a, b: a + b}) as (channel, _):
        assert channel.call("add", 1, 2) == 3


def test_a_slow_call_holds_up_no_other_one():
    release = threading.Event()
    with connected({"wait": release.wait, "release": release.set}, quick=("release",)) as (channel, _):
        waiting = channel.begin("wait", 10)
        channel.call("release")
        assert waiting.result(10)


def test_an_error_comes_back_as_it_is_and_a_foreign_one_without_its_cause():
    with connected({"known": raising(NotFoundError("no such")), "odd": raising(ZeroDivisionError("?"))}) as (
        channel,
        _,
    ):
        with pytest.raises(NotFoundError, match="no such"):
            channel.call("known")
        with pytest.raises(InternalError, match="Internal error"):
            channel.call("odd")


def test_a_call_ends_with_the_process_that_was_asked():
    with connected({"wait": threading.Event().wait}) as (channel, hang_up):
        waiting = channel.begin("wait", 0.2)
        hang_up()
        with pytest.raises(GoneError):
            waiting.result(10)
        with pytest.raises(GoneError):
            channel.call("wait")


def test_an_end_that_does_not_answer():
    with connected({"wait": threading.Event().wait}) as (channel, _), pytest.raises(GoneError, match="does not answer"):
        channel.call("wait", 0.2, timeout_s=0.01)
