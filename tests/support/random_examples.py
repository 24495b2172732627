"""Random feature specs with Examples or SequenceExamples that fit them, or have one fault, as plain JSON.

Owns the choice of cases and their form, which TensorFlow's side reads as well (tests/ops/goldens/tensorflow_side.py):

    {"name": what is special, "spec": {key: feature}, "lists": {key: feature} or absent, "examples": [hex]}

A feature is a mapping of `kind`, `dtype` and what the kind has besides. Everything follows from a `random.Random`.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from estimator_serving.wire import features as kinds
from estimator_serving.wire.examples import encode_example, encode_sequence_example

DTYPES = ("float", "int64", "string")
KEYS = ("a", "b", "age", "x", "a longer key than sixteen bytes", "é", "Z_9", "k0", "k1", "k2", "the key", "q")
PARTITIONS = ("RowSplits", "RowLengths", "RowStarts", "RowLimits", "ValueRowIds")
WORDS = (b"", b"a", b"bc", "é".encode(), b"a word that is rather long for a word")


def as_feature(recorded: dict[str, Any]) -> kinds.Feature:
    """The feature that a case's mapping describes."""
    match recorded:
        case {"kind": "FixedLen", "shape": shape, "dtype": dtype}:
            return kinds.FixedLenFeature(shape, dtype, recorded.get("default"))
        case {"kind": "VarLen", "dtype": dtype}:
            return kinds.VarLenFeature(dtype)
        case {"kind": "FixedLenSequence", "shape": shape, "dtype": dtype, "allow_missing": missing}:
            return kinds.FixedLenSequenceFeature(shape, dtype, missing, recorded.get("default"))
        case {"kind": "Sparse", "index": index, "value": value, "dtype": dtype, "size": size, "sorted": is_sorted}:
            return kinds.SparseFeature(index, value, dtype, size, is_sorted)
    partitions = [getattr(kinds, name)(value) for name, value in recorded["partitions"]]
    return kinds.RaggedFeature(
        recorded["dtype"], recorded.get("value"), partitions, recorded["splits"], recorded["validate"]
    )


