"""A batch of raw features (numpy, as an input_fn gives them) -> the arrays a transform's graph takes.

Owns TF's checks of what is fed. Every feature enters as its input's dtype. A dense categorical feature, weight or
sequence enters as a matrix, of which the graph drops what counts as nothing (inputs.py). A feature that comes as the
pair `key/values`, `key/lengths` (what ParseExample gives) is taken as it is, nothing dropped, as TF takes a
SparseTensor. Knows nothing of columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array, as_array, as_text
from estimator_serving.training.columns.inputs import (
    CategoricalInput,
    Input,
    NumericInput,
    PaddedInput,
    SequenceInput,
    WeightInput,
    dtype_text,
)
from estimator_serving.wire import dtypes

RawFeatures = Mapping[str, Any]


def feed(raw: RawFeatures, inputs: Iterable[Input]) -> dict[str, Array]:
    """The arrays of one run, by the inputs' `names` or, for a dense feature, by one of the `dense_names`.

    Raises:
        ValueError: a feature that is missing, a scalar, of the wrong kind or shape, or of another batch size than the
            rest (TF 2.15's texts).
    """
    arrays: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for wanted in inputs:
        if isinstance(wanted, NumericInput):
            array = arrays[wanted.key] = _numeric(raw, wanted)
        elif f"{wanted.key}/values" in raw:
            values, lengths = wanted.names
            array = arrays[values] = _checked(raw[f"{wanted.key}/values"], wanted)
            arrays[lengths] = np.ascontiguousarray(raw[f"{wanted.key}/lengths"], np.int64)
        else:
            array = _checked(_dense(raw, wanted.key), wanted)
            # The rank decides, not the width: each set of names needs another graph, and widths change by the batch.
            matrix, single = wanted.dense_names
            if array.ndim == 1:
                arrays[single] = array.reshape(len(array), 1)
            else:
                arrays[matrix] = array.reshape(len(array), math.prod(array.shape[1:]))
        sizes[wanted.key] = len(array)
    if len(set(sizes.values())) > 1:
        (first, size), *rest = sizes.items()
        other = next(key for key, found in rest if found != size)
        raise ValueError(
            "Batch size (first dimension) of each feature must be same. "
            f"Batch size of columns ({first}, {other}): ({size}, {sizes[other]})"
        )
    return arrays


def _numeric(raw: RawFeatures, wanted: NumericInput) -> Array:
    array = _dense(raw, wanted.key)
    if array.dtype.kind not in "fiub":
        held = "text" if array.dtype == object else array.dtype
        raise ValueError(
            f"Feature {wanted.key} holds {held} where numeric_column({wanted.key!r}) takes numbers; convert it, "
            "or use a categorical column."
        )
    if array.shape[1:] != wanted.shape:
        try:
            # An explicit batch size: -1 cannot be inferred for a batch of 0 rows.
            array = array.reshape(len(array), *wanted.shape)
        except ValueError:
            raise ValueError(
                f"Feature {wanted.key} has the shape {list(array.shape)}; numeric_column({wanted.key!r}, "
                f"shape={wanted.shape}) takes [batch, {', '.join(map(str, wanted.shape))}]. Change the one or the "
                "other."
            ) from None
    return np.ascontiguousarray(array, np.float32)


def _dense(raw: RawFeatures, key: str) -> Array:
    if key not in raw:
        if f"{key}/values" in raw:
            raise ValueError(
                "The corresponding Tensor of numerical column must be a Tensor. "
                f"SparseTensor is not supported. key: {key}; parse it with FixedLenFeature."
            )
        raise ValueError(
            f"Feature {key} is not in features dictionary. It has: {', '.join(sorted(map(str, raw)))}. "
            "Let input_fn give it, or leave its column out."
        )
    value = raw[key]
    array = value if type(value) is np.ndarray else as_array(value, key)
    if array.ndim == 0:
        raise ValueError(
            f"Feature (key: {key}) cannot have rank 0. Given: {array!r}; did you forget to batch the dataset?"
        )
    return array


def _checked(array: Array, wanted: PaddedInput) -> Array:
    """The values as the graph takes them: str objects, int64, or float32 for weights and sequences."""
    kind = array.dtype.kind
    if isinstance(wanted, SequenceInput):
        if kind not in "fiub":
            raise ValueError(
                f"Feature {wanted.key} holds text where sequence_numeric_column({wanted.key!r}) takes numbers; convert "
                "it, or use a sequence_categorical_column_with_*."
            )
    elif isinstance(wanted, WeightInput):
        found = dtypes.from_numpy(array.dtype)
        # TensorFlow's estimators cast every kind of float to float32 before they look.
        if found != wanted.dtype and not (found.numpy.kind == wanted.dtype.numpy.kind == "f"):
            raise ValueError(
                f"Bad dtype, expected {dtype_text(wanted.dtype)}, but got {dtype_text(found)}. The feature "
                f"{wanted.key} holds the weights of weighted_categorical_column; convert it, or give the column its "
                "dtype."
            )
    else:
        if kind not in "OSUTiu" or (kind not in "iu") != wanted.dtype.is_string:
            raise ValueError(_dtype_refusal(wanted, array.dtype))
        if wanted.dtype.is_string:
            return as_text(array, wanted.key)
    return np.ascontiguousarray(array, wanted.element)


def _dtype_refusal(wanted: PaddedInput, dtype: np.dtype[Any]) -> str:
    """TensorFlow's text, which differs between kinds of columns."""
    found = dtype_text(dtypes.from_numpy(dtype))
    kind = wanted.kind if isinstance(wanted, CategoricalInput) else ""
    if kind == "identity":
        return f"Invalid input, not integer. key: {wanted.key} dtype: {found}. Feed integers, or use another column."
    is_vocabulary_of_numbers = kind.startswith("vocabulary") and not wanted.dtype.is_string
    if dtype.kind not in "OSUTiu" and not is_vocabulary_of_numbers:
        return f"column_name: {wanted.key} input_tensor dtype must be string or integer. dtype: {found}."
    return (
        "Column dtype and SparseTensors dtype must be compatible. "
        f"key: {wanted.key}, column dtype: {dtype_text(wanted.dtype)}, tensor dtype: {found}"
    )
