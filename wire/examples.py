"""tf.Example bytes <-> Python values.

Owns encoding with and without a spec, and the joining of many serialized Examples into one ragged array. The kinds of
features are those of wire.features, whose names stand here too. Parsing in bulk is the op library's ParseExample;
decode_example here is for tools and tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.wire import dtypes, native
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.features import (
    ExampleError,
    Feature,
    FeatureSpec,
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
    check_sequence_specs,
    check_spec,
    example_dtypes,
    list_tensors_of,
    spec_from_proto,
    spec_to_proto,
    tensors_of,
)
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.ragged import RaggedBytes

__all__ = [
    "ExampleEncoder",
    "ExampleError",
    "Feature",
    "FeatureSpec",
    "FixedLenFeature",
    "FixedLenSequenceFeature",
    "RaggedFeature",
    "SparseFeature",
    "VarLenFeature",
    "check_sequence_specs",
    "check_spec",
    "decode_example",
    "encode_example",
    "encode_example_by_spec",
    "encode_sequence_example",
    "example_dtypes",
    "join_examples",
    "list_tensors_of",
    "spec_from_proto",
    "spec_to_proto",
    "tensors_of",
]

# The three lists of tensorflow.Feature, by element type.
_LISTS = {dtypes.float32: "float_list", dtypes.int64: "int64_list", dtypes.string: "bytes_list"}
_LETTERS = {dtypes.float32: "f", dtypes.int64: "i", dtypes.string: "s"}


def encode_example(features: Mapping[str, Any]) -> bytes:
    """A serialized tf.Example; each feature's list is chosen by its values' types.

    str and bytes go to bytes_list, float to float_list, int and bool to int64_list; a single value counts as a list of
    one, None as a feature without values. Raises ExampleError for other types and for mixed lists.
    """
    example = tensorflow_pb.Example()
    for name, value in features.items():
        _fill(example.features.feature[name], name, value)
    return example.SerializeToString(deterministic=True)


class ExampleEncoder:
    """Writes tf.Examples of one spec, whose keys and dtypes are worked out once, when it is made.

    Attributes:
        writer: the same in the compiled module.

    Raises ExampleError where two features of the spec want different things under one key.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._dtypes = example_dtypes(spec)
        self.writer = native.example_writer({key: _LETTERS[dtype] for key, dtype in self._dtypes.items()})

    @property
    def keys(self) -> Collection[str]:
        """The keys that an Example of the spec has."""
        return self._dtypes.keys()

    def encode_rows(self, rows: native.Rows) -> list[bytes] | None:
        """What `encode` gives for each row of a JSON body. None if it has something to say about one of them."""
        return native.write_examples(self.writer, rows)

    def encode(self, features: Mapping[str, Any]) -> bytes:
        """A serialized tf.Example whose lists have the types the spec asks for.

        The names are the keys an Example has: a sparse feature is given as its index and value keys. An integer is
        taken for a float feature, since JSON and Python do not tell 2 from 2.0; a float is not taken for an integer
        one. A value of None and a feature that is absent stay absent.
        Raises ExampleError naming the feature: unknown to the spec, or of a kind that does not fit.
        """
        example = tensorflow_pb.Example()
        for name, value in features.items():
            dtype = self._dtypes.get(name)
            if dtype is None:
                known = ", ".join(sorted(self._dtypes))
                raise ExampleError(f"The feature {name!r} is not one of {known}; send only these.")
            if value is not None:
                _extend(example.features.feature[name], name, _as_list(value), dtype)
        return example.SerializeToString(deterministic=True)


def encode_example_by_spec(features: Mapping[str, Any], spec: FeatureSpec) -> bytes:
    """One Example of a spec; for many, make an ExampleEncoder once. Raises what that raises."""
    return ExampleEncoder(spec).encode(features)


