"""Batching in the whole server: over both fronts, when the queue is full, when a model hangs, over many swaps."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import httpx
import numpy as np
import pytest
from running import HOST, LOOP, WAIT_S, Gate, call, post, until
from running import running as run_server
from servables import Uncounted

from estimator_serving.serving import errors
from estimator_serving.serving.metrics import BatchMetrics
from estimator_serving.serving.models.loader import Batching, open_servable
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.request import PATIENT, Context, ModelSpec, Request
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.batching import BatchingRunner
from estimator_serving.serving.server import StartError


def running(base_path, **settings):
    return run_server(base_path, **{"enable_batching": True} | settings)


def waiting(servable):
    return sum(one.requests for one in servable.runner.waiting().values())


@pytest.fixture
def parameters(tmp_path):
    path = tmp_path / "batching.pbtxt"
    path.write_text("num_batch_threads { value: 1 } max_batch_size { value: 4 } max_enqueued_batches { value: 1 }")
    return str(path)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_both_fronts_share_a_batch_and_a_full_queue_refuses(base_path, write_model, parameters, pool):
    write_model(1)
    with running(base_path, batching_parameters_file=parameters) as server:
        loaded = server.manager.servables()[0]
        gate = Gate(loaded)
        first = pool.submit(call, server, [1, 1])
        until(lambda: gate.rows)
        second = pool.submit(call, server, [2])
        until(lambda: waiting(loaded) == 1)
        third = pool.submit(post, server, [3, 3, 3])
        until(lambda: waiting(loaded) == 2)
        refused = post(server, [4])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "currently 1 batches enqueued and max_enqueued_batches is 1" in refused.json()["error"]
        with pytest.raises(grpc.RpcError) as raised:
            call(server, [4])
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        metrics = httpx.get(f"http://{HOST}:{server.rest_port}/monitoring/prometheus/metrics").text
        gate.open()
        assert (first.result(WAIT_S), second.result(WAIT_S)) == ([2, 2], [3])
        assert third.result(WAIT_S).json() == {"predictions": [4, 4, 4]}
    assert gate.rows == [2, 4]
    version = 'model="m",signature="serving_default",version="1"'
    assert f"estimator_serving_queue_rows{{{version}}} 4.0" in metrics
    rejected = 'model="m",reason="queue_full",signature="serving_default",version="1"'
    assert f"estimator_serving_rejected_requests_total{{{rejected}}} 2.0" in metrics


def test_parameters_of_a_version(base_path, write_model):
    (write_model(1) / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    with running(base_path, enable_per_model_batching_parameters=True) as server:
        assert "Task size 3 is larger than maximum input batch size 2" in post(server, [1, 2, 3]).json()["error"]
        write_model(2)
        until(lambda: server.manager.is_available("m", 2))
        assert post(server, [1, 2, 3]).json() == {"predictions": [3, 4, 5]}


def test_parameters_of_a_version_that_cannot_be_used(base_path, write_model):
    (write_model(1) / "batching_params.pbtxt").write_text("max_batch_size { value: 0 }")
    with running(base_path, enable_per_model_batching_parameters=True) as server:
        assert "max_batch_size is 0; give a number above 0" in server.unready()


@pytest.mark.parametrize("text", ["max_batch_size: 3", "max_batch_size { value: 0 }"])
def test_parameters_the_server_cannot_use(base_path, tmp_path, text):
    (tmp_path / "bad.pbtxt").write_text(text)
    with (
        pytest.raises(StartError, match="max_batch_size"),
        running(base_path, batching_parameters_file=str(tmp_path / "bad.pbtxt")),
    ):
        pass


@pytest.fixture
def two_models(tmp_path, base_path, write_model):
    """`hangs`, and `fast` beside it."""
    write_model(1, LOOP)
    base_path.rename(tmp_path / "hangs")
    base_path.mkdir()
    write_model(1)
    text = "".join(
        f'config {{ name: "{name}" base_path: "{path}" }}\n'
        for name, path in (("hangs", tmp_path / "hangs"), ("fast", base_path))
    )
    (tmp_path / "models.config").write_text(f"model_config_list {{ {text} }}")
    return {"model_base_path": "", "model_config_file": str(tmp_path / "models.config")}


@pytest.mark.parametrize("enable_batching", [True, False])
def test_a_model_that_hangs(base_path, two_models, enable_batching, pool):
    """Its callers get deadline errors, its threads come back, and the model beside it answers all the while."""
    with running(base_path, **two_models, enable_batching=enable_batching) as server:
        assert call(server, [2], "hangs") == [2]
        hanging = [pool.submit(call, server, [1e12], "hangs", 0.5) for _ in range(6)]
        for value in range(5):
            assert call(server, [value], "fast", 5) == [value + 1]
        for one in hanging:
            with pytest.raises(grpc.RpcError) as raised:
                one.result(WAIT_S)
            # The first is what ran too long, the second what never ran behind it.
            assert raised.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert call(server, [4], "hangs", 10) == [4]


def test_rest_calls_of_a_model_that_hangs(base_path, two_models):
    with running(base_path, **two_models, rest_api_timeout_in_ms=300) as server:
        assert post(server, [2], "hangs").json() == {"predictions": [2]}
        assert post(server, [1e12], "hangs").status_code == 504
        assert post(server, [1], "fast").json() == {"predictions": [2]}
        until(lambda: post(server, [4], "hangs").status_code == 200)


TURNED = "g (float[batch,time] x) => (float[time,batch] y) {{ y = Transpose<perm = [1, 0]> (x) }}"


def test_an_output_that_begins_with_another_dimension(base_path, write_model, pool):
    """As many steps as rows, so that its length says nothing: callers at once still get their own values."""
    write_model(1, TURNED)
    with running(base_path, enable_batching=True) as server:
        asked = [pool.submit(call, server, [[index, index + 0.25], [index + 0.5, 0]]) for index in range(40)]
        for index, one in enumerate(asked):
            assert one.result(WAIT_S) == [[index, index + 0.5], [index + 0.25, 0]]


def test_swaps_leave_no_thread(write_model, pool):
    """A hundred versions come and go under load; what batched them goes with them."""

    batching = Batching(BatchParameters(), False, BatchMetrics().of_version)
    manager = Manager(partial(open_servable, intra_op_threads=1, batching=batching))
    directories = [VersionDirectory(write_model(version)) for version in (1, 2)]
    manager.aspire("m", {1: directories[0]})
    assert manager.wait_until_settled(WAIT_S)
    stop = threading.Event()

    def caller():
        answered = 0
        while not stop.is_set():
            with manager.servable(ModelSpec("m")) as pinned:
                answer = pinned.run(Request("serving_default", {"x": np.zeros(1, np.float32)}))["y"]
                assert answer.tolist() == [pinned.version]
            answered += 1
        return answered

    try:
        callers = [pool.submit(caller) for _ in range(4)]
        before = threading.active_count()
        for turn in range(100):
            number = turn % 2
            manager.aspire("m", {2 - number: directories[1 - number]})
            assert manager.wait_until_settled(WAIT_S)
        after = threading.active_count()
    finally:
        stop.set()
        manager.stop()
    assert all(one.result(WAIT_S) for one in callers)
    assert after <= before + 2


RUN_S = 0.02
ROWS_MAX = 8


class Sleeps:
    """Answers x after a while."""

    def run(self, request, _context):
        time.sleep(RUN_S)
        return dict.fromkeys(request.outputs, request.inputs["x"])


def batching(inner, **parameters):
    return BatchingRunner(inner, BatchParameters(**parameters), {"s": True}, Uncounted())


def goodput(runner, callers, seconds):
    """Rows a second that are answered to callers who ask again at once, and a little later where they are refused."""
    ends_s = time.monotonic() + seconds

    def caller(_):
        rows = 0
        while time.monotonic() < ends_s:
            try:
                runner.run(Request("s", {"x": np.ones(2)}, ("y",)), Context(deadline_s=time.monotonic() + 1))
                rows += 2
            except errors.UnavailableError:
                time.sleep(RUN_S)
        return rows

    with ThreadPoolExecutor(callers) as threads:
        return sum(threads.map(caller, range(callers))) / seconds


def test_overload_keeps_the_goodput():
    """In turns, because other programs on the machine make any second slower."""
    runner = batching(Sleeps(), num_batch_threads=2, max_batch_size=ROWS_MAX, max_enqueued_batches=2)
    rates = [goodput(runner, callers, 0.7) for callers in (12, 48, 12, 48, 12)]
    before, *after = rates[::2]
    assert max(rates[1::2]) >= 0.8 * statistics.median(rates[::2])
    assert max(after) >= 0.8 * before


def test_a_slow_version_does_not_hold_up_a_fast_one(pool):
    """Each version has its own slots."""
    slow_runs = threading.Event()

    class Hangs:
        def run(self, request, _context):
            assert slow_runs.wait(WAIT_S)
            return dict.fromkeys(request.outputs, request.inputs["x"])

    slow, fast = (batching(inner, num_batch_threads=1) for inner in (Hangs(), Sleeps()))
    request = Request("s", {"x": np.ones(1)}, ("y",))

    def times():
        taken = []
        for _ in range(15):
            started_s = time.monotonic()
            fast.run(request, PATIENT)
            taken.append(time.monotonic() - started_s)
        return sorted(taken)

    alone = times()
    stuck = [pool.submit(slow.run, request, PATIENT) for _ in range(6)]
    beside = times()
    slow_runs.set()
    for one in stuck:
        one.result(WAIT_S)
    assert beside[len(beside) // 2] <= 2 * alone[len(alone) // 2]
