"""The protocol's gRPC messages <-> calls: ModelInferRequest with raw or typed contents, ModelInferResponse.

Owns the rules of these messages. What an inference may ask is `infer`'s, rpcs are `grpc`'s. Source: the Open Inference
Protocol's grpc_service.proto; as in Triton, answers are always raw.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from estimator_serving.serving.dialects.oip import datatypes, infer, tensors
from estimator_serving.serving.dialects.oip.infer import Call, Input, Output
from estimator_serving.serving.dialects.oip.json_codec import METHOD, to_request
from estimator_serving.serving.dialects.oip.shared_memory import REGION, Regions
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import Array, Document, ModelSpec, Outputs, Request, as_strings
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.pb import inference_pb
from estimator_serving.wire.tensors import write_varint

ENTRYPOINT = "V2_GRPC"

M = TypeVar("M", bound=Message)


def codec(regions: Regions) -> Codec:
    """How ModelInfer reads and writes."""
    return Codec(METHOD, ENTRYPOINT, partial(_parse, regions, _Heads()), to_request, partial(_encode, regions))


def parse_message(payload: bytes, kind: type[M]) -> M:
    """A message of its bytes. Raises InvalidArgumentError for bytes that are none."""
    try:
        return kind.FromString(payload)
    except DecodeError:
        raise InvalidArgumentError(f"These {len(payload)} bytes are not a {kind.DESCRIPTOR.full_name}.") from None


def read_spec(name: str, version: str) -> ModelSpec:
    """The model that a message names. Raises InvalidArgumentError for a version that is none."""
    if not name:
        raise InvalidArgumentError("The request names no model; set model_name.")
    return ModelSpec(name, infer.read_version(version))


class _Head(NamedTuple):
    """A request but for the bytes of its only raw content, which come last: clients send the same few over and over.

    start: the request's own bytes up to that content.
    """

    start: bytes
    spec: ModelSpec
    call: Call


class _Heads:
    """The last heads that came, one for each length of a request. For use on any thread."""

    def __init__(self) -> None:
        self._by_length: dict[int, _Head] = {}

    def find(self, payload: bytes) -> Document | None:
        """The call of a request whose head came before, None for any other."""
        head = self._by_length.get(len(payload))
        if head is None or not payload.startswith(head.start):
            return None
        start, spec, call = head
        name, datatype, shape, size, _, read = call.inputs[0]
        inputs = [Input(name, datatype, shape, size, memoryview(payload)[len(start) :], read)]
        return Document(spec, Call(call.id, call.parameters, inputs, call.outputs, None, call.memo), payload)

    def keep(self, payload: bytes, raw: bytes, spec: ModelSpec, call: Call) -> Call:
        """Remember a request with one input, whose raw content is `raw`, unless it has an id, which seldom comes again.

        Returns the call to go on with.
        """
        start = payload[: len(payload) - len(raw)]
        tag = _RAW_TAG + write_varint(len(raw))
        if call.id or len(start) > _KNOWN_HEAD_BYTES_MAX or not (start.endswith(tag) and payload.endswith(raw)):
            return call
        # What stands before the content has to be a message by itself, or the content's place would be a coincidence.
        try:
            before = inference_pb.ModelInferRequest.FromString(start[: -len(tag)])
        except DecodeError:
            return call
        if before.raw_input_contents:
            return call
        call = call._replace(memo=infer.Memo())
        if len(self._by_length) >= _KNOWN_HEADS_MAX:
            self._by_length.clear()
        # Without the content, which would stay in memory.
        bare = [call.inputs[0]._replace(content=None)]
        self._by_length[len(payload)] = _Head(start, spec, call._replace(inputs=bare))
        return call


_KNOWN_HEADS_MAX = 256
_KNOWN_HEAD_BYTES_MAX = 4096
_RAW_TAG = b"\x3a"  # of raw_input_contents: number and wire type 2


def _parse(regions: Regions, heads: _Heads, payload: bytes, _target: ModelSpec | None) -> Document:
    known = heads.find(payload)
    if known is not None:
        return known
    message = parse_message(payload, inference_pb.ModelInferRequest)
    spec = read_spec(message.model_name, message.model_version)
    raw = message.raw_input_contents
    inputs = []
    used = 0
    for tensor in message.inputs:
        name, shape = tensor.name, tuple(tensor.shape)
        has_contents = tensor.HasField("contents")
        parameters = read_parameters(tensor.parameters)
        content: Any
        read: infer.Read = tensors.from_raw
        if has_contents and (raw or REGION in parameters):
            raise InvalidArgumentError(
                f"contents field must not be specified when using raw_input_contents for '{name}' for model "
                f"'{spec.name}', nor for a tensor in shared memory"
            )
        if REGION in parameters:
            content = regions.read(name, parameters)
        elif raw:
            if used == len(raw):
                raise InvalidArgumentError(
                    f"unable to find data for input tensor '{name}' for model '{spec.name}' in request; "
                    "raw_input_contents has one entry for each input."
                )
            content = raw[used]
            used += 1
        else:
            content, read = tensor.contents, _read_contents
        size = tensors.check_shape(name, shape)
        inputs.append(Input(name, tensor.datatype, shape, size, content, read))
    if used != len(raw):
        raise InvalidArgumentError(
            f"raw_input_contents has {len(raw)} entries for {used} inputs of model '{spec.name}'; send one for each."
        )
    outputs = [Output(tensor.name, read_parameters(tensor.parameters)) for tensor in message.outputs]
    call = infer.check_call(Call(message.id, read_parameters(message.parameters), inputs, outputs))
    if used == len(inputs) == 1:
        call = heads.keep(payload, raw[0], spec, call)
    return Document(spec, call, payload)


def read_parameters(parameters: Any) -> infer.Parameters:
    """A map of InferParameter as Python values. Raises InvalidArgumentError for one that has no value."""
    if not parameters:
        return {}
    infer.check_parameters(parameters)
    values = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidArgumentError(f"The parameter '{name[: infer.NAME_CHARACTERS_MAX]}' has no value; set one.")
        values[name] = getattr(parameter, choice)
    return values


def _read_contents(name: str, contents: Any, dtype: DType, shape: tuple[int, ...], size: int) -> Array:
    """The array of an input's typed contents. Raises InvalidArgumentError."""
    datatype = datatypes.of(dtype)
    if not datatype.contents:
        raise InvalidArgumentError(f"input '{name}' of datatype {datatype.name} comes only in raw_input_contents.")
    fields = [field.name for field, _ in contents.ListFields()]
    if fields not in ([], [datatype.contents]):
        raise InvalidArgumentError(
            f"input '{name}' of datatype {datatype.name} has contents in {', '.join(fields)}; send only "
            f"{datatype.contents}."
        )
    values = getattr(contents, datatype.contents)
    if len(values) != size:
        raise InvalidArgumentError(
            f"unexpected number of elements {len(values)} in {datatype.contents} of input '{name}', expecting {size} "
            f"for its shape {list(shape)}"
        )
    if dtype.is_string:
        return as_strings(list(values)).reshape(shape)
    if datatype.contents in ("int_contents", "uint_contents"):
        wide = np.fromiter(values, np.int64, size)
        limits = np.iinfo(dtype.numpy)
        if size and (wide.min() < limits.min or wide.max() > limits.max):
            wrong = wide[(wide < limits.min) | (wide > limits.max)][0]
            raise InvalidArgumentError(
                f"input '{name}' has the value {wrong}, which is out of range for {datatype.name}. Nothing is "
                "converted."
            )
        return wide.astype(dtype.numpy).reshape(shape)
    return np.fromiter(values, dtype.numpy, size).reshape(shape)


