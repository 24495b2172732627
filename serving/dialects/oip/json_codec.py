"""The protocol's REST bodies <-> calls: JSON, JSON with binary tensors behind it, and bare bytes.

Owns the members of these bodies and where the bytes of each tensor lie. What an inference may ask is `infer`'s, URLs
are `rest`'s. Source: the Open Inference Protocol (inference_rest) and Triton's binary tensor data extension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.json_text import kind, quote
from estimator_serving.serving.dialects.oip import datatypes, infer, json_tensor, tensors
from estimator_serving.serving.dialects.oip.infer import Call, Input, Output
from estimator_serving.serving.dialects.oip.shared_memory import REGION, Regions
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import Codec, Done, ShortWay
from estimator_serving.serving.request import Array, Document, ModelSpec, Outputs, Request
from estimator_serving.serving.running.servable import Servable
from estimator_serving.serving.running.session import AtOnce
from estimator_serving.wire import native

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


class _Plan:
    """What bodies that begin with the same JSON ask of a version, where the only input is float32, and it and all
    outputs are binary.

    shape, size: of the input, in elements and in bytes. outputs: their names and datatypes. answered: the shapes of the
    last outputs, and the JSON of an answer with them.
    """

    __slots__ = ("answered", "call_id", "outputs", "rows", "shape", "size")

    def __init__(
        self, call_id: str, shape: tuple[int, ...], size: int, rows: int, outputs: Sequence[tuple[str, str]]
    ) -> None:
        self.call_id = call_id
        self.shape, self.size, self.rows = shape, size, rows
        self.outputs = outputs
        self.answered: tuple[list[tuple[int, ...]], bytes] = ([], b"")


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
        at_once = _json_at_once if self._json_length is None else self.at_once
        return Codec(METHOD, ENTRYPOINT, self.parse, to_request, self.encode, False, at_once)

    def at_once(self, payload: bytes, _spec: ModelSpec, servable: Servable) -> Done | None:
        """What `parse`, `to_request`, a run and `encode` come to for a head that came before and fitted this version,
        where the only input is float32, and it and all outputs are binary."""
        began_s = perf_counter()
        plain, json_length = servable.at_once, self._json_length
        if plain is None or json_length is None or not json_length.isdigit() or len(json_length) > _DIGITS_MAX:
            return None
        length = int(json_length)
        plans: dict[bytes, _Plan] = servable.worked_out.setdefault(_Plan, {})
        head = payload[:length]
        plan = plans.get(head)
        if plan is None:
            plan = _plan(head, plain, servable)
            if plan is None:
                return None
            if len(plans) >= _KNOWN_HEADS:
                plans.clear()
            plans[head] = plan
        if len(payload) - length != plan.size:
            return None
        array: Array = np.ndarray(plan.shape, np.float32, payload, length)
        if not array.flags.aligned:
            array = array.copy()
        run_began_s = perf_counter()
        values = plain.run({plain.input_names[0]: array})
        run_s = perf_counter() - run_began_s
        if values is None:
            return None
        shapes = [value.shape for value in values]
        known, text = plan.answered
        if known != shapes:
            named = zip(plan.outputs, values, strict=True)
            entries = tuple((alias, datatype, value.shape, value.nbytes) for (alias, datatype), value in named)
            text = _known_answer(plan.call_id, servable.name, servable.version, entries)
            plan.answered = shapes, text
        self.json_bytes = len(text)
        return b"".join((text, *(value.data for value in values))), plan.rows, run_began_s - began_s, run_s

    def parse(self, payload: bytes, target: ModelSpec | None) -> Document:
        """The call of a body. Raises InvalidArgumentError."""
        assert target is not None, "the URL names the model"
        if not payload:
            raise InvalidArgumentError("The request's body is empty; send an inference request as JSON.")
        json_length = self._json_length
        if json_length is None:
            content = native.read_inference(payload) or _fill(_read_head(payload), memoryview(b""), self._regions)
            return Document(target, content, payload)
        length = int(json_length) if json_length.isdigit() and len(json_length) <= _DIGITS_MAX else -1
        if length == 0:
            return Document(target, Call("", {BINARY_OUTPUTS: True}, (), (), payload), payload)
        if not 0 < length <= len(payload):
            raise InvalidArgumentError(
                f"inference header size should be in range (0, {len(payload)}), got: "
                f"{json_length[:64].decode('latin-1')}. Inference-Header-Content-Length says how many bytes of the "
                "body are JSON."
            )
        head = (_known_head if length <= _KNOWN_HEAD_BYTES_MAX else _read_head)(payload[:length])
        return Document(target, _fill(head, memoryview(payload)[length:], self._regions), payload)

    def encode(self, outputs: Outputs, request: Request, servable: Servable) -> bytes:
        """The answer's body; sets `json_bytes`."""
        call: Call = request.form
        entries: list[tuple[str, str, tuple[int, ...], int]] = []
        bare: list[Any] = []
        tail: list[bytes | memoryview] = []
        is_binary = call.parameters.get(BINARY_OUTPUTS) is True
        for name, datatype, array, parameters in infer.to_answers(outputs, request, servable):
            if parameters and REGION in parameters:
                written = self._regions.write(name, parameters, tensors.to_raw(array))
                bare.append({"parameters": written})
                entries.append((name, datatype, array.shape, -1))
            elif parameters.get(BINARY_OUTPUT, is_binary) if parameters else is_binary:
                content = tensors.to_raw(array)
                tail.append(content)
                entries.append((name, datatype, array.shape, len(content)))
            else:
                bare.append({"data": json_tensor.to_values(name, array)})
                entries.append((name, datatype, array.shape, -1))
        if not bare:
            text = _known_answer(call.id, servable.name, servable.version, tuple(entries))
        else:
            members = _answer(call.id, servable.name, servable.version, entries)
            others = iter(bare)
            for output in members["outputs"]:
                if "parameters" not in output:
                    output.update(next(others))
            text = json_tensor.dump(members)
        if not tail:
            return text
        self.json_bytes = len(text)
        return b"".join((text, *tail))


