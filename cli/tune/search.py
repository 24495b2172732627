"""The search for the setting that answers most requests within an objective: what is measured, and what that shows.

The theory. One flag after the other is tried on top of the best setting so far, because a full grid would take hours:
threads, then workers, then batching and its parameters. A setting is measured by a *climb*: the number of clients that
ask at the same time is doubled as long as the objective is met and more is answered. Its figure is the load at which it
answered most within the objective. Measurements of a machine that does other things, too, differ from one run to the
next, so the settings in front are measured again, in turns, each on a new server. A setting with more flags is
preferred only if it is better by more than runs of one setting differ.

Owns the order of the measurements, the bound on their time and the choice. Does not know how anything is measured: a
Measure is handed in. It starts a server with a setting and gives a function that puts a number of clients on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from estimator_serving.cli.tune import settings
from estimator_serving.cli.tune.settings import Setting, Space

T = TypeVar("T")

# By less than this a setting is not better than a simpler one, even if runs do not differ at all.
GAIN_MIN = 0.02
# What runs of one setting are taken to differ by where none was repeated.
SPREAD_ASSUMED = 0.1
# Runs of the settings in front, and how many are in front beside the defaults and the best. A best setting that is not
# the defaults and the defaults themselves run more often, since one of many settings has luck three times now and then.
RUNS = 3
RUNS_OF_PAIR = 5
RIVALS = 2
# A climb ends after so many doublings that gave no more answers.
FLAT_MAX = 2
# Shares of the time after which no further settings are tried, and the best ones are not repeated any more.
TRYING_SHARE = 0.6
REPEATING_SHARE = 0.85
# How many settings should be tried at least before the defaults are repeated.
TRIES_MIN = 4
# How many times the clients that can be answered within the objective ask when the queue is measured, and the most.
OVERLOAD = 2
OVERLOAD_CLIENTS_MAX = 256


class SettingError(Exception):
    """A setting that cannot be measured; the text is one sentence that says why."""


@dataclass(frozen=True)
class Objective:
    """What is wanted: that a share (`quantile`) of the requests is answered within `latency_s`."""

    latency_s: float
    quantile: float


@dataclass(frozen=True)
class Load:
    """What was measured with a number of clients, each of which asks again as soon as it is answered.

    Attributes:
        clients: how many.
        rate: answers a second.
        goodput: those of them that came within the objective.
        median_s, quantile_s: latencies; the second one at the objective's quantile. Infinite if nothing was answered.
        refused: refusals a second (503, UNAVAILABLE).
        generator_busy: the share of one core that the clients used.
    """

    clients: int
    rate: float
    goodput: float
    median_s: float
    quantile_s: float
    refused: float = 0.0
    generator_busy: float = 0.0

    def meets(self, objective: Objective) -> bool:
        return self.rate > 0 and self.quantile_s <= objective.latency_s


# A number of clients -> what they saw.
PutLoad = Callable[[int], Load]
# What to do with one started server; it returns the loads it measured.
Plan = Callable[[PutLoad], list[Load]]
# Starts a server with a setting, follows the plan and ends the server. Raises SettingError.
Measure = Callable[[Setting, Plan], list[Load]]


class Budget:
    """The time that a search may take. now: the clock, in seconds."""

    def __init__(self, limit_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self._now = now
        self._began_s = now()

    def spent_s(self) -> float:
        return self._now() - self._began_s

    def left_s(self) -> float:
        return self.limit_s - self.spent_s()

    def allows(self, needed_s: float, share: float = 1.0) -> bool:
        """Whether something that takes so long would end before this share of the limit."""
        return self.spent_s() + needed_s <= self.limit_s * share


@dataclass
class Entry:
    """A setting and its runs: for each server that was started with it, the loads."""

    setting: Setting
    runs: list[list[Load]] = field(default_factory=list)

    def loads(self, objective: Objective) -> list[Load]:
        """The best load of each run, the worst of them first."""
        best = [best_load(loads, objective) for loads in self.runs]
        return sorted(best, key=lambda load: _merit(load, objective))

    def middle_run(self, objective: Objective) -> list[Load]:
        """The loads of the run that is in the middle by its best load; of two runs, of the worse one."""
        return middle(sorted(self.runs, key=lambda loads: _merit(best_load(loads, objective), objective)))

    def typical(self, objective: Objective) -> Load:
        """The best load of the run in the middle."""
        return best_load(self.middle_run(objective), objective)


@dataclass
class Overload:
    """What more clients than can be answered saw: with the chosen queue, and with a shorter one."""

    usual: Load
    bounded: Load
    bounded_setting: Setting
    is_better: bool


@dataclass
class Found:
    """What a search found; it grows while the search runs, so that an interrupted one leaves what it has.

    Attributes:
        objective, space: what was searched for, and among what.
        entries: in the order of their first measurement.
        failed: settings that could not be measured, and why.
        untried: settings for which there was no time.
        chosen: the best one of the entries; None before the first measurement.
        overload: the measurement of the queue, None without one.
    """

    objective: Objective
    space: Space
    entries: list[Entry] = field(default_factory=list)
    failed: dict[Setting, str] = field(default_factory=dict)
    untried: list[Setting] = field(default_factory=list)
    chosen: Setting | None = None
    overload: Overload | None = None

    def entry(self, setting: Setting) -> Entry:
        return next(one for one in self.entries if one.setting == setting)

    @property
    def recommended(self) -> Setting | None:
        """The setting to use: the chosen one, with the shorter queue if that is better."""
        if self.overload is not None and self.overload.is_better:
            return self.overload.bounded_setting
        return self.chosen

    @property
    def is_met(self) -> bool:
        """Whether some setting meets the objective."""
        return any(entry.typical(self.objective).meets(self.objective) for entry in self.entries)

    def scores(self) -> list[list[float]]:
        """For each entry a number for each run, larger is better: answers within the objective a second, 0 if it is
        not met. If no setting meets it, 1 / latency, so that the nearest one is the best.
        """
        loads = [entry.loads(self.objective) for entry in self.entries]
        if any(middle(one).meets(self.objective) for one in loads):
            return [[load.goodput if load.meets(self.objective) else 0.0 for load in one] for one in loads]
        return [[1 / load.quantile_s for load in one] for one in loads]

    @property
    def spread(self) -> float | None:
        """The most by which runs of one setting differ, relative to the better one; None if none was repeated."""
        return max((_range(runs) for runs in self.scores() if len(runs) > 1), default=None)

    def best(self) -> Entry:
        """The simplest setting that no other one beats beyond doubt, among those that ran each time.

        A setting beats another if its worst run is better than the other's best run, and if it is better by more than
        runs of either differ. One run is taken to differ by as much as those of other settings.
        """
        scores, spread = self.scores(), self.spread
        usual = SPREAD_ASSUMED if spread is None else spread
        by_changes = sorted(
            (len(entry.setting.changes()), index)
            for index, entry in enumerate(self.entries)
            if entry.setting not in self.failed or index == 0
        )
        _, pick = by_changes[0]
        for _, other in by_changes[1:]:
            mine, others = scores[pick], scores[other]
            doubt = max(GAIN_MIN, *(_range(runs) if len(runs) > 1 else usual for runs in (mine, others)))
            if min(others) > max(mine) and middle(others) > middle(mine) * (1 + doubt):
                pick = other
        return self.entries[pick]

    def ranked(self) -> list[Entry]:
        """The entries, the best figure first."""
        scores = {id(entry): middle(runs) for entry, runs in zip(self.entries, self.scores(), strict=True)}
        return sorted(self.entries, key=lambda entry: scores[id(entry)], reverse=True)

    def faster_but_close(self) -> list[Entry]:
        """Settings with a better figure than the chosen one that was not preferred, because runs differ by as much."""
        ranked = self.ranked()
        return ranked[: next((place for place, one in enumerate(ranked) if one.setting == self.chosen), 0)]


class Search:
    """Measures settings until the time is over, and fills `found`."""

    def __init__(self, measure: Measure, budget: Budget, found: Found) -> None:
        self._measure, self._budget, self._found = measure, budget, found
        # How long the last measurement took; the next one is taken to be as long.
        self._last_s = 0.0

    def run(self) -> None:
        """Raises SettingError if the server does not run with its defaults."""
        found, objective = self._found, self._found.objective
        first = Entry(Setting(), [self._climb(Setting(), 1)])
        found.entries.append(first)
        found.chosen = first.setting
        # Twice, because how far runs differ says what a difference between settings means; but not instead of those.
        if self._budget.allows(TRIES_MIN * self._last_s, TRYING_SHARE):
            first.runs.append(self._climb(first.setting, _start(first, objective)))
        # Repeats may put another setting in front, and then there is more to try on top of that one.
        share = TRYING_SHARE
        while self._go_through_stages(share):
            self.repeat_those_in_front(first)
            share = REPEATING_SHARE
        if found.chosen.batching is not None and self._budget.allows(2 * self._last_s):
            found.overload = self.measure_overload(found.chosen)

    def _go_through_stages(self, share: float) -> bool:
        """Tries what there is time for; returns whether there was anything new. share: of the time."""
        found = self._found
        before = len(found.entries) + len(found.failed)
        found.untried.clear()
        for stage in settings.STAGES:
            base = found.best()
            for candidate in stage(base.setting, found.space, found.objective.latency_s):
                self.try_out(candidate, _start(base, found.objective), share)
            found.chosen = found.best().setting
        return len(found.entries) + len(found.failed) > before

    def _follow(self, setting: Setting, plan: Plan) -> list[Load]:
        began_s = self._budget.spent_s()
        loads = self._measure(setting, plan)
        self._last_s = self._budget.spent_s() - began_s
        return loads

    def _climb(self, setting: Setting, clients: int) -> list[Load]:
        most, objective, budget = self._found.space.clients_max, self._found.objective, self._budget
        return self._follow(setting, lambda put_load: climb(put_load, clients, most, objective, budget))

    def try_out(self, candidate: Setting, clients: int, share: float) -> None:
        """Measures a setting once if it is new and there is time. clients: with how many its climb begins."""
        found = self._found
        if candidate in found.failed or any(entry.setting == candidate for entry in found.entries):
            return
        # One other setting comes before all repeats.
        if not self._budget.allows(self._last_s, share if len(found.entries) > 1 else 1.0):
            found.untried.append(candidate)
            return
        try:
            found.entries.append(Entry(candidate, [self._climb(candidate, clients)]))
        except SettingError as error:
            found.failed[candidate] = str(error)

    def repeat_those_in_front(self, first: Entry) -> None:
        """Measures the best settings again, in turns, the one with the fewest runs first. first: the defaults."""
        found = self._found
        while len(found.entries) > 1 and self._budget.allows(self._last_s, REPEATING_SHARE):
            pair = [found.best(), first]
            runs = RUNS if pair[0] is first else RUNS_OF_PAIR
            again = [entry for entry in pair if len(entry.runs) < runs]
            again += [entry for entry in found.ranked()[: RIVALS + 1] if len(entry.runs) < RUNS]
            again = [entry for entry in again if entry.setting not in found.failed]
            if not again:
                break
            entry = min(again, key=lambda entry: len(entry.runs))
            try:
                entry.runs.append(self._climb(entry.setting, _start(entry, found.objective)))
            except SettingError as error:
                found.failed[entry.setting] = str(error)
            found.chosen = found.best().setting

    def measure_overload(self, chosen: Setting) -> Overload | None:
        """Measures the chosen queue and one that holds what can be answered in time, both with many clients.

        The shorter queue is better if it gives more answers within the objective then, and no fewer otherwise, beyond
        what runs differ by. None if the two queues are the same, or could not be measured.
        """
        found, rows_of_request = self._found, self._found.space.rows
        best = found.entry(chosen).typical(found.objective)
        # Half of the latency is left for the run itself, and each worker has its queue.
        rows = int(best.rate * rows_of_request * found.objective.latency_s / 2 / max(1, chosen.workers))
        bounded = settings.with_queue_for(chosen, rows, rows_of_request)
        if bounded == chosen:
            return None
        in_time = max(best.clients, int(best.rate * found.objective.latency_s))
        clients = min(OVERLOAD * in_time, OVERLOAD_CLIENTS_MAX)
        try:
            usual = self._follow(chosen, lambda put_load: [put_load(clients)])[-1]
            before, short = self._follow(bounded, lambda put_load: [put_load(best.clients), put_load(clients)])
        except SettingError:
            return None
        kept = 1 - max(SPREAD_ASSUMED if found.spread is None else found.spread, GAIN_MIN)
        is_better = short.goodput * kept > usual.goodput and before.goodput > best.goodput * kept
        return Overload(usual, short, bounded, is_better)


def climb(put_load: PutLoad, start: int, clients_max: int, objective: Objective, budget: Budget) -> list[Load]:
    """Loads of more and more clients, as long as the objective is met and more is answered, or of fewer until it is.

    start: the number of clients to begin with. Ends early when the time is over.
    """
    began_s = budget.spent_s()
    clients, flat = max(1, min(start, clients_max)), 0
    loads = [put_load(clients)]
    load_s = budget.spent_s() - began_s
    if not loads[0].meets(objective):
        while not loads[-1].meets(objective) and clients > 1 and budget.allows(load_s):
            clients //= 2
            loads.append(put_load(clients))
        return loads
    while loads[-1].meets(objective) and clients * 2 <= clients_max and flat < FLAT_MAX and budget.allows(load_s):
        most = max(load.goodput for load in loads)
        clients *= 2
        loads.append(put_load(clients))
        flat = 0 if loads[-1].goodput > most * (1 + GAIN_MIN) else flat + 1
    return loads


def best_load(loads: Sequence[Load], objective: Objective) -> Load:
    """The load with most answers within the objective; if none meets it, the one with the shortest latency."""
    return max(loads, key=lambda load: _merit(load, objective))


def _merit(load: Load, objective: Objective) -> tuple[bool, float]:
    meets = load.meets(objective)
    return meets, load.goodput if meets else -load.quantile_s


def _start(entry: Entry, objective: Objective) -> int:
    """With how many clients a climb begins, by what is known: below the best, so that it sees the rise."""
    return max(1, entry.typical(objective).clients // 2)


def middle(ascending: Sequence[T]) -> T:
    """The one in the middle; of two, the lower one."""
    return ascending[(len(ascending) - 1) // 2]


def _range(scores: Sequence[float]) -> float:
    """How far scores lie apart, relative to the largest; those of runs that missed the objective left out."""
    met = [score for score in scores if score > 0]
    return (max(met) - min(met)) / max(met) if met else 0.0
