"""The life of versions, with a loader that makes fakes: no disk, no ONNX."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from estimator_serving.serving import errors, policy
from estimator_serving.serving.errors import Code
from estimator_serving.serving.models.manager import Manager, Retries
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.policy import State
from estimator_serving.serving.request import ModelSpec

HERE = VersionDirectory(Path())


def load(name, version, path):
    if version == 13:
        raise errors.InvalidArgumentError("unlucky")
    if version == 14:
        raise KeyError("not ours")
    return SimpleNamespace(name=name, version=version)


@pytest.fixture
def manager():
    manager = Manager(load)
    yield manager
    manager.stop()


def aspire(manager, *versions):
    manager.aspire("m", dict.fromkeys(versions, HERE))
    assert manager.wait_until_settled(10)


def states(manager):
    return {status.version: status.state for status in manager.status("m")}


def wait_for(manager, expected):
    """What a released handle sets off happens in the loader's thread."""
    for _ in range(1000):
        if states(manager) == expected:
            return
        time.sleep(0.005)
    assert states(manager) == expected


def served(manager, version=None):
    with manager.servable(ModelSpec("m", version)) as servable:
        return servable.version


def test_newest_is_served(manager):
    aspire(manager, 1, 2)
    assert (served(manager), served(manager, 1)) == (2, 1)


def test_swap(manager):
    aspire(manager, 1)
    aspire(manager, 2)
    assert served(manager) == 2
    assert states(manager) == {2: State.AVAILABLE, 1: State.END}
    assert [status.version for status in manager.status("m")] == [2, 1]


@pytest.mark.parametrize(("bad", "code", "text"), [(13, Code.INVALID_ARGUMENT, "unlucky"), (14, Code.INTERNAL, "")])
def test_bad_version_stops_no_good_one(manager, bad, code, text):
    aspire(manager, 1)
    aspire(manager, bad)
    assert served(manager) == 1
    status = manager.status("m", bad)[0]
    assert (status.state, status.code) == (State.END, code)
    assert text in status.message
    assert not manager.unready()


def test_pinned_version_outlives_its_retirement(manager):
    aspire(manager, 1)
    handle = manager.servable(ModelSpec("m"))
    with handle as servable:
        aspire(manager, 2)
        assert states(manager)[1] is State.UNLOADING
        assert servable.version == 1
        with pytest.raises(errors.NotFoundError, match=r"Specific\(m, 1\)"):
            manager.servable(ModelSpec("m", 1))
    wait_for(manager, {2: State.AVAILABLE, 1: State.END})


def test_wanted_again_while_it_drains(manager):
    aspire(manager, 1)
    with manager.servable(ModelSpec("m")):
        aspire(manager)
        aspire(manager, 1)
        assert states(manager) == {1: State.UNLOADING}
    wait_for(manager, {1: State.AVAILABLE})
    assert served(manager) == 1


def test_ended_version_comes_back_when_wanted_anew(manager):
    aspire(manager, 1)
    aspire(manager)
    assert states(manager) == {1: State.END}
    aspire(manager, 1)
    assert served(manager) == 1


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        (ModelSpec("nope"), errors.NotFoundError, r"Servable not found for request: Latest\(nope\)"),
        (ModelSpec("m", 9), errors.NotFoundError, r"Servable not found for request: Specific\(m, 9\)"),
        (ModelSpec("nope", 9), errors.NotFoundError, r"Servable not found for request: Specific\(nope, 9\)"),
        (ModelSpec("m", label="stable"), errors.InvalidArgumentError, "Unrecognized servable version label: stable"),
    ],
)
def test_not_found(manager, spec, kind, text):
    aspire(manager, 1)
    with pytest.raises(kind, match=text):
        manager.servable(spec)


def test_status_not_found(manager):
    aspire(manager, 1)
    with pytest.raises(errors.NotFoundError, match="Could not find any versions of model nope"):
        manager.status("nope")
    with pytest.raises(errors.NotFoundError, match="Could not find version 9 of model m"):
        manager.status("m", 9)


