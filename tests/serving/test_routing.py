"""The route of a request: chosen once, pinned until it is closed, quick or not."""

from types import SimpleNamespace

import pytest
from running import until

from estimator_serving.serving.errors import InvalidArgumentError, NotFoundError
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.policy import State
from estimator_serving.serving.request import ModelSpec
from estimator_serving.serving.routing import PAUSE_S_MAX, QUICK_PAYLOAD_BYTES, Router


@pytest.fixture
def manager(tmp_path):
    def load(_name, version, _path):
        return SimpleNamespace(version=version, runner=SimpleNamespace(is_quick=True, is_full=False))

    manager = Manager(load)
    manager.aspire("m", {1: VersionDirectory(tmp_path)})
    assert manager.wait_until_settled(10)
    yield manager
    manager.stop()


@pytest.fixture
def router(manager):
    return Router(manager)


def replace(manager, tmp_path, *versions):
    manager.aspire("m", {version: VersionDirectory(tmp_path) for version in versions})
    assert manager.wait_until_settled(10)


@pytest.mark.parametrize(
    ("spec", "payload_bytes", "quick"),
    [(ModelSpec("m"), 10, True), (ModelSpec("m", 1), 10, True), (ModelSpec("m"), QUICK_PAYLOAD_BYTES + 1, False),
     (ModelSpec("nope"), 10, True), (ModelSpec("m", 9), 10, True)],
)  # fmt: skip
def test_is_quick(router, spec, payload_bytes, quick):
    assert router.choose(spec).is_quick(payload_bytes) is quick


def test_a_label_is_as_quick_as_its_version(manager, router, tmp_path):
    with router.choose(ModelSpec("m", 1)) as servable:
        servable.runner.is_quick = False
    replace(manager, tmp_path, 1, 2)
    manager.set_labels("m", {"stable": 1, "canary": 2})
    assert not router.choose(ModelSpec("m", label="stable")).is_quick(10)
    assert router.choose(ModelSpec("m", label="canary")).is_quick(10)
    assert router.choose(ModelSpec("m", label="none")).is_quick(10)


def test_a_full_version_refuses_on_the_reading_thread(router):
    """As it stood when it was chosen; and a quick version takes no turns, so it is never full."""
    with router.choose(ModelSpec("m")) as servable:
        servable.runner.is_full = True
        assert not router.choose(ModelSpec("m")).is_full
        servable.runner.is_quick = False
    route = router.choose(ModelSpec("m"))
    servable.runner.is_full = False
    assert route.is_full
    assert route.is_quick(10)
    assert route.is_quick(QUICK_PAYLOAD_BYTES + 1)  # nobody reads it
    route.close()


def test_how_long_all_versions_are_full(manager, router, tmp_path):
    assert router.full_for_s() is None
    replace(manager, tmp_path, 1, 2)
    for version, backlog_s in ((1, 0.03), (2, 0.01)):
        with router.choose(ModelSpec("m", version)) as servable:
            vars(servable.runner).update(is_full=True, backlog_s=backlog_s)
    assert router.full_for_s() == 0.005
    servable.runner.is_full = False
    assert 0 < router.full_for_s() < 0.005  # what was found holds so long
    until(lambda: router.full_for_s() is None)
    servable.runner.is_full, servable.runner.backlog_s = True, 60.0
    with router.choose(ModelSpec("m", 1)) as servable:
        servable.runner.backlog_s = 60.0
    assert router.full_for_s() == PAUSE_S_MAX


def test_a_route_stays_with_its_version_until_it_is_closed(manager, router, tmp_path):
    route = router.choose(ModelSpec("m"))
    replace(manager, tmp_path, 2)
    assert [status.state for status in manager.status("m")] == [State.AVAILABLE, State.UNLOADING]
    with route as servable, router.choose(ModelSpec("m")) as newest:
        assert (servable.version, newest.version) == (1, 2)
    until(lambda: manager.status("m", 1)[0].state is State.END)


def test_a_route_lets_go_once(manager, router, tmp_path):
    first, second = router.choose(ModelSpec("m")), router.choose(ModelSpec("m"))
    first.close()
    first.close()
    replace(manager, tmp_path, 2)
    assert manager.status("m", 1)[0].state is State.UNLOADING
    second.close()


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [(ModelSpec("nope"), NotFoundError, "Servable not found for request: Latest(nope)"),
     (ModelSpec("m", 9), NotFoundError, "Servable not found for request: Specific(m, 9)"),
     (ModelSpec("m", label="none"), InvalidArgumentError, "Unrecognized servable version label: none")],
)  # fmt: skip
def test_a_void_route_raises_when_it_is_entered(router, spec, error, text):
    route = router.choose(spec)
    with pytest.raises(error) as raised, route:
        pass
    assert str(raised.value) == text


def test_a_closed_route_is_not_entered(router):
    route = router.choose(ModelSpec("m"))
    route.close()
    with pytest.raises(RuntimeError, match="This route is closed"), route:
        pass
