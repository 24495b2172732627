"""Feature specs: what an Example carries, kind by kind, and which tensors each kind becomes.

Owns the five kinds of TF's tf.io, the rules of a whole spec, the tensors of a parsed feature and the proto form of a
spec. Knows nothing of bytes (wire.examples encodes them, the op library decodes them) and nothing of graphs.

The tensors of a feature named `key` in a batch of Examples:

| kind | tensor | dtype | shape |
|---|---|---|---|
| FixedLenFeature | `key` | dtype | [batch, *shape] |
| VarLenFeature | `key/values` | dtype | [batch, longest], padded with 0 or '' |
| | `key/lengths` | int64 | [batch], how many of a row's values are its own |
| FixedLenSequenceFeature | `key` | dtype | [batch, longest, *shape], padded with default_value, 0 or '' |
| SparseFeature | `key/indices` | int64 | [n, 1 + index keys], row number first |
| | `key/values` | dtype | [n] |
| | `key/dense_shape` | int64 | [1 + index keys]: the batch, then `size` |
| RaggedFeature | `key/values` | dtype | [n], or [n, *lengths] of uniform partitions that stand innermost |
| | `key/row_splits_0`, … | row_splits_dtype | [rows + 1], outermost first; the first one has batch + 1 |

In the feature lists of a batch of SequenceExamples every row has steps:

| kind | tensor | dtype | shape |
|---|---|---|---|
| VarLenFeature | `key/values` | dtype | [batch, steps, longest], padded with 0 or '' |
| | `key/lengths` | int64 | [batch, steps], 0 for steps that a row has not |
| FixedLenSequenceFeature | `key` | dtype | [batch, steps, *shape], padded with 0 or '' |
| | `key/lengths` | int64 | [batch], how many steps a row has |
| RaggedFeature | `key/values` | dtype | as above |
| | `key/row_splits_0`, … | row_splits_dtype | as above; the first one splits the batch into steps |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType, as_dtype
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensors import decode_tensor, encode_tensor


class ExampleError(ValueError):
    """Values that do not fit an Example or its feature spec."""


# ---- the kinds ------------------------------------------------------------------------------------------------------


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
        object.__setattr__(self, "dtype", _example_dtype(self.dtype, "Tdense"))
        object.__setattr__(self, "shape", _known_shape(self.shape, "Consider using FixedLenSequenceFeature."))
        if (default := self.default_array) is not None:
            object.__setattr__(self, "default_value", _nested(default.tolist()))

    @property
    def default_array(self) -> npt.NDArray[Any] | None:
        """The default as an array of `shape` (strings: object array of bytes), None where the feature is required."""
        if self.default_value is None:
            return None
        array = _as_array(self.default_value, self.dtype)
        if array.size != int(np.prod(self.shape, dtype=np.int64)):
            raise ExampleError(
                f"The default {self.default_value!r} has {array.size} values; the shape {list(self.shape)} needs "
                f"{int(np.prod(self.shape, dtype=np.int64))}. Give one value for each element."
            )
        return array.reshape(self.shape)


@dataclass(frozen=True)
class VarLenFeature:
    """A feature with any number of values, none included.

    Attributes:
        dtype: float32, int64 or string, in any form `as_dtype` takes.

    Raises ExampleError for another dtype. Source: TF's tf.io.VarLenFeature.
    """

    dtype: DType

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _example_dtype(self.dtype, "sparse_types"))


@dataclass(frozen=True)
class FixedLenSequenceFeature:
    """A feature whose values are any number of steps of one shape; rows are padded to the longest one's steps.

    Attributes:
        shape: the shape of one step, () for a scalar.
        dtype: float32, int64 or string, in any form `as_dtype` takes.
        allow_missing: a row without the feature has no steps. Examples need it; in the feature lists of
            SequenceExamples False makes the list required.
        default_value: one value that pads, 0 or '' where None; not for SequenceExamples.

    Raises ExampleError for another dtype, an unknown dimension, or a default of more than one value.
    Source: TF's tf.io.FixedLenSequenceFeature.
    """

    shape: tuple[int, ...]
    dtype: DType
    allow_missing: bool = False
    default_value: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _example_dtype(self.dtype, "Tdense"))
        object.__setattr__(self, "shape", _known_shape(self.shape, "The number of steps is not part of the shape."))
        if (default := self.default_array) is not None:
            object.__setattr__(self, "default_value", _nested(default.tolist()))

    @property
    def default_array(self) -> npt.NDArray[Any] | None:
        """What pads, as an array without dimensions; None where that is 0 or ''."""
        if self.default_value is None:
            return None
        array = _as_array(self.default_value, self.dtype)
        if array.size != 1:
            raise ExampleError(
                f"Input to reshape is a tensor with {array.size} values, but the requested shape has 1: the default "
                "of a FixedLenSequenceFeature pads each element, so give one value."
            )
        return array.reshape(())


@dataclass(frozen=True)
class SparseFeature:
    """A sparse row whose indices and values lie under keys of their own.

    Attributes:
        index_key: the key of the indices, or one key for each dimension of a row.
        value_key: the key of the values.
        dtype: of the values: float32, int64 or string, in any form `as_dtype` takes.
        size: the length of a row, or one for each index key. Indices are not held against it.
        already_sorted: each row's indices are in order, so that they need no sorting.

    Raises ExampleError for another dtype, a missing key, or sizes that do not match the index keys.
    Source: TF's tf.io.SparseFeature.
    """

    index_key: str | tuple[str, ...]
    value_key: str
    dtype: DType
    size: int | tuple[int, ...]
    already_sorted: bool = False

    def __post_init__(self) -> None:
        for name in ("index_key", "value_key", "dtype"):
            if not getattr(self, name):
                raise ExampleError(f"Missing {name} for SparseFeature {self}. Say under which keys its parts lie.")
        object.__setattr__(self, "dtype", _example_dtype(self.dtype, "sparse_types"))
        if not isinstance(self.index_key, str):
            object.__setattr__(self, "index_key", tuple(self.index_key))
        if isinstance(self.index_key, str):
            if not _is_length(self.size):
                raise ExampleError(
                    f"vocab_size has to be a Tensor or Python int. Found {type(self.size)}: {self.size}."
                )
            object.__setattr__(self, "size", int(self.size))  # type: ignore[arg-type]
            return
        sizes = tuple(self.size) if isinstance(self.size, Iterable) else ()
        if len(sizes) != len(self.index_key) or not all(map(_is_length, sizes)):
            raise ExampleError(
                f"sp_ids and vocab_size have to have equal lengths. Give one size for each of the index keys "
                f"{list(self.index_key)}; size is {self.size!r}."
            )
        object.__setattr__(self, "size", tuple(map(int, sizes)))

    @property
    def index_keys(self) -> tuple[str, ...]:
        """The index keys, one for each dimension of a row."""
        return (self.index_key,) if isinstance(self.index_key, str) else self.index_key

    @property
    def sizes(self) -> tuple[int, ...]:
        """The dimensions of a row."""
        return (self.size,) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class _Keyed:
    key: str

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise ExampleError(f"{type(self).__name__} has the key {self.key!r}; name the feature that holds it.")


@dataclass(frozen=True)
class RowSplits(_Keyed):
    """Under `key` lies where each inner row begins, and at last where the values end: n + 1 numbers for n rows."""


@dataclass(frozen=True)
class RowLengths(_Keyed):
    """Under `key` lies how many values each inner row has."""


@dataclass(frozen=True)
class RowStarts(_Keyed):
    """Under `key` lies where each inner row begins."""


@dataclass(frozen=True)
class RowLimits(_Keyed):
    """Under `key` lies where each inner row ends."""


@dataclass(frozen=True)
class ValueRowIds(_Keyed):
    """Under `key` lies, for each value, the number of its inner row."""


@dataclass(frozen=True)
class UniformRowLength:
    """Every inner row has `length` values."""

    length: int

    def __post_init__(self) -> None:
        if not _is_length(self.length) or self.length < 1:
            raise ExampleError(f"UniformRowLength has the length {self.length!r}; give a whole number from 1 on.")


KeyPartition: TypeAlias = RowSplits | RowLengths | RowStarts | RowLimits | ValueRowIds
Partition: TypeAlias = KeyPartition | UniformRowLength


@dataclass(frozen=True)
class RaggedFeature:
    """A feature with any number of values, in rows within rows.

    Attributes:
        dtype: float32, int64 or string, in any form `as_dtype` takes.
        value_key: the key of the values; None: the feature's own name.
        partitions: how a row's values are cut into inner rows, outermost first; none leaves one flat row an Example.
        row_splits_dtype: int32 or int64.
        validate: refuse rows whose partitions do not fit their values, instead of dropping what is left over.

    Raises ExampleError (TypeError where TF does) for what is none of these. Source: TF's tf.io.RaggedFeature.
    """

    dtype: DType
    value_key: str | None = None
    partitions: tuple[Partition, ...] = ()
    row_splits_dtype: DType = dtypes.int32
    validate: bool = False

    RowSplits: ClassVar[type[RowSplits]] = RowSplits
    RowLengths: ClassVar[type[RowLengths]] = RowLengths
    RowStarts: ClassVar[type[RowStarts]] = RowStarts
    RowLimits: ClassVar[type[RowLimits]] = RowLimits
    ValueRowIds: ClassVar[type[ValueRowIds]] = ValueRowIds
    UniformRowLength: ClassVar[type[UniformRowLength]] = UniformRowLength

    def __post_init__(self) -> None:
        if self.value_key is not None and not isinstance(self.value_key, str):
            raise ExampleError(f"Argument `value_key` must be a string; got {self.value_key}")
        if self.value_key == "":
            raise ExampleError("Argument `value_key` must not be empty; leave it out for the feature's own name.")
        dtype, splits = as_dtype(self.dtype), as_dtype(self.row_splits_dtype)
        if dtype not in EXAMPLE_DTYPES:
            raise ExampleError(f"Argument `dtype` must be int64, float32, or bytes; got {dtype.name}")
        if splits not in (dtypes.int32, dtypes.int64):
            raise ExampleError(f"Argument `row_splits_dtype` must be int32 or int64; got {splits.name}")
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "row_splits_dtype", splits)
        if not isinstance(self.partitions, list | tuple):
            raise TypeError(f"Argument `partitions` must be a list or tuple. Received partitions={self.partitions!r}")
        object.__setattr__(self, "partitions", tuple(self.partitions))
        for partition in self.partitions:
            if not isinstance(partition, get_args(Partition)):
                names = ", ".join(kind.__name__ for kind in get_args(Partition))
                raise TypeError(
                    f"Argument `partitions` must be a list of partition objects {names}; got: {partition!r}"
                )
        if not isinstance(self.validate, bool):
            raise TypeError(f"Argument `validate` must be a bool; got {self.validate!r}")

    @property
    def inner_lengths(self) -> tuple[int, ...]:
        """The uniform partitions that stand innermost: dimensions of the values, as in TF, and not splits."""
        lengths: list[int] = []
        for partition in reversed(self.partitions):
            if not isinstance(partition, UniformRowLength):
                break
            lengths.insert(0, partition.length)
        return tuple(lengths)

    @property
    def ragged_rank(self) -> int:
        """How many row_splits the feature has in a batch of Examples."""
        return 1 + len(self.partitions) - len(self.inner_lengths)


Feature: TypeAlias = FixedLenFeature | VarLenFeature | FixedLenSequenceFeature | SparseFeature | RaggedFeature
FeatureSpec: TypeAlias = Mapping[str, Feature]

EXAMPLE_DTYPES = (dtypes.float32, dtypes.int64, dtypes.string)

# ---- a whole spec ---------------------------------------------------------------------------------------------------


def example_dtypes(spec: FeatureSpec) -> dict[str, DType]:
    """The keys an Example of this spec has, in the order of the spec, and the dtype that lies under each.

    Sparse and ragged features have keys of their own, which several may share. Raises ExampleError where two features
    want different things under one key. Source: TF 2.15 parsing_config (_ParseOpParams).
    """
    found: dict[str, _Wanted] = {}
    for name, feature in spec.items():
        for key, wanted in _reads(name, feature):
            first = found.setdefault(key, wanted)
            if first == wanted:
                continue
            kinds = {first[0], wanted[0]}
            for one, other in (("Dense", "sparse"), ("Dense", "ragged"), ("Ragged", "sparse")):
                if kinds == {one.lower(), other}:
                    raise ExampleError(
                        f"{one} and {other} keys must not intersect; {key!r} is read as both. Read it once."
                    )
            if first[1] != wanted[1]:
                types = f"{first[1].name} vs {wanted[1].name}"
                raise ExampleError(f"Conflicting type {types} for feature {key}. Read it as one.")
            splits = " vs ".join(each[2].name for each in (first, wanted) if each[2])
            raise ExampleError(f"Conflicting partition type {splits} for feature {key}. Give both the same.")
    return {key: dtype for key, (_, dtype, _) in found.items()}


def check_spec(spec: FeatureSpec) -> None:
    """Raises ExampleError where this cannot be the spec of Examples. Source: TF 2.15 tf.io.parse_example."""
    if not spec:
        raise ExampleError("Argument `features` cannot be None. Name at least one feature.")
    for key, feature in spec.items():
        _check_kind(key, feature, get_args(Feature))
        if isinstance(feature, FixedLenSequenceFeature) and not feature.allow_missing:
            raise ExampleError(
                "Unsupported: FixedLenSequenceFeature requires allow_missing to be True. "
                f"An Example may always lack {key!r}, which then has no steps."
            )
    example_dtypes(spec)


def check_sequence_specs(context: FeatureSpec, lists: FeatureSpec) -> None:
    """Raises ExampleError where these cannot be the specs of SequenceExamples: their context's and feature lists'.

    Source: TF 2.15 tf.io.parse_sequence_example.
    """
    if not (context or lists):
        raise ExampleError(
            "Both `context_features` and `sequence_features` argument are None, but at least one should have values."
        )
    for key, feature in context.items():
        _check_kind(key, feature, (VarLenFeature, FixedLenFeature, RaggedFeature))
    for key, feature in lists.items():
        _check_kind(key, feature, (VarLenFeature, FixedLenSequenceFeature, RaggedFeature))
        if isinstance(feature, FixedLenSequenceFeature) and feature.default_value is not None:
            raise ExampleError(
                f"Value feature_list.dense_defaults[{key}] must be None; steps that a row has not are 0 or ''."
            )
    example_dtypes(context)
    example_dtypes(lists)


def _check_kind(key: str, feature: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(feature, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ExampleError(
            f"Unsupported {type(feature).__name__} {feature} for key '{key}'. Here a feature is one of {names}."
        )


_Wanted: TypeAlias = tuple[str, DType, DType | None]
"""How a key is read, in TF's words, the dtype under it, and that of the row_splits it becomes."""