def test_unready_says_why(manager):
    assert manager.unready() == "No model is configured."
    aspire(manager)
    assert manager.unready() == "Model m has no version yet. Export one into its base path."
    aspire(manager, 13)
    assert manager.unready() == "Model m version 13 is in state END: unlucky"
    aspire(manager, 1)
    assert manager.unready() == ""


def test_unready_at_the_start_claims_nothing_that_is_not_known_yet(manager):
    manager.starting = True
    assert manager.unready() == "The server begins to load its first models."
    manager.serve_only(["m"])
    assert manager.unready() == "Model m has no version yet. The server begins to look for its versions."
    manager.set_hint("m", "Its base path does not exist.")
    assert manager.unready() == "Model m has no version yet. Its base path does not exist."
    manager.set_hint("m", "")
    manager.starting = False
    assert manager.unready() == "Model m has no version yet. Export one into its base path."


def test_swaps_under_load(manager):
    """Every request gets one version, pinned; none fails while versions change a hundred times."""
    aspire(manager, 1000)
    stop, failures = threading.Event(), []

    def ask():
        while not stop.is_set():
            try:
                with manager.servable(ModelSpec("m")) as servable:
                    assert servable.version >= 1000
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(1001, 1101):
        aspire(manager, version)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert served(manager) == 1100


# --- labels ---


@pytest.mark.parametrize(("label", "version"), [("stable", 1), ("canary", 2), ("same", 2)])
def test_a_label_names_a_version(manager, label, version):
    aspire(manager, 1, 2)
    manager.set_labels("m", {"stable": 1, "canary": 2, "same": 2})
    with manager.servable(ModelSpec("m", label=label)) as servable:
        assert servable.version == version


def test_a_label_of_a_version_that_is_gone(manager):
    aspire(manager, 1)
    manager.set_labels("m", {"stable": 1})
    aspire(manager, 2)
    with pytest.raises(errors.NotFoundError, match=r"Servable not found for request: Specific\(m, 1\)"):
        manager.servable(ModelSpec("m", label="stable"))


# --- which models there are ---


def test_a_model_that_is_not_configured_any_more_is_unloaded(manager):
    manager.serve_only(["m", "n"])
    aspire(manager, 1)
    manager.set_labels("m", {"stable": 1})
    manager.serve_only(["n"])
    assert manager.wait_until_settled(10)
    assert states(manager) == {1: State.END}
    assert (manager.names(), manager.labels("m")) == (["n"], {})
    assert manager.unready() == "Model n has no version yet. Export one into its base path."
    manager.serve_only([])
    assert manager.unready() == "No model is configured."


# --- loads that fail for a passing reason ---


class Shaky:
    """Fails so many times for want of memory, then loads."""

    def __init__(self, failures):
        self.failures = failures
        self.tries = 0

    def __call__(self, name, version, path):
        self.tries += 1
        if self.tries <= self.failures:
            raise errors.ResourceExhaustedError("no memory")
        return SimpleNamespace(name=name, version=version)


@pytest.mark.parametrize(
    ("failures", "retries", "tries", "state"),
    [(2, 3, 3, State.AVAILABLE), (9, 2, 3, State.END), (1, 0, 1, State.END)],
)
def test_retries(failures, retries, tries, state):
    load = Shaky(failures)
    manager = Manager(load, retries=Retries(retries, 0.001))
    manager.aspire("m", {1: HERE})
    wait_for(manager, {1: state})
    assert load.tries == tries
    assert manager.status("m")[0].code is (Code.OK if state is State.AVAILABLE else Code.RESOURCE_EXHAUSTED)
    manager.stop()


def test_what_files_cause_is_not_tried_again():
    manager = Manager(load, retries=Retries(5, 60))
    aspire(manager, 13)
    assert states(manager) == {13: State.END}
    manager.stop()


