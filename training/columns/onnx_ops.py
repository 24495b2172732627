"""The op library's nodes as spox functions, so that graphs use them like any other operator.

Owns the attributes and output types of these nodes. The kernels are in ops/, which knows no ONNX tooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import spox
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from spox import Var

from estimator_serving.ops import DOMAIN, VERSION
from estimator_serving.training.columns.onnx_export import OPSET
from estimator_serving.wire import dtypes
from estimator_serving.wire.features import (
    Feature,
    FeatureSpec,
    FeatureTensor,
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    RowLengths,
    RowLimits,
    RowSplits,
    RowStarts,
    SparseFeature,
    UniformRowLength,
    ValueRowIds,
    VarLenFeature,
    check_sequence_specs,
    check_spec,
    list_tensors_of,
    tensors_of,
)

_ELEMENTS = {
    "float": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
}
"""ONNX element types of what Examples become, by TensorFlow's name."""


_MATRICES = {
    "Fingerprint64": TensorProto.UINT64,
    "CrossHash": TensorProto.INT64,
    "CheckIds": TensorProto.INT64,
    "AlignWeights": TensorProto.FLOAT,
}
"""Element types of the ops whose only output is [batch, k]."""

_SAME_SHAPE = {
    "SipHash64": TensorProto.UINT64,
    "LowerText": TensorProto.STRING,
    "ReplaceCharacters": TensorProto.STRING,
    "FormatNumbers": TensorProto.STRING,
    "EncodeCharacters": TensorProto.STRING,
}
"""Element types of the ops whose only output has the shape of the input."""

_PADDED = {
    "SplitWords": TensorProto.STRING,
    "WordGrams": TensorProto.STRING,
    "DecodeCharacters": TensorProto.INT32,
}
"""Element types of the ops that give padded rows and their lengths."""


def fingerprint64(values: Var) -> Var:
    """FarmHash Fingerprint64 of each string: uint64, the shape of `values` [batch, k]."""
    node = helper.make_node("Fingerprint64", ["values"], ["fingerprints"], domain=DOMAIN)
    shape = ["batch", "k"]
    inputs = [helper.make_tensor_value_info("values", TensorProto.STRING, shape)]
    outputs = [helper.make_tensor_value_info("fingerprints", TensorProto.UINT64, shape)]
    return _call(node, inputs, outputs, {"values": values})["fingerprints"]


def cross_hash(keys: Sequence[tuple[Var, Var]], hash_bucket_size: int, hash_key: int) -> Var:
    """The ids of crossed_column: int64 [batch, K], -1 for nothing.

    Args:
        keys: values (string or int64 [batch, k]) and lengths (int64 [batch]) of each, in the order they are hashed.
        hash_bucket_size: ids are below it.
        hash_key: unsigned, what every chain of fingerprints starts from.
    """
    arguments = {f"{name}_{i}": var for i, pair in enumerate(keys) for name, var in zip(_PAIR, pair, strict=True)}
    signed = int(np.uint64(hash_key).astype(np.int64))
    attributes: dict[str, Any] = {"hash_bucket_size": hash_bucket_size, "hash_key": signed}
    node = helper.make_node("CrossHash", list(arguments), ["ids"], domain=DOMAIN, **attributes)
    inputs = []
    for name, var in arguments.items():
        element = _ELEMENTS[dtypes.from_numpy(np.dtype(var.unwrap_tensor().dtype)).name]
        shape = ["batch"] if name.startswith("lengths") else ["batch", None]
        inputs.append(helper.make_tensor_value_info(name, element, shape))
    outputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", None])]
    return _call(node, inputs, outputs, arguments)["ids"]


_PAIR = ("values", "lengths")


def check_ids(ids: Var, num_buckets: int, key: str) -> Var:
    """`ids` int64 [batch, k] with -1 for every negative one; the graph fails on one that is not below `num_buckets`."""
    node = helper.make_node("CheckIds", ["ids"], ["checked"], domain=DOMAIN, num_buckets=num_buckets, key=key)
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", None])]
    outputs = [helper.make_tensor_value_info("checked", TensorProto.INT64, ["batch", None])]
    return _call(node, inputs, outputs, {"ids": ids})["checked"]


def align_weights(ids: tuple[Var, Var], weights: tuple[Var, Var], key: str) -> Var:
    """Float [batch, k]: the weights as wide as the ids, both given as values and lengths.

    The graph fails on a row with more or fewer weights than ids.
    """
    arguments = dict(zip(("ids", "lengths", "weights", "weight_lengths"), (*ids, *weights), strict=True))
    node = helper.make_node("AlignWeights", list(arguments), ["aligned"], domain=DOMAIN, key=key)
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", None]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["batch", None]),
        helper.make_tensor_value_info("weight_lengths", TensorProto.INT64, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info("aligned", TensorProto.FLOAT, ["batch", None])]
    return _call(node, inputs, outputs, arguments)["aligned"]