@dataclass
class Row:
    """What one message has: its values by key, and in feature lists those of each step."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    steps: dict[str, list[list[Any]]] = field(default_factory=dict)
    before: dict[str, list[Any]] = field(default_factory=dict)  # under keys that come again


class Case:
    """A spec under construction, with rows that fit it."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.spec: dict[str, Any] = {}
        self.lists: dict[str, Any] = {}
        self.is_sequence = rng.random() < 0.3
        self.rows = [Row() for _ in range(rng.choice((0, 1, 1, 2, 3, 5)))]
        if self.is_sequence:  # TensorFlow refuses a required context feature in a batch without rows
            self.rows = self.rows or [Row()]
        self.keys = list(KEYS)
        rng.shuffle(self.keys)
        for _ in range(rng.randint(1, 3)):
            self.add_feature()

    def take_key(self) -> str:
        return self.keys.pop()

    def add_feature(self) -> None:
        if not self.is_sequence:
            add = self.rng.choice((self.fixed, self.var, self.sequence, self.sparse, self.ragged, self.ragged))
        elif self.rng.random() < 0.4:
            add = self.rng.choice((self.fixed, self.var, self.ragged))
        else:
            add = self.rng.choice((self.var_steps, self.dense_steps, self.ragged_steps))
        add(self.rng.choice(DTYPES))

    def some(self, dtype: str, count: int) -> list[Any]:
        return [some_value(self.rng, dtype) for _ in range(count)]

    def is_missing(self) -> bool:
        return self.rng.random() < 0.2

    def fixed(self, dtype: str) -> None:
        key, shape = self.take_key(), self.rng.choice(([], [1], [3], [2, 2]))
        count = size_of(shape)
        self.spec[key] = {"kind": "FixedLen", "dtype": dtype, "shape": shape}
        has_default = self.rng.random() < 0.5 and not self.is_sequence
        if has_default:
            flat = [value.decode() if isinstance(value, bytes) else value for value in self.some(dtype, count)]
            self.spec[key]["default"] = flat if shape else flat[0]
        for row in self.rows:
            if not (has_default and self.is_missing()):
                row.values[key] = self.some(dtype, count)

    def var(self, dtype: str) -> None:
        key = self.take_key()
        self.spec[key] = {"kind": "VarLen", "dtype": dtype}
        for row in self.rows:
            if not self.is_missing():
                row.values[key] = self.some(dtype, self.rng.randint(0, 4))

    def sequence(self, dtype: str) -> None:
        key, shape = self.take_key(), self.rng.choice(([], [1], [2], [2, 2]))
        self.spec[key] = {"kind": "FixedLenSequence", "dtype": dtype, "shape": shape, "allow_missing": True}
        if self.rng.random() < 0.5:
            (default,) = self.some(dtype, 1)
            self.spec[key]["default"] = default.decode() if isinstance(default, bytes) else default
        for row in self.rows:
            if not self.is_missing():
                row.values[key] = self.some(dtype, self.rng.randint(0, 3) * size_of(shape))

    def sparse(self, dtype: str) -> None:
        key, value = self.take_key(), self.take_key()
        indices = [self.take_key() for _ in range(self.rng.choice((1, 1, 2)))]
        is_list = len(indices) > 1 or self.rng.random() < 0.3
        is_sorted = self.rng.random() < 0.3
        self.spec[key] = {
            "kind": "Sparse",
            "dtype": dtype,
            "value": value,
            "index": indices if is_list else indices[0],
            "size": [1000] * len(indices) if is_list else 1000,
            "sorted": is_sorted,
        }
        for row in self.rows:
            if self.is_missing():
                continue
            count = self.rng.randint(0, 4)
            row.values[value] = self.some(dtype, count)
            # Without two of one index, whose order TensorFlow leaves open.
            numbers = [self.rng.sample(range(-2, 1002), count) for _ in indices]
            row.values |= dict(zip(indices, numbers, strict=True))

    def ragged(self, dtype: str) -> None:
        self.add_ragged(dtype, self.spec, lambda row: [row.values])

    def ragged_steps(self, dtype: str) -> None:
        steps = {id(row): [{} for _ in range(self.rng.randint(0, 3))] for row in self.rows}
        keys = self.add_ragged(dtype, self.lists, lambda row: steps[id(row)])
        for row in self.rows:
            for key in keys:
                row.steps[key] = [step.get(key, []) for step in steps[id(row)]]

    def add_ragged(
        self, dtype: str, spec: dict[str, Any], places: Callable[[Row], list[dict[str, list[Any]]]]
    ) -> list[str]:
        """Declares a ragged feature and fills each place of each row with parts that fit; returns the keys used."""
        key = self.take_key()
        value = self.take_key() if self.rng.random() < 0.5 else None
        partitions: list[list[Any]] = []
        for _ in range(self.rng.choice((0, 1, 1, 2, 2, 3))):
            if self.rng.random() < 0.3:
                partitions.append(["UniformRowLength", self.rng.randint(1, 3)])
            elif len(self.keys) > 2:
                partitions.append([self.rng.choice(PARTITIONS), self.take_key()])
        spec[key] = {
            "kind": "Ragged",
            "dtype": dtype,
            "value": value,
            "partitions": partitions,
            "splits": self.rng.choice(("int32", "int64")),
            "validate": self.rng.random() < 0.5,
        }
        for row in self.rows:
            for place in places(row):
                if not self.is_missing():
                    self.fill_ragged(place, value or key, partitions, dtype)
        return [value or key, *(name for kind, name in partitions if kind != "UniformRowLength")]

    def fill_ragged(self, place: dict[str, list[Any]], value: str, partitions: list[list[Any]], dtype: str) -> None:
        items = self.rng.randint(0, 3)
        for kind, key in partitions:  # outermost first: `items` rows, each of which has some of the next level's
            lengths = [self.rng.randint(0, 3) for _ in range(items)]
            if kind == "UniformRowLength":
                lengths = [key] * items
            elif kind == "ValueRowIds":
                lengths = lengths[:-1] + [max(length, 1) for length in lengths[-1:]]
            items = sum(lengths)
            if kind != "UniformRowLength":
                place[key] = partition_numbers(kind, lengths)
        place[value] = self.some(dtype, items)

    def var_steps(self, dtype: str) -> None:
        key = self.take_key()
        self.lists[key] = {"kind": "VarLen", "dtype": dtype}
        for row in self.rows:
            if not self.is_missing():
                row.steps[key] = [self.some(dtype, self.rng.randint(0, 3)) for _ in range(self.rng.randint(0, 3))]

    def dense_steps(self, dtype: str) -> None:
        key, shape = self.take_key(), self.rng.choice(([], [1], [2]))
        missing = self.rng.random() < 0.5
        self.lists[key] = {"kind": "FixedLenSequence", "dtype": dtype, "shape": shape, "allow_missing": missing}
        for row in self.rows:
            if not (missing and self.is_missing()):
                row.steps[key] = [self.some(dtype, size_of(shape)) for _ in range(self.rng.randint(0, 3))]


