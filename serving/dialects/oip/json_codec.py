"""The protocol's REST bodies <-> calls: JSON, JSON with binary tensors behind it, and bare bytes.

Owns the members of these bodies and where the bytes of each tensor lie. What an inference may ask is `infer`'s, URLs
are `rest`'s. Source: the Open Inference Protocol (inference_rest) and Triton's binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.json_text import kind, quote
from estimator_serving.serving.dialects.oip import infer, json_tensor, tensors
from estimator_serving.serving.dialects.oip.infer import Call, Input, Output
from estimator_serving.serving.dialects.oip.shared_memory import REGION, Regions
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import Document, ModelSpec, Outputs, Request
from estimator_serving.serving.running.servable import Servable

ENTRYPOINT = "V2_REST"
METHOD = "Predict"
BINARY_SIZE, BINARY_OUTPUT, BINARY_OUTPUTS = "binary_data_size", "binary_data", "binary_data_output"
_MEMBERS = frozenset({"id", "parameters", "inputs", "outputs", "model_name", "model_version"})
_INPUT_MEMBERS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_MEMBERS = frozenset({"name", "parameters"})
_INTEGERS = frozenset({int})
_PARAMETER_TYPES = frozenset({str, int, float, bool})
# A header's number of bytes needs no more digits.
_DIGITS_MAX = 19


class Exchange:
    """One inference over HTTP: what its header says about its body, and what the answer's header has to say.

    json_bytes: how much of the answer is JSON; None if all of it is.
    """

    __slots__ = ("_json_length", "_regions", "json_bytes")

    def __init__(self, json_length: bytes | None, regions: Regions) -> None:
        self._json_length = json_length
        self._regions = regions
        self.json_bytes: int | None = None

    def codec(self) -> Codec:
        return Codec(METHOD, ENTRYPOINT, self.parse, to_request, self.encode)

    def parse(self, payload: bytes, target: ModelSpec | None) -> Document:
        """The call of a body. Raises InvalidArgumentError."""
        assert target is not None, "the URL names the model"
        if not payload:
            raise InvalidArgumentError("The request's body is empty; send an inference request as JSON.")
        json_length = self._json_length
        if json_length is None:
            return Document(
                target, _read_call(json_text.parse_strictly(payload), memoryview(b""), self._regions), payload
            )
        length = int(json_length) if json_length.isdigit() and len(json_length) <= _DIGITS_MAX else -1
        if length == 0:
            return Document(target, Call("", {BINARY_OUTPUTS: True}, (), (), payload), payload)
        if not 0 < length <= len(payload):
            raise InvalidArgumentError(
                f"inference header size should be in range (0, {len(payload)}), got: "
                f"{json_length[:64].decode('latin-1')}. Inference-Header-Content-Length says how many bytes of the "
                "body are JSON."
            )
        members = json_text.parse_strictly(payload[:length])
        return Document(target, _read_call(members, memoryview(payload)[length:], self._regions), payload)

    def encode(self, outputs: Outputs, request: Request, servable: Servable) -> bytes:
        """The answer's body; sets `json_bytes`."""
        call: Call = request.form
        members: dict[str, Any] = {"id": call.id} if call.id else {}
        members["model_name"] = servable.name
        members["model_version"] = str(servable.version)
        written = []
        tail: list[bytes | memoryview] = []
        is_binary = call.parameters.get(BINARY_OUTPUTS) is True
        for name, datatype, array, parameters in infer.to_answers(outputs, request, servable):
            entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
            if parameters and REGION in parameters:
                entry["parameters"] = self._regions.write(name, parameters, tensors.to_raw(array))
            elif parameters.get(BINARY_OUTPUT, is_binary) if parameters else is_binary:
                content = tensors.to_raw(array)
                entry["parameters"] = {BINARY_SIZE: len(content)}
                tail.append(content)
            else:
                entry["data"] = json_tensor.to_values(name, array)
            written.append(entry)
        members["outputs"] = written
        text = json_tensor.dump(members)
        if not tail:
            return text
        self.json_bytes = len(text)
        return b"".join((text, *tail))


def to_request(document: Document, servable: Servable) -> Request:
    return infer.to_request(document.content, servable)


def _read_call(members: Any, tail: memoryview, regions: Regions) -> Call:
    """The call of a body's JSON; `tail` is what lies behind it. Raises InvalidArgumentError."""
    if type(members) is not dict:
        raise InvalidArgumentError(f"An inference request is a JSON object, but got {kind(members).lower()}.")
    _check_members("The request", members, _MEMBERS)
    call_id = members.get("id")
    if call_id is not None and type(call_id) is not str:
        raise InvalidArgumentError(f"The request's id must be a string, but got {kind(call_id).lower()}.")
    inputs = _read_inputs(members.get("inputs"), tail, regions)
    outputs = members.get("outputs")
    wanted = [] if outputs is None else _read_outputs(outputs)
    parameters = _read_parameters("the request", members)
    if type(parameters.get(BINARY_OUTPUTS, False)) is not bool:
        raise InvalidArgumentError(f"The request's parameter {BINARY_OUTPUTS} must be true or false.")
    return infer.check_call(Call(call_id or "", parameters, inputs, wanted))


