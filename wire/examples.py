"""tf.Example bytes <-> Python values, and the feature specs that say what an Example carries.

Owns FixedLenFeature and VarLenFeature, encoding with and without a spec, and the joining of many serialized Examples
into one ragged array. Parsing in bulk is the op library's ParseExample; decode_example here is for tools and tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType, as_dtype
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensors import decode_tensor, encode_tensor


class ExampleError(ValueError):
    """Values that do not fit an Example or its feature spec."""


@dataclass(frozen=True)
class FixedLenFeature:
    """A feature with the same number of values in every Example.

    Attributes:
        shape: the shape of one row, () for a scalar; a list is taken too.
        dtype: float32, int64 or string, in any form `as_dtype` takes.
        default_value: used where the feature is missing; None makes it required. Stored as nested tuples of `shape`.

    Raises ExampleError for another dtype, an unknown dimension, or a default that does not fit the shape.
    Source: TF's tf.io.FixedLenFeature.
    """

    shape: tuple[int, ...]
    dtype: DType
    default_value: Any = None

    def __post_init__(self) -> None:
        shape = tuple(self.shape) if isinstance(self.shape, Iterable) else (self.shape,)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", _example_dtype(self.dtype))
        if any(length is None or length < 0 for length in shape):
            raise ExampleError(
                f"FixedLenFeature has the shape {shape}; every dimension must be known and not negative."
            )
        if self.default_value is not None:
            object.__setattr__(self, "default_value", _nested(self._default_array()))

    def _default_array(self) -> npt.NDArray[Any]:
        array = _as_array(self.default_value, self.dtype)
        if array.size != int(np.prod(self.shape, dtype=np.int64)):
            raise ExampleError(
                f"The default {self.default_value!r} has {array.size} values; the shape {list(self.shape)} needs "
                f"{int(np.prod(self.shape, dtype=np.int64))}. Give one value for each element."
            )
        return array.reshape(self.shape)

    @property
    def default_array(self) -> npt.NDArray[Any] | None:
        """The default as an array of `shape` (strings: object array of bytes), None where the feature is required."""
        return None if self.default_value is None else self._default_array()


@dataclass(frozen=True)
class VarLenFeature:
    """A feature with any number of values, none included.

    Attributes:
        dtype: float32, int64 or string, in any form `as_dtype` takes.

    Raises ExampleError for another dtype. Source: TF's tf.io.VarLenFeature.
    """

    dtype: DType

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _example_dtype(self.dtype))


Feature = FixedLenFeature | VarLenFeature
FeatureSpec = Mapping[str, Feature]

# The three lists of tensorflow.Feature, by element type.
_LISTS = {dtypes.float32: "float_list", dtypes.int64: "int64_list", dtypes.string: "bytes_list"}


def encode_example(features: Mapping[str, Any]) -> bytes:
    """A serialized tf.Example; each feature's list is chosen by its values' types.

    str and bytes go to bytes_list, float to float_list, int and bool to int64_list; a single value counts as a list of
    one, None as a feature without values. Raises ExampleError for other types and for mixed lists.
    """
    example = tensorflow_pb.Example()
    for name, value in features.items():
        values = _as_list(value)
        feature = example.features.feature[name]
        if values:
            _extend(feature, name, values, _dtype_of(name, values))
    return example.SerializeToString(deterministic=True)


def encode_example_by_spec(features: Mapping[str, Any], spec: FeatureSpec) -> bytes:
    """A serialized tf.Example whose lists have the types the spec asks for.

    An integer is taken for a float feature, since JSON and Python do not tell 2 from 2.0; a float is not taken for an
    integer one. A value of None and a feature that is absent stay absent.
    Raises ExampleError naming the feature: unknown to the spec, or of a kind that does not fit.
    """
    example = tensorflow_pb.Example()
    for name, value in features.items():
        if name not in spec:
            raise ExampleError(f"The feature {name!r} is not one of {', '.join(sorted(spec))}; send only these.")
        if value is not None:
            _extend(example.features.feature[name], name, _as_list(value), spec[name].dtype)
    return example.SerializeToString(deterministic=True)


def decode_example(serialized: bytes) -> dict[str, list[Any]]:
    """The features of a serialized tf.Example as lists of bytes, float or int.

    Raises ExampleError where the bytes are not an Example.
    """
    try:
        example = tensorflow_pb.Example.FromString(serialized)
    except Exception as error:
        raise ExampleError(f"These {len(serialized)} bytes are not a serialized tf.Example: {error}.") from None
    return {name: _values(feature) for name, feature in example.features.feature.items()}


def join_examples(serialized: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Many byte strings as one ragged array.

    Returns:
        values: uint8[n], all bytes one after the other.
        row_splits: int64[batch + 1]; string i lies in values[row_splits[i]:row_splits[i + 1]].
    """
    row_splits = np.zeros(len(serialized) + 1, np.int64)
    np.cumsum([len(one) for one in serialized], out=row_splits[1:])
    return np.frombuffer(b"".join(serialized), np.uint8), row_splits


