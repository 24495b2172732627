"""embedding_column and shared_embeddings: learned vectors of ids. The table belongs to the network.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from estimator_serving.training.checkpoints.checkpoint import read_checkpoint
from estimator_serving.training.columns.base import (
    CategoricalColumn,
    DenseOfCategoricalColumn,
    Initializer,
    Output,
    check_categorical,
)
from estimator_serving.training.columns.lookup import check_combiner, clip, look_up
from estimator_serving.training.nn import initializers
from estimator_serving.training.nn.lookups import gather_rows
from estimator_serving.training.nn.variables import current_store, get_variable, variable_scope


@dataclass(frozen=True)
class EmbeddingColumn(DenseOfCategoricalColumn):
    """Rows of a table [num_buckets, dimension], combined over a row's ids."""

    dimension: int
    combiner: str
    initializer: Initializer | None
    ckpt_to_load_from: str | None
    tensor_name_in_ckpt: str | None
    max_norm: float | None
    trainable: bool
    use_safe_embedding_lookup: bool
    kind: ClassVar[str] = "embedding"

    @property
    def num_elements(self) -> int:
        return self.dimension

    @property
    def outputs(self) -> tuple[Output, ...]:
        return self.categorical_column.id_outputs

    def layer_value(self, read: Sequence[Tensor], scope: str, trainable: bool) -> Tensor:
        prunes = self.use_safe_embedding_lookup and self.combiner != "sum"
        table = self.table(scope, trainable)
        return look_up(table, *read, combiner=self.combiner, max_norm=self.max_norm, prunes=prunes)

    def sequence_value(self, value: Tensor, scope: str, trainable: bool) -> Tensor:
        """The vector of each step's id; zeros for an id that is none."""
        return clip(gather_rows(self.table(scope, trainable), value), self.max_norm)

    def table(self, scope: str, trainable: bool) -> Tensor:
        """The variable `<scope>/embedding_weights`, made on the first call."""
        with variable_scope(scope):
            return get_variable(
                "embedding_weights",
                (self.categorical_column.num_buckets, self.dimension),
                initializer=self.first_values(),
                trainable=self.trainable and trainable,
            )

    def first_values(self) -> Initializer:
        """What the table starts from: a checkpoint's variable, the column's initializer, or TensorFlow's default."""
        if self.ckpt_to_load_from is not None and self.tensor_name_in_ckpt is not None:
            return functools.partial(_read_table, self.ckpt_to_load_from, self.tensor_name_in_ckpt)
        return self.initializer or initializers.truncated_normal(0.0, 1 / math.sqrt(self.dimension))


