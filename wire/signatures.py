"""Signatures: what a servable can be asked, and how that stands in an ONNX model's metadata_props.

Owns Signature, TensorInfo and the two properties `signature_def` and `example_parser_configuration`. Knows nothing of
sessions; what is fed where is decided by names alone.
Source: TensorFlow's meta_graph.proto (SignatureDef), signature_constants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy.typing as npt
from google.protobuf import json_format

from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import FeatureSpec, spec_from_proto, spec_to_proto
from estimator_serving.wire.pb import POOL, tensorflow_pb
from estimator_serving.wire.tensors import decode_tensor, encode_tensor

DEFAULT_SIGNATURE_KEY = "serving_default"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
PREDICT_METHOD = "tensorflow/serving/predict"
TRAIN_METHOD = "tensorflow/supervised/training"
EVAL_METHOD = "tensorflow/supervised/eval"

CLASSIFY_INPUTS = REGRESS_INPUTS = "inputs"
CLASSIFY_CLASSES = "classes"
CLASSIFY_SCORES = "scores"
REGRESS_OUTPUTS = "outputs"

# The tensor serialized Examples enter by; its bytes are two graph inputs, NAME/values and NAME/row_splits.
EXAMPLES_TENSOR = "input_example_tensor"

SIGNATURES_PROPERTY = "signature_def"
FEATURES_PROPERTY = "example_parser_configuration"
# JSON object: execution provider -> how far its answers may be from the expected ones, |a - b| <= t · max(1, |a|).
TOLERANCE_PROPERTY = "parity_tolerance"
# Where the model does not say. float32 does not hold 1e-6 across batch sizes: the order of a sum changes with them.
# TF32 keeps ten bits of a factor.
PARITY_TOLERANCE: Mapping[str, float] = MappingProxyType(
    {"CPUExecutionProvider": 1e-5, "CUDAExecutionProvider": 1e-2, "TensorrtExecutionProvider": 1e-2}
)
# JSON object: the versions, the training data and the transform behind an export.
PROVENANCE_PROPERTY = "provenance"


class SignatureError(ValueError):
    """Metadata that does not hold signatures."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a signature.

    Attributes:
        name: `VALUE:0`, where VALUE is the graph's own name for it.
        dtype: its element type.
        shape: its dimensions, -1 where unknown; None where not even the rank is known.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...] | None

    @property
    def value_name(self) -> str:
        """The graph value it names."""
        return self.name.removesuffix(":0")

    @property
    def ragged_names(self) -> tuple[str, str]:
        """The graph inputs that carry it as ragged bytes: values uint8[n] and row_splits int64[batch + 1]."""
        return f"{self.value_name}/values", f"{self.value_name}/row_splits"


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs by alias, the method name that says which rpc they answer, and what inputs may be left out.

    Attributes:
        defaults: by alias, the array that stands for an input a Predict call does not send.
    """

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method_name: str
    defaults: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Metadata:
    """What a model's metadata_props say: its signatures, and the features of its Examples where they are known."""

    signatures: Mapping[str, Signature]
    feature_spec: FeatureSpec | None = None


def to_properties(metadata: Metadata) -> dict[str, str]:
    """The metadata_props of a model: JSON of TensorFlow's messages, sorted, so that equal metadata are equal text."""
    signatures = {key: _to_json(signature_to_proto(metadata.signatures[key])) for key in sorted(metadata.signatures)}
    properties = {SIGNATURES_PROPERTY: json.dumps(signatures, sort_keys=True)}
    if metadata.feature_spec is not None:
        configuration = _to_json(spec_to_proto(metadata.feature_spec))
        properties[FEATURES_PROPERTY] = json.dumps(configuration, sort_keys=True)
    return properties


def from_properties(properties: Mapping[str, str]) -> Metadata | None:
    """The metadata a model's properties hold, None for a model without signatures.

    Raises SignatureError where the JSON is broken.
    """
    if SIGNATURES_PROPERTY not in properties:
        return None
    try:
        signatures = {
            key: signature_from_proto(_from_json(value, tensorflow_pb.SignatureDef()))
            for key, value in json.loads(properties[SIGNATURES_PROPERTY]).items()
        }
        features = properties.get(FEATURES_PROPERTY)
        spec = None
        if features is not None:
            spec = spec_from_proto(_from_json(json.loads(features), tensorflow_pb.ExampleParserConfiguration()))
    except (ValueError, TypeError, AttributeError, json_format.ParseError) as error:
        raise SignatureError(f"The model's signatures cannot be read ({error}); export the model again.") from error
    return Metadata(signatures, spec)


def signature_to_proto(signature: Signature) -> tensorflow_pb.SignatureDef:
    """TensorFlow's message for a signature."""
    proto = tensorflow_pb.SignatureDef(method_name=signature.method_name)
    for infos, target in ((signature.inputs, proto.inputs), (signature.outputs, proto.outputs)):
        for alias, info in infos.items():
            entry = target[alias]
            entry.name, entry.dtype = info.name, info.dtype.number
            if info.shape is None:
                entry.tensor_shape.unknown_rank = True
            else:
                entry.tensor_shape.SetInParent()
                for length in info.shape:
                    entry.tensor_shape.dim.add(size=length)
    for alias, array in signature.defaults.items():
        proto.defaults[alias].CopyFrom(encode_tensor(array))
    return proto


def signature_from_proto(proto: tensorflow_pb.SignatureDef) -> Signature:
    """The signature of TensorFlow's message.

    Raises TypeError for a dtype that is not served, TensorError for a default that is no tensor.
    """
    return Signature(
        {alias: _info_from_proto(proto.inputs[alias]) for alias in sorted(proto.inputs)},
        {alias: _info_from_proto(proto.outputs[alias]) for alias in sorted(proto.outputs)},
        proto.method_name,
        {alias: decode_tensor(proto.defaults[alias]) for alias in sorted(proto.defaults)},
    )


def _info_from_proto(proto: tensorflow_pb.TensorInfo) -> TensorInfo:
    shape = None if proto.tensor_shape.unknown_rank else tuple(dim.size for dim in proto.tensor_shape.dim)
    return TensorInfo(proto.name, dtypes.from_number(proto.dtype), shape)


def _to_json(proto: Any) -> Any:
    return json_format.MessageToDict(proto, preserving_proto_field_name=True, descriptor_pool=POOL)


def _from_json(value: Any, proto: Any) -> Any:
    json_format.ParseDict(value, proto, descriptor_pool=POOL)
    return proto
