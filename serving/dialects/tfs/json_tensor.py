"""JSON values <-> arrays, by TensorFlow Serving's rules for its REST API.

Owns which JSON value an element type takes, how a shape is found and checked, and how numbers are printed. Knows no
request: names and signatures are above. Source: TensorFlow Serving's REST API, util/json_tensor.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from estimator_serving.serving.dialects.json_text import kind, quote
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError
from estimator_serving.serving.request import Array, as_strings
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

# Up to here a Python loop prints floats faster than a dozen numpy calls.
_FEW_FLOATS = 24
BYTES_SUFFIX = "_bytes"

_INT32 = (-(2**31), 2**31 - 1)
# INT8, INT16 and UINT8 take any int32 and narrow it without a word: TensorFlow Serving's rule.
_INTEGER_RANGES = {
    dtypes.int8: _INT32,
    dtypes.int16: _INT32,
    dtypes.uint8: _INT32,
    dtypes.int32: _INT32,
    dtypes.int64: (-(2**63), 2**63 - 1),
    dtypes.uint32: (0, 2**32 - 1),
    dtypes.uint64: (0, 2**64 - 1),
}
_FLOATS = {dtypes.float16, dtypes.float32, dtypes.float64}


def read_numbers(value: Any, dtype: DType) -> Array | None:
    """The tensor of nested lists that hold nothing but numbers, by numpy's own reading.

    None where that is not TensorFlow Serving's reading: ragged lists, other dtypes, numbers that do not fit.
    """
    try:
        if dtype is dtypes.float32 or dtype is dtypes.float64:
            return np.asarray(value, dtype.numpy)
        natural = np.asarray(value)
    except (ValueError, RuntimeWarning):  # ragged; overflow, where warnings are errors
        return None
    return natural if dtype is dtypes.int64 and natural.dtype == np.int64 else None


def read_tensor(value: Any, dtype: DType) -> Array:
    """The tensor of a JSON value: nested lists, or one value for a tensor of shape [].

    Raises InvalidArgumentError for ragged lists and values that do not fit the dtype, UnimplementedError for a dtype
    that JSON has no form for.
    """
    shape = _shape_by_first(value)
    values: list[Any] = []
    _flatten(value, shape, 0, _reader(dtype), values)
    return _as_array(values, dtype).reshape(shape)


def read_rows(instances: list[Any], dtype: DType) -> Array:
    """The tensor whose rows are the tensors of a list's elements; every row must have the first one's shape.

    Raises InvalidArgumentError naming the row.
    """
    rows = [_read_row(index, row, dtype) for index, row in enumerate(instances)]
    for index, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise InvalidArgumentError(row_text(index, _shape_text(rows[0], row)))
    return np.stack(rows)


def row_text(index: int, inner: str, key: str | None = None) -> str:
    """TensorFlow Serving's sentence around what is wrong with one instance."""
    at_key = f"key: {key} " if key is not None else ""
    return f"Failed to process element: {index} {at_key}of 'instances' list. Error: INVALID_ARGUMENT: {inner}"


def to_json(array: Array, alias: str) -> Any:
    """Nested lists (or one value) that print as TensorFlow Serving prints this output.

    float32 becomes the double with 6 significant digits where these give the float32 back, else 9; half, which
    TensorFlow Serving does not write, the shortest that gives it back. Strings stay text, or become {"b64": …} where
    the output's name ends in _bytes. Raises InvalidArgumentError for a dtype that JSON has no form for.
    """
    kind_letter = array.dtype.char
    if kind_letter == "f":
        return _map_nested(round_float, array.tolist()) if array.size <= _FEW_FLOATS else round_floats(array).tolist()
    if kind_letter == "e":
        return _map_nested(_round_half, array.tolist())
    if kind_letter == "O" and alias.endswith(BYTES_SUFFIX):
        return _map_nested(_write_base64, array.tolist())
    if kind_letter in _PLAIN:
        return array.tolist()
    raise InvalidArgumentError(
        f"Failed to write JSON value for tensor type: {dtypes.from_numpy(array.dtype).name}. Ask for {alias} over gRPC."
    )


# numpy's letters of what tolist() makes ready to print: text, double, bool, and the integers but for uint16.
_PLAIN = frozenset("Od?bBhilqILQ")


def dump(value: Any) -> bytes:
    """JSON text; NaN and the infinities as the bare tokens TensorFlow's clients expect, which strict JSON lacks."""
    text = orjson.dumps(value)
    # orjson writes what is not finite as null, and nothing the server answers is null otherwise.
    if b"null" not in text:
        return text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def is_base64(value: Any) -> bool:
    """Whether this is {"b64": …}: a JSON string's stand-in for bytes."""
    return isinstance(value, dict) and len(value) == 1 and "b64" in value


def read_base64(value: dict[str, Any]) -> bytes:
    """The bytes of {"b64": "…"}. Raises InvalidArgumentError."""
    text = value["b64"]
    if not isinstance(text, str):
        raise InvalidArgumentError(f"JSON Value: {quote(value)} not formatted correctly for base64 data")
    try:
        # Padding may be missing, as in TensorFlow Serving.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("Unable to base64 decode") from None


