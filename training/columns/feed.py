"""A batch of raw features (numpy, as an input_fn gives them) -> the arrays a transform's graph takes.

Owns TF's rules for dense input: [batch] becomes [batch, 1]; '' and -1 are dropped from categorical features, 0.0 from
weights, nothing from a text that a cross reads itself. A feature that comes as the pair `key/values`, `key/lengths`
(what ParseExample gives) is taken as it is, nothing dropped, as TF takes a SparseTensor. Knows nothing of columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array, as_array, as_text
from estimator_serving.training.columns.definitions import (
    CategoricalInput,
    Input,
    NumericInput,
    PaddedInput,
    SequenceInput,
    WeightInput,
)
from estimator_serving.training.columns.values import describe
from estimator_serving.wire import dtypes

RawFeatures = Mapping[str, Any]


def feed(raw: RawFeatures, inputs: Iterable[Input]) -> dict[str, Array]:
    """The inputs of one run.

    Raises:
        ValueError: a feature that is missing, a scalar, of the wrong kind or shape, or of another batch size than the
            rest (TF 2.15's texts).
    """
    arrays: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for wanted in inputs:
        if isinstance(wanted, NumericInput):
            array = arrays[wanted.key] = _numeric(raw, wanted)
        else:
            array, lengths = _pair(raw, wanted)
            values_name, lengths_name = wanted.names
            arrays[values_name], arrays[lengths_name] = array, lengths
        sizes[wanted.key] = len(array)
    if len(set(sizes.values())) > 1:
        raise ValueError(_sizes_text(sizes))
    return arrays


def _sizes_text(sizes: Mapping[str, int]) -> str:
    (first, size), *rest = sizes.items()
    other = next(key for key, found in rest if found != size)
    return (
        "Batch size (first dimension) of each feature must be same. "
        f"Batch size of columns ({first}, {other}): ({size}, {sizes[other]})"
    )


def _numeric(raw: RawFeatures, wanted: NumericInput) -> Array:
    array = _dense(raw, wanted.key)
    if array.dtype.kind not in "fiub":
        held = "text" if array.dtype == object else array.dtype
        raise ValueError(
            f"Feature {wanted.key} holds {held} where numeric_column({wanted.key!r}) takes numbers; convert it, "
            "or use a categorical column."
        )
    if array.shape[1:] != wanted.shape:
        array = _reshaped(array, wanted)
    return np.ascontiguousarray(array, np.float32)


def _reshaped(array: Array, wanted: NumericInput) -> Array:
    try:
        # An explicit batch size: -1 cannot be inferred for a batch of 0 rows.
        return array.reshape(len(array), *wanted.shape)
    except ValueError:
        raise ValueError(
            f"Feature {wanted.key} has the shape {list(array.shape)}; numeric_column({wanted.key!r}, "
            f"shape={wanted.shape}) takes [batch, {', '.join(map(str, wanted.shape))}]. Change the one or the other."
        ) from None


def _dense(raw: RawFeatures, key: str) -> Array:
    try:
        value = raw[key]
    except KeyError:
        raise ValueError(_absent_text(raw, key)) from None
    array = value if type(value) is np.ndarray else as_array(value, key)
    if array.ndim == 0:
        raise ValueError(
            f"Feature (key: {key}) cannot have rank 0. Given: {array!r}; did you forget to batch the dataset?"
        )
    return array


def _absent_text(raw: RawFeatures, key: str) -> str:
    if f"{key}/values" in raw:
        return (
            "The corresponding Tensor of numerical column must be a Tensor. "
            f"SparseTensor is not supported. key: {key}; parse it with FixedLenFeature."
        )
    return (
        f"Feature {key} is not in features dictionary. It has: {', '.join(sorted(map(str, raw)))}. "
        "Let input_fn give it, or leave its column out."
    )


def _pair(raw: RawFeatures, wanted: PaddedInput) -> tuple[Array, Array]:
    values_name, lengths_name = f"{wanted.key}/values", f"{wanted.key}/lengths"
    if values_name in raw:
        return _checked(raw[values_name], wanted), np.ascontiguousarray(raw[lengths_name], np.int64)
    array = _checked(_dense(raw, wanted.key), wanted)
    if array.ndim != 2:
        array = array.reshape(len(array), -1 if array.size else int(np.prod(array.shape[1:])))
    if wanted.blank is None:
        return array, np.full(len(array), array.shape[1], np.int64)
    present = array != wanted.blank
    return (array, _last_places(present)) if isinstance(wanted, SequenceInput) else _without_blanks(array, present)


def _checked(array: Array, wanted: PaddedInput) -> Array:
    """The values as the graph takes them: str objects, int64, or float32 for weights."""
    if isinstance(wanted, SequenceInput):
        return _checked_numbers(array, wanted)
    if isinstance(wanted, WeightInput):
        return _checked_weights(array, wanted)
    kind = array.dtype.kind
    if kind not in "OSUTiu" or (kind not in "iu") != wanted.dtype.is_string:
        raise ValueError(_dtype_text(wanted, describe(dtypes.from_numpy(array.dtype)), is_id=kind in "OSUTiu"))
    return as_text(array, wanted.key) if wanted.dtype.is_string else np.ascontiguousarray(array, np.int64)


def _dtype_text(wanted: PaddedInput, found: str, is_id: bool) -> str:
    """TensorFlow's text, another one for each kind of column."""
    kind = wanted.kind if isinstance(wanted, CategoricalInput) else ""
    if kind == "identity":
        return f"Invalid input, not integer. key: {wanted.key} dtype: {found}. Feed integers, or use another column."
    is_vocabulary_of_numbers = kind.startswith("vocabulary") and not wanted.dtype.is_string
    if not is_id and not is_vocabulary_of_numbers:
        return f"column_name: {wanted.key} input_tensor dtype must be string or integer. dtype: {found}."
    return (
        "Column dtype and SparseTensors dtype must be compatible. "
        f"key: {wanted.key}, column dtype: {describe(wanted.dtype)}, tensor dtype: {found}"
    )


def _checked_weights(array: Array, wanted: WeightInput) -> Array:
    found = dtypes.from_numpy(array.dtype)
    # TensorFlow's estimators cast every kind of float to float32 before they look.
    if found != wanted.dtype and not (found.numpy.kind == wanted.dtype.numpy.kind == "f"):
        raise ValueError(
            f"Bad dtype, expected {describe(wanted.dtype)}, but got {describe(found)}. The feature {wanted.key} holds "
            "the weights of weighted_categorical_column; convert it, or give the column its dtype."
        )
    return np.ascontiguousarray(array, np.float32)


def _checked_numbers(array: Array, wanted: SequenceInput) -> Array:
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"Feature {wanted.key} holds text where sequence_numeric_column({wanted.key!r}) takes numbers; convert it, "
            "or use a sequence_categorical_column_with_*."
        )
    return np.ascontiguousarray(array, np.float32)


def _last_places(present: Array) -> Array:
    """One behind the last entry of each row that is `present`; 0 where there is none."""
    places = np.arange(1, present.shape[1] + 1)
    last: Array = (present * places).max(axis=1, initial=0)
    return last


def _without_blanks(values: Array, present: Array) -> tuple[Array, Array]:
    """`values` [batch, k] with the entries that are `present` moved to the left, and how many there are in each row."""
    lengths = present.sum(axis=1, dtype=np.int64)
    width = values.shape[1]
    if width < 2 or lengths.sum() == present.size:
        return values, lengths
    order = np.argsort(~present, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), lengths
