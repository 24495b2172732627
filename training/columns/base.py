"""What all feature columns share: the bases, the outputs of a transform, and the arguments its nodes are made of.

A kind of column is one file beside this one, with its value, constructor, definition and ONNX nodes. It overrides the
methods below, so that the transform and the layers never ask which kind a column is. A column is frozen data and knows
nothing of sessions. The variables that it needs in a network, it makes when a layer (layers.py) asks for its value.
Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import spox.opset.ai.onnx.v21 as op
import torch
from spox import Var

from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.definitions import Definition, with_integers
from estimator_serving.training.columns.inputs import CategoricalInput, Input, PaddedInput, dtype_text
from estimator_serving.training.columns.padding import Padded, is_within
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature

ParseSpec = dict[str, FixedLenFeature | VarLenFeature]
Initializer = Callable[..., torch.Tensor]


# ---- columns --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureColumn:
    """What every column has. `name` is its place in a layer and in variable names."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def parts(self) -> tuple[FeatureColumn, ...]:
        """The columns that this one is made of."""
        return tuple(value for value in vars(self).values() if isinstance(value, FeatureColumn))

    @property
    def parse_example_spec(self) -> ParseSpec:
        """What an Example must carry for the column: here, what its parts need."""
        return {key: feature for part in self.parts for key, feature in part.parse_example_spec.items()}

    @property
    def vocabulary_files(self) -> tuple[str, ...]:
        """Paths of the vocabulary files that the column reads."""
        return tuple(path for part in self.parts for path in part.vocabulary_files)

    def define(self) -> Definition:
        """What the column computes.

        Raises:
            ValueError: a normalizer_fn that cannot be traced.
            TypeError: a column that no transform computes.
        """
        raise TypeError(f"The column {self} cannot be computed by a transform.")

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the column's values, or its ids, need of the transform. Raises TypeError for one without either."""
        raise TypeError(f"A transform is built of feature columns; got {self!r}.")

    @property
    def layer_outputs(self) -> tuple[Output, ...]:
        """What input_layer reads of the transform. Raises ValueError for a sequence (TF 2.15's text)."""
        return self.outputs

    @property
    def sequence_outputs(self) -> tuple[Output, ...]:
        """What sequence_input_layer reads of the transform: a value and a StepCount.

        Raises:
            ValueError: a column that is no sequence (TF 2.15's texts).
        """
        raise ValueError(
            "Items of feature_columns must be a SequenceDenseColumn. You can wrap a categorical column with an "
            f"embedding_column or indicator_column. Given: {self}; make one with sequence_*."
        )

    def sequence_value(self, value: torch.Tensor, scope: str, trainable: bool) -> torch.Tensor:
        """What sequence_input_layer gives, float32 [batch, steps, n], for the first of `sequence_outputs`.

        A variable is made under `scope`, the column's name in variable names.
        """
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> FeatureColumn:
        # A column never changes, and the Estimator deep-copies params: without this each copy would be a new column.
        return self


@dataclass(frozen=True)
class DenseColumn(FeatureColumn):
    """A column that gives float32 [batch, num_elements] to a network."""

    @property
    def num_elements(self) -> int:
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Dense(self),)

    def dense(self, arguments: Arguments) -> Var:
        """The nodes that compute float32 [batch, num_elements]."""
        raise TypeError(f"{self} has no dense values.")

    def layer_value(self, read: Sequence[torch.Tensor], scope: str, trainable: bool) -> torch.Tensor:
        """What a layer gives, float32 [batch, num_elements], for the column's `outputs`.

        A variable is made under `scope`, the column's name in variable names.
        """
        return read[0]


@dataclass(frozen=True)
class CategoricalColumn(FeatureColumn):
    """A column that gives ids in [0, num_buckets), any number of them a row."""

    is_sequence: ClassVar[bool] = False
    """Whether the order within a row counts; such a column has a `step_count`."""
    marks_nothing: ClassVar[bool] = False
    """Whether `rows` already gives -1 wherever a row has no id."""

    @property
    def num_buckets(self) -> int:
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[Output, ...]:
        return self.id_outputs

    @property
    def unwrapped(self) -> CategoricalColumn:
        """The column whose ids these are: without weights, and not as a sequence."""
        return self

    @property
    def id_outputs(self) -> tuple[Output, ...]:
        """The column's ids and, where it has them, their weights."""
        return (Ids(self),)

    def rows(self, arguments: Arguments) -> Padded:
        """The nodes that find each row's ids: int64 [batch, k], any number for what is unknown.

        Nothing is dropped yet: a cross and weights count what is unknown, too.
        """
        raise TypeError(f"{self} has no ids.")

    def ids(self, arguments: Arguments) -> Var:
        """The nodes that compute int64 [batch, k], with -1 for nothing."""
        found = arguments.rows(self)
        if self.marks_nothing:
            return found.values
        return op.where(is_within(found), found.values, op.const(np.int64(-1)))

    def weights(self, arguments: Arguments) -> Var | None:
        """Float32 [batch, k], the weights beside the ids with 0 behind them; None where each id counts once."""
        return None


