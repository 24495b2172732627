"""What is counted, and how Prometheus reads it. Knows numbers and labels, never requests or models.

Owns the counters and histograms, under TensorFlow Serving's metric names and our own. A request that succeeds takes one
call of `wire/native`, without a lock: in Python, its lock and bisections took longer than reading a small request.

Labels come from what is loaded, never from a request: each name that a client makes up would be a new series. What
belongs to a version that is gone is dropped, or the series of a server that swaps versions for a year would fill it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from estimator_serving.serving import exposition
from estimator_serving.serving.errors import Code
from estimator_serving.serving.exposition import Family, HistogramFamily
from estimator_serving.wire import native

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Stands for every model name that is not served.
UNKNOWN_MODEL = "unknown"
# What computes, where TensorFlow Serving says TF1 or TFRT.
RUNTIME = "ONNX"


def _exponential(first: float, factor: float, count: int) -> tuple[float, ...]:
    return tuple(first * factor**i for i in range(count))


# TensorFlow Serving's.
BUCKETS_US = _exponential(10, 1.8, 33)
_BUCKETS_S = tuple(bound * 1e-6 for bound in BUCKETS_US)
QUEUEING_BUCKETS_US = _exponential(100, 1.2, 52)
SIZE_BUCKETS = _exponential(1, 2, 15)
# Directories whose loads are remembered, the last ones.
_PATHS_MAX = 256
_OK = Code.OK


@dataclass
class Histogram:
    """Counts of values by bucket: one more than there are bounds, for what exceeds them all."""

    bounds: tuple[float, ...] = BUCKETS_US
    buckets: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.buckets = self.buckets or [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def merge(self, other: Histogram) -> None:
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.sum += other.sum


# The labels of what belongs to one signature of one version.
VERSION_LABELS = ("model", "version", "signature")


class Labels(NamedTuple):
    """Whose request a count is of. Version and signature are empty where it did not get that far."""

    model: str
    version: str
    signature: str
    method: str
    entrypoint: str

    @property
    def api(self) -> str:
        """The method as TensorFlow Serving writes it for this entrypoint."""
        return self.method.lower() if self.entrypoint == "REST" else self.method


# Model, version, signature, method and entrypoint of a request, as `observe` takes them: a bare tuple, because making a
# named one takes longer than all the counting. Version None and signature "" where the request did not get that far.
RequestKey = tuple[str, int | None, str, str, str]


def _labels(key: RequestKey) -> Labels:
    model, version, *others = key
    return Labels(model, "" if version is None else str(version), *others)


class Work(NamedTuple):
    """What the requests of one version took. Times are in seconds, over all requests.

    success_s, failed_s: whole requests. read_s: of the successes, before the model; run_s: in the model, queueing
    included. rows: of the successes. last_s: when the last one ended, since the epoch; 0 if there was none.
    """

    successes: int = 0
    success_s: float = 0.0
    failures: int = 0
    failed_s: float = 0.0
    read_s: float = 0.0
    run_s: float = 0.0
    rows: int = 0
    last_s: float = 0.0

    def plus(self, other: Work) -> Work:
        return Work(
            self.successes + other.successes, self.success_s + other.success_s, self.failures + other.failures,
            self.failed_s + other.failed_s, self.read_s + other.read_s, self.run_s + other.run_s,
            self.rows + other.rows, max(self.last_s, other.last_s),
        )  # fmt: skip

    @property
    def write_s(self) -> float:
        """Of the successes, after the model."""
        return max(0.0, self.success_s - self.read_s - self.run_s)


@dataclass
class _Series:
    """The requests of some labels: failures by code; of the successes, the whole time, the model's, the Examples."""

    failures: Counter[Code] = field(default_factory=Counter)
    failed_us: float = 0.0
    read_us: float = 0.0
    rows: int = 0
    last_s: float = 0.0
    latency_us: Histogram = field(default_factory=Histogram)
    run_us: Histogram = field(default_factory=Histogram)
    examples: Histogram = field(default_factory=lambda: Histogram(SIZE_BUCKETS))

    def work(self) -> Work:
        latency, run = self.latency_us, self.run_us
        return Work(
            latency.count, latency.sum / 1e6, sum(self.failures.values()), self.failed_us / 1e6, self.read_us / 1e6,
            run.sum / 1e6, self.rows, self.last_s,
        )  # fmt: skip

    def counts(self) -> dict[Code, int]:
        successes = self.latency_us.count
        return ({Code.OK: successes} if successes else {}) | self.failures