def _answer(
    call_id: str, name: str, version: int, entries: Iterable[tuple[str, str, tuple[int, ...], int]]
) -> dict[str, Any]:
    """An answer of outputs by name, datatype, shape and, of those that follow in binary, size; -1 for others."""
    members: dict[str, Any] = {"id": call_id} if call_id else {}
    members |= {"model_name": name, "model_version": str(version), "outputs": []}
    for alias, datatype, shape, size in entries:
        output: dict[str, Any] = {"name": alias, "datatype": datatype, "shape": shape}
        if size >= 0:
            output["parameters"] = {BINARY_SIZE: size}
        members["outputs"].append(output)
    return members


@lru_cache(maxsize=256)
def _known_answer(*parts: Any) -> bytes:
    """The JSON of an answer whose outputs are all binary: the same one for every request of the same shapes."""
    return json_tensor.dump(_answer(*parts))


def to_request(document: Document, servable: Servable) -> Request:
    call = document.content
    if type(call) is tuple:
        call_id, sent, outputs = call
        inputs = [
            Input(name, datatype, shape, math.prod(shape), (letter, values), json_tensor.read_plain)
            for name, datatype, shape, letter, values in sent
        ]
        try:
            return infer.to_request(Call(call_id, {}, inputs, [Output(name, {}) for name in outputs]), servable)
        except InvalidArgumentError:
            call = _read_head(document.payload).call  # whose values have the sentences
    return infer.to_request(call, servable)


def _plain_run(servable: Servable, plain: AtOnce) -> native.InferRun | None:
    """How `native.infer_plain` runs a version; None where it cannot."""
    signature = servable.signatures[plain.signature_name]
    dtypes_out = [signature.outputs[alias].dtype for alias in plain.aliases]
    bare = getattr(plain.runner.graph, "bare", None)
    if bare is None or plain.takes_examples or any(one.numpy.char not in native.WRITABLE for one in dtypes_out):
        return None
    model = json_tensor.dump(_answer("", servable.name, servable.version, ()))
    heads = [
        json_tensor.dump({"name": alias, "datatype": datatypes.of(dtype).name, "shape": ()})
        for alias, dtype in zip(plain.aliases, dtypes_out, strict=True)
    ]
    info = signature.inputs[plain.alias]
    return (
        bare, plain.output_names, plain.input_names[0], np.ndarray, info.dtype.numpy, plain.alias.encode(), info.shape,
        model[1:].removesuffix(b"]}"), tuple(alias.encode() for alias in plain.aliases),
        tuple(head.removesuffix(b"[]}") for head in heads),
    )  # fmt: skip


# What the steps come to.
_json_at_once = ShortWay(_plain_run, native.infer_plain)


class _Head(NamedTuple):
    """A body's JSON as a call. sizes: of each input's binary content, -1 for one that is elsewhere.

    The content of an input is its data, or the parameters that say where in shared memory it lies.
    """

    call: Call
    sizes: tuple[int, ...]


def _read_head(text: bytes) -> _Head:
    """The JSON of a body. Raises InvalidArgumentError."""
    members = json_text.parse_strictly(text)
    if type(members) is not dict:
        raise InvalidArgumentError(f"An inference request is a JSON object, but got {kind(members).lower()}.")
    _check_members("The request", members, _MEMBERS)
    call_id = members.get("id")
    if call_id is not None and type(call_id) is not str:
        raise InvalidArgumentError(f"The request's id must be a string, but got {kind(call_id).lower()}.")
    sent = members.get("inputs")
    if type(sent) is not list:
        raise InvalidArgumentError("Unable to find 'inputs' in the request; send a list of the model's inputs.")
    inputs, sizes = [], []
    for tensor in sent:
        one, size = _read_input(tensor)
        inputs.append(one)
        sizes.append(size)
    outputs = members.get("outputs")
    wanted = [] if outputs is None else _read_outputs(outputs)
    parameters = _read_parameters("the request", members)
    if type(parameters.get(BINARY_OUTPUTS, False)) is not bool:
        raise InvalidArgumentError(f"The request's parameter {BINARY_OUTPUTS} must be true or false.")
    return _Head(infer.check_call(Call(call_id or "", parameters, inputs, wanted)), tuple(sizes))


