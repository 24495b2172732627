"""Base paths: what is a version, what is wanted, and when a directory counts as whole."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

from estimator_serving.serving.models.model_config import ModelConfig
from estimator_serving.serving.models.sources import directory
from estimator_serving.serving.models.sources.directory import DirectorySource, find_versions, scan
from estimator_serving.serving.policy import All, Latest, Specific


def make(base_path, *names):
    for name in names:
        (base_path / name).mkdir(parents=True)


class Wanted(list):
    """What was asked for, look by look: (model, versions)."""

    def __call__(self, name, versions, _spare):
        self.append((name, set(versions)))

    def set_hint(self, _name, hint):
        self.hint = hint


def no_hint(_name, _hint):
    """What watches aspired versions only."""


def watch(wanted, *models, **settings):
    source = DirectorySource(wanted, getattr(wanted, "set_hint", no_hint), **{"poll_wait_s": 0} | settings)
    source.watch(models)
    return source


def test_what_a_version_is(base_path):
    make(base_path, "1", "00000123", "20170111173521", "2.denied", "tmp", "temp-4")
    make(base_path, "-1", "+2", "1.0", " 5", str(2**63))
    (base_path / "7").write_text("a file")
    (base_path / "8").symlink_to(base_path / "8")  # a loop
    (base_path / "9").symlink_to(base_path / "1")
    os.mkfifo(base_path / "10")
    versions, complaints = find_versions(base_path)
    assert set(versions) == {1, 9, 123, 20170111173521}
    assert {line.split(" is no version: ")[0].rsplit("/", 1)[1]: line.split(": ")[1] for line in complaints} == {
        "-1": "its name is not a whole number in digits.",
        "+2": "its name is not a whole number in digits.",
        "1.0": "its name is not a whole number in digits.",
        " 5": "its name is not a whole number in digits.",
        str(2**63): f"its number is above {2**63 - 1}.",
        "7": "it is a file.",
        "8": "it is a link that leads nowhere, or no directory.",
        "10": "it is a link that leads nowhere, or no directory.",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_cannot_be_read_is_no_version(base_path):
    make(base_path, "1", "2")
    (base_path / "2").chmod(0)
    versions, complaints = find_versions(base_path)
    assert set(versions) == {1}
    assert "it cannot be read" in complaints[0]


def test_two_directories_of_one_number(base_path):
    make(base_path, "1", "01")
    versions, complaints = find_versions(base_path)
    assert (set(versions), len(complaints)) == ({1}, 1)
    assert "are version 1; the first is used" in complaints[0]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(Latest(), {3}), (Latest(2), {2, 3}), (All(), {1, 2, 3}), (Specific(frozenset({1, 9})), {1})],
)
def test_asks_for_what_the_policy_chooses(base_path, policy, expected, caplog):
    make(base_path, "1", "2", "3")
    wanted = Wanted()
    watch(wanted, ModelConfig("m", base_path, policy))
    assert wanted == [("m", expected)]
    assert ("Version 9 of model m is wanted and not there." in caplog.text) == isinstance(policy, Specific)


def test_missing_base_path_changes_nothing_and_stops_no_other_model(tmp_path, caplog):
    make(tmp_path, "b/4")
    wanted = Wanted()
    source = watch(wanted, ModelConfig("a", tmp_path / "nope"), ModelConfig("b", tmp_path / "b"))
    source.poll()
    assert wanted == [("b", {4}), ("b", {4})]
    assert caplog.text.count("cannot be read") == 1  # said once, not at every look


@pytest.mark.parametrize(("always_present", "expected"), [(False, [("m", set())]), (True, [])])
def test_empty_base_path_asks_for_nothing(base_path, caplog, always_present, expected):
    wanted = Wanted()
    watch(wanted, ModelConfig("m", base_path), always_present=always_present)
    assert wanted == expected
    assert "holds no version" in caplog.text


def test_never_looks(base_path):
    make(base_path, "1")
    wanted = Wanted()
    watch(wanted, ModelConfig("m", base_path), poll_wait_s=-1).start()
    assert wanted == []


def test_other_models_are_watched_from_then_on(tmp_path):
    make(tmp_path, "a/1", "b/2")
    wanted = Wanted()
    source = watch(wanted, ModelConfig("a", tmp_path / "a"))
    source.watch([ModelConfig("b", tmp_path / "b")])
    assert wanted == [("a", {1}), ("b", {2})]


def test_a_directory_somebody_writes_into_is_not_wanted_yet(base_path, monkeypatch):
    """The version before it stays wanted, and the new one is once it holds still."""
    make(base_path, "1", "2")
    file = base_path / "2" / "model.onnx"
    file.write_bytes(b"")
    wanted = Wanted()
    source = DirectorySource(wanted, no_hint, poll_wait_s=1, settle_s=0.01)
    monkeypatch.setattr(source._poll, "pause", lambda _: file.write_bytes(file.read_bytes() + b"more"))
    source.watch([ModelConfig("m", base_path)])
    monkeypatch.undo()
    source.poll()
    assert wanted == [("m", {1}), ("m", {2})]


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_clock_that_jumps(base_path, monkeypatch, jump_s):
    """Versions are found all the same: the wall clock decides about a short pause and nothing else."""
    make(base_path, "1")
    (base_path / "1" / "model.onnx").write_bytes(b"a")
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + jump_s)
    wanted = Wanted()
    source = DirectorySource(wanted, no_hint, poll_wait_s=1, settle_s=0.001)
    source.watch([ModelConfig("m", base_path)])
    monkeypatch.setattr(time, "time", lambda: now_s)
    make(base_path, "2")
    source.poll()
    assert wanted == [("m", {1}), ("m", {2})]


def test_changed_files_are_handed_over_once_quiet(base_path, caplog):
    make(base_path, "1")
    file = base_path / "1" / "model.onnx"
    file.write_bytes(b"a")
    stamps = []
    source = DirectorySource(lambda _, versions, *__: stamps.append(versions[1].stamp), no_hint, poll_wait_s=0)
    source.watch([ModelConfig("m", base_path)])
    file.write_bytes(b"ab")
    source.poll()
    os.utime(file, (1, 1))
    source.poll()
    assert stamps[0] == stamps[1] != stamps[2]
    assert "changed after it was found" in caplog.text


def test_every_older_version_is_a_spare_and_none_is_read_before_it_is_needed(base_path, monkeypatch):
    make(base_path, *(str(number) for number in range(1, 300)))
    scanned, spares = [], []

    def scan_here(path):
        if path.parent == base_path:  # and not what a server of another test polls
            scanned.append(path.name)
        return scan(path)

    monkeypatch.setattr(directory, "scan", scan_here)
    source = watch(lambda _name, _versions, spare: spares.append(spare), ModelConfig("m", base_path))
    assert (sorted(spares[0]), scanned) == (list(range(1, 299)), ["299"])
    (base_path / "7" / "model.onnx").write_bytes(b"")
    assert spares[0][7].path == base_path / "7"
    os.utime(base_path / "7" / "model.onnx", (1, 1))
    source.poll()  # reads again what was needed, since its files may have changed
    assert scanned == ["299", "7", "299", "7"]
    assert spares[1][7].stamp != spares[0][7].stamp
    assert len(scanned) == 4


@pytest.mark.parametrize("policy", [All(), Specific(frozenset({3}))])
def test_only_the_newest_versions_have_spares(base_path, policy):
    make(base_path, "1", "2", "3")
    spares = []
    watch(lambda _name, _versions, spare: spares.append(spare), ModelConfig("m", base_path, policy))
    assert not spares[0]


def test_a_stamp_sees_every_file(base_path):
    make(base_path, "1/assets")
    (base_path / "1" / "assets" / "words.txt").write_text("a")
    before = scan(base_path / "1")
    (base_path / "1" / "assets" / "words.txt").write_text("ab")
    assert scan(base_path / "1").stamp != before.stamp
    assert not before.is_quiet


@pytest.mark.parametrize("fails", [False, True])
def test_keeps_looking(base_path, fails, caplog):
    seen = threading.Event()
    looks = []

    def aspire(name, versions, *_):
        looks.append(versions)
        if len(looks) == 3:
            seen.set()
        if fails and len(looks) == 2:
            raise RuntimeError("once")

    make(base_path, "1")
    source = DirectorySource(aspire, no_hint, poll_wait_s=0.01)
    with caplog.at_level(logging.CRITICAL):
        source.watch([ModelConfig("m", base_path)])
        source.start()
        assert seen.wait(10)
    source.stop()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("model.onnx", "The base path holds model.onnx itself; put it into a directory 1/ there."),
        ("saved_model.pb", "convert it with `estimator-serving import`"),
        ("saved_model.pbtxt", "Save it again as saved_model.pb (as_text=False), and convert that"),
    ],
)
def test_a_model_that_lies_in_the_base_path_itself(base_path, file, said, caplog):
    base_path.mkdir(exist_ok=True)
    (base_path / file).write_bytes(b"")
    wanted = Wanted()
    source = watch(wanted, ModelConfig("m", base_path))
    source.poll()
    assert said in wanted.hint
    assert str(base_path) not in wanted.hint
    assert caplog.text.count(said) == 1


def absent(_base_path):
    """Makes nothing."""


@pytest.mark.parametrize(
    ("make_base", "policy", "said"),
    [
        (absent, Latest(), "Its base path does not exist; create it, or correct the path in the server's"),
        (lambda base: base.write_text(""), Latest(), "Its base path is a file; give the directory that holds"),
        (lambda base: base.symlink_to(base), Latest(), "Its base path cannot be read; the server's log says why."),
        (lambda base: make(base, "1"), Specific(frozenset({8})), "Its base path has none of the specific versions"),
        (lambda base: make(base, "8"), Specific(frozenset({8})), ""),
    ],
)  # fmt: skip
def test_clients_are_told_why_there_may_be_no_version(tmp_path, make_base, policy, said):
    wanted, base = Wanted(), tmp_path / "base"
    make_base(base)
    source = watch(wanted, ModelConfig("m", base, policy))
    assert wanted.hint.startswith(said)
    assert bool(wanted.hint) == bool(said)
    assert str(tmp_path) not in wanted.hint
    if make_base is absent:
        make(base, "1")
        source.poll()
        assert wanted.hint == ""


def test_the_directory_of_a_version_is_no_base_path(base_path):
    make(base_path, "7")
    (base_path / "7" / "model.onnx").write_bytes(b"")
    wanted = Wanted()
    watch(wanted, ModelConfig("m", base_path / "7")).poll()
    assert wanted.hint == "The base path is the directory of version 7; give the directory above it."
