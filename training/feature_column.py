"""tf.feature_column for a model_fn: the column constructors, `input_layer` and `linear_model`.

Owns the variables columns have in a network and how rows of a table are combined. What a column computes from raw
features is the transform's (column_graph.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training import initializers
from estimator_serving.training.columns import (
    COMBINERS,
    CategoricalColumn,
    DenseColumn,
    EmbeddingColumn,
    FeatureColumn,
    bucketized_column,
    categorical_column_with_hash_bucket,
    categorical_column_with_vocabulary_list,
    embedding_column,
    indicator_column,
    make_parse_example_spec,
    normalize_columns,
    numeric_column,
)
from estimator_serving.training.definitions import Ids, Output
from estimator_serving.training.features import Features, TransformRecorder
from estimator_serving.training.transform import output_of
from estimator_serving.training.variables import gather_rows, get_variable, unique_name, variable_scope

__all__ = [
    "bucketized_column",
    "categorical_column_with_hash_bucket",
    "categorical_column_with_vocabulary_list",
    "embedding_column",
    "indicator_column",
    "input_layer",
    "linear_model",
    "make_parse_example_spec",
    "numeric_column",
]


def input_layer(features: Mapping[str, Any], feature_columns: Any, trainable: bool = True) -> Tensor:
    """The columns side by side, sorted by name (byte order): float32 [batch, sum of their widths].

    Args:
        features: what the model_fn received; a plain mapping of arrays works too, outside export.
        feature_columns: dense columns.
        trainable: False makes the embedding tables constants.

    Variables: `input_layer/<column>/embedding_weights` [buckets, dimension]; a second input_layer of one model_fn is
    `input_layer_1`, as in TF.

    Raises:
        ValueError: a categorical column without embedding or indicator, a duplicate name, features that do not fit
            (TF 2.15's texts).
    """
    parts = _parts(feature_columns, _layer_output)
    known = _as_features(features)
    known.require(part.output for part in parts)
    with variable_scope(unique_name("input_layer")):
        return torch.cat([_dense(known, part, trainable) for part in parts], dim=1)


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
    parts = _parts(feature_columns, _linear_output)
    known = _as_features(features)
    known.require(part.output for part in parts)
    with variable_scope(unique_name("linear_model")):
        total: Tensor = get_variable("bias_weights", (units,), initializer=initializers.zeros, trainable=trainable)
        for part in parts:
            total = total + _weighted_sum(known, part, units, sparse_combiner, trainable)
        return total


@dataclass(frozen=True)
class _Part:
    """A column of a layer: what it reads of the transform, and its scope in variable names."""

    column: Any
    output: Output
    scope: str


_PARTS: dict[Any, tuple[Any, tuple[_Part, ...]]] = {}
_PARTS_MAX = 256


def _parts(feature_columns: Any, read: Callable[[FeatureColumn], Output]) -> tuple[_Part, ...]:
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


def _make_parts(feature_columns: Any, read: Callable[[FeatureColumn], Output]) -> tuple[_Part, ...]:
    columns = normalize_columns(feature_columns)
    return tuple(_Part(column, read(column), _scope_name(column)) for column in columns)


def _layer_output(column: FeatureColumn) -> Output:
    if not isinstance(column, DenseColumn):
        raise ValueError(
            "Items of feature_columns must be a DenseColumn. You can wrap a categorical column with an "
            f"embedding_column or indicator_column. Given: {column}"
        )
    return output_of(column)


def _linear_output(column: FeatureColumn) -> Output:
    """A bucketized column is categorical here."""
    return Ids(column) if isinstance(column, CategoricalColumn) else output_of(column)


def _as_features(features: Mapping[str, Any]) -> Features:
    """A mapping that a model_fn made itself is transformed on the spot, and outside every record."""
    return features if isinstance(features, Features) else Features(features, TransformRecorder())


def _dense(features: Features, part: _Part, trainable: bool) -> Tensor:
    value = features.output(part.output)
    column = part.column
    if not isinstance(column, EmbeddingColumn):
        return value
    with variable_scope(part.scope):
        table = get_variable(
            "embedding_weights",
            (column.categorical_column.num_buckets, column.dimension),
            initializer=column.initializer or initializers.truncated_normal(0.0, 1 / math.sqrt(column.dimension)),
            trainable=column.trainable and trainable,
        )
    return _look_up(table, value, column.combiner, column.max_norm)


def _weighted_sum(features: Features, part: _Part, units: int, combiner: str, trainable: bool) -> Tensor:
    is_categorical = isinstance(part.column, CategoricalColumn)
    rows = part.column.num_buckets if is_categorical else part.column.num_elements
    with variable_scope(part.scope):
        weights = get_variable("weights", (rows, units), initializer=initializers.zeros, trainable=trainable)
    if is_categorical:
        return _look_up(weights, features.output(part.output), combiner)
    return _dense(features, part, trainable) @ weights


def _look_up(table: Tensor, ids: Tensor, combiner: str, max_norm: float | None = None) -> Tensor:
    """The rows of `table` at `ids` [batch, k], -1 for nothing, combined to [batch, dim]; zeros where a row has none."""
    rows = gather_rows(table, ids)
    if max_norm is not None:
        rows = rows * (max_norm / rows.norm(dim=-1, keepdim=True).clamp(min=max_norm))
    if not torch.compiler.is_exporting() and ids.shape[1] == 1:
        # The same number without the five small operators below; the exported graph takes any width.
        return rows.squeeze(1)
    total = rows.sum(dim=1)
    if combiner == "sum":
        return total
    count = (ids >= 0).sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype)
    return total / (count.sqrt() if combiner == "sqrtn" else count)


def _scope_name(column: FeatureColumn) -> str:
    """The column's name as TF writes it in variable names."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", column.name)