def size_of(shape: list[int]) -> int:
    return shape[0] * size_of(shape[1:]) if shape else 1


def some_value(rng: Random, dtype: str) -> Any:
    if dtype == "float":
        return struct.unpack("<f", struct.pack("<f", rng.uniform(-100, 100)))[0]
    if dtype == "int64":
        return rng.choice((0, 1, -1, rng.randint(-1000, 1000), rng.randint(-(1 << 63), (1 << 63) - 1)))
    return rng.choice(WORDS)


def partition_numbers(kind: str, lengths: list[int]) -> list[int]:
    """The numbers that cut into rows of these lengths."""
    limits = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    return {
        "RowLengths": lengths,
        "RowLimits": limits,
        "RowStarts": [0, *limits][: len(lengths)],
        "RowSplits": [0, *limits],
        "ValueRowIds": [i for i, length in enumerate(lengths) for _ in range(length)],
    }[kind]


# ---- faults ---------------------------------------------------------------------------------------------------------


def other_dtype(case: Case) -> bool:
    places = [(row.values, key) for row in case.rows for key, values in row.values.items() if values]
    places += [(row.steps[key], i) for row in case.rows for key in row.steps for i, v in enumerate(row.steps[key]) if v]  # type: ignore[misc]
    return bool(places) and replace(case, *case.rng.choice(places))


def replace(case: Case, place: Any, at: Any) -> bool:
    value = place[at][0]
    dtype = "string" if isinstance(value, bytes) else "float" if isinstance(value, float) else "int64"
    place[at] = case.some(case.rng.choice([other for other in DTYPES if other != dtype]), len(place[at]))
    return True


def of_kind(case: Case, *names: str) -> list[tuple[str, dict[str, Any]]]:
    return [(key, feature) for key, feature in case.spec.items() if feature["kind"] in names]


def too_many(case: Case) -> bool:
    return change(case, "FixedLen", lambda values, dtype: values + case.some(dtype, 1))


def too_few(case: Case) -> bool:
    return change(case, "FixedLen", lambda values, _: values[:-1])


def half_a_step(case: Case) -> bool:
    candidates = [(key, f) for key, f in of_kind(case, "FixedLenSequence") if size_of(f["shape"]) > 1]
    rows = [(row, key, f) for row in case.rows for key, f in candidates if key in row.values]
    if not rows:
        return False
    row, key, feature = case.rng.choice(rows)
    row.values[key] = row.values[key] + case.some(feature["dtype"], 1)
    return True


def change(case: Case, kind: str, action: Callable[[list[Any], str], list[Any]]) -> bool:
    rows = [(row, key, f) for row in case.rows for key, f in of_kind(case, kind) if row.values.get(key)]
    if case.is_sequence or not rows:
        return False
    row, key, feature = case.rng.choice(rows)
    row.values[key] = action(row.values[key], feature["dtype"])
    return True


def missing(case: Case) -> bool:
    rows = [
        (row, key)
        for row in case.rows
        for key, f in of_kind(case, "FixedLen")
        if key in row.values and "default" not in f
    ]
    if case.is_sequence or not rows:
        return False
    row, key = case.rng.choice(rows)
    del row.values[key]
    return True


def missing_list(case: Case) -> bool:
    rows = [
        (row, key)
        for row in case.rows
        for key, f in case.lists.items()
        if f["kind"] == "FixedLenSequence" and not f["allow_missing"]
    ]
    if not rows:
        return False
    row, key = case.rng.choice(rows)
    del row.steps[key]
    return True


def wrong_step(case: Case) -> bool:
    steps = [
        (row.steps[key], f["dtype"])
        for row in case.rows
        for key, f in case.lists.items()
        if f["kind"] == "FixedLenSequence" and row.steps.get(key)
    ]
    if not steps:
        return False
    chosen, dtype = case.rng.choice(steps)
    chosen[case.rng.randrange(len(chosen))] += case.some(dtype, 1)
    return True