def test_between_tries():
    """The version is LOADING, holds nothing up, says why, and is given up when it is not wanted any more."""
    manager = Manager(Shaky(1), retries=Retries(1, 60))
    aspire(manager, 1)
    assert states(manager) == {1: State.LOADING}
    assert manager.unready() == "Model m version 1 is in state LOADING: no memory"
    aspire(manager)
    assert states(manager) == {1: State.END}
    assert manager.stop(10)


def test_a_failed_version_is_tried_anew_when_its_files_change(manager):
    manager._load = Shaky(1)
    aspire(manager, 1)
    aspire(manager, 1)
    assert states(manager) == {1: State.END}
    manager.aspire("m", {1: VersionDirectory(Path(), stamp=1)})
    assert manager.wait_until_settled(10)
    assert states(manager) == {1: State.AVAILABLE}


def test_files_that_change_while_they_are_read(manager):
    reading, changed = threading.Event(), threading.Event()

    def load(name, version, path):
        if not reading.is_set():
            reading.set()
            assert changed.wait(10)
            raise errors.InvalidArgumentError("half a file")
        return SimpleNamespace(name=name, version=version)

    manager._load = load
    manager.aspire("m", {1: HERE})
    assert reading.wait(10)
    manager.aspire("m", {1: VersionDirectory(Path(), stamp=1)})
    changed.set()
    wait_for(manager, {1: State.AVAILABLE})


# --- order and waiting ---


def test_resource_preserving_waits_until_the_old_version_has_drained():
    manager = Manager(load, next_action=policy.resource_preserving)
    aspire(manager, 1)
    with manager.servable(ModelSpec("m")):
        aspire(manager, 2)
        assert states(manager) == {2: State.START, 1: State.UNLOADING}
    wait_for(manager, {2: State.AVAILABLE, 1: State.END})
    manager.stop()


def test_models_load_beside_each_other():
    together = threading.Barrier(2)

    def load(name, version, path):
        together.wait(10)
        return SimpleNamespace(name=name, version=version)

    manager = Manager(load, load_threads=2)
    for name in "mn":
        manager.aspire(name, {1: HERE})
    assert manager.wait_until_settled(20)
    assert manager.unready() == ""
    manager.stop()


def test_wait_until_decided(manager):
    manager.serve_only(["m", "n", "o"])
    manager.aspire("m", {1: HERE})
    manager.aspire("n", {13: HERE})
    failed = manager.wait_until_decided(["m", "n", "o"])
    assert {name: (status.version, status.message) for name, status in failed.items()} == {
        "n": (13, "unlucky"),
        "o": (-1, "its base path holds no version that is wanted"),
    }


def test_stop_does_not_wait_for_a_load_for_ever():
    going, end = threading.Event(), threading.Event()

    def load(name, version, path):
        going.set()
        assert end.wait(10)
        return SimpleNamespace(name=name, version=version)

    manager = Manager(load)
    manager.aspire("m", {1: HERE})
    assert going.wait(10)
    assert not manager.stop(0.01)
    assert manager.wait_until_settled(0.01)  # an interrupted wait is over
    end.set()
    assert manager.stop(10)


def test_a_storm_of_changes():
    """Loads, unloads and wishes from several threads at once: handles stay valid, and the end is as wished."""
    manager = Manager(load, load_threads=4, unload_threads=2)
    manager.aspire("m", {1000: HERE})
    assert manager.wait_until_settled(10)
    stop, failures = threading.Event(), []

    def wish(seed):
        for turn in range(250):
            manager.aspire("m", {1000: HERE, 1001 + (seed + turn) % 3: HERE})

    def ask():
        while not stop.is_set():
            try:
                with manager.servable(ModelSpec("m")) as servable:
                    assert servable.version >= 1000
            except Exception as error:
                failures.append(error)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    wishers = [threading.Thread(target=wish, args=(seed,)) for seed in range(4)]
    for thread in askers + wishers:
        thread.start()
    for thread in wishers:
        thread.join()
    stop.set()
    for thread in askers:
        thread.join()
    aspire(manager, 7)
    assert failures == []
    wait_for(manager, {number: State.AVAILABLE if number == 7 else State.END for number in states(manager)})
    assert manager.stop(10)
