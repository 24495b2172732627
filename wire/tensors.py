"""TensorProto <-> numpy.

Owns the rules by which a TensorProto becomes an array (TensorFlow's Tensor::FromProto) and back. Knows nothing of
requests, signatures or names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.wire import dtypes, native
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.pb import tensorflow_pb

Array = npt.NDArray[Any]

RANK_MAX = 32  # TensorFlow's own limit is 254, numpy's 64
# A typed field may hold one value for a shape of any size (the last value is repeated), so the length of the message
# does not bound the size of the array. This does.
ELEMENTS_MAX = 1 << 26
# A message of a few bytes must not expand, by repeating its last value, to more than a large message could carry.
FILLED_BYTES_MAX = 1 << 26


# The number of elements whose bytes, at the widest type, 64 bits can still count; numpy checks it for empty arrays too.
_COUNTABLE_MAX = 2**63 // 16


class TensorError(ValueError):
    """A TensorProto that does not describe a tensor."""


def decode_tensor(proto: tensorflow_pb.TensorProto, *, filled_bytes_max: int = FILLED_BYTES_MAX) -> Array:
    """The array a TensorProto describes.

    Shape and dtype are the message's; strings come as an object array of bytes. Numeric arrays made from
    tensor_content are read-only views of it. An array whose last value is repeated has at most `filled_bytes_max`
    bytes.

    Raises:
        TensorError: an unsupported dtype, an impossible shape, or content of the wrong length.

    Source: TensorFlow's Tensor::FromProto: content wins over typed values; too few values repeat the last one, none
    at all are zeros, surplus ones are dropped; integers narrow silently; values in another type's field are ignored.
    """
    try:
        dtype = dtypes.from_number(proto.dtype)
    except TypeError as error:
        raise TensorError(str(error)) from None
    dims = proto.tensor_shape.dim
    if len(dims) > RANK_MAX:
        raise TensorError(f"A tensor of rank {len(dims)} came; the largest rank is {RANK_MAX}.")
    shape = tuple(dim.size for dim in dims)
    if any(length < 0 for length in shape):
        raise TensorError(f"The shape {list(shape)} has a negative dimension; send the tensor's actual shape.")
    # Python's integers do not overflow, numpy's would: the check has to come before numpy sees the shape.
    if math.prod(length for length in shape if length) >= _COUNTABLE_MAX:
        raise TensorError(f"The shape {list(shape)} has more elements than 64 bits can count.")
    size = math.prod(shape)
    if size == 0:
        return np.empty(shape, dtype.numpy)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, size).reshape(shape)
    if size > ELEMENTS_MAX:
        raise TensorError(
            f"A tensor of shape {list(shape)} has more than {ELEMENTS_MAX} elements; send less in one message."
        )
    values = _typed_values(proto, dtype)
    if len(values) >= size:
        return values[:size].reshape(shape)
    if size * dtype.numpy.itemsize > filled_bytes_max:
        raise TensorError(
            f"{len(values)} values came for {size}; the last one is repeated in up to {filled_bytes_max} bytes. "
            "Send every value, best in tensor_content."
        )
    filled = np.empty(size, dtype.numpy)
    filled[: len(values)] = values
    filled[len(values) :] = values[-1] if len(values) else (b"" if dtype.is_string else 0)
    return filled.reshape(shape)


def tensor_of_parts(parts: native.TensorParts, message: bytes) -> Array:
    """The array of a TensorProto that `native.read_predict_request` took apart of a message; of numbers, a read-only
    one, and of many numbers, a view of the message that need not be aligned."""
    number, shape, values = parts
    if isinstance(values, bytes):
        return np.ndarray(shape, dtypes.from_number(number).numpy, values)
    if isinstance(values, int):
        return np.ndarray(shape, dtypes.from_number(number).numpy, message, values)
    strings = np.empty(len(values), object)
    strings[:] = values
    return strings.reshape(shape)


def encode_tensor(array: Array, *, as_content: bool = False) -> tensorflow_pb.TensorProto:
    """The TensorProto of an array, values in the typed field of its dtype, or in tensor_content where asked.

    Strings (object arrays of str or bytes, or numpy's own text dtypes) always use string_val, as TensorFlow does.
    Raises TypeError for an array TensorFlow has no type for.
    """
    dtype = dtypes.from_numpy(array.dtype)
    proto = tensorflow_pb.TensorProto(dtype=dtype.number)
    for length in array.shape:
        proto.tensor_shape.dim.add(size=length)
    if dtype.is_string:
        for value in array.ravel().tolist():
            if not isinstance(value, str | bytes):
                raise TypeError(f"A string tensor holds {type(value).__name__} {value!r}; expected str or bytes.")
            proto.string_val.append(value.encode() if isinstance(value, str) else value)
    elif as_content:
        proto.tensor_content = np.ascontiguousarray(array, dtype.numpy.newbyteorder("<")).tobytes()
    elif dtype.values_field == "float8_val":
        proto.float8_val = array.tobytes()
    elif dtype.values_field in _PACKED and array.size > _FEW_VALUES:
        proto.MergeFromString(_packed_field(dtype, array.astype(dtype.numpy.newbyteorder("<"), copy=False).tobytes()))
    else:
        values = np.ascontiguousarray(array).reshape(-1)
        if dtype.values_field == "half_val":
            values = values.view(np.uint16)
        elif dtype.numpy.kind == "c":
            values = values.view(_real_part(dtype))
        getattr(proto, dtype.values_field).extend(values.tolist())
    return proto


# A packed field of fixed width lies on the wire as its values lie in memory. Going through Python value by value costs
# forty times the copy. Field -> its tag (number and wire type 2) and the dtype of its values.
_PACKED: Mapping[str, tuple[bytes, np.dtype[Any]]] = {
    "float_val": (b"\x2a", np.dtype("<f4")),
    "double_val": (b"\x32", np.dtype("<f8")),
    "scomplex_val": (b"\x4a", np.dtype("<f4")),
    "dcomplex_val": (b"\x62", np.dtype("<f8")),
}
_FEW_VALUES = 32


def _packed_field(dtype: DType, content: bytes) -> bytes:
    tag, _ = _PACKED[dtype.values_field]
    return tag + write_varint(len(content)) + content


def _from_content(content: bytes, dtype: DType, size: int) -> Array:
    if dtype.is_string:
        # TensorFlow's layout for strings: all lengths as varint32, then all bytes.
        if size > len(content):
            raise TensorError(f"tensor_content has {len(content)} bytes, too few for the lengths of {size} strings.")
        lengths, position = [], 0
        for _ in range(size):
            length, position = _read_varint32(content, position)
            lengths.append(length)
        if position + sum(lengths) != len(content):
            raise TensorError(
                f"tensor_content has {len(content)} bytes; its lengths add up to {position + sum(lengths)}."
            )
        values = np.empty(size, object)
        for index, length in enumerate(lengths):
            values[index] = content[position : position + length]
            position += length
        return values
    expected = size * dtype.numpy.itemsize
    if len(content) != expected:
        raise TensorError(f"tensor_content has {len(content)} bytes; {size} values of {dtype.name} take {expected}.")
    array = np.frombuffer(content, dtype.numpy.newbyteorder("<"))
    if dtype is dtypes.bool_ and not np.isin(array.view(np.uint8), (0, 1)).all():
        raise TensorError("tensor_content of a bool tensor has a byte other than 0 and 1.")
    return array


def _read_varint32(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if position >= len(content):
            break
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise TensorError("tensor_content of a string tensor ends inside a length.")


def write_varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    if value < 0x80:
        return bytes((value,))
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)


def _typed_values(proto: tensorflow_pb.TensorProto, dtype: DType) -> Array:
    values = getattr(proto, dtype.values_field)
    if dtype.values_field in _PACKED and len(values) > _FEW_VALUES:
        # Straight from the message's bytes, if the packed field is its last one.
        serialized = proto.SerializeToString()
        element = _PACKED[dtype.values_field][1]
        content = serialized[-len(values) * element.itemsize :]
        if serialized.endswith(_packed_field(dtype, content)):
            packed = np.frombuffer(content, element)
            return packed[: len(packed) // 2 * 2].view(dtype.numpy) if dtype.numpy.kind == "c" else packed
    if dtype.values_field == "float8_val":
        return np.frombuffer(values, dtype.numpy)
    if dtype.is_string:
        strings = np.empty(len(values), object)
        strings[:] = values
        return strings
    if dtype.values_field == "half_val":
        return np.array(values, np.int32).astype(np.uint16).view(dtype.numpy)
    if dtype.numpy.kind == "c":
        return np.array(values[: len(values) // 2 * 2], _real_part(dtype)).view(dtype.numpy)
    # The int32 of int_val narrows without a word, as in TensorFlow: 300 as uint8 is 44.
    natural = np.dtype(np.int32) if dtype.values_field == "int_val" else dtype.numpy
    return np.fromiter(values, natural, len(values)).astype(dtype.numpy, copy=False)


def _real_part(dtype: DType) -> str:
    return f"f{dtype.numpy.itemsize // 2}"
