"""What all processes of a server count, as one: the sums of their metrics, those of processes that ended included.

Owns how a metric of several processes becomes one. Counters and histograms are summed, and never go back: what a
process had counted when it was last asked stays in the sum when it ends. Of gauges, those that measure a process's part
of something are summed, of the others the largest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from estimator_serving.serving.metrics import Done

SUMMED_GAUGES = frozenset(
    {
        "estimator_serving_queue_requests", "estimator_serving_queue_rows",
        "process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds",
    }
)  # fmt: skip
# The state of versions is the supervisor's to tell; a worker may be a moment behind.
_DECIDED = frozenset(
    {"estimator_serving_version_state", "estimator_serving_model_ready", "estimator_serving_config_in_force"}
)
_OLDEST = "process_start_time_seconds"
_COUNTED = frozenset({"counter", "histogram", "unknown"})

_Key = tuple[str, tuple[tuple[str, str], ...]]


class _Family:
    """A family while it is summed up."""

    def __init__(self, like: Metric) -> None:
        self.like = like
        self.values: dict[_Key, float] = {}

    def add(self, key: _Key, value: float) -> None:
        known = self.values.get(key)
        if known is None:
            self.values[key] = value
        elif self.like.type in _COUNTED or self.like.name in SUMMED_GAUGES:
            self.values[key] = known + value
        else:
            self.values[key] = min(known, value) if self.like.name == _OLDEST else max(known, value)

    def metric(self) -> Metric:
        metric = Metric(self.like.name, self.like.documentation, self.like.type)
        metric.samples = [Sample(name, dict(labels), value) for (name, labels), value in self.values.items()]
        return metric


class Counts(NamedTuple):
    """What one process counts. did: what each version did that it has loaded."""

    families: Sequence[Metric] = ()
    did: Mapping[tuple[str, int], Done] = {}


class Tally:
    """The counts of some processes, by their ids.

    loaded: the (model, version) pairs that are loaded now.
    """

    def __init__(self, loaded: Callable[[], Collection[tuple[str, str]]]) -> None:
        self._loaded = loaded
        self._latest: dict[int, Counts] = {}
        self._ended: dict[str, _Family] = {}
        self._did: dict[tuple[str, int], Done] = {}

    def note(self, process: int, counts: Counts) -> None:
        """What a process counts now."""
        self._latest[process] = counts

    def end(self, process: int) -> None:
        """Keep what a process had counted that has ended."""
        counts = self._latest.pop(process, Counts())
        _add(self._ended, (one for one in counts.families if one.type in _COUNTED))
        for key, done in counts.did.items():
            self._did[key] = self._did.get(key, Done()).plus(done)

    def did(self, model: str, version: int) -> Done:
        """What a version did in all processes."""
        key = (model, version)
        latest = (counts.did.get(key, Done()) for counts in self._latest.values())
        return reduce(Done.plus, latest, self._did.get(key, Done()))

    def families(self, own: Sequence[Metric]) -> list[Metric]:
        """The sums. own: of the process that decides about versions."""
        self._forget_versions()
        sums: dict[str, _Family] = {}
        _add(sums, own)
        _add(sums, (family.metric() for family in self._ended.values()))
        for counts in self._latest.values():
            _add(sums, (one for one in counts.families if one.name not in _DECIDED))
        return [family.metric() for family in sums.values()]

    def _forget_versions(self) -> None:
        """Of versions that are gone, keep what counts requests, without version and signature; drop the rest."""
        loaded = self._loaded()
        self._did = {key: done for key, done in self._did.items() if (key[0], str(key[1])) in loaded}
        for family in self._ended.values():
            kept = _Family(family.like)
            for (name, labels), value in family.values.items():
                named = dict(labels)
                if named.get("version") and (named["model"], named["version"]) not in loaded:
                    if "entrypoint" not in named:
                        continue
                    named |= {"version": "", "signature": ""}
                kept.add((name, tuple(named.items())), value)
            family.values = kept.values


def _add(sums: dict[str, _Family], families: Iterable[Metric]) -> None:
    for one in families:
        family = sums.setdefault(one.name, _Family(one))
        for sample in one.samples:
            family.add((sample.name, tuple(sample.labels.items())), sample.value)
