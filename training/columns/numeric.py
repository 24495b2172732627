"""numeric_column: a number, or a block of numbers, of each row.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.training.columns import normalizer
from estimator_serving.training.columns.base import Arguments, DenseColumn, ParseSpec, check_key
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.inputs import dtype_text
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import FixedLenFeature


@dataclass(frozen=True)
class NumericColumn(DenseColumn):
    key: str
    shape: tuple[int, ...]
    default_value: Any
    dtype: DType
    normalizer_fn: normalizer.Normalizer | None

    @property
    def name(self) -> str:
        return self.key

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def parse_example_spec(self) -> ParseSpec:
        return {self.key: FixedLenFeature(self.shape, self.dtype, self.default_value)}

    def define(self) -> Definition:
        traced = None if self.normalizer_fn is None else normalizer.trace(self).definition
        return {"kind": "numeric", "key": self.key, "shape": list(self.shape), "normalizer": traced}

    def dense(self, arguments: Arguments) -> Var:
        x = arguments.by_name[self.key]
        if self.normalizer_fn is not None:
            (x,) = spox.inline(normalizer.trace(self).model)(x).values()
            x = op.cast(x, to=np.float32) if x.unwrap_tensor().dtype != np.float32 else x
        if (x.unwrap_tensor().shape or ())[1:] == (self.num_elements,):
            # ONNX Runtime drops this when it opens the graph, but runs a reshape to the same shape for every request.
            return op.identity(x)
        # 0 keeps the batch axis, which -1 could not infer for a batch of 0 rows.
        return op.reshape(x, op.const(np.array([0, self.num_elements], dtype=np.int64)))


def numeric_column(
    key: str,
    shape: int | Iterable[int] = (1,),
    default_value: Any = None,
    dtype: Any = dtypes.float32,
    normalizer_fn: normalizer.Normalizer | None = None,
) -> NumericColumn:
    """A number, or a block of numbers, as it is.

    Args:
        key: the feature's name, and the column's.
        shape: of one row; the layer gets it flattened.
        default_value: for an Example without the feature; a scalar is broadcast to `shape`. Only the parse spec has it.
        dtype: of the feature in an Example; the network always gets float32.
        normalizer_fn: a function of a float32 tensor [batch, *shape], written with torch functions; it becomes part of
            the exported graph. (TF 2.15 casts after it, we cast before: float64 arrays are narrowed first.)

    Raises:
        TypeError, ValueError: TF 2.15's texts.
    """
    dimensions = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    for dimension in dimensions:
        if not isinstance(dimension, int):
            raise TypeError(f"shape dimensions must be integer. shape: {dimensions}, key: {key}")
        if dimension < 1:
            raise ValueError(f"shape dimensions must be greater than 0. shape: {dimensions}, key: {key}")
    number = dtypes.as_dtype(dtype)
    if number.numpy.kind not in "iuf":
        raise ValueError(f"dtype must be convertible to float. dtype: {dtype_text(number)}, key: {key}")
    default = None
    if default_value is not None:
        # As nested tuples, so that a column stays hashable.
        given = default_value.tolist() if hasattr(default_value, "tolist") else default_value
        is_nested = isinstance(given, list | tuple)
        if is_nested and _shape_of(given) != dimensions:
            raise ValueError(
                "The shape of default_value must be equal to given shape. "
                f"default_value: {given}, shape: {dimensions}, key: {key}"
            )
        entries = np.array(given, object).ravel().tolist()
        kinds = (int,) if number.numpy.kind in "iu" else (int, float)
        if not all(isinstance(entry, kinds) for entry in entries):
            raise TypeError(
                "default_value must be compatible with dtype. "
                f"default_value: {given}, dtype: {dtype_text(number)}, key: {key}"
            )
        whole = np.reshape(entries, dimensions) if is_nested else np.full(dimensions, given)
        default = _as_tuple(whole.tolist())
    if normalizer_fn is not None and not callable(normalizer_fn):
        raise TypeError(f"normalizer_fn must be a callable. Given: {normalizer_fn}")
    return NumericColumn(check_key(key), dimensions, default, number, normalizer_fn)


def _shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of nested lists, None where they are ragged."""
    if not isinstance(value, list | tuple):
        return ()
    inner = {_shape_of(entry) for entry in value}
    rest = inner.pop() if len(inner) == 1 else None
    return None if rest is None else (len(value), *rest)


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(entry) for entry in value) if isinstance(value, list) else value
