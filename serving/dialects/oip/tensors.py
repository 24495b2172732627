"""Raw tensor contents <-> arrays: the bytes behind a request's JSON, gRPC's raw contents, shared memory.

Owns the layout (little-endian, row-major, BYTES with a 32-bit length before each element) and its checks, and what a
shape may be. Knows no requests. Source: Triton's binary tensor data extension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import Array, as_strings
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

RANK_MAX = 32
DIMENSION_MAX = 2**31 - 1
# The number of elements whose bytes, at the widest type, 64 bits can still count; numpy checks it for empty arrays too.
_COUNTABLE_MAX = 2**63 // 16
_LENGTH = struct.Struct("<I")


def check_shape(name: str, shape: Sequence[int]) -> int:
    """The number of elements of a shape. Raises InvalidArgumentError for one that no tensor has."""
    if len(shape) > RANK_MAX:
        raise InvalidArgumentError(
            f"tensor '{name}' has {len(shape)} dimensions; a tensor has at most {RANK_MAX} of them."
        )
    for length in shape:
        if not 0 <= length <= DIMENSION_MAX:
            raise InvalidArgumentError(
                f"tensor '{name}' has dimension {length} in its shape; each must be between 0 and {DIMENSION_MAX}."
            )
    if math.prod([length or 1 for length in shape]) > _COUNTABLE_MAX:
        raise InvalidArgumentError(f"tensor '{name}' has more elements than can be counted; correct its shape.")
    return math.prod(shape)


def from_raw(name: str, content: bytes | memoryview, dtype: DType, shape: tuple[int, ...], size: int) -> Array:
    """The array of an input's bytes; numbers are a view of them, which need not be aligned.

    size: the number of elements of `shape`. Raises InvalidArgumentError for bytes that do not add up.
    """
    if dtype.is_string:
        return _read_strings(name, content, size).reshape(shape)
    expected = size * dtype.numpy.itemsize
    if len(content) != expected:
        raise InvalidArgumentError(
            f"input byte size mismatch for input '{name}'. Expected {expected}, got {len(content)}. Send the values of "
            f"shape {list(shape)} as little-endian bytes."
        )
    array = np.frombuffer(content, dtype.numpy)
    if dtype is dtypes.bool_ and size and array.view(np.uint8).max() > 1:
        raise InvalidArgumentError(f"input '{name}' holds a BOOL other than 0 and 1; a BOOL is one byte, 0 or 1.")
    return array.reshape(shape)


def to_raw(array: Array) -> bytes | memoryview:
    """The bytes of an output; of numbers, the array's own memory."""
    if array.dtype.kind == "O":
        parts: list[bytes] = []
        for value in array.ravel().tolist():
            encoded = value if type(value) is bytes else value.encode()
            parts += (_LENGTH.pack(len(encoded)), encoded)
        return b"".join(parts)
    # As plain bytes, because Python's buffers know no bfloat16.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _read_strings(name: str, content: bytes | memoryview, size: int) -> Array:
    """[size] bytes objects."""
    whole = bytes(content)
    values: list[bytes] = []
    position, end = 0, len(whole)
    while position < end:
        if len(values) == size:
            raise InvalidArgumentError(
                f"unexpected number of string elements for inference input '{name}': more than the {size} of its shape."
            )
        start = position + 4
        if start > end:
            raise InvalidArgumentError(
                f"incomplete string length indicator for inference input '{name}': {end - position} bytes are left, "
                "and a length takes 4."
            )
        (length,) = _LENGTH.unpack_from(whole, position)
        position = start + length
        if position > end:
            raise InvalidArgumentError(
                f"incomplete string data for inference input '{name}': element {len(values)} has {length} bytes, and "
                f"{end - start} are left."
            )
        values.append(whole[start:position])
    if len(values) != size:
        raise InvalidArgumentError(
            f"unexpected number of string elements {len(values)} for inference input '{name}', expecting {size}"
        )
    return as_strings(values)