def _read_row(index: int, row: Any, dtype: DType) -> Array:
    try:
        return read_tensor(row, dtype)
    except (InvalidArgumentError, UnimplementedError) as error:
        raise InvalidArgumentError(row_text(index, str(error))) from None


def _shape_text(first: Array, other: Array) -> str:
    if first.ndim == other.ndim == 1:
        return f"Expecting tensor size: {first.size} but got: {other.size}"
    expected, came = (json.dumps(list(array.shape), separators=(",", ":")) for array in (first, other))
    return f"Expecting shape {expected} but got: {came}"


def _shape_by_first(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _flatten(value: Any, shape: tuple[int, ...], level: int, read: Callable[[Any], Any], values: list[Any]) -> None:
    """Append the elements in row-major order, checking that every list fits the shape the first ones promise."""
    if not isinstance(value, list):
        if level < len(shape):
            raise InvalidArgumentError(
                f"JSON Value: {quote(value)} found at incorrect level: {level} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        values.append(read(value))
        return
    if level >= len(shape):
        raise InvalidArgumentError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidArgumentError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for one in value:
        _flatten(one, shape, level + 1, read, values)


def _reader(dtype: DType) -> Callable[[Any], Any]:
    if dtype in _FLOATS:
        return lambda value: _read_float(value, dtype)
    if dtype in _INTEGER_RANGES:
        return lambda value: _read_integer(value, dtype)
    if dtype is dtypes.bool_:
        return _read_bool
    if dtype.is_string:
        return _read_string
    return lambda value: _refuse_dtype(value, dtype)


def _mistyped(value: Any, dtype: DType) -> InvalidArgumentError:
    return InvalidArgumentError(f"JSON Value: {quote(value)} Type: {kind(value)} is not of expected type: {dtype.name}")


def _read_float(value: Any, dtype: DType) -> float:
    if type(value) not in (int, float):
        raise _mistyped(value, dtype)
    return float(value)


def _read_integer(value: Any, dtype: DType) -> int:
    low, high = _INTEGER_RANGES[dtype]
    if type(value) is not int or not low <= value <= high:
        raise _mistyped(value, dtype)
    return value


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _mistyped(value, dtypes.bool_)
    return value


def _read_string(value: Any) -> bytes:
    if is_base64(value):
        return read_base64(value)
    if type(value) is not str:
        raise _mistyped(value, dtypes.string)
    return value.encode()


def _refuse_dtype(value: Any, dtype: DType) -> Any:
    raise UnimplementedError(f"Conversion of JSON Value: {quote(value)} to type: {dtype.name}. Send it over gRPC.")


def _as_array(values: list[Any], dtype: DType) -> Array:
    if dtype.is_string:
        return as_strings(values)
    if dtype in _INTEGER_RANGES:
        wide = np.uint64 if dtype is dtypes.uint64 else np.int64
        return np.array(values, wide).astype(dtype.numpy)
    with np.errstate(over="ignore", under="ignore"):
        return np.array(values, np.float64 if dtype in _FLOATS else dtype.numpy).astype(dtype.numpy)


def _write_base64(text: str) -> dict[str, str]:
    return {"b64": base64.b64encode(text.encode()).decode()}


def _map_nested(function: Callable[[Any], Any], value: Any) -> Any:
    return [_map_nested(function, one) for one in value] if type(value) is list else function(value)


def round_float(value: float) -> float:
    """One float32 as `round_floats` gives it; quicker for a few of them."""
    short = float(f"{value:.6g}")
    return short if _FLOAT32.unpack(_FLOAT32.pack(short))[0] == value else float(f"{value:.9g}")


_FLOAT32 = struct.Struct("f")


def _round_half(value: float) -> float:
    return float(str(np.float16(value)))


def round_floats(array: Array) -> Array:
    """float32 to the doubles whose text has 6 significant digits where these give the float32 back, else 9.

    A double of at most 15 digits prints as these digits, so rounding the value is the same as printing with `%.9g`.
    """
    with np.errstate(all="ignore"):
        exact = array.astype(np.float64)
        short, short_unsure = _round_digits(exact, 6)
        long, long_unsure = _round_digits(exact, 9)
        rounded = np.where(short.astype(np.float32) == array, short, long)
        # Zeros and what is not finite have no digits; beyond these bounds the powers of ten are not exact.
        plain = (np.abs(exact) > 1e-12) & (np.abs(exact) < 1e22)
    unsure = ~plain | short_unsure | long_unsure
    if unsure.any():
        rounded[unsure] = [round_float(value) for value in exact[unsure].tolist()]
    return rounded


_POWERS = np.array([float(f"1e{exponent}") for exponent in range(23)])


def _round_digits(exact: Array, digits: int) -> tuple[Array, Array]:
    """Each value rounded to so many significant digits, and whether it lay so near a tie that this is not certain."""
    exponent = digits - 1 - np.nan_to_num(np.floor(np.log10(np.abs(exact))), posinf=0, neginf=0).astype(np.int64)
    up, down = _POWERS[np.clip(exponent, 0, 22)], _POWERS[np.clip(-exponent, 0, 22)]
    scaled = exact * up / down
    whole = np.rint(scaled)
    return whole / up * down, np.abs(np.abs(scaled - whole) - 0.5) < 1e-5
