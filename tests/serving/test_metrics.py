import threading

import pytest
from exposition import samples

from estimator_serving.serving.errors import Code
from estimator_serving.serving.metrics import (
    BUCKETS_US,
    BatchMetrics,
    Exposition,
    LoadMetrics,
    LogMetrics,
    RequestMetrics,
)

TFS = ":tensorflow:serving:"


def find(found, name, **labels):
    return found.get((name, *sorted(labels.items())))


def key(model="m", version=1, signature="s", method="Predict", entrypoint="GRPC"):
    return model, version, signature, method, entrypoint


def test_counts_and_times():
    requests = RequestMetrics()
    for code in (Code.OK, Code.OK, Code.NOT_FOUND):
        requests.observe(key(), code, 0.001, run_s=0.0005)
    requests.observe(key(version=2), Code.OK, 0.001)
    found = samples(requests)
    assert find(found, TFS + "request_count", model_name="m", status="OK") == 3
    assert find(found, TFS + "request_count", model_name="m", status="NOT_FOUND") == 1
    by_api = {"model_name": "m", "API": "Predict"}
    assert find(found, TFS + "request_latency_count", **by_api, entrypoint="GRPC") == 3
    assert find(found, TFS + "request_latency_sum", **by_api, entrypoint="GRPC") == pytest.approx(3000)
    assert find(found, TFS + "runtime_latency_sum", **by_api, runtime="ONNX") == pytest.approx(1000)
    own = {"model": "m", "version": "1", "signature": "s", "method": "Predict", "entrypoint": "GRPC"}
    assert find(found, "estimator_serving_requests_total", **own, code="OK") == 2
    assert find(found, "estimator_serving_request_latency_seconds_sum", **own) == pytest.approx(0.002)


def test_rest_writes_its_methods_small():
    """As in TensorFlow Serving, whose dashboards ask for it."""
    requests = RequestMetrics()
    requests.observe(key(entrypoint="REST"), Code.OK, 0.001)
    found = samples(requests)
    assert find(found, TFS + "request_latency_count", model_name="m", API="predict", entrypoint="REST") == 1
    assert find(found, TFS + "runtime_latency_count", model_name="m", API="Predict", runtime="ONNX") == 1


def test_examples():
    requests = RequestMetrics()
    for examples in (3, 5, 0):
        requests.observe(key(method="Classify"), Code.OK, 0.001, examples=examples)
    found = samples(requests)
    assert find(found, TFS + "request_example_count_total", model="m") == 8
    assert find(found, TFS + "request_example_counts_bucket", model="m", le="4") == 1


