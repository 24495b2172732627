"""Where the library is, and sessions with it."""

import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from estimator_serving import ops


@pytest.fixture
def model() -> bytes:
    node = helper.make_node("Fingerprint64", ["x"], ["y"], domain=ops.DOMAIN)
    x = helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.UINT64, ["n"])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(ops.DOMAIN, ops.VERSION)]
    graph = helper.make_graph([node], "test", [x], [y])
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def test_library_that_was_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(ops, "_LIBRARY", tmp_path / "libestimator_ops.so")
    with pytest.raises(FileNotFoundError, match=r"is not there; in a checkout run `cmake"):
        ops.library_path()


@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_model_by_path(model, tmp_path, as_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    assert ops.session(as_path(path)).get_outputs()[0].name == "y"


def test_options_are_used(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ops.session(model, options=options)
    assert session.get_session_options().intra_op_num_threads == 1
    assert session.run(None, {"x": ["a"]})[0].tolist() == [12917804110809363939]


def test_many_sessions_share_the_library(model):
    sessions = [ops.session(model) for _ in range(3)]
    assert {session.run(None, {"x": [""]})[0].item() for session in sessions} == {11160318154034397263}


def test_waiting_threads_sleep(model):
    options = ops.session(model).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
