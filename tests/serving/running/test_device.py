"""Runs through a device's memory. The CPU's stands for a GPU's: the code is the same, and so must the answers be."""

from __future__ import annotations

import threading

import numpy as np
import onnx.parser
import pytest

from estimator_serving import ops
from estimator_serving.serving import errors
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.request import Context, Request
from estimator_serving.serving.running.device import CPU, PINNED_BYTES_MIN, Device, Memory, PinnedRuns, device_of
from estimator_serving.serving.running.session import open_session
from estimator_serving.wire import dtypes

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
PINNED = Device("cpu", pinned_bytes_min=0)
NUMBERS = [dtype for dtype in dtypes.ALL if dtype.onnx and dtype.numpy.kind in "biuf" and not dtype.onnx_number]


def session_of(text):
    return ops.session(onnx.parser.parse_model(HEAD + text).SerializeToString())


def both(text, names, *feeds, bytes_min=0):
    """The outputs of a graph through pinned memory and of session.run, for each of the feeds."""
    session = session_of(text)
    runs = PinnedRuns(session, CPU, bytes_min)
    return [(runs(names, feed, None), session.run(names, feed)) for feed in feeds]


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_every_type_and_shapes_that_change(dtype):
    kind = dtype.onnx.removeprefix("tensor(").removesuffix(")")
    shapes = [(), (3,), (0, 2), (2, 3), (4, 1), (2, 3)]
    feeds = [{"x": np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype.numpy)} for shape in shapes]
    for ours, plain in both(f"g ({kind}[] x) => ({kind}[] y) {{ y = Identity(x) }}", ["y"], *feeds):
        assert (ours[0].dtype, ours[0].shape) == (dtype.numpy, plain[0].shape)
        np.testing.assert_array_equal(ours[0], plain[0])


def test_an_array_in_any_order_and_some_of_the_outputs():
    turned, wide = np.arange(6, dtype=np.float32).reshape(2, 3).T, np.arange(12, dtype=np.float32).reshape(6, 2)[::2]
    text = "g (float[] x) => (float[] y, float[] z) { y = Neg(x) z = Abs(x) }"
    for names in (["z"], ["z", "y"]):
        for ours, plain in both(text, names, {"x": turned}, {"x": wide}):
            assert len(ours) == len(names)
            np.testing.assert_array_equal(ours, plain)


def test_text_among_the_outputs():
    text = 'g (int64[N] i) => (string[N] s, int64[N] j) <string[2] v = {"a", "é"}> { s = Gather(v, i) j = Identity(i) }'
    ((ours, plain),) = both(text, ["s", "j"], {"i": np.array([1, 0, 1])})
    assert [array.tolist() for array in ours] == [array.tolist() for array in plain] == [["é", "a", "é"], [1, 0, 1]]


def test_what_a_gpu_leaves_to_the_cpu_stays_there():
    """In a session of the CPU, all inputs and outputs are where those of the op that parses Examples are on a GPU."""
    session = session_of("g (float[N,1000] x) => (float[N,1000] y) { y = Neg(x) }")
    runs = PinnedRuns(session, device_of("cuda"), 0)
    for wide in np.arange(100_000, dtype=np.float32).reshape(20, 10, 500).repeat(4, axis=2):
        (y,) = runs(["y"], {"x": wide[:, ::2]}, None)
        np.testing.assert_array_equal(y, -wide[:, ::2])


