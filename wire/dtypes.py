"""One table of element types: TensorFlow's number and name, numpy's dtype, ONNX's type, TensorProto's typed field.

Every other module asks here; a second table of types anywhere is a mistake. Knows nothing of shapes or values.
Source: TensorFlow's types.proto and tensor.proto, ONNX's type strings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class DType:
    """An element type.

    Attributes:
        number: TensorFlow's DataType.
        name: TensorFlow's textual name, as it stands in its messages ("float", "int64", "string").
        numpy: the dtype of arrays in memory; object for strings.
        values_field: the field of TensorProto that carries typed values, "" where there is none.
        onnx: ONNX Runtime's name of a tensor of it, "" where it has none.
        onnx_number: ONNX's own number where ONNX Runtime neither takes nor gives numpy's arrays of it, else 0.
    """

    number: int
    name: str
    numpy: np.dtype[Any] = field(compare=False)
    values_field: str = field(compare=False)
    onnx: str = field(compare=False)
    onnx_number: int = field(compare=False, default=0)

    @property
    def is_string(self) -> bool:
        return self.number == 7

    def __repr__(self) -> str:
        return f"DType({self.name!r})"


def _dtype(number: int, name: str, numpy: Any, values_field: str, onnx: str, onnx_number: int = 0) -> DType:
    return DType(number, name, np.dtype(numpy), values_field, f"tensor({onnx})" if onnx else "", onnx_number)


float32 = _dtype(1, "float", np.float32, "float_val", "float")
float64 = _dtype(2, "double", np.float64, "double_val", "double")
int32 = _dtype(3, "int32", np.int32, "int_val", "int32")
uint8 = _dtype(4, "uint8", np.uint8, "int_val", "uint8")
int16 = _dtype(5, "int16", np.int16, "int_val", "int16")
int8 = _dtype(6, "int8", np.int8, "int_val", "int8")
string = _dtype(7, "string", object, "string_val", "string")
complex64 = _dtype(8, "complex64", np.complex64, "scomplex_val", "complex64")
int64 = _dtype(9, "int64", np.int64, "int64_val", "int64")
bool_ = _dtype(10, "bool", np.bool_, "bool_val", "bool")
bfloat16 = _dtype(14, "bfloat16", ml_dtypes.bfloat16, "half_val", "bfloat16", 16)
uint16 = _dtype(17, "uint16", np.uint16, "int_val", "uint16")
complex128 = _dtype(18, "complex128", np.complex128, "dcomplex_val", "complex128")
float16 = _dtype(19, "half", np.float16, "half_val", "float16")
uint32 = _dtype(22, "uint32", np.uint32, "uint32_val", "uint32")
uint64 = _dtype(23, "uint64", np.uint64, "uint64_val", "uint64")
float8_e5m2 = _dtype(24, "float8_e5m2", ml_dtypes.float8_e5m2, "float8_val", "float8e5m2", 19)
float8_e4m3fn = _dtype(25, "float8_e4m3fn", ml_dtypes.float8_e4m3fn, "float8_val", "float8e4m3fn", 17)
float8_e4m3fnuz = _dtype(26, "float8_e4m3fnuz", ml_dtypes.float8_e4m3fnuz, "float8_val", "float8e4m3fnuz", 18)
float8_e4m3b11fnuz = _dtype(27, "float8_e4m3b11fnuz", ml_dtypes.float8_e4m3b11fnuz, "float8_val", "")
float8_e5m2fnuz = _dtype(28, "float8_e5m2fnuz", ml_dtypes.float8_e5m2fnuz, "float8_val", "float8e5m2fnuz", 20)

ALL = (
    float32, float64, int32, uint8, int16, int8, string, complex64, int64, bool_, bfloat16, uint16, complex128,
    float16, uint32, uint64, float8_e5m2, float8_e4m3fn, float8_e4m3fnuz, float8_e4m3b11fnuz, float8_e5m2fnuz,
)  # fmt: skip

_BY_NUMBER = {dtype.number: dtype for dtype in ALL}
_BY_ONNX = {dtype.onnx: dtype for dtype in ALL if dtype.onnx}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL}
_BY_PYTHON = ((str, string), (bytes, string), (float, float32), (int, int64), (bool, bool_))
# Names people write: TensorFlow's own, numpy's and torch's ("torch.float32" without its module).
_BY_NAME = {dtype.name: dtype for dtype in ALL} | {str(dtype.numpy): dtype for dtype in ALL if not dtype.is_string}


def from_number(number: int) -> DType:
    """The type behind TensorFlow's DataType. Raises TypeError for one that is not served (resource, variant, …)."""
    try:
        return _BY_NUMBER[number]
    except KeyError:
        raise TypeError(
            f"DataType {number} is not supported; send one of {', '.join(f'{d.name} ({d.number})' for d in ALL)}."
        ) from None


def from_onnx(name: str) -> DType:
    """The type behind ONNX Runtime's `tensor(float)`. Raises TypeError for what is no tensor or has other elements."""
    try:
        return _BY_ONNX[name]
    except KeyError:
        element = name.removeprefix("tensor(").removesuffix(")")
        if element == name:
            raise TypeError(f"The ONNX type {name} is no tensor; requests and answers carry only tensors.") from None
        raise TypeError(
            f"Requests and answers carry no tensors of {element}; let the graph cast them, for example to or from "
            "int8 or float, and export it again."
        ) from None


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The type of a numpy array; any kind of text or bytes is string. Raises TypeError for dates, records and so on."""
    if dtype.kind in "OSUT":
        return string
    try:
        return _BY_NUMPY[dtype.newbyteorder("=")]
    except KeyError:
        raise TypeError(
            f"Arrays of {dtype} have no counterpart in TensorFlow; convert them to a number or to text."
        ) from None


def as_dtype(value: Any) -> DType:
    """The DType for what people write: a DType, a name, a numpy or torch dtype, Python's str, bytes, float, int, bool.

    Python's float and int are float32 and int64, the types an Example can carry.
    Raises TypeError for anything else.
    """
    if isinstance(value, DType):
        return value
    # `in` would compare by ==, and np.dtype("float64") == float.
    for python_type, dtype in _BY_PYTHON:
        if value is python_type:
            return dtype
    name = value if isinstance(value, str) else str(value)
    found = _BY_NAME.get(name.removeprefix("torch."))
    if found is not None:
        return found
    try:
        if value is None:  # np.dtype(None) is float64
            raise TypeError
        return from_numpy(np.dtype(value))
    except TypeError:
        raise TypeError(f"{value!r} is not a dtype; write one of {', '.join(dtype.name for dtype in ALL)}.") from None
