"""JSON values <-> arrays, by the Open Inference Protocol's rules.

Owns which JSON values an element type takes (nothing is converted, nothing wraps), how nested lists meet a shape, and
how values are written. Knows no request. Source: the Open Inference Protocol, inference_rest.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from estimator_serving.serving.dialects.json_text import kind, quote
from estimator_serving.serving.dialects.oip import datatypes
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import Array, as_strings
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

_FLOATS = frozenset({float, int})
_INTEGERS = frozenset({int})
# The Python types of the JSON values that an element type takes: a float takes an integer, and nothing else is taken
# for what it is not.
_TAKEN = {
    datatype.dtype.number: frozenset({str})
    if datatype.dtype.is_string
    else frozenset({bool})
    if datatype.dtype is dtypes.bool_
    else _FLOATS
    if datatype.dtype in (dtypes.float32, dtypes.float64)
    else _INTEGERS
    for datatype in datatypes.ALL
    if datatype.contents
}

# The Python types of values by `native.read_inference`'s letters.
_TYPES = {"q": int, "d": float, "?": bool, "O": str}


def read_values(name: str, data: Any, dtype: DType, shape: tuple[int, ...], size: int) -> Array:
    """The array of an input's `data`: one flat list, or lists nested as the shape says.

    Raises InvalidArgumentError that names the input, and the place of the first value that does not fit.
    """
    values = _flatten(name, data, dtype, shape, size)
    if dtype.is_string:
        return as_strings([value.encode() for value in values]).reshape(shape)
    if dtype.numpy.kind in "iu" and values:
        limits = np.iinfo(dtype.numpy)
        if min(values) < limits.min or max(values) > limits.max:
            wrong = next(index for index, value in enumerate(values) if not limits.min <= value <= limits.max)
            raise _misfit(name, data, shape, wrong, f"is out of range for {datatypes.of(dtype).name}")
    if dtype is dtypes.float32:
        array = _as_float32(values)
        if not np.isfinite(array).all():
            wrong = int(np.argmin(np.isfinite(array)))
            raise _misfit(name, data, shape, wrong, "is out of range for FP32")
        return array.reshape(shape)
    return np.array(values, dtype.numpy).reshape(shape)


def read_plain(name: str, content: tuple[str, Any], dtype: DType, shape: tuple[int, ...], _size: int) -> Array:
    """The array of values as `native.read_inference` gives them, which is the one that `read_values` makes of the JSON.

    Raises InvalidArgumentError, without a reason, where `read_values` has something to say.
    """
    letter, values = content
    if _TYPES[letter] in _TAKEN.get(dtype.number, ()):
        if dtype.is_string:
            return as_strings(values).reshape(shape)
        array: Array = np.ndarray(shape, letter, values)
        limits = np.iinfo(dtype.numpy) if dtype.numpy.kind in "iu" else None
        if limits is None or (int(array.min()) >= limits.min and int(array.max()) <= limits.max):
            array = _as_float32(array) if dtype is dtypes.float32 else array.astype(dtype.numpy)
            if dtype is not dtypes.float32 or np.isfinite(array).all():
                return array
    raise InvalidArgumentError(f"input '{name}' has values that are not plain.")


def _as_float32(values: Any) -> Array:
    """By way of float64, as JSON's numbers are; what is too large becomes an infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)


def read_base64(name: str, data: Any, dtype: DType, shape: tuple[int, ...], size: int) -> Array:
    """The array of a BYTES input whose JSON strings are base64, as its parameter content_type says."""
    if not dtype.is_string:
        raise InvalidArgumentError(f"input '{name}' has the content_type base64, which only BYTES may have.")
    values = _flatten(name, data, dtype, shape, size)
    try:
        return as_strings([base64.b64decode(value, validate=True) for value in values]).reshape(shape)
    except (binascii.Error, ValueError):
        raise InvalidArgumentError(f"input '{name}' holds a string that is not base64, as content_type says.") from None


def _flatten(name: str, data: Any, dtype: DType, shape: Sequence[int], size: int) -> list[Any]:
    """The values in row-major order, all of types that the element type takes."""
    if dtype.number not in _TAKEN:
        raise InvalidArgumentError(
            f"Sending {datatypes.of(dtype).name} data via JSON is not supported. Please use the binary data format for "
            f"input '{name}'."
        )
    if type(data) is not list:
        raise InvalidArgumentError(f"input '{name}': data must be a list of values, but got {kind(data).lower()}.")
    values = data
    if len(shape) > 1 and data and type(data[0]) is list:
        for depth, length in enumerate(shape):
            if depth:
                # Every value of the level above must be a list, and every list as long as the shape says.
                if any(type(one) is not list or len(one) != length for one in values):
                    raise InvalidArgumentError(f"input '{name}': {_uneven(data, shape)}")
                values = list(chain.from_iterable(values))
            elif len(values) != length:
                raise InvalidArgumentError(f"input '{name}': {_uneven(data, shape)}")
    if len(values) != size:
        raise InvalidArgumentError(
            f"input '{name}': data has {len(values)} values, and its shape {list(shape)} has {size}; send exactly as "
            "many."
        )
    taken = _TAKEN[dtype.number]
    if not taken.issuperset(map(type, values)):
        wrong = next(index for index, value in enumerate(values) if type(value) not in taken)
        raise _misfit(name, data, shape, wrong, f"is no {datatypes.of(dtype).name}")
    return values


def _uneven(value: Any, shape: Sequence[int], path: str = "data") -> str:
    """Where nested lists first differ from a shape, as a sentence; empty if they do not."""
    if type(value) is not list:
        return f"{path} is {quote(value)}, and the shape wants a list of {shape[0]} there."
    if len(value) != shape[0]:
        return f"{path} has {len(value)} elements, and the shape wants {shape[0]} there."
    if len(shape) == 1:
        return ""
    return next(
        (found for index, one in enumerate(value) if (found := _uneven(one, shape[1:], f"{path}[{index}]"))), ""
    )


def _misfit(name: str, data: list[Any], shape: Sequence[int], index: int, what: str) -> InvalidArgumentError:
    """The refusal of one value, by its place among all values in row-major order."""
    value: Any = data
    places: Sequence[Any] = [index]
    if len(shape) > 1 and type(data[0]) is list:
        places = [int(place) for place in np.unravel_index(index, tuple(shape))]
    for place in places:
        value = value[place]
    path = "".join(f"[{place}]" for place in places)
    return InvalidArgumentError(f"input '{name}': data{path} is {quote(value)}, which {what}. Nothing is converted.")


def to_values(name: str, array: Array) -> Any:
    """An output's values as orjson writes them: flat. Raises InvalidArgumentError for a type without a form in JSON."""
    if array.dtype.kind == "O":
        return array.ravel().tolist()
    if array.dtype == np.float16 or array.dtype == dtypes.bfloat16.numpy:
        raise InvalidArgumentError(
            f"Sending {datatypes.of(dtypes.from_numpy(array.dtype)).name} data via JSON is not supported. Please use "
            f"the binary data format for output '{name}' (its parameter binary_data)."
        )
    return np.ascontiguousarray(array).reshape(-1)


def dump(value: Any) -> bytes:
    """JSON text with arrays inside. NaN and the infinities are the bare tokens that Triton writes, and JSON lacks."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes what is not finite as null, and nothing the server answers is null otherwise.
    if b"null" not in text:
        return text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=lambda array: array.tolist()).encode()