def _reads(name: str, feature: Feature) -> Iterator[tuple[str, _Wanted]]:
    match feature:
        case FixedLenFeature() | FixedLenSequenceFeature():
            yield name, ("dense", feature.dtype, None)
        case VarLenFeature():
            yield name, ("sparse", feature.dtype, None)
        case SparseFeature():
            yield feature.value_key, ("sparse", feature.dtype, None)
            for key in feature.index_keys:
                yield key, ("sparse", dtypes.int64, None)
        case RaggedFeature():
            yield feature.value_key or name, ("ragged", feature.dtype, feature.row_splits_dtype)
            for partition in feature.partitions:
                if not isinstance(partition, UniformRowLength):
                    yield partition.key, ("ragged", dtypes.int64, feature.row_splits_dtype)


# ---- the tensors of a parsed feature --------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureTensor:
    """A tensor that a parsed feature gives.

    Attributes:
        name: the feature's name, with what the tensor is behind a slash.
        dtype: its element type.
        shape: its dimensions: a number, or a name where it is known only when the graph runs.
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]


def tensors_of(name: str, feature: Feature) -> tuple[FeatureTensor, ...]:
    """The tensors of a feature parsed from a batch of Examples, or from the context of SequenceExamples."""
    match feature:
        case FixedLenFeature():
            return (FeatureTensor(name, feature.dtype, ("batch", *feature.shape)),)
        case VarLenFeature():
            return (
                FeatureTensor(f"{name}/values", feature.dtype, ("batch", f"{name}/longest")),
                FeatureTensor(f"{name}/lengths", dtypes.int64, ("batch",)),
            )
        case FixedLenSequenceFeature():
            return (FeatureTensor(name, feature.dtype, ("batch", f"{name}/longest", *feature.shape)),)
        case SparseFeature():
            rank = 1 + len(feature.index_keys)
            return (
                FeatureTensor(f"{name}/indices", dtypes.int64, (f"{name}/count", rank)),
                FeatureTensor(f"{name}/values", feature.dtype, (f"{name}/count",)),
                FeatureTensor(f"{name}/dense_shape", dtypes.int64, (rank,)),
            )
        case RaggedFeature():
            return _ragged_tensors(name, feature, feature.ragged_rank)


def list_tensors_of(name: str, feature: Feature) -> tuple[FeatureTensor, ...]:
    """The tensors of a feature parsed from the feature lists of a batch of SequenceExamples."""
    match feature:
        case VarLenFeature():
            steps = f"{name}/steps"
            return (
                FeatureTensor(f"{name}/values", feature.dtype, ("batch", steps, f"{name}/longest")),
                FeatureTensor(f"{name}/lengths", dtypes.int64, ("batch", steps)),
            )
        case FixedLenSequenceFeature():
            return (
                FeatureTensor(name, feature.dtype, ("batch", f"{name}/steps", *feature.shape)),
                FeatureTensor(f"{name}/lengths", dtypes.int64, ("batch",)),
            )
        case RaggedFeature():
            return _ragged_tensors(name, feature, 1 + feature.ragged_rank)
    raise ExampleError(f"Unsupported {type(feature).__name__} {feature} for key '{name}' of feature lists.")


def _ragged_tensors(name: str, feature: RaggedFeature, levels: int) -> tuple[FeatureTensor, ...]:
    rows = ["batch+1", *(f"{name}/rows_{level}+1" for level in range(1, levels))]
    splits = feature.row_splits_dtype
    return (
        FeatureTensor(f"{name}/values", feature.dtype, (f"{name}/count", *feature.inner_lengths)),
        *(FeatureTensor(f"{name}/row_splits_{i}", splits, (rows[i],)) for i in range(levels)),
    )


# ---- protos ---------------------------------------------------------------------------------------------------------


def spec_to_proto(spec: FeatureSpec) -> tensorflow_pb.ExampleParserConfiguration:
    """TensorFlow's message for a feature spec; kinds it has not are fields of our own, numbered from 1001."""
    proto = tensorflow_pb.ExampleParserConfiguration()
    for name, feature in spec.items():
        entry = proto.feature_map[name]
        match feature:
            case VarLenFeature():
                entry.var_len_feature.dtype = feature.dtype.number
            case FixedLenFeature():
                _dense_to_proto(feature, entry.fixed_len_feature)
            case FixedLenSequenceFeature():
                _dense_to_proto(feature, entry.fixed_len_sequence_feature)
                entry.fixed_len_sequence_feature.allow_missing = feature.allow_missing
            case SparseFeature():
                sparse = entry.sparse_feature
                sparse.dtype, sparse.value_key = feature.dtype.number, feature.value_key
                sparse.index_key.extend(feature.index_keys)
                sparse.size.extend(feature.sizes)
                sparse.is_list, sparse.already_sorted = not isinstance(feature.index_key, str), feature.already_sorted
            case RaggedFeature():
                ragged = entry.ragged_feature
                ragged.dtype, ragged.row_splits_dtype = feature.dtype.number, feature.row_splits_dtype.number
                ragged.value_key, ragged.validate = feature.value_key or "", feature.validate
                for partition in feature.partitions:
                    added = ragged.partition.add()
                    if isinstance(partition, UniformRowLength):
                        added.uniform_row_length = partition.length
                    else:
                        setattr(added, _PARTITION_FIELDS[type(partition)], partition.key)
    return proto


