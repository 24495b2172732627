"""How well a model's columns cover the rows of an evaluation: what is missing, out of vocabulary, or shares a bucket.

Owns counting raw features and what the counts say of each column. The values of a categorical feature are counted once
however many columns read it, and a column's vocabulary or buckets are compared with the distinct values only, at the
end. Does not know batches, models or files.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import spox

from estimator_serving import ops
from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.feed import RawFeatures
from estimator_serving.training.columns.finish import serialize

DISTINCT_MAX = 20_000
"""Distinct values of a feature, or combinations of a cross, that are told apart; further ones are counted only."""
_SHOWN_VALUES = 10
_CATEGORICAL = ("vocabulary_list", "vocabulary_file", "hash_bucket", "identity")


class Coverage:
    """The counts of a model's features, to which batches are added.

    `definitions` are those of the model's transform. Without any, every feature of the batches is counted by itself.
    """

    def __init__(self, definitions: Iterable[Definition]) -> None:
        self._columns = {json.dumps(one, sort_keys=True): one for each in definitions for one in leaves(each)}
        self._keys = {key for column in self._columns.values() for key in _keys(column)}
        self._counted_keys = {one["key"] for one in self._columns.values() if one["kind"] in _CATEGORICAL}
        self._counts: dict[str, _Counts] = {}
        self._combinations: dict[str, set[Any]] = {}
        self._rows = 0

    def add(self, batches: Sequence[RawFeatures]) -> None:
        """Count the rows of some batches; many at once cost less than one after the other."""
        keys = self._keys if self._columns else {str(key) for key in batches[0]}
        read = {key: joined([read_feature(raw, key) for raw in batches]) for key in keys}
        for key, array in read.items():
            if array is not None:
                is_counted = key in self._counted_keys or not self._columns
                if is_counted or array[0].dtype.kind != "O":
                    self._counts.setdefault(key, _Counts(is_counted)).add(*array)
        self._rows += max((len(array[0]) for array in read.values() if array is not None), default=0)
        for name, column in self._columns.items():
            if column["kind"] == "crossed":
                combined = combinations_of(column, read)
                seen = self._combinations.setdefault(name, set())
                if combined is not None and len(seen) < DISTINCT_MAX:
                    seen.update(combined)

    def describe(self) -> list[dict[str, Any]]:
        """One entry for each column, by name, ready for JSON."""
        described = {key: counts.describe() for key, counts in self._counts.items()}
        if not self._columns:
            return [{"column": key, "kind": "feature", **one} for key, one in sorted(described.items())]
        nothing = _Counts(False)
        found = []
        for name, column in self._columns.items():
            kind = column["kind"]
            if kind == "crossed":
                found.append(describe_cross(column, self._rows, self._combinations.get(name)))
                continue
            counts = self._counts.get(column["key"], nothing)
            entry = {"column": column["key"], "kind": kind, **described.get(column["key"], nothing.describe())}
            if kind in _CATEGORICAL and not counts.is_cut:
                entry |= describe_ids(column, counts)
            if kind == "bucketized":
                places = np.searchsorted(np.float32(column["boundaries"]), counts.numbers, side="right")
                filled = np.bincount(places, minlength=len(column["boundaries"]) + 1)
                entry |= {"boundaries": column["boundaries"], "rows_by_bucket": filled.tolist()}
            found.append(entry)
        return sorted(found, key=lambda entry: (entry["column"], entry["kind"]))


class _Counts:
    """What is counted of one feature: its values one by one, or only as numbers."""

    def __init__(self, is_counted: bool) -> None:
        self._is_counted = is_counted
        self.rows = self.missing_rows = 0
        self.values: Counter[Any] = Counter()
        self.is_cut = False
        self._parts: list[Array] = []

    def add(self, array: Array, lengths: Array | None) -> None:
        """Rows of a feature; `lengths` of those whose values stand in padded rows."""
        self.rows += len(array)
        flat = array.reshape(len(array), -1)
        if array.dtype.kind == "f":
            finite = np.isfinite(flat)
            rows = finite[:, 0] if flat.shape[1] == 1 else finite.any(axis=1)
            self.missing_rows += len(flat) - int(np.count_nonzero(rows))
            self._parts.append((flat if finite.all() else flat[finite]).astype(np.float32).ravel())
            return
        if array.dtype.kind in "iu":
            self._parts.append(flat.ravel().astype(np.float32))
        if not self._is_counted:
            return
        nothing = "" if array.dtype == object else -1
        if lengths is not None:
            self.missing_rows += int((np.asarray(lengths) == 0).sum())
            values = flat[np.arange(flat.shape[1]) < np.asarray(lengths)[:, None]].tolist()
        else:
            values = flat.ravel().tolist()
            if flat.shape[1] > 1:
                self.missing_rows += int((flat == nothing).all(axis=1).sum())
        self.is_cut |= len(self.values) > DISTINCT_MAX
        counted = Counter(values)
        if lengths is None:
            alone = counted.pop(nothing, 0)
            self.missing_rows += alone if flat.shape[1] == 1 else 0
        if not self.is_cut:
            self.values.update(counted)

    @property
    def numbers(self) -> Array:
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = {"rows": self.rows, "missing_rows": self.missing_rows}
        if self.values:
            # Data sets of bytes are counted as they are, and read at the end.
            self.values = Counter(
                {
                    one.decode(errors="surrogateescape") if isinstance(one, bytes) else one: n
                    for one, n in self.values.items()
                }
            )
            top = sorted(self.values.items(), key=lambda item: (-item[1], str(item[0])))[:_SHOWN_VALUES]
            found |= {
                "values": self.values.total(),
                "distinct": len(self.values),
                "is_cut": self.is_cut,
                "top": [[str(value), count] for value, count in top],
            }
        elif len(numbers := self.numbers):
            found |= {key: float(getattr(numbers, key)()) for key in ("min", "mean", "max", "std")}
        return found


# -- columns ----------------------------------------------------------------------------------------------------------


def leaves(definition: Any) -> Iterator[Definition]:
    """The columns inside a definition that read features, a cross as one."""
    if isinstance(definition, Mapping):
        kind = definition.get("kind")
        if kind == "bucketized":
            yield {"kind": kind, "key": definition["source"]["key"], "boundaries": definition["boundaries"]}
        elif kind == "numeric":
            yield {"kind": kind, "key": definition["key"]}
        elif kind in ("crossed", *_CATEGORICAL):
            yield dict(definition)
        else:
            for value in definition.values():
                yield from leaves(value)


def _keys(column: Definition) -> list[str]:
    """The features that a column reads: a cross several, in its order."""
    if column["kind"] != "crossed":
        return [column["key"]]
    return [leaf["source"]["key"] if leaf["kind"] == "bucketized" else leaf["key"] for leaf in column["keys"]]


def describe_ids(column: Definition, counts: _Counts) -> dict[str, Any]:
    """What becomes of a categorical column's distinct values."""
    kind, values = column["kind"], counts.values
    if kind == "identity":
        out = [value for value in values if not 0 <= value < column["num_buckets"]]
        return {"buckets": column["num_buckets"], "out_of_range": sum(values[value] for value in out)}
    if kind == "hash_bucket":
        by_bucket = Counter(hash_buckets([str(value) for value in values], column["hash_bucket_size"]).tolist())
        sharing = sum(count for count in by_bucket.values() if count > 1)
        return {"buckets": column["hash_bucket_size"], "buckets_used": len(by_bucket), "distinct_sharing": sharing}
    known = set(column["vocabulary_list"])
    unknown = sorted((value for value in values if value not in known), key=lambda value: (-values[value], str(value)))
    return {
        "vocabulary": len(known),
        "vocabulary_used": len(values) - len(unknown),
        "out_of_vocabulary": sum(values[value] for value in unknown),
        "unknown_values": [[str(value), values[value]] for value in unknown[:_SHOWN_VALUES]],
        "oov_buckets": column["num_oov_buckets"],
    }