@dataclass(frozen=True)
class KeyedCategoricalColumn(CategoricalColumn):
    """A categorical column that reads one feature, which also names it."""

    key: str
    dtype: DType

    @property
    def name(self) -> str:
        return self.key

    @property
    def parse_example_spec(self) -> ParseSpec:
        return {self.key: VarLenFeature(self.dtype)}

    def define_as(self, kind: str, **further: Any) -> Definition:
        """The definition of a column of this kind, which begins with the feature."""
        return {"kind": kind, "key": self.key, "dtype": self.dtype.name, **further}

    def read(self, arguments: Arguments) -> Padded:
        """The feature: string or int64 [batch, k]."""
        return arguments.padded(CategoricalInput(self.key, self.dtype))

    def hash(self, values: Var, buckets: int) -> Var:
        """TensorFlow's buckets of the feature's values, an integer's by its decimal text: int64, the same shape."""
        text = values if self.dtype.is_string else op.cast(values, to=np.str_)
        # Modulo as unsigned: half of all fingerprints are negative as int64.
        return op.cast(op.mod(onnx_ops.fingerprint64(text), op.const(np.uint64(buckets))), to=np.int64)


@dataclass(frozen=True)
class DenseOfCategoricalColumn(DenseColumn):
    """A dense column made of a categorical one: of a sequence in sequence_input_layer, of another in input_layer."""

    categorical_column: CategoricalColumn
    kind: ClassVar[str]

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_{self.kind}"

    @property
    def layer_outputs(self) -> tuple[Output, ...]:
        inner = self.categorical_column
        if inner.is_sequence:
            raise ValueError(
                f"In {self.kind}_column: {self.name}. categorical_column must not be of type "
                "SequenceCategoricalColumn. Suggested fix A: If you wish to use DenseFeatures, use a non-sequence "
                "categorical_column_with_*. Suggested fix B: If you wish to create sequence input, use "
                f"SequenceFeatures instead of DenseFeatures. Given (type {type(inner)}): {inner}"
            )
        return self.outputs

    @property
    def sequence_outputs(self) -> tuple[Output, ...]:
        inner = self.categorical_column
        if not inner.is_sequence:
            raise ValueError(
                f"In {self.kind}_column: {self.name}. categorical_column must be of type SequenceCategoricalColumn to "
                "use SequenceFeatures. Suggested fix: Use one of sequence_categorical_column_with_*. "
                f"Given (type {type(inner)}): {inner}"
            )
        return (Ids(inner), StepCount(inner))


class WrappedIds:
    """What a categorical column takes over from the `categorical_column` that it wraps."""

    categorical_column: CategoricalColumn

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets

    @property
    def unwrapped(self) -> CategoricalColumn:
        return self.categorical_column.unwrapped

    def rows(self, arguments: Arguments) -> Padded:
        return arguments.rows(self.categorical_column)

    def ids(self, arguments: Arguments) -> Var:
        ids: Var = arguments.once("ids", self.categorical_column)
        return ids


# ---- outputs of a transform -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """Something that a transform computes of a column. `use` says what, and names the column's method for it."""

    column: Any
    use: ClassVar[str]
    is_shared: ClassVar[bool] = False
    """Whether other outputs, too, may be made of what the method gives."""

    @property
    def output_name(self) -> str:
        # Not the bare name: a numeric column's input has it, and a graph has one value a name.
        return f"{self.column.name}/{self.use}"

    def define(self, integer_keys: Iterable[str] = ()) -> Definition:
        """Its use and its column's definition.

        `integer_keys` are the features fed as integers, which a cross that reads one by its name takes as they are.
        """
        return {"use": self.use, "column": with_integers(self.column.define(), frozenset(integer_keys))}

    def compute(self, arguments: Arguments) -> Var:
        """The nodes of the output."""
        if self.is_shared:
            # An output is a node's own result: ids shared by two outputs would be one value under two names.
            return op.identity(arguments.once(self.use, self.column))
        made: Var = getattr(self.column, self.use)(arguments)
        return made


class Dense(Output):
    """The values of a dense column: float32 [batch, n]."""

    use = "dense"


class Steps(Output):
    """The numbers of a sequence: float32 [batch, steps, n]."""

    use = "steps"


class StepCount(Output):
    """How many steps of a sequence's row count: int64 [batch]."""

    use = "step_count"


class Ids(Output):
    """The ids of a categorical column: int64 [batch, k] with -1 for nothing."""

    use = "ids"
    is_shared = True


class Weights(Output):
    """The weights of a weighted column's ids: float32 [batch, k]."""

    use = "weights"
    is_shared = True


class Arguments:
    """The inputs of the graph that is being built, and what has been computed from them so far."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.by_name = {name: var for wanted in inputs for name, var in wanted.arguments().items()}
        self._made: dict[tuple[str, str], Any] = {}

    def padded(self, wanted: PaddedInput) -> Padded:
        return Padded(*(self.by_name[name] for name in wanted.names))

    def rows(self, column: CategoricalColumn) -> Padded:
        found: Padded = self.once("rows", column)
        return found

    def once(self, method: str, column: FeatureColumn) -> Any:
        """What the column's method `rows`, `ids` or `weights` gives, made once however many columns use it."""
        key = (method, json.dumps(column.define(), sort_keys=True))
        if key not in self._made:
            self._made[key] = getattr(column, method)(self)
        return self._made[key]


# ---- what constructors check ----------------------------------------------------------------------------------------


def check_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"key must be a string. Got: type {type(key)}. Given key: {key}.")
    return key


def check_id_dtype(dtype: Any, prefix: str) -> DType:
    """string or int64: the two kinds of ids an Example carries."""
    given = dtypes.as_dtype(dtype)
    if not (given.is_string or given.numpy.kind in "iu"):
        raise ValueError(f"{prefix} dtype must be string or integer. dtype: {dtype_text(given)}.")
    return dtypes.string if given.is_string else dtypes.int64


def check_categorical(column: Any) -> CategoricalColumn:
    if not isinstance(column, CategoricalColumn):
        raise ValueError(
            f"Unsupported input type. Input must be a CategoricalColumn. Given: {column}; "
            "make one with categorical_column_with_* or bucketized_column."
        )
    return column