def spec_from_proto(proto: tensorflow_pb.ExampleParserConfiguration) -> dict[str, Feature]:
    """The feature spec of TensorFlow's message, features in name order. Raises ExampleError for an unset kind."""
    return {name: _feature_from_proto(name, proto.feature_map[name]) for name in sorted(proto.feature_map)}


def _dense_to_proto(
    feature: FixedLenFeature | FixedLenSequenceFeature,
    proto: tensorflow_pb.FixedLenFeatureProto | tensorflow_pb.FixedLenSequenceFeatureProto,
) -> None:
    proto.dtype = feature.dtype.number
    proto.shape.SetInParent()
    for length in feature.shape:
        proto.shape.dim.add(size=length)
    if (default := feature.default_array) is not None:
        proto.default_value.CopyFrom(encode_tensor(default))


# The field of RaggedPartitionProto's oneof for each class of partition.
_PARTITION_FIELDS: dict[type[KeyPartition], str] = {
    RowSplits: "row_splits_key",
    RowLengths: "row_lengths_key",
    RowStarts: "row_starts_key",
    RowLimits: "row_limits_key",
    ValueRowIds: "value_row_ids_key",
}


def _feature_from_proto(name: str, configuration: tensorflow_pb.FeatureConfiguration) -> Feature:
    match configuration.WhichOneof("config"):
        case "var_len_feature":
            return VarLenFeature(dtypes.from_number(configuration.var_len_feature.dtype))
        case "fixed_len_feature":
            return FixedLenFeature(*_dense_from_proto(configuration.fixed_len_feature))
        case "fixed_len_sequence_feature":
            steps = configuration.fixed_len_sequence_feature
            shape, dtype, default = _dense_from_proto(steps)
            return FixedLenSequenceFeature(shape, dtype, steps.allow_missing, default)
        case "sparse_feature":
            sparse = configuration.sparse_feature
            keys, sizes = tuple(sparse.index_key), tuple(sparse.size)
            return SparseFeature(
                keys if sparse.is_list else "".join(keys[:1]),
                sparse.value_key,
                dtypes.from_number(sparse.dtype),
                sizes if sparse.is_list else sum(sizes[:1]),
                sparse.already_sorted,
            )
        case "ragged_feature":
            ragged = configuration.ragged_feature
            return RaggedFeature(
                dtypes.from_number(ragged.dtype),
                ragged.value_key or None,
                tuple(map(_partition_from_proto, ragged.partition)),
                dtypes.from_number(ragged.row_splits_dtype),
                ragged.validate,
            )
    raise ExampleError(f"The parser configuration of feature {name!r} has no kind; export the model again.")


