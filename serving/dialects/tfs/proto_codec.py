"""TensorFlow Serving's messages <-> arrays: Predict, Classify, Regress, MultiInference; and the ModelSpec they share.

Owns the checks these messages need beyond their syntax, with TensorFlow Serving's texts. Pure functions of bytes; knows
no grpc.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

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
    as_strings,
)
from estimator_serving.serving.running.binding import qualified
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire import native
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    Signature,
)
from estimator_serving.wire.tensors import TensorError, decode_tensor, encode_tensor, tensor_of_parts, write_varint

ENTRYPOINT = "GRPC"

M = TypeVar("M", bound=Message)


def parse_message(payload: bytes, kind: type[M]) -> M:
    """A message of its bytes. Raises InvalidArgumentError for bytes that are none."""
    try:
        return kind.FromString(payload)
    except DecodeError:
        raise InvalidArgumentError(f"These {len(payload)} bytes are not a {kind.DESCRIPTOR.full_name}.") from None


def read_spec(message: Any) -> ModelSpec:
    """The ModelSpec of any request. Raises InvalidArgumentError if it is missing or names no model."""
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
    """Fill in which version answered; a label is answered by its version, as in TensorFlow Serving."""
    proto.name = servable.name
    proto.version.value = servable.version
    proto.signature_name = signature_name


def _parse(kind: type[Message], payload: bytes, _target: ModelSpec | None) -> Document:
    """A request message that has a model_spec. Raises InvalidArgumentError for bytes that are none."""
    message = parse_message(payload, kind)
    return Document(read_spec(message), message, payload)


def _parse_examples(kind: type[Message], payload: bytes, target: ModelSpec | None) -> Document:
    """A request of Examples, which are an array where `native.read_examples_request` took it apart: most can be."""
    read = native.read_examples_request(payload)
    if read is None:
        return _parse(kind, payload, target)
    name, version, label, signature_name, examples = read
    return Document(ModelSpec(name, version, label, signature_name or DEFAULT_SIGNATURE), as_strings(examples), payload)


# The same objects for all options: the request log knows by them which payloads it may log as they came.
_parse_classify = partial(_parse_examples, serving_pb.ClassificationRequest)
_parse_regress = partial(_parse_examples, serving_pb.RegressionRequest)


# --- Predict ---


class _PlainRequest(NamedTuple):
    """A PredictRequest that `native.read_predict_request` took apart: most can be."""

    output_filter: tuple[str, ...]
    inputs: dict[str, native.TensorParts]


def _parse_predict(payload: bytes, target: ModelSpec | None) -> Document:
    read = native.read_predict_request(payload)
    if read is None:
        return _parse(serving_pb.PredictRequest, payload, target)
    name, version, label, signature_name, output_filter, inputs = read
    spec = ModelSpec(name, version, label, signature_name or DEFAULT_SIGNATURE)
    return Document(spec, _PlainRequest(output_filter, inputs), payload)


def _decode_predict(options: Options, document: Document, servable: Servable) -> Request:
    name, message = document.spec.signature_name, document.content
    signature = servable.signatures.get(name)
    if signature is None:
        raise FailedPreconditionError(
            f'Serving signature key "{name}" not found. There are: {", ".join(sorted(servable.signatures))}.'
        )
    if options.check_method_names:
        outcomes.check_method_name(signature, "prediction", PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    tensors, is_plain = message.inputs, isinstance(message, _PlainRequest)
    # Not by comparing keys(): protobuf's maps do that in Python.
    if len(tensors) != len(signature.inputs) or not all(alias in tensors for alias in signature.inputs):
        _check_names(signature, tensors.keys())
    outputs: list[str] = []
    for alias in message.output_filter:
        if alias not in signature.outputs:
            raise InvalidArgumentError(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_set(signature.outputs)}."
            )
        if alias in outputs:
            raise InvalidArgumentError(f"duplicate output tensor alias: {alias}")
        outputs.append(alias)
    inputs = {}
    for alias in signature.inputs:
        if signature.defaults and alias not in tensors:
            inputs[alias] = signature.defaults[alias]
            continue
        try:
            sent = tensors[alias]
            inputs[alias] = tensor_of_parts(sent, document.payload) if is_plain else decode_tensor(sent)
        except TensorError as error:
            raise InvalidArgumentError(f"tensor parsing error: {alias}. {error}") from None
    return Request(name, inputs, tuple(outputs))


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


def _encode_predict(options: Options, outputs: Outputs, request: Request, servable: Servable) -> bytes:
    start = _answered_spec(servable.name, servable.version, request.signature_name)
    aliases = tuple([alias.encode() for alias in outputs])

    def written(array: Array) -> bytes:
        return encode_tensor(array, as_content=options.tensor_content).SerializeToString()

    tensors = tuple([array if array.dtype.char in native.WRITABLE else written(array) for array in outputs.values()])
    message = native.write_predict_response(start, aliases, tensors, options.tensor_content)
    if message is None:
        tensors = tuple(map(written, outputs.values()))
        message = native.write_predict_response(start, aliases, tensors, options.tensor_content)
    assert message is not None, "it has nothing but bytes to write"
    return message


@lru_cache(maxsize=1024)
def _answered_spec(name: str, version: int, signature_name: str) -> bytes:
    """A PredictResponse of nothing but its model_spec, which is the same for every answer of a version's signature."""
    spec = serving_pb.ModelSpec(name=name, signature_name=signature_name)
    spec.version.value = version
    return serving_pb.PredictResponse(model_spec=spec).SerializeToString()


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


