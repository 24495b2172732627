# ruff: noqa: E501  (the tables read by line: one case, one line)
"""Loading versions from disk, feeding them, and ONNX Runtime's errors as ours."""

from __future__ import annotations

import pathlib

import numpy as np
import onnx.parser
import pytest

from estimator_serving.serving import errors
from estimator_serving.serving.request import Request, as_strings
from estimator_serving.serving.running import servable
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import PREDICT_METHOD, Metadata, Signature, TensorInfo, to_properties


def load(directory):
    return servable.load("m", 1, directory, intra_op_threads=1)


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


def test_outputs_that_are_asked_for(write_model):
    loaded = load(write_model(1, "g (float[N] x) => (float[N] a, float[N] b) {{ a = Neg(x) b = Abs(x) }}"))
    assert ask(loaded, ("b",), x=np.ones(1, np.float32)).keys() == {"b"}


NOT_NUMPYS = {"bfloat16": dtypes.bfloat16, "float8e5m2": dtypes.float8_e5m2, "float8e4m3fn": dtypes.float8_e4m3fn}


@pytest.mark.parametrize("shape", [(), (2,), (0, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("kind", NOT_NUMPYS)
def test_types_numpy_has_not(base_path, kind, shape):
    """ONNX Runtime's binding neither takes nor gives arrays of them; the plain output comes beside."""
    onnx.save(onnx.parser.parse_model(TWO_KINDS.format(kind=kind)), base_path / "model.onnx")
    loaded = load(base_path)
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape[::-1]).T.astype(NOT_NUMPYS[kind].numpy)
    answer = ask(loaded, x=array, a=np.ones((2, 3), np.float32).T)
    assert answer["y"].dtype == array.dtype
    assert answer["y"].shape == array.shape
    np.testing.assert_array_equal(answer["y"], array)
    np.testing.assert_array_equal(answer["b"], -np.ones((3, 2)))


TWO_KINDS = """<ir_version: 9, opset_import: ["" : 19]>
g ({kind}[] x, float[] a) => ({kind}[] y, float[] b) {{ y = Identity(x) b = Neg(a) }}"""


def test_text_beside_a_type_numpy_has_not(write_model):
    text = "g (bfloat16[N] x, string[N] s) => (bfloat16[N] y, string[N] t) {{ y = Identity(x) t = Identity(s) }}"
    with pytest.raises(errors.InvalidArgumentError, match=r"takes text beside values of type tensor\(bfloat16\)"):
        load(write_model(1, text))


BROKEN = {
    "empty": b"",
    "truncated": b"\x08\x08\x12",
    "a web page": b"<!DOCTYPE html><html></html>",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_file(base_path, content):
    (base_path / "1").mkdir()
    (base_path / "1" / "model.onnx").write_bytes(content)
    with pytest.raises(errors.InvalidArgumentError, match="ONNX Runtime cannot open"):
        load(base_path / "1")


@pytest.mark.skipif(pathlib.Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_cuda_where_there_is_none(write_model):
    directory = write_model(1)
    with pytest.raises(errors.FailedPreconditionError, match="--device=cuda, which ONNX Runtime cannot use"):
        servable.load("m", 1, directory, intra_op_threads=1, device="cuda")


def test_no_file(base_path):
    with pytest.raises(errors.NotFoundError, match=r"holds no model.onnx; export the model again"):
        load(base_path)


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


def test_quick_by_its_own_runs(write_model):
    loaded = load(write_model(1))
    assert not loaded.is_quick
    for _ in range(20):
        ask(loaded, x=np.ones(1, np.float32))
    assert loaded.is_quick


class FakeSession:
    """Answers with what it was fed, or raises."""

    def __init__(self, error=None):
        self.error = error

    def run(self, names, feeds, _context):
        if self.error:
            raise self.error
        self.feeds = feeds
        return [np.zeros(1, np.float32) for _ in names]


def fake(session, *graph_inputs, dtype=dtypes.string):
    signature = Signature({"s": TensorInfo("s:0", dtype, None)}, {"y": TensorInfo("y:0", dtypes.float32, None)}, "")
    return Servable("m", 1, Metadata({"serving_default": signature}), session.run, graph_inputs)


def test_text_crosses_as_str():
    session = FakeSession()
    ask(fake(session, "s"), s=as_strings(["é".encode(), b""]).reshape(2, 1))
    assert session.feeds["s"].tolist() == [["é"], [""]]


def test_examples_cross_as_ragged_bytes():
    session = FakeSession()
    loaded = fake(session, "s/values", "s/row_splits")
    ask(loaded, s=as_strings([b"ab\0", b"", b"\xff"]))
    assert session.feeds["s/values"].tobytes() == b"ab\0\xff"
    assert session.feeds["s/row_splits"].tolist() == [0, 3, 3, 4]
    assert loaded.takes_examples("serving_default", "s")


NODE = "[ONNXRuntimeError] : {} : {} : Non-zero status code returned while running {} node. Name:'n' Status Message: {}"


@pytest.mark.parametrize(
    ("kind", "text", "expected", "message"),
    [
        ("InvalidArgument", NODE.format(2, "INVALID_ARGUMENT", "ParseExample", "Feature: x  is"), errors.InvalidArgumentError, "Feature: x  is"),
        ("InvalidArgument", "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid\n index: 1\n", errors.InvalidArgumentError, "Got invalid index: 1"),
        ("Fail", NODE.format(1, "FAIL", "MatMul", "matmul_helper.h:59 mismatch"), errors.InvalidArgumentError, "The model's MatMul node cannot run on these inputs"),
        ("RuntimeException", NODE.format(6, "RUNTIME_EXCEPTION", "Add", "Failed to allocate memory"), errors.ResourceExhaustedError, "There is no memory"),
    ],
)  # fmt: skip
def test_errors_are_translated(kind, text, expected, message):
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

    session = FakeSession(getattr(ort_errors, kind)(text))
    with pytest.raises(expected) as raised:
        ask(fake(session, "s"), s=as_strings([b""]))
    assert str(raised.value).startswith(message)
    assert ".h:" not in str(raised.value)


def test_other_errors_stay():
    with pytest.raises(ZeroDivisionError):
        ask(fake(FakeSession(ZeroDivisionError()), "s"), s=as_strings([b""]))


def test_a_saved_model_of_tensorflow(base_path):
    (base_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(
        errors.NotFoundError, match=r"Convert it with `estimator-serving import .* BASE`, and serve BASE"
    ):
        load(base_path)
