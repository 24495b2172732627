"""JSON values <-> arrays, by TensorFlow Serving's rules for its REST API.

Owns which JSON values an element type takes, how a shape is found and checked, and how numbers are printed. Knows no
request: names and signatures are `json_codec`'s. Source: TensorFlow Serving's REST API, util/json_tensor.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from estimator_serving.serving.dialects.json_text import is_base64, kind, quote, read_base64
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError
from estimator_serving.serving.request import Array, as_strings
from estimator_serving.wire import dtypes, native
from estimator_serving.wire.dtypes import DType

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
# The ranges without that rule.
_EXACT_RANGES = {dtype: (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max) for dtype in _INTEGER_RANGES}
_FLOATS = {dtypes.float16, dtypes.float32, dtypes.float64}
# numpy's letters of what tolist() makes ready to print: text, double, bool, and the integers but for uint16.
_PLAIN = frozenset("Od?bBhilqILQ")


def to_array(
    shape: tuple[int, ...], are_integers: bool, values: bytes, dtype: DType, exact: bool = False
) -> Array | None:
    """A tensor of nothing but numbers, as `native.read_body` gives it, of this dtype and as `read_tensor` reads it.

    None if that has something to say about the numbers. values: int64 if `are_integers`, else float64.
    """
    if dtype is dtypes.float32 and not are_integers:
        floats: Array = np.ndarray(shape, np.float32, native.narrow_floats(values))
        return None if exact and np.isinf(floats).any() else floats
    array = np.ndarray(shape, np.int64 if are_integers else np.float64, values)
    if dtype in _FLOATS:
        with np.errstate(over="ignore", under="ignore"):
            floats = array.astype(np.float64).astype(dtype.numpy)
        return None if exact and np.isinf(floats).any() else floats
    low, high = (_EXACT_RANGES if exact else _INTEGER_RANGES).get(dtype, (1, 0))
    if not are_integers or array.min() < low or array.max() > high:
        return None
    return array.astype(dtype.numpy)


def read_tensor(value: Any, dtype: DType, *, exact: bool = False) -> Array:
    """The tensor of a JSON value: nested lists, or one value for a tensor of shape [].

    exact: refuse a number beyond the dtype's range, which TensorFlow Serving narrows or makes an infinity.

    Raises InvalidArgumentError for ragged lists and values that do not fit the dtype, UnimplementedError for a dtype
    that JSON has no form for.
    """
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    values: list[Any] = []
    try:
        _flatten(value, shape, 0, values)
    finally:
        # Also if a list does not fit: a wrong element that comes before it is reported first.
        elements = _as_array(values, dtype, exact)
    return elements.reshape(shape)


class Rows:
    """The tensor whose rows are the tensors of JSON values, added one by one; each must have the first one's shape.

    exact: as for `read_tensor`.
    """

    def __init__(self, dtype: DType, *, exact: bool = False) -> None:
        self._dtype = dtype
        self._exact = exact
        self._rows: list[Array] = []

    def add(self, value: Any) -> None:
        """Raises InvalidArgumentError and UnimplementedError as `read_tensor`, and for another shape."""
        row = read_tensor(value, self._dtype, exact=self._exact)
        first = self._rows[0] if self._rows else row
        if row.size != first.size:
            raise InvalidArgumentError(f"Expecting tensor size: {first.size} but got: {row.size}")
        if row.shape != first.shape:
            expected, came = (json.dumps(list(array.shape), separators=(",", ":")) for array in (first, row))
            raise InvalidArgumentError(f"Expecting shape {expected} but got: {came}")
        self._rows.append(row)

    def tensor(self) -> Array:
        return np.stack(self._rows)


def row_text(index: int, inner: str, key: str | None = None) -> str:
    """TensorFlow Serving's sentence around what is wrong with one instance."""
    at_key = f"key: {key} " if key is not None else ""
    return f"Failed to process element: {index} {at_key}of 'instances' list. Error: INVALID_ARGUMENT: {inner}"


def to_json(array: Array, alias: str) -> Any:
    """Nested lists (or one value) that print as TensorFlow Serving prints this output.

    float32 becomes the double with 6 significant digits if these give the float32 back, else with 9; half, which
    TensorFlow Serving does not write, the shortest that gives it back. Strings stay text, or become {"b64": …} if the
    output's name ends in _bytes. Raises InvalidArgumentError for a dtype that JSON has no form for.
    """
    letter = array.dtype.char
    if letter == "f":
        return _map_nested(_round_float, array.tolist())
    if letter == "e":
        # numpy writes a half with the fewest digits that give it back.
        return array.astype(str).astype(np.float64).tolist()
    if letter == "O" and alias.endswith(BYTES_SUFFIX):
        coded = np.empty(array.size, object)
        coded[:] = [{"b64": base64.b64encode(text.encode()).decode()} for text in array.ravel().tolist()]
        return coded.reshape(array.shape).tolist()
    if letter in _PLAIN:
        return array.tolist()
    raise InvalidArgumentError(
        f"Failed to write JSON value for tensor type: {dtypes.from_numpy(array.dtype).name}. Ask for {alias} over gRPC."
    )


