"""Lists of models that replace each other, with a loader that makes fakes; and the file they come from."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from estimator_serving.serving import errors
from estimator_serving.serving.models.catalog import Catalog, ConfigFile
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import ModelConfig
from estimator_serving.serving.models.sources.directory import DirectorySource
from estimator_serving.serving.policy import All, Latest, State
from estimator_serving.serving.request import ModelSpec


def load(name, version, path):
    if (path / "bad").exists():
        raise errors.InvalidArgumentError("unlucky")
    return SimpleNamespace(name=name, version=version)


class Running:
    """A catalog over a directory of models."""

    def __init__(self, root, **settings):
        self.root = root
        self.manager = Manager(load, load_threads=2)
        self.source = DirectorySource(self.manager.aspire, self.manager.set_hint, poll_wait_s=0)
        self.catalog = Catalog(self.manager, self.source, **settings)

    def model(self, name, *versions, bad=(), **settings):
        for version in (*versions, *bad):
            (self.root / name / str(version)).mkdir(parents=True, exist_ok=True)
        for version in bad:
            (self.root / name / str(version) / "bad").touch()
        return ModelConfig(name, self.root / name, **{"version_policy": All()} | settings)

    def served(self, name, **spec):
        with self.manager.servable(ModelSpec(name, **spec)) as servable:
            return servable.version

    def stop(self):
        self.catalog.stop()
        assert self.manager.stop(10)


@pytest.fixture
def running(tmp_path):
    running = Running(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def tolerant(tmp_path):
    running = Running(tmp_path, labels_for_unavailable=True)
    yield running
    running.stop()


def test_a_list_replaces_the_one_before(running):
    running.catalog.start([running.model("a", 1), running.model("b", 1)])
    running.catalog.replace([running.model("b", 1), running.model("c", 3)])
    assert (running.served("b"), running.served("c")) == (1, 3)
    assert running.manager.wait_until_settled(10)
    assert running.manager.status("a")[0].state is State.END
    running.catalog.replace([])
    assert running.manager.wait_until_settled(10)
    assert running.manager.unready() == "No model is configured."


def test_another_base_path_for_a_live_name(running, tmp_path):
    running.catalog.start([running.model("a", 1)])
    running.model("b", 2)
    running.catalog.replace([ModelConfig("a", tmp_path / "b")])
    assert running.manager.wait_until_settled(10)
    assert running.served("a") == 2


def test_a_label_moves_before_its_old_version_goes(running, monkeypatch):
    running.catalog.start([running.model("a", 1, 2, labels={"stable": 1})])
    watch, answered = running.source.watch, []

    def watch_and_ask(models):
        watch(models)
        assert running.manager.wait_until_settled(10)
        answered.append(running.served("a", label="stable"))

    monkeypatch.setattr(running.source, "watch", watch_and_ask)
    running.catalog.replace([running.model("a", version_policy=Latest(1), labels={"stable": 2})])
    assert answered == [2]


def test_new_models_that_fail_are_named(running):
    running.catalog.start([running.model("a", 1)])
    (running.root / "empty").mkdir()
    with pytest.raises(errors.UnknownError) as failed:
        running.catalog.replace([running.model("a", 1), running.model("b", bad=[7]), running.model("empty")])
    assert str(failed.value) == (
        "2 model(s) did not become available: {{{name: b version: 7} due to error: INVALID_ARGUMENT: unlucky}, "
        "{{name: empty} due to error: NOT_FOUND: its base path holds no version that is wanted}, }"
    )
    assert running.served("a") == 1
    assert running.manager.names() == ["a", "b", "empty"]  # the list is in force all the same


def test_a_model_that_is_not_new_is_not_waited_for(running):
    running.catalog.start([running.model("a", bad=[1])])
    running.catalog.replace([running.model("a", bad=[1])])


def test_what_is_refused_changes_nothing(running):
    running.catalog.start([running.model("a", 1, labels={"stable": 1}, platform="onnx")])
    with pytest.raises(errors.InvalidArgumentError, match="Illegal to change a model's platform"):
        running.catalog.replace([running.model("b", 1), running.model("a", 1, platform="tensorflow")])
    with pytest.raises(errors.FailedPreconditionError, match="Request to assign label to version 2 of model a, which"):
        running.catalog.replace([running.model("b", 1), running.model("a", 1, labels={"stable": 2})])
    assert running.manager.names() == ["a"]
    assert running.served("a", label="stable") == 1


# --- labels ---


def test_labels_at_the_start_wait_for_the_first_load(running, caplog):
    running.catalog.start([running.model("a", 1, 2, labels={"stable": 1, "canary": 2, "lost": 9})])
    assert (running.served("a", label="stable"), running.served("a", label="canary")) == (1, 2)
    with pytest.raises(errors.InvalidArgumentError, match="Unrecognized servable version label: lost"):
        running.served("a", label="lost")
    assert "The label lost is not assigned. Request to assign label to version 9 of model a" in caplog.text


def test_labels_are_replaced_as_a_whole(running):
    running.catalog.start([running.model("a", 1, 2, labels={"stable": 1})])
    running.catalog.replace([running.model("a", labels={"canary": 2})])
    assert running.served("a", label="canary") == 2
    with pytest.raises(errors.InvalidArgumentError, match="Unrecognized"):
        running.served("a", label="stable")


def test_labels_are_checked_before_new_versions_load(running):
    running.catalog.start([running.model("a", 1)])
    with pytest.raises(errors.FailedPreconditionError, match="version 2 of model a"):
        running.catalog.replace([running.model("a", 1, 2, labels={"new": 2})])


def test_the_flag_lets_a_new_label_wait_for_its_version(tolerant):
    tolerant.catalog.start([tolerant.model("a", 1, labels={"stable": 1, "next": 9})])
    with pytest.raises(errors.NotFoundError, match=r"Specific\(a, 9\)"):
        tolerant.served("a", label="next")
    tolerant.catalog.replace([tolerant.model("a", 1, 9, labels={"stable": 1, "next": 9, "other": 5})])
    assert tolerant.manager.wait_until_settled(10)
    assert tolerant.served("a", label="next") == 9


def test_the_flag_does_not_let_an_assigned_label_move_to_what_is_not_there(tolerant):
    tolerant.catalog.start([tolerant.model("a", 1, labels={"stable": 1})])
    with pytest.raises(errors.FailedPreconditionError, match="version 9 of model a"):
        tolerant.catalog.replace([tolerant.model("a", 1, labels={"stable": 9})])


# --- one change at a time ---


def test_changes_wait_for_each_other(running, monkeypatch):
    """A second list waits until the first one's new models are decided."""
    loading, go = threading.Event(), threading.Event()

    def slow(name, version, path):
        loading.set()
        assert go.wait(10)
        return load(name, version, path)

    running.catalog.start([])
    running.manager._load = slow
    threads = [
        threading.Thread(target=running.catalog.replace, args=([running.model(name, 1)],)) for name in ("a", "b")
    ]
    threads[0].start()
    assert loading.wait(10)
    threads[1].start()
    assert running.manager.names() == ["a"]
    go.set()
    for thread in threads:
        thread.join()
    assert running.manager.names() == ["b"]