def describe_cross(column: Definition, rows: int, seen: set[Any] | None) -> dict[str, Any]:
    buckets = column["hash_bucket_size"]
    found: dict[str, Any] = {"column": "_X_".join(sorted(_keys(column))), "kind": "crossed", "rows": rows}
    found["buckets"] = buckets
    if seen:
        # By chance, as no hash is computed: the share of combinations that meet another in their bucket.
        sharing = 1.0 - (1.0 - 1.0 / buckets) ** (len(seen) - 1)
        found |= {"distinct": len(seen), "is_cut": len(seen) >= DISTINCT_MAX, "expected_sharing": sharing}
    return found


def combinations_of(cross: Definition, read: Mapping[str, tuple[Array, Array | None] | None]) -> set[Any] | None:
    """The combinations of a batch; None if a feature has several values in a row, or is not there."""
    parts = []
    for leaf, key in zip(cross["keys"], _keys(cross), strict=True):
        found = read.get(key)
        if found is None or found[1] is not None or found[0].size != len(found[0]):
            return None
        flat = found[0].ravel()
        if leaf["kind"] == "bucketized":
            flat = np.searchsorted(np.float32(leaf["boundaries"]), flat.astype(np.float32), side="right")
        parts.append(flat.tolist())
    return set(zip(*parts, strict=True))


def read_feature(raw: RawFeatures, key: str) -> tuple[Array, Array | None] | None:
    """A feature's values and lengths; None if the batch lacks it or it is no array of numbers or words."""
    padded = f"{key}/values" in raw
    value = raw.get(f"{key}/values" if padded else key)
    if value is None or isinstance(value, Mapping):
        return None
    array = value if type(value) is np.ndarray and value.dtype.kind in "Ofiu" else as_array(value, key)
    if array.ndim == 0 or array.dtype.kind not in "fiubO":
        return None
    return array.astype(np.int64) if array.dtype.kind == "b" else array, raw.get(f"{key}/lengths") if padded else None


def joined(parts: list[tuple[Array, Array | None] | None]) -> tuple[Array, Array | None] | None:
    """The rows of all batches; padded to one width where they come with lengths."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    if found[0][1] is None:
        width = max(math.prod(array.shape[1:]) for array, _ in found)
        nothing: Any = "" if found[0][0].dtype == object else np.nan if found[0][0].dtype.kind == "f" else -1
        if len({array.shape[1:] for array, _ in found}) > 1:
            return np.concatenate([_widened(array.reshape(len(array), -1), width, nothing) for array, _ in found]), None
        return np.concatenate([array for array, _ in found]), None
    width = max(array.shape[1] for array, _ in found)
    nothing = "" if found[0][0].dtype == object else 0
    arrays = [_widened(array, width, nothing) for array, _ in found]
    return np.concatenate(arrays), np.concatenate([lengths for _, lengths in found if lengths is not None])


def _widened(array: Array, width: int, nothing: Any) -> Array:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=nothing)


@functools.cache
def hashing_session() -> Any:
    words = spox.argument(spox.Tensor(np.str_, ("batch", "k")))
    return ops.session(serialize(spox.build({"words": words}, {"hashes": onnx_ops.fingerprint64(words)})))


def hash_buckets(words: list[str], size: int) -> Array:
    """TensorFlow's hash buckets of words."""
    (hashes,) = hashing_session().run(None, {"words": np.array(words, object).reshape(-1, 1)})
    buckets: Array = hashes.ravel() % np.uint64(size)
    return buckets
