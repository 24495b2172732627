"""What a column computes, as JSON: the identity that a checkpoint keeps and that a later run is compared with.

Owns the definitions, the inputs they imply, and the words for a difference. It holds only what moves the transform's
numbers: a parse default or an embedding's dimension is not in it. Knows nothing of ONNX or of sessions.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from estimator_serving.training.columns import normalizer
from estimator_serving.training.columns.values import (
    BucketizedColumn,
    CategoricalColumn,
    CrossedColumn,
    FeatureColumn,
    HashedCategoricalColumn,
    IdentityCategoricalColumn,
    IndicatorColumn,
    KeyedCategoricalColumn,
    NumericColumn,
    SequenceCategoricalColumn,
    SequenceNumericColumn,
    VocabularyFileCategoricalColumn,
    VocabularyListCategoricalColumn,
    WeightedCategoricalColumn,
    describe,
)
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

Definition = dict[str, Any]


@dataclass(frozen=True)
class Ids:
    """The ids of a categorical column, int64 [batch, k] with -1 for nothing, as an output of the transform."""

    column: CategoricalColumn

    @property
    def output_name(self) -> str:
        return f"{self.column.name}/ids"


@dataclass(frozen=True)
class Dense:
    """The dense values of a column, float32 [batch, n], as an output of the transform."""

    column: NumericColumn | BucketizedColumn | IndicatorColumn

    @property
    def output_name(self) -> str:
        # Not the bare name: a numeric column's input has it, and a graph has one value a name.
        return f"{self.column.name}/dense"


@dataclass(frozen=True)
class Weights:
    """The weights of a weighted column's ids, float32 [batch, k], as an output of the transform."""

    column: WeightedCategoricalColumn

    @property
    def output_name(self) -> str:
        return f"{self.column.name}/weights"


@dataclass(frozen=True)
class Steps:
    """The numbers of a sequence, float32 [batch, steps, n], as an output of the transform."""

    column: SequenceNumericColumn

    @property
    def output_name(self) -> str:
        return f"{self.column.name}/steps"


@dataclass(frozen=True)
class StepCount:
    """How many steps of a sequence's row count, int64 [batch], as an output of the transform."""

    column: SequenceCategoricalColumn | SequenceNumericColumn

    @property
    def output_name(self) -> str:
        return f"{self.column.name}/step_count"


Output = Ids | Dense | Weights | Steps | StepCount
_USES: dict[type[Output], str] = {
    Ids: "ids",
    Dense: "dense",
    Weights: "weights",
    Steps: "steps",
    StepCount: "step_count",
}


@dataclass(frozen=True)
class NumericInput:
    """`key`: float32 [batch, *shape]."""

    key: str
    shape: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.key,)


@dataclass(frozen=True)
class PaddedInput:
    """`key/values` [batch, k], padded, and `key/lengths` int64 [batch]."""

    key: str
    dtype: DType

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.key}/values", f"{self.key}/lengths")

    @property
    def blank(self) -> str | int | float | None:
        """What counts as nothing where the feature is dense; None where everything is a value."""
        return "" if self.dtype.is_string else -1


@dataclass(frozen=True)
class CategoricalInput(PaddedInput):
    """A feature that a categorical column reads: string or int64. `kind` is the column's, for messages."""

    kind: str = field(default="", compare=False)


@dataclass(frozen=True)
class TextInput(PaddedInput):
    """What a cross reads without a column, text or integers. Beside the CategoricalInput of that key: '' and -1 are
    values here."""

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.key}/text/values", f"{self.key}/text/lengths")

    @property
    def blank(self) -> str | int | float | None:
        return None


@dataclass(frozen=True)
class WeightInput(PaddedInput):
    """The weights of a weighted column: fed as `dtype`, float32 in the graph."""

    @property
    def blank(self) -> str | int | float | None:
        return 0.0


@dataclass(frozen=True)
class SequenceInput(PaddedInput):
    """The numbers of a sequence: fed as any number, float32 in the graph. A 0 is nothing at a row's end alone."""

    @property
    def blank(self) -> str | int | float | None:
        return 0


Input = NumericInput | PaddedInput


def define_output(output: Output, integer_keys: Container[str] = ()) -> Definition:
    """The definition of an output: its use and its column's definition.

    `integer_keys` are the features fed as integers, which a cross that reads one by its name takes as they are.
    """
    return {"use": _USES[type(output)], "column": _with_integers(define(output.column), integer_keys)}


def _with_integers(definition: Any, keys: Container[str]) -> Any:
    if isinstance(definition, Mapping):
        read = {name: _with_integers(value, keys) for name, value in definition.items()}
        return read | {"dtype": "int64"} if read.get("kind") == "text" and read["key"] in keys else read
    return [_with_integers(value, keys) for value in definition] if isinstance(definition, list) else definition


def integers_in(definitions: Iterable[Definition]) -> frozenset[str]:
    """The `integer_keys` that these definitions were made with."""
    wanted = inputs(definitions)
    return frozenset(one.key for one in wanted if isinstance(one, TextInput) and not one.dtype.is_string)


@functools.singledispatch
def define(column: FeatureColumn) -> Definition:
    """The column's definition: JSON-able, equal for columns that compute the same.

    Raises:
        ValueError: a normalizer_fn that cannot be traced.
    """
    raise TypeError(f"The column {column} cannot be computed by a transform.")


@define.register
def _(column: NumericColumn) -> Definition:
    traced = None if column.normalizer_fn is None else normalizer.trace(column).definition
    return {"kind": "numeric", "key": column.key, "shape": list(column.shape), "normalizer": traced}


