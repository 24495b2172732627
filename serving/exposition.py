"""Metric families as the text that Prometheus reads, byte for byte what its client library writes.

Owns the writing, and two kinds of families that are written straight from their counts: the library makes an object
with a dictionary of labels for each of the thousands of lines, and holds the interpreter's lock for ten times as long.
Their samples, which the library's families have at once, are made when somebody asks for them. Knows no metric by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

_TYPES = frozenset({"counter", "gauge", "histogram"})
_ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_ESCAPED_HELP = str.maketrans({"\\": "\\\\", "\n": "\\n"})
# The library writes samples of these names as families of their own.
_APART = ("_created", "_gsum", "_gcount")


class Family(Metric):
    """Numbers by labels, under a name that stays as it is.

    Its type is "unknown" to the library, which adds _total to the names of counters; the text says that it is one.
    """

    type = "unknown"
    unit = ""

    def __init__(
        self, name: str, documentation: str, label_names: tuple[str, ...], numbers: Mapping[tuple[str, ...], float]
    ) -> None:
        self.name = name
        self.documentation = documentation
        self._label_names = label_names
        self._numbers = dict(numbers)

    @property
    def samples(self) -> list[Sample]:  # type: ignore[override]
        names = self._label_names
        return [Sample(self.name, dict(zip(names, labels, strict=True)), n) for labels, n in self._numbers.items()]

    def lines(self) -> Iterator[str]:
        for labels, number in self._numbers.items():
            yield _line(self.name, tuple(zip(self._label_names, labels, strict=True)), number)


class HistogramFamily(Metric):
    """Histograms by labels: for each the counts by bucket, one more than there are bounds, and the sum."""

    type = "histogram"
    unit = ""

    def __init__(
        self,
        name: str,
        documentation: str,
        label_names: tuple[str, ...],
        bounds: tuple[float, ...],
        histograms: Mapping[tuple[str, ...], tuple[Sequence[int], float]],
    ) -> None:
        self.name = name
        self.documentation = documentation
        self._label_names = label_names
        self._bounds = bounds
        self._histograms = dict(histograms)

    @property
    def samples(self) -> list[Sample]:  # type: ignore[override]
        made = []
        for values, (buckets, total) in self._histograms.items():
            labels = dict(zip(self._label_names, values, strict=True))
            for bound, count in zip(_bound_texts(self._bounds), accumulate(buckets), strict=True):
                made.append(Sample(f"{self.name}_bucket", labels | {"le": bound}, float(count)))
            made.append(Sample(f"{self.name}_count", labels, float(sum(buckets))))
            made.append(Sample(f"{self.name}_sum", labels, total))
        return made

    def lines(self) -> Iterator[str]:
        bounds = _bound_texts(self._bounds)
        for values, (buckets, total) in self._histograms.items():
            labels = tuple(zip(self._label_names, values, strict=True))
            before, after = _around_bound(labels)
            head, tail = f"{self.name}_bucket{{{before}", f"{after}}} "
            yield "".join(
                [
                    f'{head}le="{bound}"{tail}{f"{count}.0" if count < 1_000_000 else _number(count)}\n'
                    for bound, count in zip(bounds, accumulate(buckets), strict=True)
                ]
            )
            yield _line(f"{self.name}_count", labels, sum(buckets))
            yield _line(f"{self.name}_sum", labels, total)


def write(families: Iterable[Metric]) -> bytes:
    """The text of these families."""
    parts: list[str] = []
    for family in families:
        kind = "counter" if family.type == "unknown" else family.type
        if isinstance(family, Family | HistogramFamily):
            lines = family.lines()
        elif kind in _TYPES and not any(one.timestamp or one.name.endswith(_APART) for one in family.samples):
            lines = (_line(one.name, tuple(one.labels.items()), one.value) for one in family.samples)
        else:
            parts.append(generate_latest(_One(family)).decode())
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        parts.append(f"# HELP {name} {family.documentation.translate(_ESCAPED_HELP)}\n# TYPE {name} {kind}\n")
        parts.extend(lines)
    return "".join(parts).encode()


class _One(CollectorRegistry):
    """A family that was collected already, as the library's writer takes it."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _line(name: str, labels: tuple[tuple[str, str], ...], number: float) -> str:
    if not labels:
        return f"{name} {_number(number)}\n"
    return f"{name}{{{_label_text(labels)}}} {_number(number)}\n"


def _number(number: float) -> str:
    """As Go prints it: with an exponent from a million on."""
    number = float(number)
    if not math.isfinite(number):
        return "NaN" if number != number else "+Inf" if number > 0 else "-Inf"
    text = repr(number)
    dot = text.find(".")
    if number > 0 and dot > 6:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02d}"
    return text


# The same labels come at every scrape, and in several families.
@lru_cache(maxsize=4096)
def _label_text(labels: tuple[tuple[str, str], ...]) -> str:
    return ",".join([f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(labels)])


@lru_cache(maxsize=4096)
def _around_bound(labels: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """What stands before and after a bucket's bound, `le`: labels are sorted by their names."""
    before = _label_text(tuple(label for label in labels if label[0] < "le"))
    after = _label_text(tuple(label for label in labels if label[0] > "le"))
    return f"{before}," if before else "", f",{after}" if after else ""


@lru_cache(maxsize=64)
def _bound_texts(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(f"{bound:g}" for bound in bounds), "+Inf")
