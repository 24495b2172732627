"""Files that a version must not consist of: refused before ONNX Runtime opens them, with a reason."""

from __future__ import annotations

import os
import pathlib
from functools import partial

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
from estimator_serving.serving.models.loader import Loader, open_servable
from estimator_serving.serving.models.memory import free_bytes
from estimator_serving.serving.request import Request

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


def load(directory, *, mapped=False):
    open_ = partial(open_servable, intra_op_threads=1, mapped=mapped)
    return Loader(open_, lambda *_: None, "CPUExecutionProvider", drops_cache=True)("m", 1, directory)


def ask(servable):
    """What it adds to 1, 1, 1, 1."""
    return servable.run(Request("serving_default", {"x": np.ones(4, np.float32)}))["y"].tolist()


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
    write(version, location="weights/w", length=16)
    assert ask(load(version)) == [2, 3, 4, 5]


def link_outside(version):
    (version.parent.parent / "outside").write_bytes(WEIGHTS)
    (version / "w").symlink_to(version.parent.parent / "outside")


def folder_outside(version):
    link_outside(version)
    (version / "f").symlink_to(version.parent.parent)


def link_in_a_circle(version):
    (version / "w").symlink_to(version / "w")


def config_map(version):
    """As Kubernetes lays out a volume: every name is a link through ..data."""
    (version / "..2026").mkdir()
    (version / "model.onnx").rename(version / "..2026" / "model.onnx")
    (version / "model.onnx.data").rename(version / "..2026" / "w")
    (version / "..data").symlink_to("..2026")
    (version / "model.onnx").symlink_to("..data/model.onnx")
    (version / "w").symlink_to("..data/w")


def hub_cache(version):
    """As a hub's cache lays out a snapshot: links to blobs beside it."""
    blobs = version.parent / "blobs"
    blobs.mkdir()
    (version / "model.onnx").rename(blobs / "1a")
    (version / "model.onnx.data").rename(blobs / "2b")
    (version / "model.onnx").symlink_to("../blobs/1a")
    (version / "w").symlink_to("../blobs/2b")


def hard_link(version):
    (version / "w").hardlink_to(version / "model.onnx.data")


def linked_version(version):
    (version / "model.onnx.data").rename(version / "w")
    version.rename(version.parent / "release")
    version.symlink_to("release")


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("prepare", [config_map, hub_cache, hard_link, linked_version])
def test_weights_through_links_are_served(version, prepare, mapped):
    write(version, location="w")
    prepare(version)
    assert ask(load(version, mapped=mapped)) == [2, 3, 4, 5]


def overwrite(weights):
    with open(weights, "r+b") as file:
        file.write(np.float32([9, 9, 9, 9]).tobytes())


@pytest.mark.parametrize(
    "change", [overwrite, lambda weights: os.truncate(weights, 0), os.unlink], ids=["overwritten", "cut", "gone"]
)
def test_a_loaded_version_is_a_snapshot(version, change):
    write(version)
    loaded = load(version)
    change(version / "model.onnx.data")
    change(version / "model.onnx")
    assert ask(loaded) == [2, 3, 4, 5]


def test_a_file_that_changes_while_it_is_read():
    """One of the kernel's, which never has the size that it says."""
    with pytest.raises(InvalidArgumentError, match="was written to while it was read"):
        model_files._read(pathlib.Path("/proc/self/status"))


@pytest.mark.parametrize(
    ("places", "prepare", "reason"),
    [
        ({"location": "../secret"}, None, "which leads out of the version directory"),
        ({"location": "a/../../secret"}, None, "which leads out of the version directory"),
        ({"location": "a/../model.onnx.data"}, None, r"in 'a/../model.onnx.data', which must not contain \"\.\.\";"),
        ({"location": "a/.."}, None, r"which must not contain"),
        ({"location": "/etc/passwd"}, None, "an absolute path"),
        ({"location": "C:/secret"}, None, "an absolute path"),
        ({"location": ""}, None, "which names no file"),
        ({"location": "a\0b"}, None, "which names no file"),
        ({"location": "w"}, None, r"which cannot be found \(No such file or directory\)"),
        ({"location": "w"}, link_outside, "a link that leads out of the version directory and its base path"),
        ({"location": "f/outside"}, folder_outside, "a link that leads out of the version directory and its base path"),
        ({"location": "w"}, link_in_a_circle, "which cannot be found"),
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


NEXT_STEP = r"[^.]\. The server loads no libraries of custom operators; export the model with operators of ONNX, "
UNKNOWN = MODEL.replace("Add(x, v)", "Bar(x, v)")
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
        (onnx.parser.parse_model(FOREIGN).SerializeToString(), InvalidArgumentError, f"nobody.*{NEXT_STEP}"),
        (onnx.parser.parse_model(UNKNOWN).SerializeToString(), InvalidArgumentError, f"Bar.*{NEXT_STEP}"),
    ],
    ids=["missing", "empty", "cut", "html", "newer opset", "newer IR", "foreign op", "unknown op"],
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


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "a pipe, a socket or a device"),  # nobody may wait for its other end
        (os.mkdir, "a directory"),
        (lambda path: path.symlink_to("nowhere"), "a link that leads nowhere"),
    ],
)
def test_what_is_called_as_the_model_and_is_no_file(version, make, what):
    make(version / "model.onnx")
    with pytest.raises(NotFoundError, match=f"that can be read: what has this name is {what}; put the model's file"):
        load(version)


def test_a_saved_model_as_text(version):
    (version / "saved_model.pbtxt").write_text("")
    with pytest.raises(NotFoundError, match=r"but a TensorFlow SavedModel as text\. Save it again as saved_model\.pb"):
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
    (version / "model.onnx.data").write_bytes(WEIGHTS * 100)
    write(version, length=len(WEIGHTS))
    monkeypatch.setattr(model_files, "free_bytes", lambda: 199 * len(WEIGHTS))
    with pytest.raises(ResourceExhaustedError, match="Insufficient resources to load servable .*: reading its files"):
        load(version)
    load(version, mapped=True)
    monkeypatch.setattr(model_files, "free_bytes", lambda: 200 * len(WEIGHTS))
    load(version)
