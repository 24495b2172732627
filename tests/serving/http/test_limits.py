"""Who is late with what, from states and times."""

from estimator_serving.serving.http.limits import Clock, Late, Limits, Stage

LIMITS = Limits(head_s=10, body_idle_s=30, body_rate=1000, write_stall_s=20)


def last(*seen):
    """What the last of these looks at one connection finds: (time, stage, requests, body bytes, unsent bytes)."""
    clock = Clock(LIMITS)
    return [clock.late(*one) for one in seen][-1]


def test_a_head_has_its_time_as_a_whole():
    assert last((0, Stage.HEAD, 1, 0, 0), (10, Stage.HEAD, 1, 0, 0)) is None
    assert last((0, Stage.HEAD, 1, 0, 0), (11, Stage.HEAD, 1, 0, 0)) is Late.HEAD
    assert last((0, Stage.HEAD, 1, 0, 0), (11, Stage.HEAD, 2, 0, 0)) is None


def test_a_body_may_not_pause():
    assert last((0, Stage.BODY, 1, 5, 0), (31, Stage.BODY, 1, 5, 0)) is Late.BODY
    assert last((0, Stage.BODY, 1, 5, 0), (31, Stage.NOTHING, 1, 5, 0)) is None


def test_a_body_has_a_least_rate():
    slow = [(second, Stage.BODY, 1, second * 500, 0) for second in range(0, 100, 10)]
    fast = [(second, Stage.BODY, 1, second * 2000, 0) for second in range(0, 100, 10)]
    assert (last(*slow), last(*fast)) == (Late.BODY, None)


def test_an_answer_is_to_be_read():
    assert last((0, Stage.NOTHING, 1, 0, 9), (21, Stage.NOTHING, 1, 0, 9)) is Late.READING
    assert last((0, Stage.NOTHING, 1, 0, 9), (21, Stage.NOTHING, 1, 0, 8)) is None


def test_a_silent_connection_is_closed_but_not_while_its_answer_is_made():
    assert last((0, Stage.NOTHING, 1, 0, 0), (75, Stage.NOTHING, 1, 0, 0)) is None
    assert last((0, Stage.NOTHING, 1, 0, 0), (76, Stage.NOTHING, 1, 0, 0)) is Late.ASKING
    assert last((0, Stage.ANSWER, 1, 0, 0), (76, Stage.ANSWER, 1, 0, 0)) is None
    assert last((0, Stage.ANSWER, 1, 0, 0), (76, Stage.NOTHING, 1, 0, 0)) is None
    assert last((0, Stage.NOTHING, 1, 0, 0), (70, Stage.NOTHING, 2, 0, 0), (100, Stage.NOTHING, 2, 0, 0)) is None
