"""TensorFlow Serving's messages <-> arrays: Predict, Classify, Regress, MultiInference; and the ModelSpec they share.

Owns the checks these messages need beyond their syntax, with TensorFlow Serving's texts. Pure functions of bytes; knows
no grpc.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from estimator_serving.serving.dialects.tfs import outcomes
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import FailedPreconditionError, InvalidArgumentError, UnimplementedError
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import (
    DEFAULT_SIGNATURE,
    Array,
    Document,
    ModelSpec,
    Outputs,
    Request,
)
from estimator_serving.serving.running.servable import Servable, joint_alias
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    Signature,
)
from estimator_serving.wire.tensors import TensorError, decode_tensor, tensor_parts, write_varint

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
        raise InvalidArgumentError("Missing ModelSpec; say which model to ask.")
    proto = message.model_spec
    if not proto.name:
        raise InvalidArgumentError("ModelSpec has no name specified. Say which model to ask.")
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


def _decode_predict(options: Options, document: Document, servable: Servable) -> Request:
    name, message = document.spec.signature_name, document.content
    signature = servable.signatures.get(name)
    if signature is None:
        raise FailedPreconditionError(
            f'Serving signature key "{name}" not found. There are: {", ".join(sorted(servable.signatures))}.'
        )
    if options.check_method_names:
        outcomes.check_method_name(signature, "prediction", PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    tensors = message.inputs
    # Not by comparing keys(): protobuf's maps do that in Python.
    if len(tensors) != len(signature.inputs) or not all(alias in tensors for alias in signature.inputs):
        _check_names(signature, tensors.keys())
    outputs = _read_filter(message.output_filter, signature) if message.output_filter else ()
    return Request(name, {alias: _read_input(alias, tensors, signature) for alias in signature.inputs}, outputs)


def _check_names(signature: Signature, sent: Collection[str]) -> None:
    """Raise InvalidArgumentError unless every input is sent or has a default, and nothing else is sent."""
    expected, defaults = signature.inputs.keys(), signature.defaults.keys()
    missing, extra = sorted(expected - defaults - set(sent)), sorted(set(sent) - expected)
    if not missing and not extra:
        return
    if len(sent) != len(expected):
        raise InvalidArgumentError(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({_set(sent)}) != "
            f"len({_set(expected)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    if missing:
        raise InvalidArgumentError(
            f"Signature input alias: {missing[0]}(feed name: {signature.inputs[missing[0]].name}) not found in request "
            f"and no default value provided. Inputs expected to be in the request {_set(expected)}, or default input "
            f"alias set: {_set(defaults)}; sent were {_set(sent)}."
        )
    raise InvalidArgumentError(
        f"Inputs contains invalid name. Used request inputs: {_set(expected & set(sent))}, request input: {_set(sent)}."
    )


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _read_input(alias: str, tensors: Mapping[str, Any], signature: Signature) -> Array:
    if signature.defaults and alias not in tensors:
        return signature.defaults[alias]
    try:
        return decode_tensor(tensors[alias])
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


def _encode_predict(options: Options, outputs: Outputs, request: Request, servable: Servable) -> bytes:
    parts: list[bytes | memoryview] = [_answered_spec(servable.name, servable.version, request.signature_name)]
    for alias, array in outputs.items():
        parts += _output_entry(alias, tensor_parts(array, as_content=options.tensor_content))
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _answered_spec(name: str, version: int, signature_name: str) -> bytes:
    """A PredictResponse of nothing but its model_spec, which is the same for every answer of a version's signature."""
    spec = serving_pb.ModelSpec(name=name, signature_name=signature_name)
    spec.version.value = version
    return serving_pb.PredictResponse(model_spec=spec).SerializeToString()