@dataclass
class _Failures:
    """The requests of some labels that failed."""

    by_code: Counter[Code] = field(default_factory=Counter)
    us: float = 0.0


class RequestMetrics(Collector):
    """Counts requests by model, version, signature, method, entrypoint and code, and the times of those that succeeded.

    TensorFlow Serving's families know models only: they sum over all versions, those that are gone included.
    """

    def __init__(self) -> None:
        # Keys come and go under the lock. Counting a success needs none: it finds the counts and adds to them at once.
        self._lock = threading.Lock()
        self._successes: dict[RequestKey, native.RequestCounts] = {}
        self._failures: dict[RequestKey, _Failures] = {}

    def observe(
        self, key: RequestKey, code: Code, elapsed_s: float, *,
        read_s: float = 0.0, run_s: float = 0.0, rows: int = 1, examples: int = 0,
    ) -> None:  # fmt: skip
        """Count one request.

        key: of a loaded model, or UNKNOWN_MODEL; never a name that a client made up.
        read_s: how long it took before the model. run_s: how long the model took, queueing included. rows: of its
        batch. examples: how many Examples came, for methods that take them.
        """
        if code is _OK:
            if native.count_request(self._successes, key, elapsed_s, read_s, run_s, rows, examples):
                return
            with self._lock:
                self._counts_of(key)
                native.count_request(self._successes, key, elapsed_s, read_s, run_s, rows, examples)
            return
        with self._lock:
            failures = self._failures.get(key) or self._failures.setdefault(key, _Failures())
            failures.by_code[code] += 1
            failures.us += elapsed_s * 1e6

    def work(self, model: str, version: int) -> Mapping[str, Work]:
        """What the requests of a version took, by signature; those that named no signature are under ""."""
        works: dict[str, Work] = {}
        for key, series in self._read().items():
            if key[:2] == (model, version):
                works[key[2]] = works.get(key[2], Work()).plus(series.work())
        return works

    def keep(self, loaded: Collection[tuple[str, str]]) -> None:
        """Forget the version and signature of counts whose version is not among these (model, version)."""
        with self._lock:
            for key in self._successes.keys() | self._failures.keys():
                if key[1] is None or (key[0], str(key[1])) in loaded:
                    continue
                gone = (key[0], None, "", key[3], key[4])
                if counts := self._successes.pop(key, None):
                    native.merge_counts(self._counts_of(gone), counts)
                if failures := self._failures.pop(key, None):
                    others = self._failures.setdefault(gone, _Failures())
                    others.by_code += failures.by_code
                    others.us += failures.us

    def _counts_of(self, key: RequestKey) -> native.RequestCounts:
        """The counts of the successes of a key, new ones if there are none. Under the lock."""
        return self._successes.get(key) or self._successes.setdefault(
            key, native.request_counts(BUCKETS_US, SIZE_BUCKETS)
        )

    def _read(self) -> dict[RequestKey, _Series]:
        """What is counted now."""
        with self._lock:
            series: dict[RequestKey, _Series] = {}
            for key, counts in self._successes.items():
                read_us, rows, last_s, latency, run, examples = native.read_counts(counts)
                series[key] = _Series(
                    Counter(), 0.0, read_us, rows, last_s,
                    Histogram(BUCKETS_US, *latency), Histogram(BUCKETS_US, *run), Histogram(SIZE_BUCKETS, *examples),
                )  # fmt: skip
            for key, failures in self._failures.items():
                one = series.setdefault(key, _Series())
                one.failures, one.failed_us = failures.by_code.copy(), failures.us
        return series

    def collect(self) -> Iterator[Metric]:
        series = {_labels(key): one for key, one in self._read().items()}
        yield from _tensorflow_families(series)
        requests: dict[tuple[str, ...], float] = {}
        rows: dict[tuple[str, ...], float] = {}
        parts: dict[tuple[str, ...], float] = {}
        latency: dict[tuple[str, ...], tuple[list[int], float]] = {}
        for labels, one in series.items():
            for code, count in one.counts().items():
                requests[*labels, code.name] = count
            work = one.work()
            if work.successes:
                rows[labels] = work.rows
                for part, seconds in (("read", work.read_s), ("run", work.run_s), ("write", work.write_s)):
                    parts[*labels, part] = seconds
                latency[labels] = (one.latency_us.buckets, one.latency_us.sum * 1e-6)
        names = Labels._fields
        yield Family("estimator_serving_requests_total", "Requests answered.", (*names, "code"), requests)
        yield Family("estimator_serving_rows_total", "Rows of successful requests.", names, rows)
        yield Family(
            "estimator_serving_request_part_seconds_total",
            "Time of successful requests: read, run (with its queue), write.", (*names, "part"), parts,
        )  # fmt: skip
        yield HistogramFamily(
            "estimator_serving_request_latency_seconds", "Time a successful request took.", names, _BUCKETS_S, latency
        )


