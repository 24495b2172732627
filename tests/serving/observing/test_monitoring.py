import threading
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from exposition import samples

from estimator_serving.serving import errors
from estimator_serving.serving.config import ConfigError
from estimator_serving.serving.metrics import BatchMetrics, LoadMetrics
from estimator_serving.serving.models import warmup
from estimator_serving.serving.models.loader import Batching, Loader, open_servable
from estimator_serving.serving.models.manager import Manager, Retries
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.observing import monitoring
from estimator_serving.serving.observing.monitoring import VersionGauges
from estimator_serving.serving.request import Request
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import write_records

DEFAULTS = ("/metrics", "/monitoring/prometheus/metrics")


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("prometheus_config { enable: true }", DEFAULTS),
        ('prometheus_config { enable: true path: "/m" }', ("/metrics", "/m")),
        ('prometheus_config { enable: true path: "/metrics" }', ("/metrics",)),
        ('prometheus_config { path: "/m" }', ()),
        ("", ()),
    ],
)
def test_paths(tmp_path, text, paths):
    (tmp_path / "monitoring.config").write_text(text)
    assert monitoring.read_paths(str(tmp_path / "monitoring.config")) == paths


def test_paths_without_a_file():
    assert monitoring.read_paths("") == DEFAULTS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prometheus_config { enable: maybe }", "Error parsing text-format tensorflow.serving.MonitoringConfig"),
        ('prometheus_config { enable: true path: "m" }', "sets the path 'm'; give one that begins with /"),
        ('prometheus_config { enable: true path: "/v1/models" }', "outside of /v1/ and /v2/"),
        ('prometheus_config { enable: true path: "/{x}" }', "give one that begins with /"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, sentence):
    (tmp_path / "monitoring.config").write_text(text)
    with pytest.raises(ConfigError) as raised:
        monitoring.read_paths(str(tmp_path / "monitoring.config"))
    assert sentence in str(raised.value)


def test_gauges(write_model, tmp_path):
    loads = LoadMetrics()

    def load(name, version, directory):
        batching = Batching(BatchParameters(), False, BatchMetrics().of_version)
        return open_servable(name, version, directory, intra_op_threads=1, batching=batching)

    manager = Manager(monitoring.timed(load, loads), retries=Retries(0, 0))
    gauges = VersionGauges(manager)
    try:
        manager.aspire("m", {1: VersionDirectory(write_model(1)), 2: VersionDirectory(tmp_path)})
        manager.aspire("empty", {})
        assert manager.wait_until_settled(10)
        manager.servables()[0].run(Request("serving_default", {"x": np.ones(1, np.float32)}))
        found = samples(gauges, loads)
    finally:
        manager.stop()
    state = "estimator_serving_version_state"
    assert found[state, ("model", "m"), ("state", "AVAILABLE"), ("version", "1")] == 1
    assert found[state, ("model", "m"), ("state", "END"), ("version", "2")] == 1
    assert found["estimator_serving_model_ready", ("model", "m")] == 1
    assert found["estimator_serving_model_ready", ("model", "empty")] == 0
    queue = (("model", "m"), ("signature", "serving_default"), ("version", "1"))
    assert found["estimator_serving_queue_requests", *queue] == 0
    assert found["estimator_serving_queue_rows", *queue] == 0
    attempts = ":tensorflow:cc:saved_model:load_attempt_count"
    assert found[attempts, ("model_path", "m/2"), ("status", "fail")] == 1
    assert gauges.loaded() == {("m", "1")}


def test_a_failed_load_is_counted_and_still_fails():
    loads = LoadMetrics()

    def load(*_):
        raise errors.NotFoundError("no file")

    with pytest.raises(errors.NotFoundError):
        monitoring.timed(load, loads)("m", 1, "/m/1")
    assert samples(loads)[":tensorflow:cc:saved_model:load_attempt_count", ("model_path", "m/1"), ("status", "fail")]


def test_a_scrape_while_versions_come_and_go(write_model):
    """Whatever is loaded or unloaded meanwhile, what Prometheus reads is whole."""
    manager = Manager(lambda name, version, path: open_servable(name, version, path, intra_op_threads=1))
    gauges, directories = VersionGauges(manager), [VersionDirectory(write_model(version)) for version in (1, 2)]
    done = threading.Event()

    def swap():
        for turn in range(20):
            manager.aspire("m", {turn % 2 + 1: directories[turn % 2]})
            manager.wait_until_settled(10)
        done.set()

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        while not done.is_set():
            samples(gauges)
    finally:
        swapping.join()
        manager.stop()
    assert gauges.loaded() == {("m", "2")}


@pytest.mark.parametrize(("fails", "status", "records"), [(False, "OK", 1), (True, "INVALID_ARGUMENT", 0)])
def test_warmups(write_model, fails, status, records):
    loads, directory = LoadMetrics(), write_model(1)
    (directory / "assets.extra").mkdir()
    log = serving_pb.PredictionLog()
    log.predict_log.request.model_spec.name = "m"
    write_records(directory / warmup.WARMUP_FILE, [log.SerializeToString()])

    def answer(*_):
        if fails:
            raise errors.InvalidArgumentError("no")

    loader = Loader(partial(open_servable, intra_op_threads=1), answer, "CPUExecutionProvider", metrics=loads)
    with pytest.raises(errors.InvalidArgumentError) if fails else nullcontext():
        loader("m", 1, directory)
    found, path = samples(loads), ("model_path", "m/1")
    assert found[":tensorflow:serving:model_warmup_latency_count", path, ("status", status)] == 1
    assert found[":tensorflow:serving:model_warmup_records_read", path] == records