def sparse_lengths(case: Case) -> bool:
    rows = [(row, f) for row in case.rows for _, f in of_kind(case, "Sparse") if row.values.get(f["value"])]
    if not rows:
        return False
    row, feature = case.rng.choice(rows)
    row.values[feature["value"]] = row.values[feature["value"]][:-1]
    return True


def ragged_parts(case: Case, validate: bool, kinds_of: tuple[str, ...]) -> list[tuple[Row, str, str]]:
    return [
        (row, name, kind)
        for row in case.rows
        for _, f in of_kind(case, "Ragged")
        if f["validate"] == validate
        for kind, name in f["partitions"]
        if kind in kinds_of and row.values.get(name)
    ]


def bad_partition(case: Case) -> bool:
    """One that TensorFlow finds as well: a negative length, a limit that is too great."""
    parts = ragged_parts(case, True, ("RowLengths", "RowLimits"))
    if not parts:
        return False
    row, name, kind = case.rng.choice(parts)
    row.values[name][-1] = -1 if kind != "RowLimits" else 50
    return True


def negative_start(case: Case) -> bool:
    parts = ragged_parts(case, case.rng.random() < 0.5, ("ValueRowIds", "RowStarts"))
    if not parts:
        return False
    row, name, _ = case.rng.choice(parts)
    row.values[name][0] = -1
    return True


def forgotten_kind(case: Case) -> bool:
    """A dense key that stands twice, the second time without values of any kind."""
    dense = of_kind(case, "FixedLenSequence")
    rows = [(row, key) for row in case.rows for key, _ in dense if row.values.get(key)]
    if case.is_sequence or not rows:
        return False
    row, key = case.rng.choice(rows)
    row.before = {key: row.values[key]}
    row.values[key] = []
    return True


def left_over(case: Case) -> bool:
    """What TensorFlow passes on without a word, into the row behind."""
    parts = ragged_parts(case, False, ("RowLengths", "RowLimits"))
    if not parts:
        return False
    row, name, _ = case.rng.choice(parts)
    row.values[name][-1] += case.rng.choice((-1, 1, 50))
    return True


def garbage(case: Case) -> bool:
    return bool(case.rows)


# What can be wrong, by name. Each puts its fault into the case, or is False where the case has no place for it.
FAULTS: dict[str, Callable[[Case], bool]] = {
    "another dtype": other_dtype,
    "too many values": too_many,
    "too few values": too_few,
    "half a step": half_a_step,
    "a required feature is missing": missing,
    "a required list is missing": missing_list,
    "a step of another length": wrong_step,
    "indices and values of two lengths": sparse_lengths,
    "a partition that does not fit": bad_partition,
    "a partition that leaves values over": left_over,
    "a row id or start below 0": negative_start,
    "twice, at last without a kind": forgotten_kind,
    "garbage": garbage,
}


def make_case(rng: Random) -> dict[str, Any]:
    """A case: about as many fit their spec as have a fault."""
    case, name = Case(rng), "fits"
    if rng.random() < 0.5:
        possible = (fault for fault in rng.sample(list(FAULTS), len(FAULTS)) if FAULTS[fault](case))
        name = next(possible, name)
    examples = [encode_row(case, row) for row in case.rows]
    if name == "garbage":
        examples[rng.randrange(len(examples))] = rng.choice((b"hello", b"\x0f", b"\n\x05ab"))
    made = {"name": name, "spec": case.spec, "examples": [example.hex() for example in examples]}
    return made | ({"lists": case.lists} if case.is_sequence else {})


def encode_row(case: Case, row: Row) -> bytes:
    if case.is_sequence:
        return encode_sequence_example(row.values, row.steps)
    values = row.values | {"of no feature": [1]} if case.rng.random() < 0.3 else row.values
    if case.rng.random() < 0.5 and not row.before:
        return encode_example(values)
    # The entries in any order, some of them twice, of which the last one counts.
    entries = [encode_example({key: value}) for key, value in values.items()]
    case.rng.shuffle(entries)
    stale = [encode_example({key: [7.0]}) for key in values if values[key] and case.rng.random() < 0.1]
    return b"".join([encode_example(row.before), *stale, *entries])
