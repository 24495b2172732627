import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.serving.policy import Action, State, Verb, latest, next_action

S, L, A, U, E = State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END


@pytest.mark.parametrize(
    ("versions", "count", "expected"),
    [([], 1, set()), ([1, 3, 2], 1, {3}), ([1, 3, 2], 2, {2, 3}), ([1], 5, {1}), ([1, 2], 0, {2})],
)
def test_latest(versions, count, expected):
    assert latest(versions, count) == expected


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
def test_next_action(states, aspired, expected):
    assert next_action(states, frozenset(aspired)) == expected


@given(st.dictionaries(st.integers(1, 6), st.sampled_from([S, A, E]), max_size=6), st.sets(st.integers(1, 6)))
def test_never_without_a_version(states, aspired):
    """Steps end, and a model that serves goes on serving while any aspired version may still come."""
    wanted = frozenset(aspired & states.keys())
    serving = A in states.values()
    for _ in range(20):
        action = next_action(states, wanted)
        if action is None:
            break
        states = states | {action.version: A if action.verb is Verb.LOAD else E}
        assert A in states.values() or not wanted or not serving
    assert next_action(states, wanted) is None