class Counts:
    """Counts under one name, by labels."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0) + amount

    def keep(self, is_wanted: Callable[[tuple[str, ...]], bool]) -> None:
        with self._lock:
            self._counts = {labels: count for labels, count in self._counts.items() if is_wanted(labels)}

    def total(self, *labels: str) -> float:
        """The sum over all whose labels begin like this."""
        with self._lock:
            return sum(count for key, count in self._counts.items() if key[: len(labels)] == labels)

    def family(self) -> Metric:
        with self._lock:
            return Family(self._name, self._text, self._labels, self._counts)


class Histograms:
    """Histograms under one name, by labels."""

    def __init__(self, name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._labels, self._bounds = name, text, labels, bounds
        self._lock = threading.Lock()
        self._histograms: dict[tuple[str, ...], Histogram] = {}

    def add(self, *labels: str, value: float) -> None:
        with self._lock:
            histogram = self._histograms.get(labels) or self._histograms.setdefault(labels, Histogram(self._bounds))
            histogram.add(value)

    def keep(self, is_wanted: Callable[[tuple[str, ...]], bool]) -> None:
        with self._lock:
            self._histograms = {labels: one for labels, one in self._histograms.items() if is_wanted(labels)}

    def count(self, *labels: str) -> int:
        """How many values there are under these labels."""
        with self._lock:
            histogram = self._histograms.get(labels)
            return histogram.count if histogram else 0

    def family(self) -> Metric:
        with self._lock:
            return _histogram_family(self._name, self._text, self._labels, self._bounds, self._histograms)


class BatchMetrics(Collector):
    """What happens in the queues: TensorFlow Serving's batching_session metrics, and our own by version."""

    def __init__(self) -> None:
        session = ":tensorflow:serving:batching_session:"
        self.queueing = Histograms(
            session + "queuing_latency", "Microseconds a request waited for its batch.", "thread_pool_name",
            bounds=QUEUEING_BUCKETS_US,
        )  # fmt: skip
        self.runs = Counts(session + "wrapped_run_count", "Batches run.")
        self.padding = Histograms(
            session + "padding_size", "Rows added up to an allowed batch size.", "execution_batch_size",
            bounds=SIZE_BUCKETS,
        )  # fmt: skip
        self.input_sizes = Histograms(session + "input_batch_size", "Rows of a request.", bounds=SIZE_BUCKETS)
        self.processed_sizes = Histograms(
            session + "processed_batch_size", "Rows of a batch, padding included.", bounds=SIZE_BUCKETS
        )
        version = VERSION_LABELS
        self.batch_rows = Histograms(
            "estimator_serving_batch_rows", "Rows of a batch, padding left out.", *version, bounds=SIZE_BUCKETS
        )
        self.queued_s = Counts(
            "estimator_serving_queue_seconds_total", "Time requests waited for their batch.", *VERSION_LABELS[:2]
        )
        self.refused = Counts(
            "estimator_serving_rejected_requests_total", "Requests that batching refused.", *version, "reason"
        )

    def of_version(self, model: str, version: int, thread_pool_name: str) -> VersionBatchMetrics:
        """Counts for the queues of one version."""
        return VersionBatchMetrics(self, model, str(version), thread_pool_name)

    def keep(self, loaded: Collection[tuple[str, str]]) -> None:
        """Drop what belongs to versions that are not among these (model, version)."""
        for family in (self.batch_rows, self.queued_s, self.refused):
            family.keep(lambda labels: labels[:2] in loaded)

    def collect(self) -> Iterator[Metric]:
        for family in (self.queueing, self.runs, self.padding, self.input_sizes, self.processed_sizes,
                       self.batch_rows, self.queued_s, self.refused):  # fmt: skip
            yield family.family()