# Clients of the binary extension send the same few heads over and over. A longer one is not kept.
_KNOWN_HEADS, _KNOWN_HEAD_BYTES_MAX = 256, 4096


@lru_cache(maxsize=_KNOWN_HEADS)
def _known_head(text: bytes) -> _Head:
    head = _read_head(text)
    return head._replace(call=head.call._replace(memo=infer.Memo()))


def _plan(head: bytes, plain: AtOnce, servable: Servable) -> _Plan | None:
    """None for a head that asks for anything else, or that no call has come with that fitted this version."""
    if plain.takes_examples or not 0 < len(head) <= _KNOWN_HEAD_BYTES_MAX:
        return None
    call, sizes = _known_head(head)
    checked = call.memo.checked if call.memo is not None else None
    if checked is None or checked.servable() is not servable or checked.signature_name != plain.signature_name:
        return None
    infos = servable.signatures[plain.signature_name].outputs
    if call.outputs or call.parameters.get(BINARY_OUTPUTS) is not True or len(sizes) != 1:
        return None
    if any(infos[alias].dtype.numpy.kind not in "fiub" for alias in plain.aliases):
        return None
    ((_, _, shape, elements, _, _),) = call.inputs
    if sizes[0] != 4 * elements:
        return None
    outputs = [(alias, datatypes.of(infos[alias].dtype).name) for alias in plain.aliases]
    return _Plan(call.id, shape, sizes[0], shape[0] if plain.has_rows and shape else 1, outputs)


def _fill(head: _Head, tail: memoryview, regions: Regions) -> Call:
    """The call with its inputs' contents, of which those in binary lie in the tail, one after the other."""
    call, sizes = head
    inputs = []
    position = 0
    for sent, size in zip(call.inputs, sizes, strict=True):
        name, datatype, shape, elements, content, read = sent
        if size >= 0:
            if size > len(tail) - position:
                raise InvalidArgumentError(
                    f"input '{name}' has {BINARY_SIZE} {size}, and behind the JSON are {len(tail) - position} left."
                )
            inputs.append(Input(name, datatype, shape, elements, tail[position : position + size], read))
            position += size
        elif read is tensors.from_raw:
            inputs.append(Input(name, datatype, shape, elements, regions.read(name, content), read))
        else:
            inputs.append(sent)
    if position != len(tail):
        raise InvalidArgumentError(
            f"Behind the JSON lie {len(tail)} bytes, and the {BINARY_SIZE} of the inputs add up to {position}; both "
            "must be equal."
        )
    return Call(call.id, call.parameters, inputs, call.outputs, None, call.memo)


def _read_input(tensor: Any) -> tuple[Input, int]:
    """An input, and the size of its binary content, -1 if it has none. Raises InvalidArgumentError."""
    name = _read_name("input", tensor, _INPUT_MEMBERS)
    shape, datatype = tensor.get("shape"), tensor.get("datatype")
    if type(shape) is not list or not _INTEGERS.issuperset(map(type, shape)):
        raise InvalidArgumentError(f"input '{name}' needs a shape, a list of integers; got {quote(shape)}.")
    if type(datatype) is not str:
        raise InvalidArgumentError(f"input '{name}' needs a datatype, such as FP32; got {quote(datatype)}.")
    elements = tensors.check_shape(name, shape)
    parameters = _read_parameters(f"input '{name}'", tensor)
    size, data = parameters.get(BINARY_SIZE), tensor.get("data")
    given = (size is not None) + (data is not None) + (REGION in parameters)
    if given != 1:
        raise InvalidArgumentError(
            f"Input must set only one of the following fields: 'data', '{BINARY_SIZE}' in 'parameters', '{REGION}' in "
            f"'parameters'. Input '{name}' sets {given} of them."
        )
    content: Any = data
    read: infer.Read = json_tensor.read_values
    if size is not None:
        if type(size) is not int or size < 0:
            raise InvalidArgumentError(f"input '{name}' has {BINARY_SIZE} {quote(size)}; it must be a number of bytes.")
        read = tensors.from_raw
    elif data is None:
        content, read = parameters, tensors.from_raw
    elif parameters.get("content_type") == "base64":
        read = json_tensor.read_base64
    return Input(name, datatype, tuple(shape), elements, content, read), -1 if size is None else size


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
