"""The life of versions, with a loader that makes fakes: no disk, no ONNX."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from estimator_serving.serving import errors
from estimator_serving.serving.errors import Code
from estimator_serving.serving.manager import Manager
from estimator_serving.serving.model_config import VersionDirectory
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
    assert manager.unready() == "Model m has no version yet; export one into its base path."
    aspire(manager, 13)
    assert manager.unready() == "Model m version 13 is in state END: unlucky"
    aspire(manager, 1)
    assert manager.unready() == ""


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
