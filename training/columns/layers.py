"""The layers through which a model_fn reads columns: input_layer, sequence_input_layer and linear_model.

Owns the layers' scopes in variable names and linear_model's weights. What a column gives to a layer is the column's
(base.py and the file of its kind); what it computes from raw features is the transform's (transform.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.columns.base import CategoricalColumn, DenseColumn, FeatureColumn, Output
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.columns.lookup import check_combiner, look_up
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.nn import initializers
from estimator_serving.training.nn.variables import get_variable, unique_name, variable_scope


def input_layer(
    features: Mapping[str, Any], feature_columns: Any, trainable: bool = True, scope: str | None = None
) -> Tensor:
    """The columns side by side, sorted by name (byte order): float32 [batch, sum of their widths].

    Args:
        features: what the model_fn received; a plain mapping of arrays works too, outside export.
        feature_columns: dense columns.
        trainable: False makes the embedding tables constants.
        scope: of the variables, instead of `input_layer`.

    Variables: `input_layer/<column>/embedding_weights` [buckets, dimension]; a second input_layer of one model_fn is
    `input_layer_1`, as in TF. Those of shared embeddings have the name of their collection.

    Raises:
        ValueError: a categorical column without embedding or indicator, a duplicate name, features that do not fit
            (TF 2.15's texts).
    """
    parts = _parts(feature_columns, "input_layer")
    known = _announced(features, parts)
    with variable_scope(scope or unique_name("input_layer")):
        return torch.cat([_dense(known, part, trainable) for part in parts], dim=1)


def sequence_input_layer(
    features: Mapping[str, Any], feature_columns: Any, trainable: bool = True, scope: str | None = None
) -> tuple[Tensor, Tensor]:
    """Sequences side by side, sorted by name, and their lengths: float32 [batch, steps, sum of widths], int64 [batch].

    TF's SequenceFeatures, as a function. It takes what VarLenFeature gives, and dense arrays: of these, '' and -1 among
    ids are removed; zeros at the end of a numeric row count as padding, other zeros are kept.

    Args:
        features: as input_layer.
        feature_columns: sequence_numeric_column, or sequence_categorical_column_with_* in an embedding or indicator.
        trainable: False makes the embedding tables constants.
        scope: of the variables, instead of `sequence_input_layer`.

    Variables: `sequence_input_layer/<column>/embedding_weights` [buckets, dimension].

    Raises:
        ValueError: a column that is no sequence (TF 2.15's texts).
        InvalidArgumentError: sequences of different lengths in one row.
    """
    parts = _parts(feature_columns, "sequence_input_layer")
    known = _announced(features, parts)
    counts = [known.output(part.outputs[1]) for part in parts]
    if not torch.compiler.is_exporting():
        for part, count in zip(parts, counts, strict=True):
            if not torch.equal(count, counts[0]):
                raise InvalidArgumentError(
                    f"The sequences {parts[0].column.name} and {part.column.name} have different lengths in a row: "
                    f"{counts[0].tolist()} and {count.tolist()}; give as many steps of each, or read them in two "
                    "layers."
                )
    with variable_scope(scope or unique_name("sequence_input_layer")):
        values = [part.column.sequence_value(known.output(part.outputs[0]), part.scope, trainable) for part in parts]
    return torch.cat(values, dim=2), counts[0]


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
    check_combiner(sparse_combiner)
    parts = _parts(feature_columns, "linear_model")
    known = _announced(features, parts)
    with variable_scope(unique_name("linear_model")):
        total: Tensor = get_variable("bias_weights", (units,), initializer=initializers.zeros, trainable=trainable)
        dense: list[tuple[Tensor, Tensor]] = []
        for part in parts:
            column, is_categorical = part.column, isinstance(part.column, CategoricalColumn)
            shape = (column.num_buckets if is_categorical else column.num_elements, units)
            with variable_scope(part.scope):
                weights = get_variable("weights", shape, initializer=initializers.zeros, trainable=trainable)
            if is_categorical:
                read = [known.output(output) for output in part.outputs]
                total = total + look_up(weights, *read, combiner=sparse_combiner, prunes=sparse_combiner != "sum")
            else:
                dense.append((_dense(known, part, trainable), weights))
        if dense:
            # One product in place of one a column, which takes a step and a served row much less time.
            values, matrices = zip(*dense, strict=True)
            total = total + torch.cat(values, 1) @ torch.cat(matrices)
        return total


def normalize_columns(feature_columns: Any) -> list[FeatureColumn]:
    """The columns of a layer, sorted by name in byte order.

    Raises:
        ValueError: none given, a dict, an item that is no column, or a name twice (TF's texts).
    """
    if isinstance(feature_columns, FeatureColumn):
        feature_columns = [feature_columns]
    if isinstance(feature_columns, dict):
        raise ValueError("Expected feature_columns to be iterable, found dict.")
    columns = list(feature_columns)
    if not columns:
        raise ValueError("feature_columns must not be empty.")
    by_name: dict[str, FeatureColumn] = {}
    for column in columns:
        if not isinstance(column, FeatureColumn):
            raise ValueError(
                f"Items of feature_columns must be a FeatureColumn. Given (type {type(column)}): {column}."
            )
        if column.name in by_name:
            raise ValueError(
                f"Duplicate feature column name found for columns: {column} and {by_name[column.name]}. This usually "
                "means that these columns refer to same base feature. Either one must be discarded or a duplicated but "
                "renamed item must be inserted in features dict."
            )
        by_name[column.name] = column
    return [by_name[name] for name in sorted(by_name, key=str.encode)]


@dataclass(frozen=True)
class _Part:
    """A column of a layer: what the layer reads of the transform for it, and its scope in variable names."""

    column: Any
    outputs: tuple[Output, ...]
    scope: str


_PARTS: dict[Any, tuple[Any, tuple[_Part, ...]]] = {}
_PARTS_MAX = 256


def _parts(feature_columns: Any, layer: str) -> tuple[_Part, ...]:
    """The layer's columns, checked and sorted. Found again by identity: checking costs as much as a small layer."""
    key = (layer, *map(id, feature_columns)) if isinstance(feature_columns, list | tuple) else None
    if key in _PARTS:
        return _PARTS[key][1]
    found: list[_Part] = []
    for column in normalize_columns(feature_columns):
        if layer == "sequence_input_layer":
            outputs = column.sequence_outputs
        elif layer == "linear_model" and isinstance(column, CategoricalColumn):
            # A bucketized column is categorical here.
            outputs = column.id_outputs
        elif layer == "input_layer" and not isinstance(column, DenseColumn):
            raise ValueError(
                "Items of feature_columns must be a DenseColumn. You can wrap a categorical column with an "
                f"embedding_column or indicator_column. Given: {column}"
            )
        else:
            outputs = column.layer_outputs
        # The scope is the column's name as TF writes it in variable names.
        found.append(_Part(column, outputs, re.sub(r"[^A-Za-z0-9_.\-]", "_", column.name)))
    parts = tuple(found)
    if key is not None:
        if len(_PARTS) >= _PARTS_MAX:
            _PARTS.clear()
        # The columns are kept: an id stays unique only while its object lives.
        _PARTS[key] = (tuple(feature_columns), parts)
    return parts


def _announced(features: Mapping[str, Any], parts: tuple[_Part, ...]) -> Features:
    """The features, told of all columns at once. A mapping that a model_fn made itself is transformed on the spot, and
    is not recorded."""
    known = features if isinstance(features, Features) else Features(features, TransformRecorder())
    known.require(output for part in parts for output in part.outputs)
    return known


def _dense(features: Features, part: _Part, trainable: bool) -> Tensor:
    value: Tensor = part.column.layer_value([features.output(output) for output in part.outputs], part.scope, trainable)
    return value
