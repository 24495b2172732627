"""The op library's nodes as spox functions, so that graphs are built of them like of any other operator.

Owns the attributes and output types these nodes are written with. The kernels are in ops/, which knows no ONNX tooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def fingerprint64(values: Var) -> Var:
    """FarmHash Fingerprint64 of each string: uint64, the shape of `values` [batch, k]."""
    node = helper.make_node("Fingerprint64", ["values"], ["fingerprints"], domain=DOMAIN)
    shape = ["batch", "k"]
    inputs = [helper.make_tensor_value_info("values", TensorProto.STRING, shape)]
    outputs = [helper.make_tensor_value_info("fingerprints", TensorProto.UINT64, shape)]
    return _call(node, inputs, outputs, {"values": values})["fingerprints"]


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
    if node.op_type == "Fingerprint64":
        return [helper.make_tensor_value_info(node.output[0], TensorProto.UINT64, ["batch", None])]
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