def encode_sequence_example(context: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]) -> bytes:
    """A serialized tf.SequenceExample: features of the whole, and for each list of features the values of each step.

    Each list of values is chosen by its values' types, as encode_example does. Raises what that raises.
    """
    example = tensorflow_pb.SequenceExample()
    for name, value in context.items():
        _fill(example.context.feature[name], name, value)
    for name, steps in lists.items():
        example.feature_lists.feature_list[name].SetInParent()
        for step in steps:
            _fill(example.feature_lists.feature_list[name].feature.add(), name, step)
    return example.SerializeToString(deterministic=True)


def decode_example(serialized: bytes) -> dict[str, list[Any]]:
    """The features of a serialized tf.Example as lists of bytes, float or int.

    Raises ExampleError where the bytes are not an Example.
    """
    try:
        example = tensorflow_pb.Example.FromString(serialized)
    except Exception as error:
        raise ExampleError(f"These {len(serialized)} bytes are not a serialized tf.Example: {error}.") from None
    kinds = {name: feature.WhichOneof("kind") for name, feature in example.features.feature.items()}
    return {
        name: [] if kind is None else list(getattr(example.features.feature[name], kind).value)
        for name, kind in kinds.items()
    }


_FIRST_ESCAPE = 0x10FE00
"""In front of what stands for a byte: code points in the last plane, which is for private use."""
_ESCAPES = {0xDC00 + byte: _FIRST_ESCAPE + byte for byte in range(128, 256)}
_UNESCAPES = {escape: surrogate for surrogate, escape in _ESCAPES.items()}


def escape_text(serialized: bytes) -> bytes:
    """The Example with every byte that is not UTF-8 replaced by a character, so that all its text can become str."""
    example = tensorflow_pb.Example.FromString(serialized)
    for feature in example.features.feature.values():
        if feature.WhichOneof("kind") == "bytes_list":
            texts = [value.decode(errors="surrogateescape").translate(_ESCAPES) for value in feature.bytes_list.value]
            feature.bytes_list.value[:] = [text.encode() for text in texts]
    return example.SerializeToString(deterministic=True)


def unescape_text(text: str) -> str:
    """The text with lone surrogates (Python's surrogateescape) for the bytes that escape_text replaced."""
    return text.translate(_UNESCAPES)


def join_examples(
    serialized: Sequence[bytes] | npt.NDArray[np.object_],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Many byte strings as one ragged array.

    Returns:
        values: uint8[n], all bytes one after the other.
        row_splits: int64[batch + 1]; string i lies in values[row_splits[i]:row_splits[i + 1]].
    """
    rows = RaggedBytes.of(serialized)
    return rows.values, rows.row_splits


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        return list(value.ravel().tolist())
    if isinstance(value, np.generic):
        return [value.item()]
    return list(value) if isinstance(value, list | tuple) else [value]


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


def _fill(feature: tensorflow_pb.Feature, name: str, value: Any) -> None:
    values = _as_list(value)
    if values:
        kinds = {_kind(name, one) for one in values}
        if len(kinds) > 1:
            named = " and ".join(sorted(kind.name for kind in kinds))
            raise ExampleError(f"The feature {name!r} mixes {named}; use one type.")
        _extend(feature, name, values, kinds.pop())


def _extend(feature: tensorflow_pb.Feature, name: str, values: list[Any], dtype: DType) -> None:
    for value in values:
        kind = _kind(name, value)
        if kind != dtype and not (dtype is dtypes.float32 and kind is dtypes.int64 and not isinstance(value, bool)):
            raise ExampleError(f"The feature {name!r} is of type {dtype.name}; {value!r} is {kind.name}.")
    target = getattr(feature, _LISTS[dtype])
    target.SetInParent()
    try:
        # Text as UTF-8, a bool as 0 or 1.
        plain = [int(one) if isinstance(one, bool) else one for one in values]
        target.value.extend([one.encode() if isinstance(one, str) else one for one in plain])
    except (ValueError, UnicodeEncodeError):
        raise ExampleError(f"The feature {name!r} has a value that does not fit {dtype.name}: {values!r}.") from None
