"""tf.feature_column for a model_fn: the column constructors, `input_layer` and `linear_model`.

Owns the variables columns have in a network and how rows of a table are combined. What a column computes from raw
features is the transform's (column_graph.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.checkpoints.checkpoint import read_checkpoint
from estimator_serving.training.columns.definitions import Ids, Output, StepCount, Steps
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.columns.transform import ids_of, outputs_of
from estimator_serving.training.columns.values import (
    COMBINERS,
    CategoricalColumn,
    DenseColumn,
    EmbeddingColumn,
    FeatureColumn,
    IndicatorColumn,
    Initializer,
    SequenceCategoricalColumn,
    SequenceNumericColumn,
    SharedEmbeddingColumn,
    normalize_columns,
)
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.nn import initializers
from estimator_serving.training.nn.variables import (
    current_store,
    gather_rows,
    get_variable,
    unique_name,
    variable_scope,
)


def input_layer(features: Mapping[str, Any], feature_columns: Any, trainable: bool = True) -> Tensor:
    """The columns side by side, sorted by name (byte order): float32 [batch, sum of their widths].

    Args:
        features: what the model_fn received; a plain mapping of arrays works too, outside export.
        feature_columns: dense columns.
        trainable: False makes the embedding tables constants.

    Variables: `input_layer/<column>/embedding_weights` [buckets, dimension]; a second input_layer of one model_fn is
    `input_layer_1`, as in TF. Those of shared embeddings have the name of their collection.

    Raises:
        ValueError: a categorical column without embedding or indicator, a duplicate name, features that do not fit
            (TF 2.15's texts).
    """
    parts = _parts(feature_columns, _layer_outputs)
    known = _as_features(features)
    known.require(output for part in parts for output in part.outputs)
    with variable_scope(unique_name("input_layer")):
        return torch.cat([_dense(known, part, trainable) for part in parts], dim=1)


def sequence_input_layer(
    features: Mapping[str, Any], feature_columns: Any, trainable: bool = True
) -> tuple[Tensor, Tensor]:
    """Sequences side by side, sorted by name, and their lengths: float32 [batch, steps, sum of widths], int64 [batch].

    TF's SequenceFeatures, as a function. Beside what VarLenFeature gives it takes dense arrays: '' and -1 among ids
    close up, a 0 among numbers counts as nothing behind the last other number alone.

    Args:
        features: as input_layer.
        feature_columns: sequence_numeric_column, or sequence_categorical_column_with_* in an embedding or indicator.
        trainable: False makes the embedding tables constants.

    Variables: `sequence_input_layer/<column>/embedding_weights` [buckets, dimension].

    Raises:
        ValueError: a column that is no sequence (TF 2.15's texts).
        InvalidArgumentError: sequences of different lengths in one row.
    """
    parts = _parts(feature_columns, _sequence_outputs)
    known = _as_features(features)
    known.require(output for part in parts for output in part.outputs)
    counts = [known.output(part.outputs[1]) for part in parts]
    if not torch.compiler.is_exporting():
        _check_counts(parts, counts)
    with variable_scope(unique_name("sequence_input_layer")):
        values = [_sequence(part, known.output(part.outputs[0]), trainable) for part in parts]
    return torch.cat(values, dim=2), counts[0]


def _check_counts(parts: Sequence[_Part], counts: Sequence[Tensor]) -> None:
    for part, count in zip(parts, counts, strict=True):
        if not torch.equal(count, counts[0]):
            raise InvalidArgumentError(
                f"The sequences {parts[0].column.name} and {part.column.name} have different lengths in a row: "
                f"{counts[0].tolist()} and {count.tolist()}; give as many steps of each, or read them in two layers."
            )


def _sequence(part: _Part, value: Tensor, trainable: bool) -> Tensor:
    """Float32 [batch, steps, n]; for an id that is none, zeros."""
    column = part.column
    if isinstance(column, EmbeddingColumn):
        return _clip(gather_rows(_table(column, part.scope, trainable), value), column.max_norm)
    return gather_rows(torch.eye(column.num_elements), value) if isinstance(column, IndicatorColumn) else value


def linear_model(
    features: Mapping[str, Any],
    feature_columns: Any,
    units: int = 1,
    sparse_combiner: str = "sum",
    trainable: bool = True,
) -> Tensor:
    """A weighted sum of all columns and a bias: float32 [batch, units].

    A categorical column (bucketized ones too) gives the weights of its ids, combined by `sparse_combiner`; a dense one
    (indicator and embedding too) is multiplied with a matrix. Ids that are missing add nothing.

    Variables, all zeros at first: `linear_model/<column>/weights` [buckets or width, units],
    `linear_model/bias_weights` [units].

    Raises:
        ValueError: as input_layer; a combiner that is not 'mean', 'sqrtn' or 'sum'.
    """
    if sparse_combiner not in COMBINERS:
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', got {sparse_combiner}")
    parts = _parts(feature_columns, _linear_outputs)
    known = _as_features(features)
    known.require(output for part in parts for output in part.outputs)
    with variable_scope(unique_name("linear_model")):
        total: Tensor = get_variable("bias_weights", (units,), initializer=initializers.zeros, trainable=trainable)
        for part in parts:
            total = total + _weighted_sum(known, part, units, sparse_combiner, trainable)
        return total


@dataclass(frozen=True)
class _Part:
    """A column of a layer: what it reads of the transform (values, or ids and weights), and its scope in names."""

    column: Any
    outputs: tuple[Output, ...]
    scope: str


_PARTS: dict[Any, tuple[Any, tuple[_Part, ...]]] = {}
_PARTS_MAX = 256


def _parts(feature_columns: Any, read: Callable[[FeatureColumn], tuple[Output, ...]]) -> tuple[_Part, ...]:
    """The layer's columns, checked and sorted. Found again by identity: checking costs as much as a small layer."""
    if not isinstance(feature_columns, list | tuple):
        return _make_parts(feature_columns, read)
    key = (read, *map(id, feature_columns))
    if key not in _PARTS:
        if len(_PARTS) >= _PARTS_MAX:
            _PARTS.clear()
        # The columns are kept: an id is only its own as long as the object lives.
        _PARTS[key] = (tuple(feature_columns), _make_parts(feature_columns, read))
    return _PARTS[key][1]


def _make_parts(feature_columns: Any, read: Callable[[FeatureColumn], tuple[Output, ...]]) -> tuple[_Part, ...]:
    columns = normalize_columns(feature_columns)
    return tuple(_Part(column, read(column), _scope_name(column)) for column in columns)


def _layer_outputs(column: FeatureColumn) -> tuple[Output, ...]:
    if not isinstance(column, DenseColumn):
        raise ValueError(
            "Items of feature_columns must be a DenseColumn. You can wrap a categorical column with an "
            f"embedding_column or indicator_column. Given: {column}"
        )
    _refuse_sequence(column)
    return outputs_of(column)


def _linear_outputs(column: FeatureColumn) -> tuple[Output, ...]:
    """A bucketized column is categorical here."""
    if isinstance(column, CategoricalColumn):
        return ids_of(column)
    _refuse_sequence(column)
    return outputs_of(column)


def _refuse_sequence(column: FeatureColumn) -> None:
    if not isinstance(column, EmbeddingColumn | IndicatorColumn):
        return
    inner = column.categorical_column
    if isinstance(inner, SequenceCategoricalColumn):
        kind = "indicator" if isinstance(column, IndicatorColumn) else "embedding"
        raise ValueError(
            f"In {kind}_column: {column.name}. categorical_column must not be of type SequenceCategoricalColumn. "
            "Suggested fix A: If you wish to use DenseFeatures, use a non-sequence categorical_column_with_*. "
            "Suggested fix B: If you wish to create sequence input, use SequenceFeatures instead of DenseFeatures. "
            f"Given (type {type(inner)}): {inner}"
        )


def _sequence_outputs(column: FeatureColumn) -> tuple[Output, ...]:
    if isinstance(column, SequenceNumericColumn):
        return (Steps(column), StepCount(column))
    if not isinstance(column, EmbeddingColumn | IndicatorColumn):
        raise ValueError(
            "Items of feature_columns must be a SequenceDenseColumn. You can wrap a categorical column with an "
            f"embedding_column or indicator_column. Given: {column}; make one with sequence_*."
        )
    inner = column.categorical_column
    if not isinstance(inner, SequenceCategoricalColumn):
        kind = "indicator" if isinstance(column, IndicatorColumn) else "embedding"
        raise ValueError(
            f"In {kind}_column: {column.name}. categorical_column must be of type SequenceCategoricalColumn to use "
            "SequenceFeatures. Suggested fix: Use one of sequence_categorical_column_with_*. "
            f"Given (type {type(inner)}): {inner}"
        )
    return (Ids(inner), StepCount(inner))


def _as_features(features: Mapping[str, Any]) -> Features:
    """A mapping that a model_fn made itself is transformed on the spot, and outside every record."""
    return features if isinstance(features, Features) else Features(features, TransformRecorder())


def _dense(features: Features, part: _Part, trainable: bool) -> Tensor:
    values = [features.output(output) for output in part.outputs]
    column = part.column
    if not isinstance(column, EmbeddingColumn):
        return values[0]
    table = _table(column, part.scope, trainable)
    prunes = column.use_safe_embedding_lookup and column.combiner != "sum"
    return _look_up(table, *values, combiner=column.combiner, max_norm=column.max_norm, prunes=prunes)


def _table(column: EmbeddingColumn, scope: str, trainable: bool) -> Tensor:
    shape = (column.categorical_column.num_buckets, column.dimension)
    initializer, trained = _table_initializer(column), column.trainable and trainable
    if isinstance(column, SharedEmbeddingColumn) and not column.in_scope:
        # One table in the whole model, whichever layers use it.
        return current_store().find_or_create(
            column.collection_name, shape, initializer=initializer, trainable=trained, dtype=torch.float32
        )
    with variable_scope(column.collection_name if isinstance(column, SharedEmbeddingColumn) else scope):
        return get_variable("embedding_weights", shape, initializer=initializer, trainable=trained)


def _table_initializer(column: EmbeddingColumn) -> Initializer:
    if column.ckpt_to_load_from is not None and column.tensor_name_in_ckpt is not None:
        return _from_checkpoint(column.ckpt_to_load_from, column.tensor_name_in_ckpt)
    return column.initializer or initializers.truncated_normal(0.0, 1 / math.sqrt(column.dimension))


def _from_checkpoint(path: str, name: str) -> Initializer:
    def read(shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG001  initializers are called alike
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

    return read


def _weighted_sum(features: Features, part: _Part, units: int, combiner: str, trainable: bool) -> Tensor:
    is_categorical = isinstance(part.column, CategoricalColumn)
    rows = part.column.num_buckets if is_categorical else part.column.num_elements
    with variable_scope(part.scope):
        table = get_variable("weights", (rows, units), initializer=initializers.zeros, trainable=trainable)
    if not is_categorical:
        return _dense(features, part, trainable) @ table
    values = [features.output(output) for output in part.outputs]
    return _look_up(table, *values, combiner=combiner, prunes=combiner != "sum")


def _look_up(
    table: Tensor,
    ids: Tensor,
    weights: Tensor | None = None,
    *,
    combiner: str,
    max_norm: float | None = None,
    prunes: bool = True,
) -> Tensor:
    """The rows of `table` at `ids` [batch, k], -1 for nothing, combined to [batch, dim]; zeros where a row has none.

    `weights` [batch, k] multiply them; where it `prunes`, an id whose weight is not positive counts as nothing.
    """
    if weights is not None and prunes:
        ids = torch.where(weights > 0, ids, -1)
    rows = _clip(gather_rows(table, ids), max_norm)
    if weights is not None:
        return _combine_weighted(rows, weights * (ids >= 0), combiner)
    if not torch.compiler.is_exporting() and ids.shape[1] == 1:
        # The same number without the five small operators below; the exported graph takes any width.
        return rows.squeeze(1)
    total = rows.sum(dim=1)
    if combiner == "sum":
        return total
    count = (ids >= 0).sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype)
    return total / (count.sqrt() if combiner == "sqrtn" else count)


def _clip(rows: Tensor, max_norm: float | None) -> Tensor:
    """The vectors [..., dim], none longer than `max_norm`."""
    return rows if max_norm is None else rows * (max_norm / rows.norm(dim=-1, keepdim=True).clamp(min=max_norm))


def _combine_weighted(rows: Tensor, weights: Tensor, combiner: str) -> Tensor:
    total = (rows * weights.unsqueeze(-1)).sum(dim=1)
    if combiner == "sum":
        return total
    by = weights.sum(dim=1, keepdim=True) if combiner == "mean" else weights.square().sum(dim=1, keepdim=True).sqrt()
    return total / torch.where(by == 0, 1.0, by)


def _scope_name(column: FeatureColumn) -> str:
    """The column's name as TF writes it in variable names."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", column.name)