def _output_entry(alias: str, tensor: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """An entry of PredictResponse.outputs, field 1: a message of the key, field 1, and the value, field 2.

    Written here because a message would copy a large tensor four times, which takes longer than a small model does.
    """
    key, size = alias.encode(), sum(map(len, tensor))
    head = b"".join((b"\x0a", write_varint(len(key)), key, b"\x12", write_varint(size)))
    return [b"\x0a" + write_varint(len(head) + size) + head, *tensor]


# --- Classify and Regress ---


def _read_examples(message: serving_pb.Input) -> Array:
    """The serialized Examples as they came: their bytes are not looked into here."""
    if message.WhichOneof("kind") == "example_list_with_context":
        context, examples = message.example_list_with_context.context, message.example_list_with_context.examples
    else:
        context, examples = b"", message.example_list.examples
    if not examples:
        raise InvalidArgumentError("Input is empty. Send at least one tf.Example.")
    return outcomes.join_context(context, examples)


def _parse_classify(payload: bytes, _target: ModelSpec | None) -> Document:
    message = parse_message(payload, serving_pb.ClassificationRequest)
    return Document(read_spec(message), message, payload)


def _decode_classify(options: Options, document: Document, servable: Servable) -> Request:
    examples = _read_examples(document.content.input)
    return outcomes.classify_request(servable, document.spec.signature_name, examples, options)


def _encode_classify(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    return _answer(_classified(outputs, request), request, servable)


def _answer(result: bytes, request: Request, servable: Servable) -> bytes:
    """A ClassificationResponse or RegressionResponse: its model_spec is field 2, as in a PredictResponse."""
    spec = _answered_spec(servable.name, servable.version, request.signature_name)
    return b"".join((b"\x0a", write_varint(len(result)), result, spec))


def _classified(outputs: Outputs, request: Request) -> bytes:
    """A ClassificationResult."""
    classes = outcomes.read_classes(outputs, request)
    if (classes.labels == classes.labels[:1]).all():
        return _same_classes(classes.labels[0], classes.scores)
    result = serving_pb.ClassificationResult()
    for row, scores in zip(classes.labels.tolist(), classes.scores.tolist(), strict=True):
        written = result.classifications.add().classes
        for label, score in zip(row, scores, strict=True):
            written.add(label=label, score=score)
    return result.SerializeToString()


def _same_classes(labels: Iterable[str], scores: Array) -> bytes:
    """The ClassificationResult of rows that all have these labels, as nearly every model gives them: message by message
    it would take longer than the run."""
    row = serving_pb.Classifications(classes=[serving_pb.Class(label=label, score=1) for label in labels])
    one = serving_pb.ClassificationResult(classifications=[row]).SerializeToString()
    # Each score stands at the end of its class, and the classes at the end of the row.
    sizes = [len(serving_pb.Classifications(classes=[entry]).SerializeToString()) for entry in row.classes]
    return _filled(one, list(accumulate(sizes, initial=len(one) - sum(sizes)))[1:], scores)


def _filled(template: bytes, ends: Sequence[int], values: Array) -> bytes:
    """The template for each row of `values` [rows, n], its n float fields, which end at `ends`, set to the row's."""
    table = np.tile(np.frombuffer(template, np.uint8), (len(values), 1))
    content = np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(len(values), -1, 4)
    for index, end in enumerate(ends):
        table[:, end - 4 : end] = content[:, index]
    return table.tobytes()


def _parse_regress(payload: bytes, _target: ModelSpec | None) -> Document:
    message = parse_message(payload, serving_pb.RegressionRequest)
    return Document(read_spec(message), message, payload)


def _decode_regress(options: Options, document: Document, servable: Servable) -> Request:
    examples = _read_examples(document.content.input)
    return outcomes.regress_request(servable, document.spec.signature_name, examples, options)


def _encode_regress(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    return _answer(_regressed(outputs, request), request, servable)


def _regressed(outputs: Outputs, request: Request) -> bytes:
    """A RegressionResult."""
    one = serving_pb.RegressionResult(regressions=[serving_pb.Regression(value=1)]).SerializeToString()
    return _filled(one, [len(one)], outcomes.read_regressions(outputs, request)[:, None])


# --- MultiInference: several signatures of one model, asked with the same Examples and answered by one run ---


def _parse_multi(payload: bytes, _target: ModelSpec | None) -> Document:
    message = parse_message(payload, serving_pb.MultiInferenceRequest)
    if not message.tasks:
        raise InvalidArgumentError("Missing ModelSpec; a MultiInferenceRequest has at least one task.")
    spec = read_spec(message.tasks[0])
    for task in message.tasks:
        if not task.model_spec.name:
            raise InvalidArgumentError("Found ModelSpec with an empty model name. Every task names the same model.")
        if task.model_spec.name != spec.name:
            raise InvalidArgumentError(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name. "
                f"These name {spec.name} and {task.model_spec.name}."
            )
    return Document(spec, message, payload)


def _decode_multi(options: Options, document: Document, servable: Servable) -> Request:
    message = document.content
    examples = _read_examples(message.input)
    parts: dict[str, Request] = {}
    for task in message.tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in parts:
            raise InvalidArgumentError(f"Duplicate evaluation of signature: {name}; ask for each signature once.")
        parts[name] = _decode_task(options, task.method_name, name, examples, servable)
    first = next(iter(parts))
    if not all(servable.can_run_together(first, name) for name in parts):
        raise InvalidArgumentError(
            f"Input tensor must be the same for all Signatures. {', '.join(parts)} differ; ask for them one by one."
        )
    outputs = tuple(joint_alias(name, alias) for name, part in parts.items() for alias in part.outputs)
    return Request(first, parts[first].inputs, outputs, tuple(parts.values()))


def _decode_task(options: Options, method: str, name: str, examples: Array, servable: Servable) -> Request:
    read = {CLASSIFY_METHOD: outcomes.classify_request, REGRESS_METHOD: outcomes.regress_request}.get(method)
    if read is None:
        raise UnimplementedError(
            f"Unsupported signature method_name: {method}; a task is {CLASSIFY_METHOD} or {REGRESS_METHOD}."
        )
    if name not in servable.signatures:
        raise InvalidArgumentError(
            f"Requested signature not found in model graph: {name}. There are: "
            f"{', '.join(sorted(servable.signatures))}."
        )
    return read(servable, name, examples, options)


def _encode_multi(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    response = serving_pb.MultiInferenceResponse()
    for part in request.form:
        result = response.results.add()
        write_spec(result.model_spec, servable, part.signature_name)
        own = {alias: outputs[joint_alias(part.signature_name, alias)] for alias in part.outputs}
        if REGRESS_OUTPUTS in own:
            result.regression_result.MergeFromString(_regressed(own, part))
        else:
            result.classification_result.MergeFromString(_classified(own, part))
    return response.SerializeToString()


def codecs(options: Options) -> Mapping[str, Codec]:
    """rpc name -> how it reads and writes, as an operator chose."""
    read_predict, write_predict = partial(_decode_predict, options), partial(_encode_predict, options)
    read_classify, read_regress = partial(_decode_classify, options), partial(_decode_regress, options)
    return {
        "Predict": Codec("Predict", ENTRYPOINT, _parse_predict, read_predict, write_predict),
        "Classify": Codec("Classify", ENTRYPOINT, _parse_classify, read_classify, _encode_classify),
        "Regress": Codec("Regress", ENTRYPOINT, _parse_regress, read_regress, _encode_regress),
        "MultiInference": Codec(
            "MultiInference", ENTRYPOINT, _parse_multi, partial(_decode_multi, options), _encode_multi
        ),
    }


CODECS = codecs(DEFAULT)