def test_a_model_goes_out_of_service_and_comes_back(running):
    first, other = running.model("m", 1, labels={"stable": 1}), running.model("other", 1)
    running.catalog.start([first, other])
    running.catalog.unload("m")
    running.catalog.unload("m")
    with pytest.raises(errors.NotFoundError):
        running.served("m")
    assert (running.catalog.names(), running.served("other")) == (["m", "other"], 1)
    running.model("m", 2)
    running.catalog.load("m")
    assert running.manager.wait_until_settled(10)  # the load waits for the first version that serves
    assert (running.served("m"), running.served("m", label="stable")) == (2, 1)


def test_a_poll_under_way_brings_nothing_back(running, monkeypatch):
    """It aspires what it found for a model that was taken out of service meanwhile."""
    running.catalog.start([running.model("m", 1), running.model("other", 1)])
    watch = running.source.watch

    def late(models):
        running.source.poll()  # as another thread does that has the lock first
        watch(models)

    monkeypatch.setattr(running.source, "watch", late)
    running.catalog.unload("m")
    assert not running.manager.is_available("m", 1)


def test_a_load_looks_for_new_versions(running):
    running.catalog.start([running.model("m", 1)])
    running.model("m", 2)
    running.catalog.load("m")
    assert running.served("m") == 2


def test_a_load_that_fails_is_told(running):
    running.catalog.start([running.model("m", 1)])
    running.catalog.unload("m")
    running.model("m", bad=(1,))
    with pytest.raises(errors.UnknownError, match="unlucky"):
        running.catalog.load("m")
    for change in (running.catalog.load, running.catalog.unload):
        with pytest.raises(errors.NotFoundError, match="no model of this name is configured"):
            change("nope")