def dump(value: Any) -> bytes:
    """JSON text; NaN and the infinities as the bare tokens TensorFlow's clients expect, which strict JSON lacks."""
    text = orjson.dumps(value)
    # orjson writes what is not finite as null, and nothing the server answers is null otherwise.
    if b"null" not in text:
        return text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write_tensor(array: Array, alias: str) -> bytes:
    """The text of an output. Raises InvalidArgumentError as `to_json` does."""
    text = native.write_array(array) if array.dtype.char in native.WRITABLE else None
    return dump(to_json(array, alias)) if text is None else text


def write_rows(outputs: Mapping[str, Array]) -> bytes:
    """The text of a list of objects, one for each row of the outputs, which have the same number of rows.

    Raises InvalidArgumentError as `to_json` does.
    """
    keys = tuple(map(key_text, outputs))
    columns = [
        array if array.dtype.char in native.WRITABLE else _row_texts(array, alias) for alias, array in outputs.items()
    ]
    text = native.write_rows(keys, tuple(columns))
    if text is None:
        text = native.write_rows(keys, tuple(_row_texts(array, alias) for alias, array in outputs.items()))
    assert text is not None, "it has nothing but texts to write"
    return text


@lru_cache(maxsize=1024)
def key_text(alias: str) -> bytes:
    """An object's key as it is printed, with its colon."""
    return orjson.dumps(alias) + b":"


def _row_texts(array: Array, alias: str) -> list[bytes]:
    return [dump(row) for row in to_json(array, alias)]


def _flatten(value: Any, shape: Sequence[int], level: int, values: list[Any]) -> None:
    """Append the elements in row-major order, and check that every list has the shape that the first ones promise."""
    if not isinstance(value, list):
        if level < len(shape):
            raise InvalidArgumentError(
                f"JSON Value: {quote(value)} found at incorrect level: {level} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        values.append(value)
        return
    if level >= len(shape):
        raise InvalidArgumentError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidArgumentError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for one in value:
        _flatten(one, shape, level + 1, values)


def _as_array(values: list[Any], dtype: DType, exact: bool) -> Array:
    """JSON values as the elements of a tensor, [n].

    Raises InvalidArgumentError for the first value that is not of the dtype, UnimplementedError for a dtype that JSON
    has no form for.
    """
    if dtype.is_string:
        strings = []
        for value in values:
            if is_base64(value):
                strings.append(read_base64(value))
            elif type(value) is str:
                strings.append(value.encode())
            else:
                raise _mistyped(value, dtype)
        return as_strings(strings)
    wide: type[np.generic]
    if dtype in _FLOATS:
        wide = np.float64
        wrong = [value for value in values if type(value) is not float and type(value) is not int]
    elif dtype in _INTEGER_RANGES:
        wide = np.uint64 if dtype is dtypes.uint64 else np.int64
        low, high = (_EXACT_RANGES if exact else _INTEGER_RANGES)[dtype]
        wrong = [value for value in values if type(value) is not int or not low <= value <= high]
    else:
        wide = np.bool_
        wrong = [value for value in values if type(value) is not bool]
        if values and dtype is not dtypes.bool_:
            raise UnimplementedError(
                f"Conversion of JSON Value: {quote(values[0])} to type: {dtype.name}. Send it over gRPC."
            )
    if wrong:
        raise _mistyped(wrong[0], dtype)
    given = np.array(values, wide)
    with np.errstate(over="ignore", under="ignore"):
        elements = given.astype(dtype.numpy)
    if exact and dtype in _FLOATS and (beyond := np.isinf(elements) & np.isfinite(given)).any():
        raise _mistyped(values[int(beyond.argmax())], dtype)
    return elements


def _mistyped(value: Any, dtype: DType) -> InvalidArgumentError:
    return InvalidArgumentError(f"JSON Value: {quote(value)} Type: {kind(value)} is not of expected type: {dtype.name}")


def _map_nested(function: Callable[[Any], Any], value: Any) -> Any:
    return [_map_nested(function, one) for one in value] if type(value) is list else function(value)


def _round_float(value: float) -> float:
    """A float32 as the double with 6 significant digits if these give it back, else with 9."""
    short = float(f"{value:.6g}")
    return short if _FLOAT32.unpack(_FLOAT32.pack(short))[0] == value else float(f"{value:.9g}")


_FLOAT32 = struct.Struct("f")
