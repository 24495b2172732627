"""Version directories: numbers, assets, and that nothing is left where writing fails."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from estimator_serving.exporter.servable import directory
from estimator_serving.exporter.servable.directory import write_version


def fill(path):
    (path / "model.onnx").write_bytes(b"x")


def test_versions_within_one_second_get_numbers_of_their_own(tmp_path):
    paths = {write_version(tmp_path, fill) for _ in range(3)}
    assert len(paths) == 3
    assert all(path.name.isdigit() and (path / "model.onnx").read_bytes() == b"x" for path in paths)
    assert len(list(tmp_path.iterdir())) == 3


def test_numbers_run_out_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(directory.time, "time", lambda: 100.5)
    for number in range(100, 110):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "model.onnx").write_bytes(b"old")
    with pytest.raises(FileExistsError, match="already has versions 100 to 109; export to another directory"):
        write_version(tmp_path, fill)
    assert len(list(tmp_path.iterdir())) == 10


def full_disk(path):
    (path / "model.onnx").write_bytes(b"x")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path / "model.onnx"))


def missing_asset(path):
    directory.copy_files({"a": path / "missing"}, path / "assets.extra")


def escaping_asset(path):
    directory.copy_files({"../../a": __file__}, path / "assets.extra")


@pytest.mark.parametrize(
    ("fill", "error", "text"),
    [
        (full_disk, OSError, "No space left on device.*model.onnx"),
        (missing_asset, FileNotFoundError, "missing"),
        (escaping_asset, ValueError, "would lie outside assets.extra/"),
    ],
)
def test_a_failure_leaves_nothing(tmp_path, fill, error, text):
    with pytest.raises(error, match=text):
        write_version(tmp_path / "base", fill)
    assert list((tmp_path / "base").iterdir()) == []


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "base").write_text("a file")
    with pytest.raises(OSError, match="base"):
        write_version(tmp_path / "base", fill)
    assert (tmp_path / "base").read_text() == "a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_target_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="temp-"):
        write_version(tmp_path, fill)


def test_a_killed_export_shows_no_version(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from estimator_serving.exporter.servable.directory import write_version\n"
        "def fill(path):\n"
        "    (path / 'model.onnx').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_version(Path(sys.argv[1]), fill)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir() if path.name.isdigit()] == []
