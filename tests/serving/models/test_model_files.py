"""Files that a version must not consist of: refused before ONNX Runtime opens them, with a reason."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx.parser
import pytest

from estimator_serving.serving.errors import (
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ServingError,
)
from estimator_serving.serving.models import model_files
from estimator_serving.serving.models.loader import Loader
from estimator_serving.serving.models.memory import free_bytes
from estimator_serving.serving.models.model_files import check_files
from estimator_serving.serving.running import servable

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x) => (float[N] y) <float[4] v = {1, 2, 3, 4}> { y = Add(x, v) }"""
WEIGHTS = np.float32([1, 2, 3, 4]).tobytes()


def write(directory, **places):
    """A version whose weights lie in another file, as the places say."""
    model = onnx.parser.parse_model(MODEL)
    (tensor,) = model.graph.initializer
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in ({"location": "model.onnx.data"} | places).items():
        tensor.external_data.add(key=key, value=str(value))
    directory.mkdir(exist_ok=True)
    path = directory / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def load(directory):
    def open_(name, version, path):
        return servable.load(name, version, path, intra_op_threads=1)

    return Loader(open_, lambda *_: None, "CPUExecutionProvider", drops_cache=True)("m", 1, directory)


@pytest.fixture
def version(tmp_path):
    directory = tmp_path / "1"
    directory.mkdir()
    (directory / "model.onnx.data").write_bytes(WEIGHTS)
    (tmp_path / "secret").write_bytes(WEIGHTS)
    return directory


@pytest.mark.parametrize("places", [{}, {"offset": 0, "length": 16}, {"location": "./model.onnx.data", "length": 16}])
def test_weights_beside_the_model_are_served(version, places):
    write(version, **places)
    assert load(version).version == 1


def test_weights_in_a_folder_below(version):
    (version / "weights").mkdir()
    (version / "model.onnx.data").rename(version / "weights" / "w")
    check_files(write(version, location="weights/w", length=16))


def link(version):
    (version / "w").symlink_to(version / "model.onnx.data")


def hard_link(version):
    (version / "w").hardlink_to(version.parent / "secret")


def linked_folder(version):
    (version / "w").symlink_to(version.parent)


@pytest.mark.parametrize(
    ("places", "prepare", "reason"),
    [
        ({"location": "../secret"}, None, "which leads out of the version directory"),
        ({"location": "a/../../secret"}, None, "which leads out of the version directory"),
        ({"location": "/etc/passwd"}, None, "an absolute path"),
        ({"location": "C:/secret"}, None, "an absolute path"),
        ({"location": ""}, None, "which names no file"),
        ({"location": "a\0b"}, None, "which names no file"),
        ({"location": "w"}, None, r"which cannot be found \(No such file or directory\)"),
        ({"location": "w"}, link, "which is a symbolic link or lies behind one"),
        ({"location": "w/secret"}, linked_folder, "which is a symbolic link or lies behind one"),
        ({"location": "w"}, hard_link, "which is a hard link"),
        ({"location": "w"}, lambda version: os.mkfifo(version / "w"), "which is no plain file"),
        ({"location": "w"}, lambda version: (version / "w").mkdir(), "which is no plain file"),
        ({"offset": 8, "length": 16}, None, "bytes 8 to 24 of a file of 16 bytes"),
        ({"offset": 17}, None, "bytes 17 to 17 of a file of 16 bytes"),
        ({"length": 2**62}, None, "of a file of 16 bytes"),
        ({"length": 10**30}, None, "which is no size in bytes"),
        ({"offset": -1}, None, "at offset '-1', which is no size in bytes"),
        ({"offset": "abc"}, None, "at offset 'abc', which is no size in bytes"),
        ({"length": 16}, lambda version: (version / "model.onnx.data").write_bytes(b""), "of a file of 0 bytes"),
    ],
)  # fmt: skip
def test_refused(version, places, prepare, reason):
    write(version, **places)
    if prepare:
        prepare(version)
    with pytest.raises(InvalidArgumentError, match=reason) as refused:
        load(version)
    assert "Tensor 'v' of" in str(refused.value)


NEWER = MODEL.replace('"" : 17', '"" : 999')
NEWER_IR = MODEL.replace("ir_version: 8", "ir_version: 999")
FOREIGN = MODEL.replace('"" : 17', '"" : 17, "nobody" : 1').replace("Add(x, v)", "nobody.Add(x, v)")


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (None, NotFoundError, "holds no model.onnx"),
        (b"", InvalidArgumentError, "is empty"),
        (onnx.parser.parse_model(MODEL).SerializeToString()[:-5], InvalidArgumentError, "is no whole ONNX model"),
        (b"<!DOCTYPE html><html>", InvalidArgumentError, "is no whole ONNX model"),
        (onnx.parser.parse_model(NEWER).SerializeToString(), InvalidArgumentError, "ONNX Runtime cannot open"),
        (onnx.parser.parse_model(NEWER_IR).SerializeToString(), InvalidArgumentError, "Unsupported model IR version"),
        (onnx.parser.parse_model(FOREIGN).SerializeToString(), InvalidArgumentError, "nobody"),
    ],
    ids=["missing", "empty", "cut", "html", "newer opset", "newer IR", "foreign op"],
)
def test_no_model(version, content, kind, said):
    if content is not None:
        (version / "model.onnx").write_bytes(content)
    with pytest.raises(kind, match=said):
        load(version)


def test_weights_that_are_not_there_without_a_length(version):
    """No length is said, so only ONNX Runtime knows how many bytes it takes."""
    write(version)
    (version / "model.onnx.data").write_bytes(b"")
    with pytest.raises(ServingError):
        load(version)


def test_a_pipe_for_a_model_blocks_nothing(version):
    os.mkfifo(version / "model.onnx")
    with pytest.raises(NotFoundError, match=r"holds no model\.onnx"):
        load(version)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(version):
    write(version).chmod(0)
    with pytest.raises(ServingError, match="cannot be read"):
        load(version)


# --- memory ---


def machine(root, available_kib=None, **group):
    if available_kib is not None:
        (root / "proc").mkdir()
        (root / "proc" / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {available_kib} kB\nHugePages: 0\n")
    if group:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        for name, text in group.items():
            (root / "sys/fs/cgroup" / name.replace("_", ".")).write_text(f"{text}\n")
    return free_bytes(root)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"available_kib": 10}, 10 * 1024),
        ({"available_kib": 10, "memory_max": "max", "memory_current": 5}, 10 * 1024),
        ({"available_kib": 10, "memory_max": 100, "memory_current": 60}, 40),
        ({"memory_max": 100, "memory_current": 60, "memory_stat": "anon 30\ninactive_file 7\nactive_file 3"}, 50),
    ],
)
def test_free_memory(tmp_path, settings, expected):
    assert machine(tmp_path, **settings) == expected


def test_a_version_that_does_not_fit_is_refused(version, monkeypatch):
    path = write(version)
    monkeypatch.setattr(model_files, "free_bytes", lambda: path.stat().st_size)
    with pytest.raises(ResourceExhaustedError, match="Insufficient resources to load servable .*: its files hold"):
        load(version)
    monkeypatch.setattr(model_files, "free_bytes", lambda: path.stat().st_size + len(WEIGHTS))
    load(version)
