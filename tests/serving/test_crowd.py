"""What one model may occupy of a front's threads."""

import pytest

from estimator_serving.serving.crowd import Crowd
from estimator_serving.serving.errors import UnavailableError


def fill(crowd, name):
    """How many requests of a model enter until one is refused."""
    entered = 0
    try:
        while entered < 1000:
            crowd.enter(name)
            entered += 1
    except UnavailableError:
        return entered
    raise AssertionError("none was refused")


def test_one_model_leaves_a_third():
    assert fill(Crowd(64), "hog") == 42


def test_many_models_that_hang_leave_a_thread_for_the_next():
    crowd = Crowd(64)
    taken = [fill(crowd, f"hog {index}") for index in range(8)]
    assert taken == sorted(taken, reverse=True)
    crowd.enter("another")


def test_what_ended_makes_room():
    crowd = Crowd(64)
    taken = fill(crowd, "m")
    crowd.leave("m")
    crowd.enter("m")
    for _ in range(taken):
        crowd.leave("m")
    assert fill(crowd, "n") == taken


def test_a_full_house_takes_nobody():
    crowd = Crowd(1)
    crowd.enter("m")
    with pytest.raises(UnavailableError, match="Model n has 0 requests at work"):
        crowd.enter("n")