def spec_to_proto(spec: FeatureSpec) -> tensorflow_pb.ExampleParserConfiguration:
    """TensorFlow's message for a feature spec."""
    proto = tensorflow_pb.ExampleParserConfiguration()
    for name, feature in spec.items():
        configuration = proto.feature_map[name]
        if isinstance(feature, VarLenFeature):
            configuration.var_len_feature.dtype = feature.dtype.number
        else:
            fixed = configuration.fixed_len_feature
            fixed.dtype = feature.dtype.number
            fixed.shape.SetInParent()
            for length in feature.shape:
                fixed.shape.dim.add(size=length)
            if (default := feature.default_array) is not None:
                fixed.default_value.CopyFrom(encode_tensor(default))
    return proto


def spec_from_proto(proto: tensorflow_pb.ExampleParserConfiguration) -> dict[str, Feature]:
    """The feature spec of TensorFlow's message, features in name order. Raises ExampleError for an unset kind."""
    return {name: _feature_from_proto(name, proto.feature_map[name]) for name in sorted(proto.feature_map)}


def _feature_from_proto(name: str, configuration: tensorflow_pb.FeatureConfiguration) -> Feature:
    kind = configuration.WhichOneof("config")
    if kind == "var_len_feature":
        return VarLenFeature(dtypes.from_number(configuration.var_len_feature.dtype))
    if kind == "fixed_len_feature":
        fixed = configuration.fixed_len_feature
        default = decode_tensor(fixed.default_value) if fixed.HasField("default_value") else None
        return FixedLenFeature(tuple(dim.size for dim in fixed.shape.dim), dtypes.from_number(fixed.dtype), default)
    raise ExampleError(f"The parser configuration of feature {name!r} has no kind; export the model again.")


def _example_dtype(value: Any) -> DType:
    dtype = as_dtype(value)
    if dtype not in _LISTS:
        raise ExampleError(f"A feature of dtype {dtype.name} came; an Example carries float, int64 and string only.")
    return dtype


def _as_array(value: Any, dtype: DType) -> npt.NDArray[Any]:
    if not dtype.is_string:
        return np.asarray(value, dtype.numpy)
    array = np.asarray(value, object)
    flat = [one.encode() if isinstance(one, str) else one for one in array.ravel().tolist()]
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(array.shape)


def _nested(array: npt.NDArray[Any]) -> Any:
    """The array as nested tuples, so that a feature compares and hashes by value."""

    def freeze(value: Any) -> Any:
        return tuple(freeze(one) for one in value) if isinstance(value, list) else value

    return freeze(array.tolist())


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        return list(value.ravel().tolist())
    if isinstance(value, np.generic):
        return [value.item()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _dtype_of(name: str, values: list[Any]) -> DType:
    kinds = {_kind(name, value) for value in values}
    if len(kinds) > 1:
        raise ExampleError(f"The feature {name!r} mixes {' and '.join(sorted(k.name for k in kinds))}; use one type.")
    return kinds.pop()


def _kind(name: str, value: Any) -> DType:
    if isinstance(value, str | bytes):
        return dtypes.string
    if isinstance(value, bool | int):
        return dtypes.int64
    if isinstance(value, float):
        return dtypes.float32
    raise ExampleError(
        f"The feature {name!r} has a value of type {type(value).__name__}; "
        "an Example holds text, bytes, numbers and lists of them."
    )


def _extend(feature: tensorflow_pb.Feature, name: str, values: list[Any], dtype: DType) -> None:
    for value in values:
        kind = _kind(name, value)
        if kind != dtype and not (dtype is dtypes.float32 and kind is dtypes.int64 and not isinstance(value, bool)):
            raise ExampleError(f"The feature {name!r} is of type {dtype.name}; {value!r} is {kind.name}.")
    target = getattr(feature, _LISTS[dtype])
    target.SetInParent()
    try:
        target.value.extend([_stored(one) for one in values])
    except (ValueError, UnicodeEncodeError):
        raise ExampleError(f"The feature {name!r} has a value that does not fit {dtype.name}: {values!r}.") from None


def _stored(value: Any) -> Any:
    """A value as its list takes it: text as UTF-8, a bool as 0 or 1."""
    if isinstance(value, str):
        return value.encode()
    return int(value) if isinstance(value, bool) else value


def _values(feature: tensorflow_pb.Feature) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return [] if kind is None else list(getattr(feature, kind).value)