@pytest.mark.parametrize(("elapsed_us", "index"), [(1, 0), (10, 0), (11, 1), (BUCKETS_US[-1] * 2, 33)])
def test_buckets_hold_their_limit(elapsed_us, index):
    requests = RequestMetrics()
    requests.observe(key(), Code.OK, elapsed_us / 1e6)
    found = samples(requests)
    bounds = [*(f"{bound:g}" for bound in BUCKETS_US), "+Inf"]
    asked = {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"}
    counts = [find(found, TFS + "request_latency_bucket", **asked, le=bound) for bound in bounds]
    assert counts == [0.0] * index + [1.0] * (34 - index)


def test_counters_say_that_they_are():
    """Also those of TensorFlow Serving's names, which do not end in _total."""
    requests, logs = RequestMetrics(), LogMetrics()
    requests.observe(key(), Code.OK, 0.001)
    text = Exposition(requests, logs).render().decode()
    for name in ("request_count", "request_example_count_total", "request_log_count"):
        assert f"# TYPE {TFS}{name} counter\n" in text
    assert " untyped" not in text


def test_odd_labels_are_legal_text():
    requests = RequestMetrics()
    requests.observe(key(model='a"\\\n', signature="{\n}"), Code.OK, 1)
    assert find(samples(requests), TFS + "request_count", model_name='a"\\\n', status="OK") == 1


def test_versions_that_are_gone_keep_no_series():
    requests, batches = RequestMetrics(), BatchMetrics()
    for version in range(100):
        requests.observe(key(version=version), Code.OK, 0.001)
        requests.observe(key(version=version), Code.INTERNAL, 0.001)
        batches.of_version("m", version, "pool").ran("s", 1, 1, has_sizes=False)
    found = samples(requests, batches, loaded=lambda: {("m", "99")})
    own = [dict(key[1:])["version"] for key in found if key[0] == "estimator_serving_requests_total"]
    assert sorted(own) == ["", "", "99", "99"]
    assert find(found, TFS + "request_count", model_name="m", status="OK") == 100
    assert find(found, TFS + "request_count", model_name="m", status="INTERNAL") == 100
    assert find(found, "estimator_serving_batch_rows_count", model="m", version="99", signature="s") == 1
    assert find(found, "estimator_serving_batch_rows_count", model="m", version="98", signature="s") is None


def test_no_count_is_lost_while_versions_go():
    requests = RequestMetrics()
    is_over = threading.Event()

    def go():
        while not is_over.is_set():
            requests.keep(())

    going = threading.Thread(target=go)
    going.start()
    for _ in range(20_000):
        requests.observe(key(), Code.OK, 0.001)
        requests.observe(key(), Code.INTERNAL, 0.001)
    is_over.set()
    going.join()
    found = samples(requests)
    for status in ("OK", "INTERNAL"):
        assert find(found, TFS + "request_count", model_name="m", status=status) == 20_000


def test_batches():
    batches = BatchMetrics()
    observer = batches.of_version("m", 1, "pool")
    observer.waited(0.0001, 3)
    observer.ran("s", 3, 4, has_sizes=True)
    observer.ran("s", 3, 3, has_sizes=False)
    observer.refused("s", "queue_full")
    found = samples(batches)
    session = TFS + "batching_session:"
    assert find(found, session + "queuing_latency_bucket", thread_pool_name="pool", le="100") == 1
    assert find(found, session + "wrapped_run_count") == 2
    assert find(found, session + "padding_size_sum", execution_batch_size="4") == 1
    assert find(found, session + "padding_size_sum", execution_batch_size="3") is None
    assert find(found, session + "input_batch_size_sum") == 3
    assert find(found, session + "processed_batch_size_sum") == 7
    version = {"model": "m", "version": "1", "signature": "s"}
    assert find(found, "estimator_serving_batch_rows_sum", **version) == 6
    assert find(found, "estimator_serving_rejected_requests_total", **version, reason="queue_full") == 1


def test_loads():
    loads = LoadMetrics()
    loads.loaded("/m/1", 0.5, succeeded=True)
    loads.loaded("/m/1", 0.5, succeeded=False)
    loads.warmed_up("/m/1", 0.001, Code.OK, 7)
    found = samples(loads)
    saved_model = ":tensorflow:cc:saved_model:"
    assert find(found, saved_model + "load_attempt_count", model_path="/m/1", status="success") == 1
    assert find(found, saved_model + "load_attempt_count", model_path="/m/1", status="fail") == 1
    assert find(found, saved_model + "load_latency", model_path="/m/1") == 500_000
    assert find(found, TFS + "model_warmup_latency_sum", model_path="/m/1", status="OK") == pytest.approx(1000)
    assert find(found, TFS + "model_warmup_records_read", model_path="/m/1") == 7


def test_loads_of_a_server_that_runs_for_years():
    loads = LoadMetrics()
    for version in range(1000):
        loads.loaded(f"/m/{version}", 0.5, succeeded=True)
    attempts = [key for key in samples(loads) if key[0].endswith("load_attempt_count")]
    assert len(attempts) == 256
    assert ("model_path", "/m/999") in [label for key in attempts for label in key[1:]]


def test_logs():
    logs = LogMetrics()
    logs.logged("m", Code.OK)
    assert find(samples(logs), TFS + "request_log_count", model_name="m", status_code="OK") == 1
