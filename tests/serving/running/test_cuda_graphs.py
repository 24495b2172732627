"""Batches of fixed sizes in fixed buffers. The CPU captures nothing, but runs in the same buffers, by the same thread
and the same rules."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from servables import Uncounted

from estimator_serving import ops
from estimator_serving.serving import errors
from estimator_serving.serving.models.loader import Batching, open_servable
from estimator_serving.serving.request import Request
from estimator_serving.serving.running import cuda_graphs
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.cuda_graphs import GraphRuns
from estimator_serving.serving.running.device import CPU, Device, device_of
from estimator_serving.serving.running.session import _translate_opening

HEAD = '<ir_version: 8, opset_import: ["" : 17, "estimator.ops" : 1]>'
PAIR = "g (float[N,2] x, int64[N] i) => (float[N,2] y, int64[N] j) { y = Neg(x) j = Abs(i) }"
GRAPHS = Device("cpu", graphs=True)


class Otherwise(list):
    """session.run, which notes the rows that it runs, and by which number."""

    def __init__(self, session):
        self.run = session._sess.run

    def __call__(self, names, feeds, options):
        self.append((len(feeds["x"]), options.get_run_config_entry(cuda_graphs.GRAPH_ID)))
        return self.run(names, feeds, options)


def opened(text=PAIR, sizes=(2, 4)):
    session = ops.session(onnx.parser.parse_model(HEAD + text).SerializeToString())
    otherwise = Otherwise(session)
    return GraphRuns(session, CPU, otherwise, sizes), otherwise


def pair(rows, first=0):
    return {"x": np.arange(first, first + 2 * rows, dtype=np.float32).reshape(rows, 2), "i": -np.arange(rows) - first}


def test_a_fixed_size_is_run_in_its_buffers():
    runs, otherwise = opened()
    for first in range(3):
        for rows in (2, 4):
            feeds = pair(rows, first)
            y, j = runs(["y", "j"], feeds, None)
            np.testing.assert_array_equal(y, -feeds["x"])
            np.testing.assert_array_equal(j, -feeds["i"])
    assert otherwise == [(2, "-1"), (4, "-1")]  # for the shapes of their outputs


def test_an_answer_outlives_the_next_run():
    runs, _ = opened()
    kept = [runs(["j"], pair(2, first), None)[0] for first in range(5)]
    assert [array.tolist() for array in kept] == [[first, first + 1] for first in range(5)]


@pytest.mark.parametrize(
    "feeds", [pair(3), pair(0), pair(2) | {"i": pair(4)["i"]}], ids=["another size", "no rows", "rows that differ"]
)
def test_all_else_is_run_without_a_graph(feeds):
    runs, otherwise = opened()
    y, j = runs(["y", "j"], feeds, None)
    np.testing.assert_array_equal(y, -feeds["x"])
    np.testing.assert_array_equal(j, -feeds["i"])
    assert otherwise == [(len(feeds["x"]), "-1")]


def test_one_thread_runs_every_version_and_ends_with_the_last(write_model):
    seen = set()

    def around(bare):
        return lambda *given: seen.add(threading.current_thread()) or bare(*given)

    settings = {"intra_op_threads": 1, "device": GRAPHS, "batching": batching((2, 4)), "around": around}
    versions = [open_servable("m", number, write_model(number), **settings) for number in (1, 2)]
    for version in versions:
        for rows in (1, 4):
            version.run(Request("serving_default", {"x": np.ones(rows, np.float32)}))
    (thread,) = seen
    assert thread is not threading.current_thread()
    versions.clear()
    del version
    thread.join(5)
    assert not thread.is_alive()


def test_threads_at_once():
    runs, _ = opened()

    def ask(number):
        return [runs(["j"], pair(rows, number), None)[0].tolist() for rows in (2, 4, 3) * 10]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert answers == [[list(range(n, n + rows)) for rows in (2, 4, 3) * 10] for n in range(4)]


def test_a_size_that_fails_ends_the_graphs(caplog):
    """Here the second run has other shapes of outputs than the first, which no buffer fits."""
    runs, otherwise = opened(
        "g (float[N,2] x, int64[N] i) => (float[M,2] y) { y = Compress <axis = 0> (x, b) b = Cast <to = 9> (i) }"
    )
    x = pair(2)["x"]
    assert runs(["y"], {"x": x, "i": np.array([1, 0])}, None)[0].tolist() == [[0, 1]]
    with caplog.at_level(logging.ERROR):
        assert runs(["y"], {"x": x, "i": np.array([1, 1])}, None)[0].tolist() == [[0, 1], [2, 3]]
    assert "A CUDA graph of 2 rows failed, so this version runs without graphs from now on" in caplog.text
    assert runs(["y"], {"x": x, "i": np.array([0, 1])}, None)[0].tolist() == [[2, 3]]
    assert otherwise == [(2, "-1")] * 3


def test_a_request_that_fails_ends_no_graphs():
    """At the first batch of a size; on a GPU, a replay cannot refuse values."""
    runs, otherwise = opened("g (int64[N] x) => (float[N] y) <float[2] v = {1, 2}> { y = Gather(v, x) }", (2,))
    with pytest.raises(Exception, match="out of data bounds"):
        runs(["y"], {"x": np.array([0, 7])}, None)
    assert runs(["y"], {"x": np.array([0, 1])}, None)[0].tolist() == [1, 2]
    assert runs(["y"], {"x": np.array([1, 0])}, None)[0].tolist() == [2, 1]
    assert len(otherwise) == 2


def same(kind):
    return f"g ({kind} x) => ({kind} y) {{ y = Identity(x) }}"


BY_KIND = {
    "text in": (same("string[N]"), r"its input x is tensor\(string\), which"),
    "text out": ('g (int64[N] x) => (string[N] y) <string[1] v = {"a"}> { y = Gather(v, x) }', "its output y is"),
    "no numpy": (same("bfloat16[N]"), r"its input x is tensor\(bfloat16\), which"),
    "free shape": (same("float[N,K]"), r"its input x has the shape \['N', 'K'\]"),
    "free rank": (same("float"), r"its input x has the shape \[\]"),
}


@pytest.mark.parametrize(("text", "reason"), BY_KIND.values(), ids=BY_KIND)
def test_what_cannot_be_captured_is_refused(text, reason):
    with pytest.raises(errors.FailedPreconditionError, match=reason) as refused:
        opened(text)
    assert str(refused.value).endswith("or serve without --enable_cuda_graphs.")


EXAMPLES = """g (uint8[n] "e/values", int64[m] "e/row_splits") => (float[N,1] y) {
    y = estimator.ops.ParseExample <kinds = [0], dtypes = [1], ranks = [1], dims = [1], key_0 = "x"> ("e/values", "e/row_splits")
}"""  # noqa: E501


def test_what_the_cpu_takes_beside_a_gpu_is_refused():
    """The op that parses Examples runs on the CPU on every machine."""
    session = ops.session(onnx.parser.parse_model(HEAD + EXAMPLES).SerializeToString())
    with pytest.raises(
        errors.FailedPreconditionError, match="takes or gives its input e/values, as the one that parses"
    ):
        GraphRuns(session, device_of("cuda"), session._sess.run, (2,))


def test_what_onnxruntime_refuses_to_capture():
    said = RuntimeError(
        "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature as requested by the user as "
        "the model has control flow nodes which can't be supported by CUDAExecutionProvider"
    )
    ours = _translate_opening(said, "m/1/model.onnx")
    assert isinstance(ours, errors.FailedPreconditionError)
    assert "has control flow, or nodes that run on the CPU. Serve it without --enable_cuda_graphs." in str(ours)


def batching(sizes, threads=1):
    parameters = BatchParameters(max_batch_size=4, num_batch_threads=threads, allowed_batch_sizes=sizes)
    return Batching(parameters, False, lambda *_: Uncounted())


def test_a_version_in_batches_of_its_sizes(write_model):
    text = PAIR.replace("{", "{{").replace("}", "}}")
    loaded = open_servable("m", 1, write_model(1, text), intra_op_threads=1, device=GRAPHS, batching=batching((2, 4)))
    for rows in (1, 2, 3, 4):
        answer = loaded.run(Request("serving_default", pair(rows, 5)))
        assert answer["j"].tolist() == list(range(5, 5 + rows))
    assert sorted(loaded.runner.inner.graph.bare._buffers) == [2, 4]


def test_a_version_without_sizes_is_not_loaded(write_model):
    with pytest.raises(errors.FailedPreconditionError, match="have no allowed_batch_sizes"):
        open_servable("m", 1, write_model(1), intra_op_threads=1, device=GRAPHS, batching=batching(()))


def test_a_replay_that_nobody_waits_for_is_ended():
    """And the graphs stay."""
    text = """g (int64[N] x) => (int64[N] y) <int64 n = {1152921504606846976}, bool go = {1}> {
        y = Loop(n, go, x) <body = step (int64 i, bool c, int64[N] a) => (bool d, int64[N] b) {
            most = ReduceMax <keepdims = 0> (a) d = Cast <to = 9> (most) b = Abs(a) }> }"""
    runs, otherwise = opened(text, (2,))
    assert runs(["y"], {"x": np.zeros(2, np.int64)}, None)[0].tolist() == [0, 0]
    options = onnxruntime.RunOptions()
    threading.Timer(0.05, lambda: setattr(options, "terminate", True)).start()
    with pytest.raises(Exception, match="terminate flag"):
        runs(["y"], {"x": np.ones(2, np.int64)}, options)
    assert runs(["y"], {"x": np.zeros(2, np.int64)}, None)[0].tolist() == [0, 0]
    assert otherwise == [(2, "-1")]
