"""Opening versions from disk: signatures of the file or of the graph, and files that cannot be opened."""

from __future__ import annotations

import pathlib

import numpy as np
import onnx.parser
import pytest

from estimator_serving.serving import errors
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.request import Request
from estimator_serving.serving.running.device import device_of
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import PREDICT_METHOD, Metadata, Signature, TensorInfo, to_properties


def load(directory):
    return open_servable("m", 1, directory, intra_op_threads=1)


def ask(loaded, outputs=(), **inputs):
    return loaded.run(Request("serving_default", inputs, outputs))


def test_plain_file_gets_a_signature(write_model):
    loaded = load(write_model(1))
    assert loaded.signatures["serving_default"] == Signature(
        {"x": TensorInfo("x:0", dtypes.float32, (-1,))}, {"y": TensorInfo("y:0", dtypes.float32, (-1,))}, PREDICT_METHOD
    )
    assert loaded.feature_spec is None
    np.testing.assert_array_equal(ask(loaded, x=np.ones(2, np.float32))["y"], [2, 2])


def test_signature_from_metadata(write_model):
    info = {"value": TensorInfo("x:0", dtypes.float32, (-1,))}, {"sum": TensorInfo("y:0", dtypes.float32, (-1,))}
    properties = to_properties(Metadata({"other": Signature(*info, PREDICT_METHOD)}))
    loaded = load(write_model(1, **properties))
    answer = loaded.run(Request("other", {"value": np.ones(1, np.float32)}))
    assert answer.keys() == {"sum"}


BROKEN = {
    "empty": b"",
    "truncated": b"\x08\x08\x12",
    "a web page": b"<!DOCTYPE html><html></html>",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_file(base_path, content):
    (base_path / "1").mkdir()
    (base_path / "1" / "model.onnx").write_bytes(content)
    with pytest.raises(errors.InvalidArgumentError, match=r"is empty|is no whole ONNX model"):
        load(base_path / "1")


@pytest.mark.skipif(pathlib.Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_cuda_where_there_is_none(write_model):
    directory = write_model(1)
    with pytest.raises(errors.FailedPreconditionError, match="--device=cuda, which ONNX Runtime cannot use"):
        open_servable("m", 1, directory, intra_op_threads=1, device=device_of("cuda"))


def test_no_file(base_path):
    with pytest.raises(errors.NotFoundError, match=r"holds no model.onnx; export the model again"):
        load(base_path)


def test_a_saved_model_of_tensorflow(base_path):
    (base_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(
        errors.NotFoundError, match=r"Convert it with `estimator-serving import`; the log has the whole command"
    ):
        open_servable("m", 1, base_path, intra_op_threads=1)


CLASSIFIER = """g (float[N] x) => (float[N] y, seq(map(int64, float[N])) p) {{
    y = Identity(x) p = ai.onnx.ml.ZipMap <classlabels_int64s = [0]> (x) }}"""


def test_outputs_that_no_protocol_carries(write_model, base_path):
    """Found before the session is opened: this graph has an operator that ONNX Runtime would refuse."""
    told = r"p of .*model.onnx is a sequence of maps, and requests and answers carry only tensors; .* zipmap=False"
    with pytest.raises(errors.InvalidArgumentError, match=told):
        load(write_model(1, CLASSIFIER))
    (base_path / "1").rename(base_path / "aside")
    info = {"x": TensorInfo("x:0", dtypes.float32, (-1,))}, {"p": TensorInfo("p:0", dtypes.float32, (-1,))}
    with pytest.raises(errors.InvalidArgumentError, match=told):
        load(write_model(1, CLASSIFIER, **to_properties(Metadata({"s": Signature(*info, PREDICT_METHOD)}))))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("g (seq(float[N]) s, float[N] x) => (float[N] y) {{ y = Neg(x) }}", "s of .* is a sequence, .*SplitToSeq"),
        ("g (float[N] x) => (seq(float[N]) s) {{ s = SequenceConstruct(x) }}", "s of .* is a sequence, .*ConcatFrom"),
        ("g (float[N] x) => (optional(float[N]) o) {{ o = Optional(x) }}", "o of .* is an optional, .*OptionalGet"),
        ("g (optional(float[N]) o) => (float[N] y) {{ y = OptionalGetElement(o) }}", "o of .* declare the input"),
    ],
)
def test_values_that_no_protocol_carries(write_model, text, told):
    with pytest.raises(errors.InvalidArgumentError, match=told):
        load(write_model(1, text))


NEWER = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3]>\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "g (float[N, 1] x) => (float[N] y) { y = ai.onnx.ml.ZipMap <classlabels_int64s = [0]> (x) }",
            "y of .* is a sequence of maps, .* zipmap=False",
        ),
        ("g (float[N] x) => (float[N] y) { y = SequenceConstruct(x) }", "y of .* is a sequence, .*ConcatFromSequence"),
        ("g (float[N] x) => (int4[N] y) { y = Cast <to = 22> (x) }", "type of y of .* no tensors of int4; .* cast"),
    ],
)
def test_outputs_whose_types_only_onnx_runtime_finds_out(base_path, text, told):
    model = onnx.parser.parse_model(NEWER + text)
    model.graph.output[0].ClearField("type")
    (base_path / "1").mkdir()
    (base_path / "1" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(errors.InvalidArgumentError, match=told):
        load(base_path / "1")


def test_outputs_that_no_signature_names_do_not_matter(write_model):
    text = "g (float[N] x) => (float[N] y, seq(float[N]) s) {{ y = Neg(x) s = SequenceConstruct(x) }}"
    info = {"x": TensorInfo("x:0", dtypes.float32, (-1,))}, {"y": TensorInfo("y:0", dtypes.float32, (-1,))}
    properties = to_properties(Metadata({"serving_default": Signature(*info, PREDICT_METHOD)}))
    assert ask(load(write_model(1, text, **properties)), x=np.ones(1, np.float32))["y"].tolist() == [-1]


def test_broken_signatures(write_model):
    with pytest.raises(errors.InvalidArgumentError, match="The signatures of .* cannot be read"):
        load(write_model(1, signature_def="{"))


def test_signature_that_does_not_fit(write_model):
    info = {"value": TensorInfo("z:0", dtypes.float32, None)}, {"sum": TensorInfo("y:0", dtypes.float32, None)}
    properties = to_properties(Metadata({"other": Signature(*info, PREDICT_METHOD)}))
    with pytest.raises(
        errors.InvalidArgumentError, match="Signature other of .* names z, which its graph does not have"
    ):
        load(write_model(1, **properties))