# outcomes' check of a signature against Examples.
_Check = Callable[[Servable, str, Array, Options], Request]


def _decode_examples(check: _Check, options: Options, document: Document, servable: Servable) -> Request:
    content = document.content
    examples = content if isinstance(content, np.ndarray) else _read_examples(content.input)
    return check(servable, document.spec.signature_name, examples, options)


def _encode_result(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    """A ClassificationResponse or RegressionResponse: the result is field 1, and model_spec, as in a PredictResponse,
    field 2."""
    result = (_regressed if REGRESS_OUTPUTS in outputs else _classified)(outputs, request)
    spec = _answered_spec(servable.name, servable.version, request.signature_name)
    return b"".join((b"\x0a", write_varint(len(result)), result, spec))


def _classified(outputs: Outputs, request: Request) -> bytes:
    """A ClassificationResult."""
    classes = outcomes.read_classes(outputs, request)
    # Message by message, they would take longer than the run.
    written_at_once = native.write_classifications(classes.labels, classes.scores)
    if written_at_once is not None:
        return written_at_once
    result = serving_pb.ClassificationResult()
    for labels, scores in zip(classes.labels.tolist(), classes.scores.tolist(), strict=True):
        written = result.classifications.add().classes
        for label, score in zip(labels, scores, strict=True):
            written.add(label=label, score=score)
    return result.SerializeToString()


def _regressed(outputs: Outputs, request: Request) -> bytes:
    """A RegressionResult. Message by message, it would take long; so one row is written as a template."""
    one = serving_pb.RegressionResult(regressions=[serving_pb.Regression(value=1)]).SerializeToString()
    values = outcomes.read_regressions(outputs, request)
    table = np.tile(np.frombuffer(one, np.uint8), (len(values), 1))
    table[:, -4:] = np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(len(values), 4)
    return table.tobytes()


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


_CHECKS: Mapping[str, _Check] = {
    CLASSIFY_METHOD: outcomes.classify_request,
    REGRESS_METHOD: outcomes.regress_request,
}


def _decode_multi(options: Options, document: Document, servable: Servable) -> Request:
    message = document.content
    examples = _read_examples(message.input)
    parts: dict[str, Request] = {}
    for task in message.tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in parts:
            raise InvalidArgumentError(f"Duplicate evaluation of signature: {name}; ask for each signature once.")
        check = _CHECKS.get(task.method_name)
        if check is None:
            raise UnimplementedError(
                f"Unsupported signature method_name: {task.method_name}; a task is {CLASSIFY_METHOD} or "
                f"{REGRESS_METHOD}."
            )
        if name not in servable.signatures:
            raise InvalidArgumentError(
                f"Requested signature not found in model graph: {name}. There are: "
                f"{', '.join(sorted(servable.signatures))}."
            )
        parts[name] = check(servable, name, examples, options)
    first = next(iter(parts))
    if not all(servable.can_run_together(first, name) for name in parts):
        raise InvalidArgumentError(
            f"Input tensor must be the same for all Signatures. {', '.join(parts)} differ; ask for them one by one."
        )
    outputs = tuple(qualified(name, alias) for name, part in parts.items() for alias in part.outputs)
    return Request(first, parts[first].inputs, outputs, tuple(parts.values()))


def _encode_multi(outputs: Outputs, request: Request, servable: Servable) -> bytes:
    response = serving_pb.MultiInferenceResponse()
    for part in request.form:
        result = response.results.add()
        write_spec(result.model_spec, servable, part.signature_name)
        own = {alias: outputs[qualified(part.signature_name, alias)] for alias in part.outputs}
        if REGRESS_OUTPUTS in own:
            result.regression_result.MergeFromString(_regressed(own, part))
        else:
            result.classification_result.MergeFromString(_classified(own, part))
    return response.SerializeToString()


def codecs(options: Options) -> Mapping[str, Codec]:
    """rpc name -> how it reads and writes, as an operator chose."""
    predict, encode = partial(_decode_predict, options), partial(_encode_predict, options)
    classify = partial(_decode_examples, outcomes.classify_request, options)
    regress = partial(_decode_examples, outcomes.regress_request, options)
    multi = partial(_decode_multi, options)
    return {
        "Predict": Codec("Predict", ENTRYPOINT, _parse_predict, predict, encode),
        "Classify": Codec("Classify", ENTRYPOINT, _parse_classify, classify, _encode_result, takes_examples=True),
        "Regress": Codec("Regress", ENTRYPOINT, _parse_regress, regress, _encode_result, takes_examples=True),
        "MultiInference": Codec("MultiInference", ENTRYPOINT, _parse_multi, multi, _encode_multi, takes_examples=True),
    }


CODECS = codecs(DEFAULT)
