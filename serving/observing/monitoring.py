"""What is watched beyond single requests: which versions are loaded and what waits; and where Prometheus finds it all.

Owns the gauges that are read from the manager when Prometheus asks, and the MonitoringConfig file. Knows no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from estimator_serving.serving.config import ConfigError
from estimator_serving.serving.errors import NotFoundError
from estimator_serving.serving.metrics import VERSION_LABELS, LoadMetrics
from estimator_serving.serving.models.manager import Load, Manager
from estimator_serving.serving.models.model_config import parse_file
from estimator_serving.serving.models.versions import VersionStatus
from estimator_serving.serving.policy import State
from estimator_serving.wire.pb import serving_pb

# TensorFlow Serving's path, and the one where everybody expects metrics.
DEFAULT_PATH = "/monitoring/prometheus/metrics"
OWN_PATH = "/metrics"


def read_paths(config_file: str) -> tuple[str, ...]:
    """The paths Prometheus may ask, by the text MonitoringConfig that --monitoring_config_file names.

    Without a file both defaults; none where the file turns Prometheus off, or does not turn it on.
    Raises ConfigError where the file cannot be read, is not such a text, or names a path that cannot be one.
    """
    if not config_file:
        return OWN_PATH, DEFAULT_PATH
    proto = parse_file("monitoring_config_file", config_file, serving_pb.MonitoringConfig()).prometheus_config
    path = proto.path or DEFAULT_PATH
    if not path.startswith("/") or path.startswith(("/v1/", "/v2/")) or not path.isascii() or set(path) & set("?#{} "):
        raise ConfigError(
            f"--monitoring_config_file={config_file} sets the path {path!r}; give one that begins with /, outside of "
            f"/v1/ and /v2/, such as {DEFAULT_PATH}."
        )
    return tuple(dict.fromkeys((OWN_PATH, path))) if proto.enable else ()


class VersionGauges(Collector):
    """States of the versions and depths of their queues, as they are when Prometheus asks."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def loaded(self) -> Set[tuple[str, str]]:
        """The (model, version) pairs that can answer."""
        return {
            (name, str(status.version))
            for name, status in self._statuses()
            if status.state in (State.AVAILABLE, State.UNLOADING)
        }

    def collect(self) -> Iterator[Metric]:
        statuses = list(self._statuses())
        states = GaugeMetricFamily(
            "estimator_serving_version_state",
            "1 for the state each version is in.",
            labels=["model", "version", "state"],
        )
        for name, status in statuses:
            if status.state is not State.END or status.code:
                states.add_metric([name, str(status.version), status.state.name], 1)
        yield states
        readiness = GaugeMetricFamily(
            "estimator_serving_model_ready", "Whether a model has a version that answers.", labels=["model"]
        )
        ready = {name for name, status in statuses if status.state is State.AVAILABLE}
        for name in self._manager.names():
            readiness.add_metric([name], name in ready)
        yield readiness
        requests = GaugeMetricFamily(
            "estimator_serving_queue_requests", "Requests that wait for a batch.", labels=VERSION_LABELS
        )
        rows = GaugeMetricFamily("estimator_serving_queue_rows", "Rows that wait for a batch.", labels=VERSION_LABELS)
        for servable in self._manager.servables():
            for signature_name, waiting in servable.runner.waiting().items():
                labels = [servable.name, str(servable.version), signature_name]
                requests.add_metric(labels, waiting.requests)
                rows.add_metric(labels, waiting.rows)
        yield requests
        yield rows

    def _statuses(self) -> Iterator[tuple[str, VersionStatus]]:
        for name in self._manager.names():
            try:
                yield from ((name, status) for status in self._manager.status(name))
            except NotFoundError:
                continue  # configured, and nothing there yet


class ConfigGauge(Collector):
    """Whether the file of models is in force, as a number to alert on."""

    def __init__(self, trouble: Callable[[], str]) -> None:
        self._trouble = trouble

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "estimator_serving_config_in_force",
            "0 where the last reading of the file of models could not be put in force.",
            value=not self._trouble(),
        )


def timed(load: Load, metrics: LoadMetrics) -> Load:
    """A loader that also counts its loads, and how long they took."""

    def load_and_note(name: str, version: int, directory: Path) -> Any:
        started_s = time.perf_counter()
        succeeded = False
        try:
            servable = load(name, version, directory)
            succeeded = True
        finally:
            metrics.loaded(f"{name}/{version}", time.perf_counter() - started_s, succeeded=succeeded)
        return servable

    return load_and_note
