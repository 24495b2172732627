"""Copies of versions that worker processes open."""

import numpy as np
import onnx
import pytest

from estimator_serving.serving.errors import ResourceExhaustedError
from estimator_serving.serving.models import snapshot
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.models.warmup import WARMUP_FILE
from estimator_serving.serving.request import Request

X = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)


@pytest.fixture
def directory(base_path):
    """A version with weights of 16 KB, inside its file or beside it."""
    w = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 64])],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.metadata_props.add(key="team", value="a")
    (base_path / "1").mkdir()
    onnx.save(model, base_path / "1" / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return base_path / "1"


def answer(directory, **settings):
    loaded = open_servable("m", 1, directory, intra_op_threads=1, **settings)
    return loaded.run(Request("serving_default", {"x": X}))["y"], loaded.properties


@pytest.mark.parametrize("shared_bytes", [0, 1 << 20], ids=["packed", "as they came"])
def test_a_copy_answers_as_its_version(directory, tmp_path, monkeypatch, shared_bytes):
    monkeypatch.setattr(snapshot, "SHARED_BYTES", shared_bytes)
    wanted, _ = answer(directory, copy_to=tmp_path / "copy")
    for path in directory.iterdir():
        path.write_bytes(b"gone")
    got, properties = answer(tmp_path / "copy", mapped=True)
    np.testing.assert_array_equal(got, wanted)
    assert properties["team"] == "a"
    assert (tmp_path / "copy" / "model.onnx.data").exists() == (not shared_bytes)


def test_what_a_load_reads_beside_the_model_is_copied(directory, tmp_path):
    for name in (WARMUP_FILE, "batching_params.pbtxt", "notes.txt"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(b"x")
    answer(directory, copy_to=tmp_path / "copy")
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"model.onnx", "w.bin", str(WARMUP_FILE), "batching_params.pbtxt"}


def test_a_full_disk(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot.shutil, "disk_usage", lambda _path: snapshot.shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(ResourceExhaustedError, match="set TMPDIR to a larger directory"):
        answer(directory, copy_to=tmp_path / "copy")
