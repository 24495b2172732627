"""Counts of several processes as one."""

import pytest

from estimator_serving.serving.errors import Code
from estimator_serving.serving.metrics import Done, Exposition, RequestMetrics, Work
from estimator_serving.serving.process.tally import Counts, Tally

KEY = ("m", 1, "s", "Predict", "REST")


class Process:
    """The metrics of one process, which count requests."""

    def __init__(self):
        self.requests = RequestMetrics()
        self.exposition = Exposition(self.requests)

    def ask(self, count, key=KEY):
        for _ in range(count):
            self.requests.observe(key, Code.OK, 0.001)
        return Counts(self.exposition.families(), {("m", 1): Done(Work(successes=count), count)})


@pytest.fixture
def loaded():
    return {("m", "1")}


@pytest.fixture
def tally(loaded):
    return Tally(lambda: loaded)


def samples(tally, own=()):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in tally.families(own)
        for sample in metric.samples
    }


def test_sums_over_processes_and_keeps_those_of_one_that_ended(tally):
    name = (":tensorflow:serving:request_count", "m", "OK")
    tally.note(1, Process().ask(3))
    tally.note(2, Process().ask(4))
    assert samples(tally)[name] == 7
    tally.end(1)
    assert samples(tally)[name] == 7
    tally.note(3, Process().ask(1))
    assert samples(tally)[name] == 8
    assert samples(tally)[("estimator_serving_request_latency_seconds_count", *map(str, KEY))] == 8


def test_a_process_that_ends_before_it_was_asked_has_counted_nothing(tally):
    tally.end(1)
    assert samples(tally) == {}


def test_gauges_of_a_process_are_summed_and_end_with_it(tally):
    for process in (1, 2):
        tally.note(process, Process().ask(0))
    both = samples(tally)
    tally.end(1)
    one = samples(tally)
    assert both[("process_open_fds",)] > one[("process_open_fds",)] > 0
    assert both[("process_start_time_seconds",)] == one[("process_start_time_seconds",)]


def test_what_ended_processes_counted_of_a_version_goes_with_it(tally, loaded):
    tally.note(1, Process().ask(3))
    tally.end(1)
    loaded.clear()
    found = samples(tally)
    assert found[("estimator_serving_requests_total", "m", "", "", "Predict", "REST", "OK")] == 3
    assert found[(":tensorflow:serving:request_count", "m", "OK")] == 3
    assert not [key for key in found if key[0].startswith("estimator_serving") and "1" in key]


def test_what_a_version_did_is_summed_too(tally, loaded):
    tally.note(1, Process().ask(3))
    tally.note(2, Process().ask(4))
    tally.end(1)
    assert tally.did("m", 1) == Done(Work(successes=7), 7)
    loaded.clear()
    tally.families(())
    assert tally.did("m", 1).executions == 4
