"""The protocol's names of element types, beside the project's own table of types.

Owns the names (FP32, BYTES), the field of typed gRPC contents that carries each, and Triton's names in configurations
(TYPE_FP32). Knows no values. Source: the Open Inference Protocol, Triton's model_config.proto.
"""

from __future__ import annotations

from typing import NamedTuple

from estimator_serving.serving.errors import UnimplementedError
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType


class Datatype(NamedTuple):
    """An element type as the protocol has it.

    contents: the field of InferTensorContents that carries its values; "" if they come only as raw bytes.
    """

    name: str
    dtype: DType
    contents: str = ""

    @property
    def config_name(self) -> str:
        """Its name in a model's configuration."""
        return "TYPE_STRING" if self.dtype.is_string else f"TYPE_{self.name}"


ALL = (
    Datatype("BOOL", dtypes.bool_, "bool_contents"),
    Datatype("UINT8", dtypes.uint8, "uint_contents"),
    Datatype("UINT16", dtypes.uint16, "uint_contents"),
    Datatype("UINT32", dtypes.uint32, "uint_contents"),
    Datatype("UINT64", dtypes.uint64, "uint64_contents"),
    Datatype("INT8", dtypes.int8, "int_contents"),
    Datatype("INT16", dtypes.int16, "int_contents"),
    Datatype("INT32", dtypes.int32, "int_contents"),
    Datatype("INT64", dtypes.int64, "int64_contents"),
    Datatype("FP16", dtypes.float16),
    Datatype("FP32", dtypes.float32, "fp32_contents"),
    Datatype("FP64", dtypes.float64, "fp64_contents"),
    Datatype("BF16", dtypes.bfloat16),
    Datatype("BYTES", dtypes.string, "bytes_contents"),
)
NAMES = frozenset(datatype.name for datatype in ALL)

_BY_NUMBER = {datatype.dtype.number: datatype for datatype in ALL}


def of(dtype: DType) -> Datatype:
    """The protocol's type. Raises UnimplementedError for one that it does not have (complex numbers, float8)."""
    found = _BY_NUMBER.get(dtype.number)
    if found is None:
        raise UnimplementedError(
            f"The Open Inference Protocol has no datatype for {dtype.name}; ask by TensorFlow Serving's API."
        )
    return found