def _read_inputs(sent: Any, tail: memoryview, regions: Regions) -> list[Input]:
    """The inputs; those with a size of binary data take it from the tail, one after the other."""
    if type(sent) is not list:
        raise InvalidArgumentError("Unable to find 'inputs' in the request; send a list of the model's inputs.")
    inputs = []
    position = 0
    for tensor in sent:
        name, datatype, shape = _read_head(tensor)
        parameters = _read_parameters(f"input '{name}'", tensor)
        size, data = parameters.get(BINARY_SIZE), tensor.get("data")
        if (size is not None) + (data is not None) + (REGION in parameters) != 1:
            raise InvalidArgumentError(
                f"Input must set only one of the following fields: 'data', '{BINARY_SIZE}' in 'parameters', '{REGION}' "
                f"in 'parameters'. Input '{name}' sets {'several' if len(parameters) else 'none'}."
            )
        content: Any = data
        read: infer.Read = json_tensor.read_values
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(tail) - position:
                raise InvalidArgumentError(
                    f"input '{name}' has {BINARY_SIZE} {quote(size)}; it must be a number of bytes, and behind the "
                    f"JSON are {len(tail) - position} left."
                )
            content, read = tail[position : position + size], tensors.from_raw
            position += size
        elif data is None:
            content, read = regions.read(name, parameters), tensors.from_raw
        elif parameters.get("content_type") == "base64":
            read = json_tensor.read_base64
        inputs.append(Input(name, datatype, shape, content, read))
    if position != len(tail):
        raise InvalidArgumentError(
            f"Behind the JSON lie {len(tail)} bytes, and the {BINARY_SIZE} of the inputs add up to {position}; both "
            "must be equal."
        )
    return inputs


def _read_head(tensor: Any) -> tuple[str, str, tuple[int, ...]]:
    """Name, datatype and shape of an input. Raises InvalidArgumentError."""
    name = _read_name("input", tensor, _INPUT_MEMBERS)
    shape, datatype = tensor.get("shape"), tensor.get("datatype")
    if type(shape) is not list or not _INTEGERS.issuperset(map(type, shape)):
        raise InvalidArgumentError(f"input '{name}' needs a shape, a list of integers; got {quote(shape)}.")
    if type(datatype) is not str:
        raise InvalidArgumentError(f"input '{name}' needs a datatype, such as FP32; got {quote(datatype)}.")
    return name, datatype, tuple(shape)


def _read_outputs(sent: Any) -> list[Output]:
    if type(sent) is not list:
        raise InvalidArgumentError(f"'outputs' must be a list of outputs, but got {kind(sent).lower()}.")
    outputs = []
    for tensor in sent:
        name = _read_name("output", tensor, _OUTPUT_MEMBERS)
        parameters = _read_parameters(f"output '{name}'", tensor)
        if type(parameters.get(BINARY_OUTPUT, False)) is not bool:
            raise InvalidArgumentError(f"The parameter {BINARY_OUTPUT} of output '{name}' must be true or false.")
        outputs.append(Output(name, parameters))
    return outputs


def _read_name(what: str, tensor: Any, members: frozenset[str]) -> str:
    """The name of an input or output. Raises InvalidArgumentError for what is none."""
    if type(tensor) is not dict:
        raise InvalidArgumentError(f"An {what} is a JSON object, but got {kind(tensor).lower()}.")
    name = tensor.get("name")
    if type(name) is not str:
        raise InvalidArgumentError(f"An {what} needs a name, which is a string; got {quote(name)}.")
    _check_members(f"{what} '{name[: infer.NAME_CHARACTERS_MAX]}'", tensor, members)
    return name


def _check_members(what: str, members: Mapping[str, Any], known: frozenset[str]) -> None:
    if not known.issuperset(members):
        unknown = next(key for key in members if key not in known)
        raise InvalidArgumentError(
            f"{what} has the unknown key {quote(unknown)}; it may have {', '.join(sorted(known))}."
        )


def _read_parameters(what: str, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters, empty where there are none. Raises InvalidArgumentError for what is neither string, number nor
    boolean."""
    parameters = members.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise InvalidArgumentError(f"The parameters of {what} are a JSON object, but got {kind(parameters).lower()}.")
    if not _PARAMETER_TYPES.issuperset(map(type, parameters.values())):
        wrong = next(key for key, value in parameters.items() if type(value) not in _PARAMETER_TYPES)
        raise InvalidArgumentError(f"The parameter {quote(wrong)} of {what} must be a string, a number or a boolean.")
    infer.check_parameters(parameters)
    return parameters
