import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.serving.policy import (
    Action,
    All,
    Latest,
    Specific,
    State,
    Verb,
    availability_preserving,
    resource_preserving,
)

S, L, A, U, E = State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END


@pytest.mark.parametrize(
    ("policy", "found", "expected"),
    [
        (Latest(), [], set()),
        (Latest(), [1, 3, 2], {3}),
        (Latest(2), [1, 3, 2], {2, 3}),
        (Latest(5), [1], {1}),
        (Latest(0), [1, 2], {2}),
        (All(), [1, 3], {1, 3}),
        (Specific(frozenset({1, 9})), [1, 3], {1}),
        (Specific(frozenset()), [1, 3], set()),
    ],
)
def test_choice(policy, found, expected):
    assert policy.choose(found) == expected


@pytest.mark.parametrize(
    ("states", "aspired", "expected"),
    [
        ({}, set(), None),
        ({1: S}, {1}, Action(Verb.LOAD, 1)),
        ({1: S, 2: S}, {1, 2}, Action(Verb.LOAD, 2)),
        ({1: A, 2: S}, {2}, Action(Verb.LOAD, 2)),  # the new one first
        ({1: A, 2: L}, {2}, None),
        ({1: A, 2: A}, {2}, Action(Verb.UNLOAD, 1)),  # then the old one
        ({1: A, 2: E}, {2}, None),  # a bad one takes nothing away
        ({1: E}, {1}, None),  # and is not tried again
        ({1: A}, set(), Action(Verb.UNLOAD, 1)),
        ({1: A, 2: A, 3: S}, {3}, Action(Verb.UNLOAD, 1)),  # one old version is enough to keep serving
        ({1: U, 2: S}, {2}, Action(Verb.LOAD, 2)),
    ],
)
def test_availability_preserving(states, aspired, expected):
    assert availability_preserving(states, frozenset(aspired)) == expected


@given(st.dictionaries(st.integers(1, 6), st.sampled_from([S, A, E]), max_size=6), st.sets(st.integers(1, 6)))
def test_never_without_a_version(states, aspired):
    """Steps end, and a model that serves goes on serving while any aspired version may still come."""
    wanted = frozenset(aspired & states.keys())
    serving = A in states.values()
    for _ in range(20):
        action = availability_preserving(states, wanted)
        if action is None:
            break
        states = states | {action.version: A if action.verb is Verb.LOAD else E}
        assert A in states.values() or not wanted or not serving
    assert availability_preserving(states, wanted) is None


@pytest.mark.parametrize(
    ("states", "aspired", "expected"),
    [
        ({}, set(), None),
        ({1: S}, {1}, Action(Verb.LOAD, 1)),
        ({1: A, 2: S}, {2}, Action(Verb.UNLOAD, 1)),  # the old one first
        ({1: U, 2: S}, {2}, None),  # and wholly
        ({1: L, 2: S}, {2}, None),
        ({1: E, 2: S, 3: S}, {2, 3}, Action(Verb.LOAD, 3)),
        ({1: A, 2: A}, set(), Action(Verb.UNLOAD, 1)),
    ],
)
def test_resource_preserving(states, aspired, expected):
    assert resource_preserving(states, frozenset(aspired)) == expected