class VersionBatchMetrics:
    """BatchMetrics as the queues of one version see it: a BatchObserver."""

    def __init__(self, metrics: BatchMetrics, model: str, version: str, thread_pool_name: str) -> None:
        self._metrics = metrics
        self._model = model
        self._version = version
        self._thread_pool_name = thread_pool_name

    def ran(self, signature_name: str, rows: int, padded_rows: int, *, has_sizes: bool) -> None:
        """Count a batch. has_sizes: it is padded to one of the operator's sizes; only those become labels."""
        self._metrics.runs.add()
        self._metrics.processed_sizes.add(value=padded_rows)
        self._metrics.batch_rows.add(self._model, self._version, signature_name, value=rows)
        if has_sizes:
            self._metrics.padding.add(str(padded_rows), value=padded_rows - rows)

    def waited(self, queued_s: float, rows: int) -> None:
        """Count a request that leaves its queue."""
        self._metrics.queueing.add(self._thread_pool_name, value=queued_s * 1e6)
        self._metrics.queued_s.add(self._model, self._version, amount=queued_s)
        self._metrics.input_sizes.add(value=rows)

    def refused(self, signature_name: str, reason: str) -> None:
        self._metrics.refused.add(self._model, self._version, signature_name, reason)


class LoadMetrics(Collector):
    """Loads and warmups of version directories, the last ones, under TensorFlow's names.

    The label `model_path` is TensorFlow's, too. Here it holds MODEL/VERSION: whoever reads the metrics need not know
    where the server keeps its files.
    """

    def __init__(self) -> None:
        saved_model, serving = ":tensorflow:cc:saved_model:", ":tensorflow:serving:"
        self._attempts = Counts(saved_model + "load_attempt_count", "Loads of a directory.", "model_path", "status")
        self._latency_us = Counts(saved_model + "load_latency", "Microseconds successful loads took.", "model_path")
        self._warmup_us = Histograms(
            serving + "model_warmup_latency", "Microseconds a warmup took.", "model_path", "status", bounds=BUCKETS_US
        )
        self._records = Counts(serving + "model_warmup_records_read", "Warmup requests replayed.", "model_path")
        self._paths: dict[str, None] = {}

    def loaded(self, path: str, elapsed_s: float, *, succeeded: bool) -> None:
        self._remember(path)
        self._attempts.add(path, "success" if succeeded else "fail")
        if succeeded:
            self._latency_us.add(path, amount=elapsed_s * 1e6)

    def warmed_up(self, path: str, elapsed_s: float, code: Code, records: int) -> None:
        self._remember(path)
        self._warmup_us.add(path, code.name, value=elapsed_s * 1e6)
        self._records.add(path, amount=records)

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            yield family.family()

    def _families(self) -> tuple[Counts | Histograms, ...]:
        return self._attempts, self._latency_us, self._warmup_us, self._records

    def _remember(self, path: str) -> None:
        self._paths.pop(path, None)
        self._paths[path] = None
        if len(self._paths) > _PATHS_MAX:
            del self._paths[next(iter(self._paths))]
            for family in self._families():
                family.keep(lambda labels: labels[0] in self._paths)


class LogMetrics(Collector):
    """Requests that were logged, and those that should have been."""

    def __init__(self) -> None:
        self._counts = Counts(
            ":tensorflow:serving:request_log_count", "Requests logged, by how that went.", "model_name", "status_code"
        )

    def logged(self, model: str, code: Code) -> None:
        self._counts.add(model, code.name)

    def collect(self) -> Iterator[Metric]:
        yield self._counts.family()


class Done(NamedTuple):
    """What one version did. executions: runs of its graph. queued_s: the time that requests waited for their batch."""

    work: Work = Work()
    executions: int = 0
    queued_s: float = 0.0

    def plus(self, other: Done) -> Done:
        return Done(
            self.work.plus(other.work), self.executions + other.executions, self.queued_s + other.queued_s
        )  # fmt: skip


