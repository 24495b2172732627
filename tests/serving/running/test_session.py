# ruff: noqa: E501  (the tables read by line: one case, one line)
"""Runs in an ONNX session: types that numpy lacks, how long runs take, and ONNX Runtime's errors as ours."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from servables import servable_of

from estimator_serving.serving import errors
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.request import Request, as_strings
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import Signature, TensorInfo


def load(directory):
    return open_servable("m", 1, directory, intra_op_threads=1)


def ask(loaded, outputs=(), **inputs):
    return loaded.run(Request("serving_default", inputs, outputs))


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


def test_a_graph_is_fed_aligned_arrays(write_model):
    """Codecs give views of a payload, where numbers may begin anywhere."""
    loaded = load(write_model(1))
    graph, fed = loaded.runner.graph, []

    def noting(names, feeds, context):
        fed.extend(feeds.values())
        return graph(names, feeds, context)

    loaded.runner.graph = noting
    anywhere = np.ndarray((3,), np.float32, b"?" + np.float32([1, 2, 3]).tobytes(), 1)
    assert not anywhere.flags.aligned
    assert ask(loaded, x=anywhere)["y"].tolist() == ask(loaded, x=anywhere.copy())["y"].tolist()
    assert all(array.flags.aligned for array in fed)


def test_quick_by_its_own_runs(write_model):
    loaded = load(write_model(1))
    assert not loaded.runner.is_quick
    for _ in range(20):
        ask(loaded, x=np.ones(1, np.float32))
    assert loaded.runner.is_quick


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
    return servable_of({"serving_default": signature}, session.run, graph_inputs)


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