def parse_example(values: Var, row_splits: Var, spec: FeatureSpec) -> dict[str, Var]:
    """Serialized Examples, parsed by `spec` inside the graph.

    Args:
        values: uint8 [n], the Examples' bytes one after the other.
        row_splits: int64 [batch + 1], where each begins and ends.
        spec: the features to read; others in the Examples are skipped.

    Returns:
        The tensors of wire.features' table by name, for each feature those of `tensors_of(name, feature)`. Padded
        ones, `key/values` and `key/lengths`, have the names of the transform's inputs.

    Raises ExampleError for a spec that cannot be one of Examples (`check_spec`).
    """
    check_spec(spec)
    return _parse("ParseExample", values, row_splits, [(name, spec[name], False) for name in sorted(spec)])[0]


def parse_sequence_example(
    values: Var, row_splits: Var, context_features: FeatureSpec, sequence_features: FeatureSpec
) -> tuple[dict[str, Var], dict[str, Var]]:
    """Serialized SequenceExamples, parsed inside the graph.

    Args:
        values: uint8 [n], the SequenceExamples' bytes one after the other.
        row_splits: int64 [batch + 1], where each begins and ends.
        context_features: FixedLen, VarLen and Ragged features of the context.
        sequence_features: FixedLenSequence, VarLen and Ragged features of the feature lists.

    Returns:
        The tensors of the context and those of the feature lists, by name: for each feature those of `tensors_of` and
        `list_tensors_of`.

    Raises ExampleError for specs that cannot be those of SequenceExamples (`check_sequence_specs`).
    """
    check_sequence_specs(context_features, sequence_features)
    features = [(name, context_features[name], False) for name in sorted(context_features)]
    features += [(name, sequence_features[name], True) for name in sorted(sequence_features)]
    context, lists = _parse("ParseSequenceExample", values, row_splits, features)
    return context, lists


def describe_outputs(node: onnx.NodeProto) -> list[onnx.ValueInfoProto]:
    """The types and shapes of an op library node's outputs, which ONNX's own inference cannot know."""
    if node.op_type in _MATRICES:
        return [helper.make_tensor_value_info(node.output[0], _MATRICES[node.op_type], ["batch", None])]
    if node.op_type in _SAME_SHAPE:
        return [helper.make_tensor_value_info(node.output[0], _SAME_SHAPE[node.op_type], None)]
    if node.op_type == "RequireTrue":
        return [helper.make_tensor_value_info(node.output[0], TensorProto.INT64, [])]
    if node.op_type in _PADDED:
        words, lengths = node.output
        return [
            helper.make_tensor_value_info(words, _PADDED[node.op_type], ["batch", None]),
            helper.make_tensor_value_info(lengths, TensorProto.INT64, ["batch"]),
        ]
    tensors = ((i, tensor) for i, placed in enumerate(features_of(node)) for tensor in _tensors(placed))
    return [_info(name, *placed) for name, placed in zip(node.output, tensors, strict=True)]


# ---- features <-> attributes, which ops/feature_attributes.h describes ---------------------------------------------

Placed: TypeAlias = tuple[str, Feature, bool]
"""A feature with its name, and whether it is of the feature lists of SequenceExamples."""

_KINDS = (FixedLenFeature, VarLenFeature, FixedLenSequenceFeature, SparseFeature, RaggedFeature)
_PARTITIONS = (RowSplits, RowLengths, RowStarts, RowLimits, ValueRowIds)
# What a flag means depends on the kind.
_ALLOW_MISSING, _ALREADY_SORTED, _VALIDATE, _INT64_SPLITS, _IN_LISTS = 1, 1, 1, 2, 4


