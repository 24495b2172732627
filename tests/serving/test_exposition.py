"""Our writer of Prometheus's text against the client library's."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from estimator_serving.serving import exposition
from estimator_serving.serving.exposition import Family, HistogramFamily

NAMES = ("model", "le_not", "api", "kind")
BOUNDS = (0.5, 1.0, 1e7)
LABELS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), min_size=4, max_size=4).map(tuple)
NUMBERS = st.one_of(st.integers(0, 10**17), st.floats())
COUNTS = st.tuples(st.lists(st.integers(0, 10**9), min_size=4, max_size=4), st.floats(0, 1e12))


class Collected(CollectorRegistry):
    def __init__(self, *families):
        super().__init__()
        self.families = families

    def collect(self):
        return self.families


def by_library(*families):
    return generate_latest(Collected(*families)).replace(b" untyped\n", b" counter\n")


def plain(family):
    """What the library makes of a family: its samples, made beforehand."""
    made = Metric(family.name, family.documentation, family.type)
    made.samples = family.samples
    return made


@settings(max_examples=40)
@given(st.dictionaries(LABELS, NUMBERS, max_size=3), st.text(max_size=5))
def test_numbers(numbers, text):
    family = Family("a:b", text.replace("\r", ""), NAMES, numbers)
    assert exposition.write([family]) == by_library(plain(family)) == exposition.write([plain(family)])


@given(st.dictionaries(LABELS, COUNTS, max_size=3))
def test_histograms(histograms):
    family = HistogramFamily("h", "text", NAMES, BOUNDS, histograms)
    theirs = HistogramMetricFamily("h", "text", labels=NAMES)
    for labels, (buckets, total) in histograms.items():
        counts = [sum(buckets[: index + 1]) for index in range(4)]
        theirs.add_metric(labels, list(zip(["0.5", "1", "1e+07", "+Inf"], map(float, counts), strict=True)), total)
    assert exposition.write([family]) == by_library(theirs) == exposition.write([plain(family)])
    assert family.samples == theirs.samples


def test_a_histogram_without_labels():
    family = HistogramFamily("h", "text", (), BOUNDS, {(): ([1, 2, 0, 3], 4.5)})
    assert exposition.write([family]) == by_library(plain(family))
    (read,) = text_string_to_metric_families(exposition.write([family]).decode())
    assert [sample.value for sample in read.samples] == [1, 3, 3, 6, 6, 4.5]


def test_families_of_others():
    gauge = GaugeMetricFamily("g", "text", labels=["x"])
    for index, value in enumerate((math.inf, -math.inf, math.nan, 1e6, 123456.5, 1e-7, 10_000_000)):
        gauge.add_metric([str(index)], value)
    created = Metric("c", "text", "counter")
    created.add_sample("c_total", {}, 1.0)
    created.add_sample("c_created", {}, 2.0, timestamp=3.5)
    others = [gauge, created, InfoMetricFamily("i", "text", {"version": "1"})]
    assert exposition.write(others) == by_library(*others)