def test_a_new_list_forgets_what_was_out_of_service(running):
    first, other = running.model("m", 1), running.model("other", 1)
    running.catalog.start([first, other])
    running.catalog.unload("m")
    running.catalog.replace([first])
    assert (running.served("m"), running.catalog.names()) == (1, ["m"])


def test_stop_ends_a_wait(tmp_path):
    running = Running(tmp_path)
    loading, go = threading.Event(), threading.Event()

    def slow(name, version, path):
        loading.set()
        assert go.wait(10)
        return load(name, version, path)

    running.manager._load = slow
    running.catalog.start([])
    ended = []

    def change():
        try:
            running.catalog.replace([running.model("a", 1)])
        except errors.UnavailableError as error:
            ended.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    assert loading.wait(10)
    running.catalog.stop()
    thread.join(10)
    assert len(ended) == 1
    go.set()
    running.stop()


# --- the file ---


def text(*models):
    entries = "".join(
        f'config {{ name: "{m.name}" base_path: "{m.base_path}" '
        + "".join(f'version_labels {{ key: "{key}" value: {version} }}' for key, version in m.labels.items())
        + "}"
        for m in models
    )
    return f"model_config_list {{ {entries} }}"


@pytest.fixture
def file(running, tmp_path):
    running.catalog.start([running.model("a", 1, version_policy=Latest())])
    path = tmp_path / "models.config"
    path.write_text(text(running.model("a")))
    file = ConfigFile(str(path), running.catalog, poll_wait_s=0.01)
    file.path = path
    yield file
    running.catalog.stop()
    file.stop()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "It configures nothing, so no action is taken for it."),
        ("model_config_list { config { nam: 'a' } }", "Error parsing text-format"),
        ("model_config_list { config { name: 'a' base_path: '/a' } config { name: 'a' base_path: '/a' } }",
         "Illegal to list model a multiple times"),
        ("#" * (1 << 24) + "#", "is larger than"),
        (None, "cannot be read (no such file)"),
        ("custom_model_config {}", "Cannot transition to requested config."),
    ],
    ids=["empty", "bad", "twice", "huge", "removed", "other kind"],
)  # fmt: skip
def test_a_file_that_is_wrong_changes_nothing(running, file, content, said, caplog):
    file.path.unlink() if content is None else file.path.write_text(content)
    file.poll()
    file.poll()
    assert caplog.text.count(said) == 1
    assert file.trouble.startswith("--model_config_file is not in force as a whole: ")
    assert said in file.trouble
    assert running.manager.names() == ["a"]
    file.path.write_text(text(running.model("b", 2)))
    file.poll()
    assert (running.manager.names(), running.served("b"), file.trouble) == (["b"], 2, "")


def test_what_could_not_be_applied_is_tried_again(running, file, caplog):
    file.path.write_text(text(running.model("a", labels={"next": 2})))
    file.poll()
    assert "Request to assign label to version 2" in caplog.text
    running.model("a", 2)
    running.catalog.poll()
    assert running.manager.wait_until_settled(10)
    file.poll()
    assert running.served("a", label="next") == 2


def test_a_list_whose_new_model_has_no_version_is_in_force_and_the_log_says_both(running, file, caplog):
    caplog.set_level("INFO")
    file.path.write_text(text(running.model("a"), ModelConfig("x", running.root / "nowhere")))
    file.poll()
    file.poll()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("catalog")]
    assert said == [
        f"{file.path} is in force: a, x. But 1 model(s) did not become available: {{{{{{name: x}} due to error: "
        "NOT_FOUND: Its base path does not exist; create it, or correct the path in the server's configuration.}, }"
    ]
    assert file.trouble == ""


def test_an_unchanged_file_does_not_undo_what_an_rpc_changed(running, file):
    file.start()
    running.catalog.replace([running.model("b", 1)])
    file.poll()
    assert running.manager.names() == ["b"]


def test_what_is_remarkable_is_said_once(running, file, caplog):
    """When it comes into force, and not at every look at the file."""
    listed = text(running.model("a"), running.model("b", 1))
    file.path.write_text(listed.replace('name: "b"', 'name: "b" model_platform: "tensorflow"'))
    for _ in range(3):
        file.poll()
    assert running.manager.names() == ["a", "b"]
    assert caplog.text.count('Model b says model_platform: "tensorflow"') == 1


def test_it_is_looked_at_again_and_again(running, file):
    file.start()
    file.path.write_text(text(running.model("a"), running.model("b", 1)))
    for _ in range(500):
        if running.manager.names() == ["a", "b"] and not running.manager.unready():
            break
        threading.Event().wait(0.01)
    assert running.served("b") == 1