def features_of(node: onnx.NodeProto) -> list[Placed]:
    """The features a ParseExample or ParseSequenceExample node reads, without their defaults."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    dims = iter(attributes["dims"])
    lists = zip(*(attributes[name] for name in ("kinds", "dtypes", "ranks", "flags")), strict=True)
    found: list[Placed] = []
    for i, (kind, number, rank, flags) in enumerate(lists):
        dtype, of_kind = dtypes.from_number(number), _KINDS[kind]
        lengths = [next(dims) for _ in range(rank)]
        key = attributes[f"key_{i}"].decode()
        others = [attributes.get(f"key_{i}_{j}", b"").decode() for j in range(rank)]
        feature: Feature
        if of_kind is RaggedFeature:
            partitions = tuple(
                UniformRowLength(d) if d > 0 else _PARTITIONS[-d](k) for d, k in zip(lengths, others, strict=True)
            )
            splits = dtypes.int64 if flags & _INT64_SPLITS else dtypes.int32
            feature = RaggedFeature(dtype, key, partitions, splits, bool(flags & _VALIDATE))
        elif of_kind is SparseFeature:
            feature = SparseFeature(tuple(others), key, dtype, tuple(lengths), bool(flags & _ALREADY_SORTED))
        elif of_kind is FixedLenSequenceFeature:
            feature = FixedLenSequenceFeature(tuple(lengths), dtype, bool(flags & _ALLOW_MISSING))
        else:
            feature = FixedLenFeature(tuple(lengths), dtype) if of_kind is FixedLenFeature else VarLenFeature(dtype)
        found.append((key, feature, bool(flags & _IN_LISTS)))
    return found


def attributes_of(features: Sequence[Placed]) -> list[onnx.AttributeProto]:
    """The attributes of a ParseExample or ParseSequenceExample node that reads these features."""
    encoded = [_encoded(i, name, feature) for i, (name, feature, _) in enumerate(features)]
    ints = {
        "kinds": [_KINDS.index(type(feature)) for _, feature, _ in features],
        "dtypes": [feature.dtype.number for _, feature, _ in features],
        "ranks": [len(dims) for dims, _, _ in encoded],
        "flags": [
            flags | _IN_LISTS * in_lists for (_, flags, _), (_, _, in_lists) in zip(encoded, features, strict=True)
        ],
        "dims": [dim for dims, _, _ in encoded for dim in dims],
    }
    # An empty list does not tell its own type.
    lists = [helper.make_attribute(name, value, attr_type=AttributeProto.INTS) for name, value in ints.items()]
    return lists + [helper.make_attribute(*one) for _, _, named in encoded for one in named.items()]


def _encoded(i: int, name: str, feature: Feature) -> tuple[Sequence[int], int, dict[str, Any]]:
    """The dims and flags of feature `i`, and its attributes by name: its keys and its default."""
    named: dict[str, Any] = {f"key_{i}": name}
    match feature:
        case VarLenFeature():
            return (), 0, named
        case SparseFeature():
            named = {f"key_{i}": feature.value_key}
            named |= {f"key_{i}_{j}": key for j, key in enumerate(feature.index_keys)}
            return feature.sizes, _ALREADY_SORTED * feature.already_sorted, named
        case RaggedFeature():
            named = {f"key_{i}": feature.value_key or name}
            dims = []
            for j, partition in enumerate(feature.partitions):
                if isinstance(partition, UniformRowLength):
                    dims.append(partition.length)
                else:
                    dims.append(-_PARTITIONS.index(type(partition)))
                    named[f"key_{i}_{j}"] = partition.key
            splits = _INT64_SPLITS * (feature.row_splits_dtype is dtypes.int64)
            return dims, _VALIDATE * feature.validate + splits, named
        case FixedLenFeature() | FixedLenSequenceFeature():
            if (default := feature.default_array) is not None:
                named[f"default_{i}"] = numpy_helper.from_array(default)
            may_lack = isinstance(feature, FixedLenSequenceFeature) and feature.allow_missing
            return feature.shape, _ALLOW_MISSING * may_lack, named


# ---- nodes ----------------------------------------------------------------------------------------------------------


def _parse(op_type: str, values: Var, row_splits: Var, features: Sequence[Placed]) -> tuple[dict[str, Var], ...]:
    """The tensors of the features in the feature lists apart from the others."""
    tensors = [(i, tensor, placed[2]) for i, placed in enumerate(features) for tensor in _tensors(placed)]
    outputs = [_info(f"{i}/{tensor.name}", i, tensor) for i, tensor, _ in tensors]
    node = helper.make_node(op_type, ["values", "row_splits"], [info.name for info in outputs], domain=DOMAIN)
    node.attribute.extend(attributes_of(features))
    inputs = [
        helper.make_tensor_value_info("values", TensorProto.UINT8, ["n"]),
        helper.make_tensor_value_info("row_splits", TensorProto.INT64, ["batch+1"]),
    ]
    parsed = _call(node, inputs, outputs, {"values": values, "row_splits": row_splits})
    return tuple(
        {tensor.name: parsed[f"{i}/{tensor.name}"] for i, tensor, place in tensors if place is part}
        for part in (False, True)
    )


def _tensors(placed: Placed) -> tuple[FeatureTensor, ...]:
    name, feature, in_lists = placed
    return list_tensors_of(name, feature) if in_lists else tensors_of(name, feature)


def _info(name: str, i: int, tensor: FeatureTensor) -> onnx.ValueInfoProto:
    """A tensor of feature `i`, whose dimensions are no other feature's even where both read the same key."""
    shape = [f"{i}/{d}" if isinstance(d, str) and not d.startswith("batch") else d for d in tensor.shape]
    return helper.make_tensor_value_info(name, _ELEMENTS[tensor.dtype.name], shape)


def _call(
    node: onnx.NodeProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    arguments: dict[str, Var],
) -> dict[str, Var]:
    graph = helper.make_graph([node], node.op_type, inputs, outputs)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return dict(spox.inline(helper.make_model(graph, opset_imports=opsets, ir_version=10))(**arguments))