class Statistics:
    """What each version did, by the counts of this process."""

    def __init__(self, requests: RequestMetrics, batches: BatchMetrics) -> None:
        self._requests, self._batches = requests, batches
        # Where several processes answer, what all of them did.
        self.gather: Callable[[str, int], Done] = self.own

    def own(self, model: str, version: int) -> Done:
        work, executions = Work(), 0
        for signature, part in self._requests.work(model, version).items():
            work = work.plus(part)
            # One whose requests share runs has as many executions as batches; any other, one for each request.
            executions += self._batches.batch_rows.count(model, str(version), signature) or part.successes
        return Done(work, executions, self._batches.queued_s.total(model, str(version)))


class Exposition:
    """The server's registry as text. The registry is private, because the library's default belongs to the process.

    loaded: the (model, version) pairs that are loaded now; None where nothing is ever dropped.
    paths: where a front that speaks HTTP serves it.
    """

    def __init__(
        self,
        *collectors: Collector,
        loaded: Callable[[], Collection[tuple[str, str]]] | None = None,
        paths: Sequence[str] = ("/metrics",),
    ) -> None:
        self.paths = paths
        # Where several processes answer, what all of them count.
        self.gather: Callable[[], Sequence[Metric]] = self.families
        self._collectors = collectors
        self._loaded = loaded
        self._registry = CollectorRegistry()
        for make in (ProcessCollector, PlatformCollector, GCCollector):
            make(registry=self._registry)
        for collector in self._collectors:
            self._registry.register(collector)

    def families(self) -> list[Metric]:
        """What this process counts."""
        if self._loaded is not None:
            loaded = self._loaded()
            for collector in self._collectors:
                if isinstance(collector, RequestMetrics | BatchMetrics):
                    collector.keep(loaded)
        return list(self._registry.collect())

    def render(self) -> bytes:
        return exposition.write(self.gather())

    def total(self, name: str) -> int:
        """A counter's sum over its labels, 0 for an unknown name. TensorFlow Serving writes names with slashes."""
        wanted = name.replace("/", ":")
        samples = (sample for metric in self.gather() for sample in metric.samples)
        return int(sum(sample.value for sample in samples if sample.name == wanted))


def _tensorflow_families(series: Mapping[Labels, _Series]) -> Iterator[Metric]:
    """TensorFlow Serving's own, which sum over versions and signatures."""
    counts: Counter[tuple[str, ...]] = Counter()
    latency: dict[tuple[str, ...], Histogram] = {}
    run: dict[tuple[str, ...], Histogram] = {}
    examples: dict[tuple[str, ...], Histogram] = {}
    for labels, one in series.items():
        model = labels.model
        counts.update({(model, code.name): count for code, count in one.counts().items()})
        latency.setdefault((model, labels.api, labels.entrypoint), Histogram()).merge(one.latency_us)
        run.setdefault((model, labels.method, RUNTIME), Histogram()).merge(one.run_us)
        if one.examples.count:
            examples.setdefault((model,), Histogram(SIZE_BUCKETS)).merge(one.examples)
    name = ":tensorflow:serving:request_"
    yield Family(name + "count", "Requests by model and status.", ("model_name", "status"), counts)
    yield _histogram_family(
        name + "latency", "Microseconds a successful request took.", ("model_name", "API", "entrypoint"), BUCKETS_US,
        latency,
    )  # fmt: skip
    yield _histogram_family(
        ":tensorflow:serving:runtime_latency", "Microseconds the model took, queueing included.",
        ("model_name", "API", "runtime"), BUCKETS_US, run,
    )  # fmt: skip
    yield _histogram_family(name + "example_counts", "Examples of a request.", ("model",), SIZE_BUCKETS, examples)
    totals = {labels: histogram.sum for labels, histogram in examples.items()}
    yield Family(name + "example_count_total", "Examples of all requests.", ("model",), totals)


def _histogram_family(
    name: str, text: str, label_names: tuple[str, ...], bounds: tuple[float, ...],
    histograms: Mapping[tuple[str, ...], Histogram],
) -> Metric:  # fmt: skip
    """A family of what is counted now: these histograms go on."""
    read = {labels: (histogram.buckets.copy(), histogram.sum) for labels, histogram in histograms.items()}
    return HistogramFamily(name, text, label_names, bounds, read)
