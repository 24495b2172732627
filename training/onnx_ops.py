"""The op library's nodes as spox functions, so that graphs are built of them like of any other operator.

Owns the attributes and output types these nodes are written with. The kernels are in ops/, which knows no ONNX tooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import spox
from onnx import TensorProto, helper, numpy_helper
from spox import Var

from estimator_serving.ops import DOMAIN, VERSION
from estimator_serving.training.onnx_export import OPSET
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import FeatureSpec, FixedLenFeature, VarLenFeature

_ELEMENTS = {"float": TensorProto.FLOAT, "int64": TensorProto.INT64, "string": TensorProto.STRING}
"""ONNX element types of what an Example carries, by TensorFlow's name."""


_MATRICES = {
    "Fingerprint64": TensorProto.UINT64,
    "CrossHash": TensorProto.INT64,
    "CheckIds": TensorProto.INT64,
    "AlignWeights": TensorProto.FLOAT,
}
"""Element types of the ops whose only output is [batch, k]."""


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
    attributes = {"hash_bucket_size": hash_bucket_size, "hash_key": signed}
    node = helper.make_node("CrossHash", list(arguments), ["ids"], domain=DOMAIN, **attributes)
    inputs = [
        helper.make_tensor_value_info(
            name, _element_of(var), ["batch"] if name.startswith("lengths") else ["batch", None]
        )
        for name, var in arguments.items()
    ]
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
        FixedLen: `key` [batch, *shape]. VarLen: `key/values` [batch, k], padded with 0 or '', and `key/lengths` int64
        [batch]. These are the names of the transform's inputs.
    """
    keys = sorted(spec)
    features = [spec[key] for key in keys]
    outputs = [info for key, feature in zip(keys, features, strict=True) for info in _parsed(key, feature)]
    names = {f"key_{index}": key for index, key in enumerate(keys)}
    node = helper.make_node(
        "ParseExample",
        ["values", "row_splits"],
        [info.name for info in outputs],
        domain=DOMAIN,
        **_attributes(features),
        **names,
    )
    # Apart from the rest: an empty list does not tell its own type.
    dims = [d for feature in features for d in _shape(feature)]
    node.attribute.append(helper.make_attribute("dims", dims, attr_type=onnx.AttributeProto.INTS))
    inputs = [
        helper.make_tensor_value_info("values", TensorProto.UINT8, ["n"]),
        helper.make_tensor_value_info("row_splits", TensorProto.INT64, ["batch+1"]),
    ]
    return _call(node, inputs, outputs, {"values": values, "row_splits": row_splits})


def describe_outputs(node: onnx.NodeProto) -> list[onnx.ValueInfoProto]:
    """The types and shapes of an op library node's outputs, which ONNX's own inference cannot know."""
    if node.op_type in _MATRICES:
        return [helper.make_tensor_value_info(node.output[0], _MATRICES[node.op_type], ["batch", None])]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    outputs, dims = iter(node.output), iter(attributes["dims"])
    infos: list[onnx.ValueInfoProto] = []
    for kind, dtype, rank in zip(attributes["kinds"], attributes["dtypes"], attributes["ranks"], strict=True):
        element = _element(dtypes.from_number(dtype))
        shape = [None] if kind else [next(dims) for _ in range(rank)]
        infos.append(helper.make_tensor_value_info(next(outputs), element, ["batch", *shape]))
        if kind:
            infos.append(helper.make_tensor_value_info(next(outputs), TensorProto.INT64, ["batch"]))
    return infos


def _call(
    node: onnx.NodeProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    arguments: dict[str, Var],
) -> dict[str, Var]:
    graph = helper.make_graph([node], node.op_type, inputs, outputs)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return dict(spox.inline(helper.make_model(graph, opset_imports=opsets, ir_version=10))(**arguments))


def _parsed(key: str, feature: FixedLenFeature | VarLenFeature) -> list[onnx.ValueInfoProto]:
    element = _element(feature.dtype)
    if isinstance(feature, FixedLenFeature):
        return [helper.make_tensor_value_info(key, element, ["batch", *feature.shape])]
    return [
        helper.make_tensor_value_info(f"{key}/values", element, ["batch", None]),
        helper.make_tensor_value_info(f"{key}/lengths", TensorProto.INT64, ["batch"]),
    ]


def _element(dtype: DType) -> int:
    return _ELEMENTS[dtype.name]


def _element_of(value: Var) -> int:
    return _element(dtypes.from_numpy(np.dtype(value.unwrap_tensor().dtype)))


def _attributes(features: Sequence[FixedLenFeature | VarLenFeature]) -> dict[str, Any]:
    defaults = {
        f"default_{index}": numpy_helper.from_array(feature.default_array)
        for index, feature in enumerate(features)
        if isinstance(feature, FixedLenFeature) and feature.default_array is not None
    }
    return {
        "kinds": [int(isinstance(feature, VarLenFeature)) for feature in features],
        "dtypes": [feature.dtype.number for feature in features],
        "ranks": [len(_shape(feature)) for feature in features],
        **defaults,
    }


def _shape(feature: FixedLenFeature | VarLenFeature) -> tuple[int, ...]:
    return feature.shape if isinstance(feature, FixedLenFeature) else ()