@define.register
def _(column: BucketizedColumn) -> Definition:
    return {"kind": "bucketized", "source": define(column.source_column), "boundaries": list(column.boundaries)}


@define.register
def _(column: HashedCategoricalColumn) -> Definition:
    return {"kind": "hash_bucket", **_keyed(column), "hash_bucket_size": column.hash_bucket_size}


@define.register
def _(column: VocabularyListCategoricalColumn) -> Definition:
    return {
        "kind": "vocabulary_list",
        **_keyed(column),
        "vocabulary_list": list(column.vocabulary_list),
        "default_value": column.default_value,
        "num_oov_buckets": column.num_oov_buckets,
    }


@define.register
def _(column: VocabularyFileCategoricalColumn) -> Definition:
    # What the file holds, not where it lies: a copy of it is the same column.
    return {
        "kind": "vocabulary_file",
        **_keyed(column),
        "vocabulary_list": list(column.vocabulary_list),
        "default_value": column.default_value,
        "num_oov_buckets": column.num_oov_buckets,
    }


@define.register
def _(column: IdentityCategoricalColumn) -> Definition:
    return {
        "kind": "identity",
        **_keyed(column),
        "num_buckets": column.number_buckets,
        "default_value": column.default_value,
    }


@define.register
def _(column: CrossedColumn) -> Definition:
    for leaf in column.leaves:
        if isinstance(leaf, WeightedCategoricalColumn):
            raise ValueError(
                "crossed_column does not support weight_tensor, but the given column populates weight_tensor. "
                f"Given column: {leaf.name}. Cross the column without its weights."
            )
    keys = [{"kind": "text", "key": leaf} if isinstance(leaf, str) else define(leaf) for leaf in column.leaves]
    return {
        "kind": "crossed",
        "keys": keys,
        "hash_bucket_size": column.hash_bucket_size,
        "hash_key": column.hash_key,
    }


@define.register
def _(column: WeightedCategoricalColumn) -> Definition:
    weight = {"kind": "weight", "key": column.weight_feature_key, "dtype": column.dtype.name}
    return {"kind": "weighted", "categorical": define(column.categorical_column), "weight": weight}


@define.register
def _(column: SequenceCategoricalColumn) -> Definition:
    return define(column.categorical_column)


@define.register
def _(column: SequenceNumericColumn) -> Definition:
    return {
        "kind": "sequence_numeric",
        "key": column.key,
        "dtype": column.dtype.name,
        "shape": list(column.shape),
        "default_value": column.default_value,
        "normalizer": None if column.normalizer_fn is None else normalizer.trace(column).definition,
    }


@define.register
def _(column: IndicatorColumn) -> Definition:
    return {"kind": "indicator", "categorical": define(column.categorical_column)}


def _keyed(column: KeyedCategoricalColumn) -> Definition:
    return {"key": column.key, "dtype": column.dtype.name}


def inputs(definitions: Iterable[Definition]) -> tuple[Input, ...]:
    """The transform's inputs, sorted by key, numeric before categorical.

    Raises:
        ValueError: one key asked for in two shapes or two dtypes.
    """
    by_names: dict[tuple[str, ...], Input] = {}
    for wanted in (wanted for definition in definitions for wanted in _inputs_of(definition)):
        known = by_names.setdefault(wanted.names, wanted)
        if known != wanted:
            raise ValueError(
                f"Two columns read the feature {wanted.key} differently: {_words(known)} and {_words(wanted)}. "
                "Let them agree, or feed the feature a second time under another key."
            )
    return tuple(by_names[names] for names in sorted(by_names))


def _inputs_of(definition: Any) -> Iterator[Input]:
    """Every definition with a key is a leaf; what wraps it holds it as a value or in a list."""
    if isinstance(definition, Mapping) and "key" in definition:
        yield _input(definition)
    elif isinstance(definition, Mapping | list):
        for value in definition.values() if isinstance(definition, Mapping) else definition:
            yield from _inputs_of(value)


def _input(leaf: Mapping[str, Any]) -> Input:
    key, kind = leaf["key"], leaf["kind"]
    if kind == "numeric":
        return NumericInput(key, tuple(leaf["shape"]))
    if kind == "text":
        return TextInput(key, dtypes.as_dtype(leaf.get("dtype", "string")))
    dtype = dtypes.as_dtype(leaf["dtype"])
    numbers = {"weight": WeightInput, "sequence_numeric": SequenceInput}
    return numbers[kind](key, dtype) if kind in numbers else CategoricalInput(key, dtype, kind)


def _words(wanted: Input) -> str:
    return f"shape {wanted.shape}" if isinstance(wanted, NumericInput) else f"dtype {describe(wanted.dtype)}"


def difference(old: Definition, new: Definition) -> str:
    """What differs, in words: "boundaries was [0.0, 10.0] and is now [0.0, 20.0]"."""
    before, after = dict(_flat(old)), dict(_flat(new))
    paths = [path for path in {**before, **after} if before.get(path, _ABSENT) != after.get(path, _ABSENT)]
    return "; ".join(f"{path} was {_short(before, path)} and is now {_short(after, path)}" for path in paths[:3])


_ABSENT = object()
_TEXT_MAX = 80


def _flat(definition: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in definition.items():
        # "column" and "use" name our own wrapping, which a reader never wrote.
        path = prefix if name == "column" else f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, path and f"{path}." if name != "column" else path)
        else:
            yield path, value


def _short(flat: Mapping[str, Any], path: str) -> str:
    text = repr(flat[path]) if path in flat else "absent"
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"
