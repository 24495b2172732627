"""A run of every allowed batch size, before a version takes traffic."""

from __future__ import annotations

import logging
import time

import numpy as np
import onnx.parser
import pytest
from servables import Uncounted

from estimator_serving.serving.models.batch_sizes import Recorder, run_sizes, with_runner
from estimator_serving.serving.models.loader import Batching, open_servable
from estimator_serving.serving.request import Request, as_strings
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.wire import dtypes
from estimator_serving.wire.features import FixedLenFeature, VarLenFeature
from estimator_serving.wire.signatures import PREDICT_METHOD, Metadata, Signature, TensorInfo, to_properties

FLOATS = "g (float[N,3] x) => (float[N,3] y) {{ y = Neg(x) }}"
SIZES = (1, 2, 8)


def watched(directory, sizes=SIZES):
    """A version in batches, and a list of what its graph is fed."""
    parameters, runs = BatchParameters(max_batch_size=8, allowed_batch_sizes=sizes), []

    def around(bare):
        return lambda names, feeds, options: runs.append(feeds) or bare(names, feeds, options)

    batching = Batching(parameters, False, lambda *_: Uncounted())
    return open_servable("m", 1, directory, intra_op_threads=1, batching=batching, around=around), runs


@pytest.fixture
def opened(write_model):
    return lambda text=FLOATS, sizes=SIZES, **properties: watched(write_model(1, text, **properties), sizes)


def test_blank_rows_of_every_size(opened):
    servable, runs = opened()
    assert run_sizes(servable, {}) == 3
    assert [feeds["x"].shape for feeds in runs] == [(1, 3), (2, 3), (8, 3)]
    assert not any(feeds["x"].any() for feeds in runs)


def test_the_rows_of_a_request_that_was_replayed(opened):
    servable, runs = opened()
    recorder = Recorder(servable.runner)
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    answer = with_runner(servable, recorder).run(Request("serving_default", {"x": x}))
    np.testing.assert_array_equal(answer["y"], -x)
    runs.clear()
    assert run_sizes(servable, recorder.seen) == 3
    assert [feeds["x"][:, 0].tolist() for feeds in runs] == [[0], [0, 3], [0, 3, 6, 0, 3, 6, 0, 3]]


def test_text_and_dimensions_of_any_length(opened):
    text = "g (string[N] s, int64[N,K,2] i) => (string[N] t, int64[N,K,2] j) {{ t = Identity(s) j = Identity(i) }}"
    servable, runs = opened(text, (4, 8))
    assert run_sizes(servable, {}) == 2
    assert [(feeds["s"].tolist(), feeds["i"].shape) for feeds in runs] == [([""] * 4, (4, 1, 2)), ([""] * 8, (8, 1, 2))]


OF_EXAMPLES = """<ir_version: 8, opset_import: ["" : 17, "estimator.ops" : 1]>
g (uint8[n] "e/values", int64[m] "e/row_splits") => (float[N,1] y) {
    y = estimator.ops.ParseExample <kinds = [0], dtypes = [1], ranks = [1], dims = [1], key_0 = "x">
        ("e/values", "e/row_splits")
}"""


def test_examples_with_what_the_parser_requires(base_path):
    """Once for both signatures, because their inputs are the same."""
    spec = {"x": FixedLenFeature((1,), dtypes.float32), "tags": VarLenFeature(dtypes.string)}
    info = {"e": TensorInfo("e:0", dtypes.string, (-1,))}, {"y": TensorInfo("y:0", dtypes.float32, (-1, 1))}
    one = Signature(*info, PREDICT_METHOD)
    model = onnx.parser.parse_model(OF_EXAMPLES)
    for key, value in to_properties(Metadata({"a": one, "b": one}, spec)).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, base_path / "model.onnx")
    servable, runs = watched(base_path)
    assert run_sizes(servable, {}) == 3
    assert [len(feeds["e/row_splits"]) for feeds in runs] == [2, 3, 9]
    blank = runs[0]["e/values"].tobytes()
    assert runs[1]["e/values"].tobytes() == 2 * blank
    assert servable.run(Request("a", {"e": as_strings([blank])}))["y"].tolist() == [[0.0]]


def test_a_failure_is_logged_once_and_fails_nothing(opened, caplog):
    """Blank rows are of length 1 where any length fits, which this model does not take."""
    info = {"x": TensorInfo("x:0", dtypes.float32, (-1, -1))}, {"y": TensorInfo("y:0", dtypes.float32, (-1, 2))}
    other = {"z": TensorInfo("z:0", dtypes.float32, (-1, -1))}, {"w": TensorInfo("w:0", dtypes.float32, (-1, 2))}
    signatures = {"a": Signature(*info, PREDICT_METHOD), "b": Signature(*other, PREDICT_METHOD)}
    text = """g (float[N,K] x, float[N,K] z) => (float[N,2] y, float[N,2] w) <float[3,2] m = {{1,1,1,1,1,1}}> {{
        y = MatMul(x, m) w = MatMul(z, m) }}"""
    servable, _ = opened(text, **to_properties(Metadata(signatures)))
    with caplog.at_level(logging.WARNING, "estimator_serving.serving.models"):
        assert run_sizes(servable, {}) == 0
    (line,) = [record.getMessage() for record in caplog.records if record.name.endswith("batch_sizes")]
    assert "could not be run on 1 rows of signature a before it takes traffic" in line
    assert "add warmup requests for it" in line


SLOW = """g (float[N] x) => (float[N] y) <int64 n = {{1152921504606846976}}, bool go = {{1}}> {{
    y = Loop(n, go, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] w) {{ d = Identity(c) w = Abs(v) }}>
}}"""


def test_a_model_that_hangs_costs_the_time_and_no_more(opened, caplog):
    servable, runs = opened(SLOW)
    ends_s = time.monotonic() + 3
    with caplog.at_level(logging.WARNING, "estimator_serving.serving.models"):
        assert run_sizes(servable, {}, budget_s=0.05) == 0
    assert time.monotonic() < ends_s
    assert len(runs) == 1
    assert "could not be run on 1 rows" in caplog.text
    with caplog.at_level(logging.WARNING, "estimator_serving.serving.models"):
        assert run_sizes(servable, {}, budget_s=0.0) == 0
    assert "0 s were not enough to run every allowed batch size" in caplog.text


def test_without_sizes_or_rows_there_is_nothing_to_run(opened, write_model):
    assert run_sizes(opened(sizes=())[0], {}) == 0
    fixed = write_model(2, "g (float[3] x) => (float[3] y) {{ y = Neg(x) }}")
    assert run_sizes(watched(fixed)[0], {}) == 0
    assert run_sizes(open_servable("m", 2, fixed, intra_op_threads=1), {}) == 0


def test_a_request_without_rows_is_of_no_use(opened):
    servable, runs = opened()
    seen = {"serving_default": Request("serving_default", {"x": np.zeros((0, 3), np.float32)}, ("y",))}
    assert run_sizes(servable, seen) == 3
    assert len(runs) == 3
