"""The bookkeeping of one model, step by step and by random histories; no thread, no load."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_serving.serving import policy
from estimator_serving.serving.errors import InvalidArgumentError, NotFoundError, UnavailableError
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.models.versions import Model
from estimator_serving.serving.policy import State, Verb
from estimator_serving.serving.request import ModelSpec

HERE = VersionDirectory(Path())


def aspire(model, *numbers):
    model.aspire(dict.fromkeys(numbers, HERE), lambda _version: None)


def take_step(model, *, fails=False):
    """One step of the availability preserving policy, at once; whether there was one."""
    action = model.next_action(policy.availability_preserving)
    if action is None:
        return False
    version = model.begin(action)
    if action.verb is Verb.UNLOAD:
        model.note_ended(version)
    elif fails:
        version.error = UnavailableError("no")
        model.note_failed(version)
    else:
        model.note_loaded(version, SimpleNamespace(version=version.number))
    return True


@pytest.fixture
def model():
    model = Model("m")
    aspire(model, 1, 2)
    while take_step(model):
        pass
    model.labels = {"stable": 1, "gone": 7}
    return model


@pytest.mark.parametrize(("spec", "number"), [((), 2), ((1,), 1), ((None, "stable"), 1)])
def test_a_spec_names_one_available_version(model, spec, number):
    assert model.find(ModelSpec("m", *spec)).number == number


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ((7,), NotFoundError, r"Servable not found for request: Specific\(m, 7\)"),
        ((None, "gone"), NotFoundError, r"Servable not found for request: Specific\(m, 7\)"),
        ((None, "none"), InvalidArgumentError, "Unrecognized servable version label: none"),
    ],
)
def test_a_spec_that_names_nothing(model, spec, error, text):
    with pytest.raises(error, match=text):
        model.find(ModelSpec("m", *spec))


def test_a_version_that_is_not_begun_is_forgotten():
    model = Model("m")
    aspire(model, 1)
    aspire(model)
    assert not model.versions
    assert model.why_unready().startswith("Model m has no version yet")


def test_a_load_that_waits_for_another_try_is_given_up():
    model, cancelled = Model("m"), []
    aspire(model, 1)
    version = model.begin(model.next_action(policy.availability_preserving))
    version.cancel_retry = lambda: cancelled.append(1)
    aspire(model)
    assert (cancelled, version.state, version.cancel_retry) == ([1], State.END, None)


@given(st.lists(st.one_of(st.frozensets(st.integers(1, 4)), st.booleans()), max_size=30))
@settings(deadline=None)
def test_histories(steps):
    """Whatever is aspired and whatever fails: what is aspired and did not fail is served in the end."""
    model = Model("m")
    for step in steps:
        if isinstance(step, frozenset):
            aspire(model, *step)
        else:
            take_step(model, fails=step)
        available = [version.number for version in model.by_age() if version.state is State.AVAILABLE]
        assert (model.newest.number if model.newest else None) == (available[0] if available else None)
    while take_step(model):
        pass
    assert model.is_decided
    served = {number for number, version in model.versions.items() if version.state is State.AVAILABLE}
    failed = {number for number, version in model.versions.items() if version.error is not None}
    assert set(model.aspired) - failed <= served
    # An old version stays only where no aspired one can take over.
    assert served <= set(model.aspired) or not served & set(model.aspired)


def history(model, *bad):
    """Take every step; the versions in `bad` fail."""
    while (action := model.next_action(policy.availability_preserving)) is not None:
        take_step(model, fails=action.version in bad)


def test_a_spare_version_stands_in_for_those_that_fail():
    model = Model("m")
    spare = dict.fromkeys((1, 5, 7), HERE)
    for _ in range(2):  # as polls repeat it
        model.aspire({8: HERE}, lambda _version: None, spare)
        history(model, 8, 7)
        assert (model.newest.number, model.versions[8].state) == (5, State.END)
        assert model.is_decided
        assert 1 not in model.versions
    model.aspire({9: HERE}, lambda _version: None, {8: HERE, 7: HERE, 5: HERE})
    history(model)
    assert model.newest.number == 9
    assert model.versions[5].state is State.END


def test_a_spare_version_stays_while_the_wanted_one_is_tried_again():
    model = Model("m")
    model.aspire({2: HERE}, lambda _version: None, {1: HERE})
    version = model.begin(model.next_action(policy.resource_preserving))
    version.error, version.cancel_retry = UnavailableError("not now"), lambda: None
    model.fall_back()
    version.cancel_retry = None  # the next try has begun
    model.aspire({2: HERE}, lambda _version: None, {1: HERE})
    assert set(model.aspired) == {1, 2}
    model.note_loaded(version, SimpleNamespace(version=2))
    assert set(model.aspired) == {2}


def test_no_spare_version_beside_one_that_is_served():
    model = Model("m")
    model.aspire({8: HERE, 9: HERE}, lambda _version: None, {7: HERE})
    history(model, 9)
    assert (model.newest.number, sorted(model.versions)) == (8, [8, 9])


def test_a_version_that_was_retired_stands_in_again():
    model = Model("m")
    aspire(model, 1)
    history(model)
    model.aspire({2: HERE}, lambda _version: None, {1: HERE})
    while (action := model.next_action(policy.resource_preserving)) is not None:
        version = model.begin(action)
        if action.verb is Verb.UNLOAD:
            model.note_ended(version)
        elif version.number == 2:
            version.error = UnavailableError("no")
            model.note_failed(version)
        else:
            model.note_loaded(version, SimpleNamespace(version=version.number))
    assert model.newest.number == 1


def test_a_version_that_is_withdrawn_says_why_and_a_spare_one_stands_in():
    model = Model("m")
    model.aspire({2: HERE}, lambda _version: None, spare={1: HERE})
    assert take_step(model)
    model.withdraw(model.versions[2], UnavailableError("broken"))
    for spec in (ModelSpec("m"), ModelSpec("m", 2)):
        with pytest.raises(UnavailableError, match="broken"):
            model.find(spec)
    while take_step(model):
        pass
    assert model.find(ModelSpec("m")).number == 1
    assert (model.versions[2].status().state, model.versions[2].status().message) == (State.END, "broken")


def test_a_version_wanted_again_while_it_drains_is_not_decided(model):
    aspire(model, 3)
    model.begin(policy.Action(Verb.UNLOAD, 1))
    model.begin(policy.Action(Verb.UNLOAD, 2))
    aspire(model, 2)
    assert not model.is_decided
    model.note_ended(model.versions[2])
    while take_step(model):
        pass
    assert model.is_decided


def test_texts_for_clients_have_no_paths(tmp_path):
    (tmp_path / "real" / "1").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    aspire(model := Model("m"))
    model.aspire({1: VersionDirectory(tmp_path / "link" / "1")}, lambda _version: None)
    text = f"{tmp_path}/link/1/model.onnx is none; {tmp_path}/real/1 holds it."
    assert model.versions[1].hide_path(text) == "1/model.onnx is none; 1 holds it."
