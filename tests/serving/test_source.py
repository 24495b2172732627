import logging

import pytest

from estimator_serving.serving.source import DirectorySource, find_versions


def make(base_path, *names):
    for name in names:
        (base_path / name).mkdir()


def test_what_a_version_is(base_path):
    make(base_path, "1", "00000123", "20170111173521", "2.denied", "tmp", "-1", "1.0", str(2**63), "temp-4")
    (base_path / "7").write_text("a file")
    assert set(find_versions(base_path)) == {1, 123, 20170111173521}


def test_two_directories_of_one_number(base_path, caplog):
    make(base_path, "1", "01")
    assert set(find_versions(base_path)) == {1}
    assert "are version 1" in caplog.text


class Wanted(list):
    def __call__(self, versions):
        self.append(set(versions))


def test_asks_for_the_newest(base_path):
    make(base_path, "1", "2")
    wanted = Wanted()
    DirectorySource(base_path, wanted, poll_wait_s=0).start()
    assert wanted == [{2}]


def test_missing_base_path_changes_nothing(tmp_path, caplog):
    wanted = Wanted()
    source = DirectorySource(tmp_path / "nope", wanted, poll_wait_s=0)
    source.start()
    source.poll()
    assert wanted == []
    assert caplog.text.count("cannot be read") == 1  # said once, not at every look


def test_empty_base_path_asks_for_nothing(base_path, caplog):
    wanted = Wanted()
    DirectorySource(base_path, wanted, poll_wait_s=0).start()
    assert wanted == [set()]
    assert "holds no version" in caplog.text


def test_never_looks(base_path):
    wanted = Wanted()
    DirectorySource(base_path, wanted, poll_wait_s=-1).start()
    assert wanted == []


@pytest.mark.parametrize("fails", [False, True])
def test_keeps_looking(base_path, fails, caplog):
    import threading

    seen = threading.Event()
    looks = []

    def aspire(versions):
        looks.append(versions)
        if len(looks) == 3:
            seen.set()
        if fails and len(looks) == 2:
            raise RuntimeError("once")

    make(base_path, "1")
    source = DirectorySource(base_path, aspire, poll_wait_s=0.01)
    with caplog.at_level(logging.CRITICAL):
        source.start()
        assert seen.wait(10)
    source.stop()