def _encode(regions: Regions, outputs: Outputs, request: Request, servable: Servable) -> bytes:
    """A ModelInferResponse. Raises InvalidArgumentError.

    Written field by field, because a message would copy a large tensor several times.
    """
    call: Call = request.form
    parts: list[bytes | memoryview] = [_answered(servable.name, servable.version)]
    if call.id:
        encoded = call.id.encode()
        parts.append(b"\x1a" + write_varint(len(encoded)) + encoded)
    contents: list[bytes | memoryview] = []
    for name, datatype, array, parameters in infer.to_answers(outputs, request, servable):
        if parameters and REGION in parameters:
            written = regions.write(name, parameters, tensors.to_raw(array))
            response = inference_pb.ModelInferResponse()
            write_parameters(response.outputs.add(name=name, datatype=datatype, shape=array.shape).parameters, written)
            parts.append(response.SerializeToString())
            # Clients count the entries of raw contents by outputs.
            contents.append(b"\x32\x00")
            continue
        parts.append(_output(name, datatype, array.shape))
        content = tensors.to_raw(array)
        contents += (b"\x32" + write_varint(len(content)), content)
    return b"".join(parts + contents)


def write_parameters(target: Any, parameters: Mapping[str, Any]) -> None:
    """Fill in a map of InferParameter."""
    for name, value in parameters.items():
        if isinstance(value, bool):
            target[name].bool_param = value
        elif isinstance(value, int):
            target[name].int64_param = value
        else:
            target[name].string_param = value


@lru_cache(maxsize=1024)
def _answered(name: str, version: int) -> bytes:
    """The fields that every answer of a version has."""
    return inference_pb.ModelInferResponse(model_name=name, model_version=str(version)).SerializeToString()


@lru_cache(maxsize=1024)
def _output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """An output but for its content, as it stands in a response: a model's outputs have few shapes."""
    response = inference_pb.ModelInferResponse()
    response.outputs.add(name=name, datatype=datatype, shape=shape)
    return response.SerializeToString()
