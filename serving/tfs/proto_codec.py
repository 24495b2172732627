"""TensorFlow Serving's messages <-> arrays: Predict, Classify, Regress; and the ModelSpec they share.

Owns the checks these messages need beyond their syntax, with TensorFlow Serving's texts. Pure functions of bytes; knows
no grpc.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from estimator_serving.serving.errors import FailedPreconditionError, InvalidArgumentError
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import (
    DEFAULT_SIGNATURE,
    Array,
    Document,
    ModelSpec,
    Outputs,
    Request,
    as_strings,
)
from estimator_serving.serving.servable import Servable
from estimator_serving.serving.tfs import outcomes
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import Signature
from estimator_serving.wire.tensors import TensorError, decode_tensor, encode_tensor

ENTRYPOINT = "GRPC"

M = TypeVar("M", bound=Message)


def parse_message(payload: bytes, kind: type[M]) -> M:
    """A message of its bytes. Raises InvalidArgumentError for bytes that are none."""
    try:
        return kind.FromString(payload)
    except DecodeError:
        raise InvalidArgumentError(f"These {len(payload)} bytes are not a {kind.DESCRIPTOR.full_name}.") from None


def read_spec(message: Any) -> ModelSpec:
    """The ModelSpec of any request. Raises InvalidArgumentError where it is missing or names no model."""
    if not message.HasField("model_spec"):
        raise InvalidArgumentError("Missing ModelSpec")
    proto = message.model_spec
    if not proto.name:
        raise InvalidArgumentError("ModelSpec has no name specified.")
    choice = proto.WhichOneof("version_choice")
    return ModelSpec(
        proto.name,
        proto.version.value if choice == "version" else None,
        proto.version_label if choice == "version_label" else None,
        proto.signature_name or DEFAULT_SIGNATURE,
    )


def write_spec(proto: serving_pb.ModelSpec, servable: Servable, signature_name: str = "") -> None:
    """Say which version answered; a label is answered by its version, as in TensorFlow Serving."""
    proto.name = servable.name
    proto.version.value = servable.version
    proto.signature_name = signature_name


# --- Predict ---


def _parse_predict(payload: bytes, _target: ModelSpec | None) -> Document:
    message = parse_message(payload, serving_pb.PredictRequest)
    return Document(read_spec(message), message, payload)


def _decode_predict(document: Document, servable: Servable) -> Request:
    name, message = document.spec.signature_name, document.content
    signature = servable.signatures.get(name)
    if signature is None:
        raise FailedPreconditionError(
            f'Serving signature key "{name}" not found. There are: {", ".join(sorted(servable.signatures))}.'
        )
    tensors = message.inputs
    # Not by comparing keys(): protobuf's maps do that in Python.
    if len(tensors) != len(signature.inputs) or not all(alias in tensors for alias in signature.inputs):
        raise _wrong_inputs(signature, tensors.keys())
    outputs = _read_filter(message.output_filter, signature) if message.output_filter else ()
    return Request(name, {alias: _read_tensor(alias, tensors[alias]) for alias in signature.inputs}, outputs)


def _wrong_inputs(signature: Signature, sent: Collection[str]) -> InvalidArgumentError:
    expected = signature.inputs.keys()
    missing = sorted(expected - set(sent))
    if len(sent) != len(expected):
        return InvalidArgumentError(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({_set(sent)}) != "
            f"len({_set(expected)}). Sent extra: {_set(set(sent) - expected)}. Missing but required: {_set(missing)}."
        )
    return InvalidArgumentError(
        f"Signature input alias: {missing[0]}(feed name: {signature.inputs[missing[0]].name}) not found in request and "
        f"no default value provided. Inputs expected to be in the request {_set(expected)}; sent were {_set(sent)}."
    )


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _read_tensor(alias: str, proto: Any) -> Array:
    try:
        return decode_tensor(proto)
    except TensorError as error:
        raise InvalidArgumentError(f"tensor parsing error: {alias}. {error}") from None


def _read_filter(wanted: Collection[str], signature: Signature) -> tuple[str, ...]:
    seen: set[str] = set()
    for alias in wanted:
        if alias not in signature.outputs:
            raise InvalidArgumentError(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_set(signature.outputs)}."
            )
        if alias in seen:
            raise InvalidArgumentError(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(wanted)


def _encode_predict(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    response = serving_pb.PredictResponse()
    write_spec(response.model_spec, servable, request.signature_name)
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(encode_tensor(array))
    return response.SerializeToString()


# --- Classify and Regress ---


def _read_examples(message: serving_pb.Input) -> Array:
    """The serialized Examples as they came: their bytes are not looked into here.

    A context's bytes go before each Example's: for protobuf, concatenation is merging, and what comes later wins.
    """
    if message.WhichOneof("kind") == "example_list_with_context":
        context = message.example_list_with_context.context
        examples = [context + example for example in message.example_list_with_context.examples]
    else:
        examples = list(message.example_list.examples)
    if not examples:
        raise InvalidArgumentError("Input is empty.")
    return as_strings(examples)


def _parse_classify(payload: bytes, _target: ModelSpec | None) -> Document:
    message = parse_message(payload, serving_pb.ClassificationRequest)
    return Document(read_spec(message), message, payload)


def _decode_classify(document: Document, servable: Servable) -> Request:
    examples = _read_examples(document.content.input)
    return outcomes.classify_request(servable, document.spec.signature_name, examples)


def _encode_classify(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    classes = outcomes.read_classes(outputs, request)
    response = serving_pb.ClassificationResponse()
    write_spec(response.model_spec, servable, request.signature_name)
    response.result.SetInParent()
    for labels, scores in zip(classes.labels.tolist(), classes.scores.tolist(), strict=True):
        row = response.result.classifications.add().classes
        for label, score in zip(labels, scores, strict=True):
            row.add(label=label, score=score)
    return response.SerializeToString()


def _parse_regress(payload: bytes, _target: ModelSpec | None) -> Document:
    message = parse_message(payload, serving_pb.RegressionRequest)
    return Document(read_spec(message), message, payload)


def _decode_regress(document: Document, servable: Servable) -> Request:
    examples = _read_examples(document.content.input)
    return outcomes.regress_request(servable, document.spec.signature_name, examples)


def _encode_regress(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    response = serving_pb.RegressionResponse()
    write_spec(response.model_spec, servable, request.signature_name)
    response.result.SetInParent()
    for value in outcomes.read_regressions(outputs, request).tolist():
        response.result.regressions.add(value=value)
    return response.SerializeToString()


CODECS: Mapping[str, Codec] = {
    "Predict": Codec("Predict", ENTRYPOINT, _parse_predict, _decode_predict, _encode_predict),
    "Classify": Codec("Classify", ENTRYPOINT, _parse_classify, _decode_classify, _encode_classify),
    "Regress": Codec("Regress", ENTRYPOINT, _parse_regress, _decode_regress, _encode_regress),
}
