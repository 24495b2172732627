"""What is counted, and how Prometheus reads it. Knows numbers and labels, never requests or models.

Owns the request counters and latencies, under TensorFlow Serving's metric names and our own. One lock and one bisection
a request: the client library's histograms walk their buckets, which shows at tens of thousands of requests a second.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from estimator_serving.serving.errors import Code

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Stands for every model name that is not served: names come from requests, and each would be a series of its own.
UNKNOWN_MODEL = "unknown"
# TensorFlow Serving's: 10 microseconds times 1.8 to the i.
BUCKETS_US = tuple(10 * 1.8**i for i in range(33))


@dataclass
class _Series:
    """One method of one model at one entrypoint: failures by code, and a histogram of the successes' microseconds.

    `buckets` has one more entry than there are bounds, for what exceeds them all.
    """

    failures: dict[Code, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_US) + 1))
    sum_us: float = 0.0

    def copy(self) -> _Series:
        return _Series(dict(self.failures), list(self.buckets), self.sum_us)

    def counts(self) -> dict[Code, int]:
        successes = sum(self.buckets)
        return ({Code.OK: successes} if successes else {}) | self.failures


# Model, method and entrypoint.
_Labels = tuple[str, str, str]


class RequestMetrics(Collector):
    """Counts requests by model, method, entrypoint and code, and the latency of those that succeeded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[_Labels, _Series] = {}

    def observe(self, model: str, method: str, entrypoint: str, code: Code, elapsed_s: float) -> None:
        """Count one request. `model` is the name of a loaded model or UNKNOWN_MODEL, never a name a client made up."""
        labels = (model, method, entrypoint)
        with self._lock:
            series = self._series.get(labels) or self._series.setdefault(labels, _Series())
            if code is Code.OK:
                elapsed_us = elapsed_s * 1e6
                series.buckets[bisect_left(BUCKETS_US, elapsed_us)] += 1
                series.sum_us += elapsed_us
            else:
                series.failures[code] = series.failures.get(code, 0) + 1

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            series = {labels: one.copy() for labels, one in self._series.items()}
        yield _count_by_status(series)
        yield _latency_family(series)
        yield _requests_family(series)


class Exposition:
    """The server's registry as text. Its own one: the library's default is shared by the whole process."""

    def __init__(self, requests: RequestMetrics) -> None:
        self._registry = CollectorRegistry()
        for make in (ProcessCollector, PlatformCollector, GCCollector):
            make(registry=self._registry)
        self._registry.register(requests)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def total(self, name: str) -> int:
        """A counter's sum over its labels, 0 for an unknown name. TensorFlow Serving writes names with slashes."""
        wanted = name.replace("/", ":")
        samples = (sample for metric in self._registry.collect() for sample in metric.samples)
        return int(sum(sample.value for sample in samples if sample.name == wanted))


def _count_by_status(series: Mapping[_Labels, _Series]) -> Metric:
    """TensorFlow Serving's counter. "unknown" is the type that keeps its name: a counter's would get a _total."""
    totals: Counter[tuple[str, Code]] = Counter()
    for (model, _, _), one in series.items():
        totals.update({(model, code): count for code, count in one.counts().items()})
    family = Metric(":tensorflow:serving:request_count", "Requests by model and status.", "unknown")
    for (model, code), count in totals.items():
        family.add_sample(family.name, {"model_name": model, "status": code.name}, count)
    return family


def _latency_family(series: Mapping[_Labels, _Series]) -> Metric:
    family = HistogramMetricFamily(
        ":tensorflow:serving:request_latency",
        "Microseconds a successful request took.",
        labels=["model_name", "API", "entrypoint"],
    )
    for labels, one in series.items():
        family.add_metric(list(labels), _cumulative(one.buckets), one.sum_us)
    return family


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in BUCKETS_US), "+Inf"]
    return [(bound, float(total)) for bound, total in zip(bounds, accumulate(buckets), strict=True)]


def _requests_family(series: Mapping[_Labels, _Series]) -> Metric:
    family = CounterMetricFamily(
        "estimator_serving_requests", "Requests answered.", labels=["model", "method", "entrypoint", "code"]
    )
    for labels, one in series.items():
        for code, count in one.counts().items():
            family.add_metric([*labels, code.name], count)
    return family