def test_outputs_outlive_later_runs():
    session = session_of("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    runs = PinnedRuns(session, CPU, 0)
    kept = [runs(["y"], {"x": np.full(100, k, np.float32)}, None)[0] for k in range(20)]
    del session, runs
    assert [array.tolist() for array in kept] == [[k] * 100 for k in range(20)]


def test_threads_do_not_share_memory():
    session = session_of("g (float[N] x) => (float[N] y) { y = Neg(x) }")
    runs, wrong = PinnedRuns(session, CPU, 0), []

    def ask(number):
        for rows in range(1, 60):
            (y,) = runs(["y"], {"x": np.full(rows, number, np.float32)}, None)
            wrong.extend(set(y.tolist()) ^ {-float(number)})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_small_runs_stay_with_session_run():
    """What counts is what went in, and what came out of the run before."""
    session = session_of("g (float[N] x, int64[1] n) => (float[M] y) { y = Tile(x, n) }")
    runs, large = PinnedRuns(session, CPU, 1000), []
    pinned = runs._run
    runs._run = lambda names, feeds, options: large.append(len(feeds["x"])) or pinned(names, feeds, options)
    for rows, times in ((10, 1), (1000, 1), (11, 1), (12, 100), (13, 1), (14, 1)):
        (y,) = runs(["y"], {"x": np.ones(rows, np.float32), "n": np.array([times])}, None)
        assert y.tolist() == [1] * rows * times
    assert large == [1000, 11, 13]


def test_bad_shapes_are_the_requests_fault(write_model):
    directory = write_model(1, "g (float[N,2] x) => (float[N,2] y) {{ y = Neg(x) }}")
    loaded = open_servable("m", 1, directory, intra_op_threads=1, device=PINNED)
    answer = loaded.run(Request("serving_default", {"x": np.ones((1, 2), np.float32)}))
    assert answer["y"].tolist() == [[-1, -1]]
    with pytest.raises(errors.InvalidArgumentError, match="Got invalid dimensions for input: x"):
        loaded.run(Request("serving_default", {"x": np.ones((1, 3), np.float32)}))
    with pytest.raises(errors.InvalidArgumentError, match="Neg node|Expects arg"):
        loaded.run(Request("serving_default", {"x": np.ones((1, 2), np.float64)}))


ENDLESS = """g (int64 n, bool go) => (int64 y) {{
    y = Loop(n, go, n) <body = step (int64 i, bool c, int64 a) => (bool d, int64 b) {{ d = Identity(c) b = Add(a, i) }}>
}}"""


@pytest.mark.parametrize("device", [CPU, PINNED], ids=["plain", "pinned"])
def test_a_run_that_nobody_waits_for_is_ended(device, write_model):
    loaded = open_servable("m", 1, write_model(1, ENDLESS), intra_op_threads=1, device=device)
    gone = threading.Event()
    threading.Timer(0.05, gone.set).start()
    request = Request("serving_default", {"n": np.array(2**60), "go": np.array(True)})
    with pytest.raises(errors.CancelledError, match="the run was ended"):
        loaded.run(request, Context(None, gone.is_set))


def test_types_numpy_has_not_keep_their_way(base_path):
    text = '<ir_version: 9, opset_import: ["" : 19]> g (bfloat16[N] x) => (bfloat16[N] y) { y = Identity(x) }'
    onnx.save(onnx.parser.parse_model(text), base_path / "model.onnx")
    loaded = open_servable("m", 1, base_path, intra_op_threads=1, device=PINNED)
    array = np.arange(3).astype(dtypes.bfloat16.numpy)
    np.testing.assert_array_equal(loaded.run(Request("serving_default", {"x": array}))["y"], array)


def test_text_among_the_inputs_keeps_its_way(write_model):
    text = "g (string[N] s, float[N] x) => (string[N] t, float[N] y) {{ t = Identity(s) y = Neg(x) }}"
    loaded = open_servable("m", 1, write_model(1, text), intra_op_threads=1, device=PINNED)
    inputs = {"s": np.array([b"a", "é".encode()], object), "x": np.ones(2, np.float32)}
    answer = loaded.run(Request("serving_default", inputs))
    assert (answer["t"].tolist(), answer["y"].tolist()) == (["a", "é"], [-1, -1])


def test_devices():
    assert device_of("cpu") == CPU
    assert (CPU.provider, CPU.pinned_bytes_min) == ("CPUExecutionProvider", None)
    cuda = device_of("cuda", {"device_id": "1"}, graphs=True)
    assert cuda == Device("cuda", {"device_id": "1"}, PINNED_BYTES_MIN, True)
    assert cuda.provider == "CUDAExecutionProvider"


def test_the_places_of_a_gpu(write_model):
    """What is made without asking the GPU: a value there would be copied by its driver, and these are only names."""
    session = open_session(write_model(1) / "model.onnx", write_model.__name__, intra_op_threads=1)
    memory = Memory(session, device_of("cuda", {"device_id": "1"}))
    kinds = [(one.device_type(), one.mem_type(), one.device_id()) for one in (memory.host, memory.pinned, memory.own)]
    assert kinds == [(0, 0, 0), (1, 5, 1), (1, 0, 1)]