def _dense_from_proto(
    proto: tensorflow_pb.FixedLenFeatureProto | tensorflow_pb.FixedLenSequenceFeatureProto,
) -> tuple[tuple[int, ...], DType, Any]:
    """Shape, dtype and default."""
    default = decode_tensor(proto.default_value) if proto.HasField("default_value") else None
    return tuple(dim.size for dim in proto.shape.dim), dtypes.from_number(proto.dtype), default


def _partition_from_proto(proto: tensorflow_pb.RaggedPartitionProto) -> Partition:
    field = proto.WhichOneof("kind")
    if field == "uniform_row_length":
        return UniformRowLength(proto.uniform_row_length)
    if field is None:
        raise ExampleError("A partition of a ragged feature has no kind; export the model again.")
    kind = next(kind for kind, name in _PARTITION_FIELDS.items() if name == field)
    return kind(getattr(proto, field))


# ---- what the kinds share -------------------------------------------------------------------------------------------


def _example_dtype(value: Any, attribute: str) -> DType:
    dtype = as_dtype(value)
    if dtype not in EXAMPLE_DTYPES:
        raise ExampleError(
            f"Value for attr '{attribute}' of {dtype.name} is not in the list of allowed values: float, int64, string. "
            "An Example carries only these; convert the feature after it is parsed."
        )
    return dtype


def _known_shape(shape: Any, advice: str) -> tuple[int, ...]:
    if shape is None:
        raise ExampleError("Missing shape for feature <unknown>. Give () for a scalar.")
    dims = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if dims and (dims[0] is None or dims[0] == -1):
        raise ExampleError(f"First dimension of shape for feature <unknown> unknown. {advice} The shape is {dims}.")
    if not all(map(_is_length, dims)):
        raise ExampleError(f"All dimensions of shape for feature <unknown> need to be known but received {dims}.")
    return tuple(map(int, dims))


def _is_length(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0


def _as_array(value: Any, dtype: DType) -> npt.NDArray[Any]:
    if not dtype.is_string:
        given = np.asarray(value)
        if given.dtype.kind not in ("iu" if dtype is dtypes.int64 else "iuf"):
            raise ExampleError(f"The default {value!r} is not of dtype {dtype.name}; give values that are.")
        return given.astype(dtype.numpy)
    array = np.asarray(value, object)
    flat = [one.encode() if isinstance(one, str) else one for one in array.ravel().tolist()]
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(array.shape)


def _nested(value: Any) -> Any:
    """Lists as tuples at any depth, so that a feature compares and hashes by value."""
    return tuple(map(_nested, value)) if isinstance(value, list) else value
