"""The search on machines that are a formula: what it picks, and how long it takes."""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_serving.cli.tune.search import Budget, Found, Load, Objective, Search, SettingError, climb
from estimator_serving.cli.tune.settings import Batching, Setting, Space

OBJECTIVE = Objective(0.02, 0.99)
RUN_S = 0.001
START_S, LOAD_S = 1.5, 0.75


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def machine(capacity, clock, noise=lambda: 1.0):
    """A Measure where `capacity(setting)` requests a second are answered, each in RUN_S at least."""

    def measure(setting, plan):
        clock.now_s += START_S
        most = capacity(setting) * noise()

        def put_load(clients):
            clock.now_s += LOAD_S
            latency_s = max(RUN_S, clients / most)
            rate = min(most, clients / RUN_S)
            return Load(clients, rate, rate * (latency_s <= OBJECTIVE.latency_s), latency_s, latency_s)

        return plan(put_load)

    return measure


TWO_CORES = Space(2)


def searched(capacity, limit_s=1e6, space=TWO_CORES, noise=lambda: 1.0):
    clock = Clock()
    found = Found(OBJECTIVE, space)
    Search(machine(capacity, clock, noise), Budget(limit_s, clock), found).run()
    return found, clock.now_s


FACTORS = st.sampled_from([0.5, 0.8, 1.0, 1.25, 1.6, 2.0])


@st.composite
def capacities(draw):
    """Requests a second as a product of a factor for each flag, 1 for its default."""
    base = draw(st.floats(200, 1000))
    threads, workers, batching = draw(FACTORS), draw(FACTORS), draw(FACTORS)
    # A parameter of batching is found only if batching is worth it at all.
    inner = FACTORS if batching > 1 else st.just(1.0)
    factors = {
        "threads": {0: 1.0, 1: threads},
        "workers": {0: 1.0, 2: workers},
        "rows_max": {1000: 1.0, 4: draw(inner), 16: draw(inner)},
        "timeout_micros": {0: 1.0, 500: draw(inner), 2000: draw(inner)},
    }

    def capacity(setting):
        product = base * factors["threads"][setting.threads] * factors["workers"][setting.workers]
        if setting.batching is not None:
            product *= batching * (0.5 if setting.batching.threads else 1.0)
            product *= factors["rows_max"].get(setting.batching.rows_max, 1.0)
            product *= factors["timeout_micros"][setting.batching.timeout_micros]
        return product

    best = max(
        (
            Setting(t, w, b)
            for t in factors["threads"]
            for w in factors["workers"]
            for b in [None, *(Batching(r, m) for r in factors["rows_max"] for m in factors["timeout_micros"])]
        ),
        key=lambda setting: (round(capacity(setting), 6), -len(setting.changes())),
    )
    return capacity, best


@settings(max_examples=40)
@given(capacities())
def test_it_picks_the_best_of_a_machine_without_noise(drawn):
    capacity, best = drawn
    found, _ = searched(capacity, space=Space(2, clients_max=32))
    assert capacity(found.chosen) == pytest.approx(capacity(best))
    assert len(found.chosen.changes()) == len(best.changes())
    assert found.is_met


@settings(max_examples=40)
@given(capacities(), st.floats(1, 300))
def test_it_keeps_its_time(drawn, limit_s):
    found, took_s = searched(drawn[0], limit_s)
    # A load that has begun is not broken off.
    assert took_s <= max(limit_s, START_S) + LOAD_S
    assert found.chosen in {entry.setting for entry in found.entries}


@pytest.mark.parametrize("seed", range(10))
def test_what_is_only_noise_does_not_beat_the_defaults(seed):
    generator = random.Random(seed)
    found, _ = searched(lambda _: 500.0, noise=lambda: generator.uniform(0.85, 1.15))
    assert found.chosen == Setting()
    assert found.spread > 0.02


def test_what_is_more_than_noise_does():
    generator = random.Random(0)
    found, _ = searched(lambda one: 500.0 * (1 + one.threads), noise=lambda: generator.uniform(0.9, 1.1))
    assert found.chosen == Setting(threads=1)
    assert len(found.entry(found.chosen).runs) == 5


def test_an_objective_that_nothing_meets_gives_the_nearest():
    found, _ = searched(lambda one: 10.0 * (1 + one.threads))
    assert not found.is_met
    assert found.chosen == Setting(threads=1)
    assert found.entry(found.chosen).typical(OBJECTIVE).clients == 1


def test_what_there_was_no_time_for_is_named():
    found, _ = searched(lambda _: 500.0, limit_s=15.0)
    assert found.untried
    assert Setting(workers=2) in found.untried


def test_a_model_that_is_not_batched_is_not_tried_with_it():
    found, _ = searched(lambda _: 500.0, space=Space(8, is_batched=False))
    assert {entry.setting for entry in found.entries} == {
        Setting(), *(Setting(threads=count) for count in (1, 2, 4)), *(Setting(workers=count) for count in (2, 8))
    }  # fmt: skip


def test_a_setting_that_does_not_run_is_left_out():
    def capacity(setting):
        if setting.workers:
            raise SettingError("The server ended.")
        return 500.0

    found, _ = searched(capacity)
    assert found.failed == {Setting(workers=2): "The server ended."}
    assert found.chosen == Setting()


def test_defaults_that_do_not_run_end_the_search():
    def capacity(_):
        raise SettingError("The server ended.")

    with pytest.raises(SettingError):
        searched(capacity)


def test_an_interrupted_search_leaves_what_it_has():
    clock, found = Clock(), Found(OBJECTIVE, Space(2))

    def capacity(setting):
        if setting.threads:
            raise KeyboardInterrupt
        return 500.0

    with pytest.raises(KeyboardInterrupt):
        Search(machine(capacity, clock), Budget(1e6, clock), found).run()
    assert [entry.setting for entry in found.entries] == [Setting()]


def test_a_climb_goes_up_while_more_is_answered_and_down_where_it_is_too_late():
    budget, clock = Budget(1e6, Clock()), Clock()

    def climbed(most, start):
        return [
            load.clients
            for load in machine(lambda _: most, clock)(
                Setting(), lambda put_load: climb(put_load, start, 64, OBJECTIVE, budget)
            )
        ]

    assert climbed(4000.0, 1) == [1, 2, 4, 8, 16]
    assert climbed(100.0, 1) == [1, 2, 4]
    assert climbed(100.0, 16) == [16, 8, 4, 2]


def overloaded(gain):
    """A machine whose batching is worth it, and whose queue refuses what would be too late if it is short."""
    clock, found = Clock(), Found(OBJECTIVE, Space(1))

    def measure(setting, plan):
        is_short = setting.batching is not None and setting.batching.queue < Batching().queue
        inner = machine(lambda one: 800.0 if one.batching else 400.0, clock)

        def answered(put_load):
            def put(clients):
                load = put_load(clients)
                return dataclasses.replace(load, goodput=gain) if is_short and not load.goodput else load

            return plan(put)

        return inner(setting, answered)

    Search(measure, Budget(1e6, clock), found).run()
    return found


def test_a_shorter_queue_is_recommended_if_it_helps_under_overload():
    found = overloaded(gain=300.0)
    assert found.chosen == Setting(batching=Batching())
    assert found.recommended.batching.queue == 1
    assert found.recommended.batching.rows_max <= 8
    assert overloaded(gain=0.0).recommended == Setting(batching=Batching())