def _read_table(path: str, name: str, shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG001
    """The variable `name` of a checkpoint, which must have this shape. Initializers are called with a generator."""
    values = read_checkpoint(path).values
    if name not in values:
        raise ValueError(
            f"Tensor {name} is not found in {path} checkpoint, which holds {sorted(values)}; "
            "name one of them as tensor_name_in_ckpt."
        )
    if tuple(values[name].shape) != tuple(shape):
        raise ValueError(
            f"Shape of variable {name} in the checkpoint {path} is {tuple(values[name].shape)} and the embedding "
            f"has {tuple(shape)}; let the column have the buckets and the dimension it had there."
        )
    return values[name].clone()


@dataclass(frozen=True)
class SharedEmbeddingColumn(EmbeddingColumn):
    """An embedding whose table other columns use too.

    `collection_name` names the table. With `in_scope` it is `<layer>/<collection_name>/embedding_weights` (TF's
    shared_embedding_columns), else the variable `<collection_name>` of the whole model (TF 2's shared_embeddings).
    """

    collection_name: str
    in_scope: bool

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_shared_embedding"

    def table(self, scope: str, trainable: bool) -> Tensor:
        if self.in_scope:
            return super().table(self.collection_name, trainable)
        return current_store().find_or_create(
            self.collection_name,
            (self.categorical_column.num_buckets, self.dimension),
            initializer=self.first_values(),
            trainable=self.trainable and trainable,
            dtype=torch.float32,
        )


def embedding_column(
    categorical_column: CategoricalColumn,
    dimension: int,
    combiner: str = "mean",
    initializer: Initializer | None = None,
    ckpt_to_load_from: str | None = None,
    tensor_name_in_ckpt: str | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
    use_safe_embedding_lookup: bool = True,
) -> EmbeddingColumn:
    """Learned vectors of a row's ids, combined to float32 [batch, dimension]; a row without ids gives zeros.

    Args:
        categorical_column: where the ids come from; weighted, each vector is multiplied by its weight.
        dimension: length of a vector, at least 1.
        combiner: 'mean' (sum of weighted vectors / sum of weights), 'sqrtn' (… / root of the sum of squared weights) or
            'sum'. Except for 'sum', ids with a weight that is not positive are left out.
        initializer: callable (shape, generator) -> tensor; by default a normal truncated at two deviations of
            1/sqrt(dimension).
        ckpt_to_load_from: prefix of a checkpoint that this package wrote, whose variable `tensor_name_in_ckpt` the
            table starts from.
        tensor_name_in_ckpt: its name there.
        max_norm: each vector looked up is scaled down to at most this L2 norm before it is combined.
        trainable: False keeps the initial table.
        use_safe_embedding_lookup: False keeps ids whose weight is not positive.

    Raises:
        ValueError: TF 2.15's texts.
    """
    _check_embedding(dimension, combiner, initializer, ckpt_to_load_from, tensor_name_in_ckpt, categorical_column)
    return EmbeddingColumn(
        check_categorical(categorical_column),
        dimension,
        combiner,
        initializer,
        ckpt_to_load_from,
        tensor_name_in_ckpt,
        max_norm,
        trainable,
        use_safe_embedding_lookup,
    )


def shared_embeddings(
    categorical_columns: Iterable[CategoricalColumn],
    dimension: int,
    combiner: str = "mean",
    initializer: Initializer | None = None,
    shared_embedding_collection_name: str | None = None,
    ckpt_to_load_from: str | None = None,
    tensor_name_in_ckpt: str | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
    use_safe_embedding_lookup: bool = True,
) -> list[SharedEmbeddingColumn]:
    """Embeddings of several columns by one table: a list in the columns' order. Arguments as embedding_column.

    The table is the variable `shared_embedding_collection_name`, by default the columns' sorted names joined by `_`
    with `_shared_embedding` behind.

    Raises:
        ValueError: columns of different kinds or numbers of buckets, and as embedding_column (TF 2.15's texts).
    """
    columns = list(categorical_columns)
    _check_embedding(dimension, combiner, initializer, ckpt_to_load_from, tensor_name_in_ckpt)
    _check_alike(columns)
    name = shared_embedding_collection_name or "_".join(sorted(column.name for column in columns)) + "_shared_embedding"
    return [
        SharedEmbeddingColumn(
            column,
            dimension,
            combiner,
            initializer,
            ckpt_to_load_from,
            tensor_name_in_ckpt,
            max_norm,
            trainable,
            use_safe_embedding_lookup,
            name,
            in_scope=False,
        )
        for column in columns
    ]


def shared_embedding_columns(
    categorical_columns: Iterable[CategoricalColumn], dimension: int, *arguments: Any, **named: Any
) -> list[SharedEmbeddingColumn]:
    """shared_embeddings under TF 1's name, with the table where TF 1 keeps it: `input_layer/<name>/embedding_weights`.

    Arguments and errors as shared_embeddings.
    """
    made = shared_embeddings(categorical_columns, dimension, *arguments, **named)
    return [dataclasses.replace(column, in_scope=True) for column in made]


def _check_embedding(
    dimension: int | None,
    combiner: str,
    initializer: Any,
    ckpt_to_load_from: str | None,
    tensor_name_in_ckpt: str | None,
    column: Any = None,
) -> None:
    if dimension is None or dimension < 1:
        raise ValueError(f"Invalid dimension {dimension}.")
    if (ckpt_to_load_from is None) != (tensor_name_in_ckpt is None):
        raise ValueError("Must specify both `ckpt_to_load_from` and `tensor_name_in_ckpt` or none of them.")
    if initializer is not None and not callable(initializer):
        of = f" Embedding of column_name: {column.name}" if column is not None else ""
        raise ValueError(f"initializer must be callable if specified.{of}")
    check_combiner(combiner)


def _check_alike(columns: Sequence[CategoricalColumn]) -> None:
    """Columns that share a table must be of one kind and have one number of buckets."""
    if not columns:
        raise ValueError("categorical_columns is empty; give the columns that share the table.")
    for column in columns:
        if not isinstance(column, CategoricalColumn):
            raise ValueError(
                "All categorical_columns must be subclasses of CategoricalColumn. "
                f"Given: {column}, of type: {type(column)}"
            )
    first, *others = (column.unwrapped for column in sorted(columns, key=lambda column: column.name))
    for other in others:
        if not isinstance(other, type(first)):
            raise ValueError(
                "To use shared_embedding_column, all categorical_columns must have the same type, or be "
                "weighted_categorical_column or sequence column of the same type. Given column: "
                f"{first} of type: {type(first)} does not match given column: {other} of type: {type(other)}"
            )
        if other.num_buckets != first.num_buckets:
            raise ValueError(
                "To use shared_embedding_column, all categorical_columns must have the same number of buckets. "
                f"Given column: {first} with buckets: {first.num_buckets} does  not match column: {other} with "
                f"buckets: {other.num_buckets}"
            )
