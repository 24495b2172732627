"""An inference between its wire forms and a signature: one set of rules for JSON, binary bodies and gRPC.

Owns what a request must name and in which types and shapes, and the choice and form of outputs. Knows arrays and
parameters as Python values; how tensors stand on the wire is the codecs' business. Texts begin as Triton's do.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from estimator_serving.serving.dialects.oip import datatypes, tensors
from estimator_serving.serving.errors import InvalidArgumentError, NotFoundError
from estimator_serving.serving.request import DEFAULT_SIGNATURE, Array, ModelSpec, Outputs, Request, as_strings
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.signatures import Signature, TensorInfo

SIGNATURE_PARAMETER = "signature_name"
CLASSIFICATION = "classification"
TENSORS_MAX = 1024
PARAMETERS_MAX = 64
NAME_CHARACTERS_MAX = 256
ID_CHARACTERS_MAX = 1024
VERSION_MAX = 2**63 - 1
# The one parameter of Triton's reserved names that a client may send; it has no effect where requests have one answer.
_EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"

Parameters = Mapping[str, Any]

# Reads an input's content, of this dtype, shape and number of elements.
Read = Callable[[str, Any, DType, tuple[int, ...], int], Array]


class Input(NamedTuple):
    """An input as it came. size: the number of elements of its shape. read: makes the array of its content."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int
    content: Any
    read: Read


class Output(NamedTuple):
    """An output that is asked for."""

    name: str
    parameters: Parameters


class Checked(NamedTuple):
    """That calls with the same head fit a version, and what they ask of it."""

    servable: weakref.ref[Servable]
    signature_name: str
    dtypes: tuple[DType, ...]
    outputs: tuple[str, ...]


class Memo:
    """Is shared by calls that differ only in their tensors' contents, so that only the first of them is checked."""

    __slots__ = ("checked",)

    def __init__(self) -> None:
        self.checked: Checked | None = None


class Call(NamedTuple):
    """A ModelInfer, whatever it came in. outputs: none means all.

    raw: the whole content of the only input, for a request that is nothing but bytes.
    memo: None for a call whose head is not remembered.
    """

    id: str
    parameters: Parameters
    inputs: Sequence[Input]
    outputs: Sequence[Output] = ()
    raw: bytes | None = None
    memo: Memo | None = None


class Answer(NamedTuple):
    """An output as it is answered. array: strings as objects of str or bytes."""

    name: str
    datatype: str
    array: Array
    parameters: Parameters


_NOTHING: Parameters = {}


def default_signature(servable: Servable) -> str:
    """The signature that answers where a request names none: serving_default, else the first by name."""
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in servable.signatures else min(servable.signatures)


def find_signature(servable: Servable, parameters: Parameters) -> tuple[str, Signature]:
    """The signature that a request's parameters name. Raises InvalidArgumentError if there is none of that name."""
    name = parameters.get(SIGNATURE_PARAMETER)
    if name is None:
        name = default_signature(servable)
    signature = servable.signatures.get(name) if isinstance(name, str) else None
    if signature is None:
        raise InvalidArgumentError(
            f"model '{servable.name}' has no signature {name!r}; the parameter {SIGNATURE_PARAMETER} may be "
            f"{', '.join(sorted(servable.signatures))}."
        )
    return name, signature


def check_call(call: Call) -> Call:
    """The call itself. Raises InvalidArgumentError for what no model can answer, whatever its signatures."""
    if len(call.id) > ID_CHARACTERS_MAX:
        raise InvalidArgumentError(
            f"The request's id has more than {ID_CHARACTERS_MAX} characters; send a shorter one."
        )
    if len(call.inputs) > TENSORS_MAX or len(call.outputs) > TENSORS_MAX:
        raise InvalidArgumentError(f"A request has at most {TENSORS_MAX} inputs and {TENSORS_MAX} outputs.")
    check_parameters(call.parameters)
    for name in call.parameters:
        if name.startswith("triton_") and name != _EMPTY_FINAL_RESPONSE:
            raise InvalidArgumentError(
                f"The parameter {name!r} is reserved; names that begin with triton_ are Triton's."
            )
    return call


def check_parameters(parameters: Parameters) -> None:
    """Raises InvalidArgumentError for more parameters than any request needs."""
    if len(parameters) > PARAMETERS_MAX:
        raise InvalidArgumentError(f"A request or tensor has at most {PARAMETERS_MAX} parameters.")


def read_version(text: str) -> int | None:
    """A version as requests write it, None for an empty one: the server's choice. Raises InvalidArgumentError."""
    if not text:
        return None
    digits = text.lstrip("0") or "0"
    # The length comes first: Python refuses to convert integers of thousands of digits.
    if not (text.isascii() and text.isdigit()) or len(digits) > len(str(VERSION_MAX)) or int(digits) > VERSION_MAX:
        raise InvalidArgumentError(
            f"failed to get model version from specified version string '{text[:64]}'; a version is a number from 0 to "
            f"{VERSION_MAX}, or left out for the newest one."
        )
    return int(digits)


def unknown_model(spec: ModelSpec) -> NotFoundError:
    """The refusal of a model or version that is not loaded, in Triton's words."""
    version = "" if spec.version is None else f" version {spec.version}"
    return NotFoundError(f"Request for unknown model: '{spec.name}'{version} is not found")


# --- a call becomes a request ---


def to_request(call: Call, servable: Servable) -> Request:
    """The run that a call asks for; its form is the call.

    Raises InvalidArgumentError for what does not fit the signature.
    """
    checked = call.memo.checked if call.memo is not None else None
    if checked is not None and checked.servable() is servable:
        arrays = {
            name: read(name, content, dtype, shape, size)
            for (name, _, shape, size, content, read), dtype in zip(call.inputs, checked.dtypes, strict=True)
        }
        return Request(checked.signature_name, arrays, checked.outputs, call)
    signature_name, signature = find_signature(servable, call.parameters)
    infos = signature.inputs
    if call.raw is not None:
        inputs = _read_bare(call.raw, signature_name, infos, servable)
    else:
        inputs = {}
        for sent in call.inputs:
            name = sent.name
            info = infos.get(name)
            if info is None:
                raise InvalidArgumentError(
                    f"unexpected inference input '{name[:NAME_CHARACTERS_MAX]}' for model '{servable.name}'. Its "
                    f"inputs are {_quoted(infos)}."
                )
            if name in inputs:
                raise InvalidArgumentError(f"input '{name}' already exists in request; send it once.")
            inputs[name] = _read(sent, info, servable.name)
        if len(inputs) != len(infos):
            missing = infos.keys() - signature.defaults.keys() - inputs.keys()
            if missing:
                raise InvalidArgumentError(
                    f"expected {len(infos)} inputs but got {len(inputs)} inputs for model '{servable.name}'. Got "
                    f"input(s) [{_quoted(inputs)}], but missing required input(s) [{_quoted(missing)}]. Please provide "
                    "all required input(s)."
                )
            inputs = {alias: inputs[alias] if alias in inputs else signature.defaults[alias] for alias in infos}
    names = _read_names(call.outputs, signature, servable.name)
    if call.memo is not None and len(call.inputs) == len(infos):
        kinds = tuple([infos[sent.name].dtype for sent in call.inputs])
        call.memo.checked = Checked(weakref.ref(servable), signature_name, kinds, names)
    return Request(signature_name, inputs, names, call)


def _read_names(outputs: Sequence[Output], signature: Signature, model: str) -> tuple[str, ...]:
    """The names of the outputs that are asked for. Raises InvalidArgumentError for one that there is not."""
    names: list[str] = []
    for output in outputs:
        if output.name not in signature.outputs:
            raise InvalidArgumentError(
                f"unexpected inference output '{output.name[:NAME_CHARACTERS_MAX]}' for model '{model}'. Its outputs "
                f"are {_quoted(signature.outputs)}."
            )
        if output.name in names:
            raise InvalidArgumentError(f"output '{output.name}' is requested twice; ask for it once.")
        names.append(output.name)
    return tuple(names)


def _read(sent: Input, info: TensorInfo, model: str) -> Array:
    """The array of an input, which fits the signature in type and shape."""
    expected = datatypes.of(info.dtype).name
    if sent.datatype != expected:
        if sent.datatype not in datatypes.NAMES:
            raise InvalidArgumentError(
                f"input '{sent.name}' has the datatype '{sent.datatype[:NAME_CHARACTERS_MAX]}', which does not exist; "
                f"send {expected}."
            )
        raise InvalidArgumentError(
            f"inference input '{sent.name}' data-type is '{sent.datatype}', but model '{model}' expects '{expected}'"
        )
    shape = sent.shape
    if info.shape is not None and (
        len(shape) != len(info.shape)
        or any(length != wanted and wanted >= 0 for length, wanted in zip(shape, info.shape, strict=True))
    ):
        raise InvalidArgumentError(
            f"unexpected shape for input '{sent.name}' for model '{model}'. Expected {_dims(info.shape)}, "
            f"got {_dims(shape)}."
        )
    return sent.read(sent.name, sent.content, info.dtype, shape, sent.size)


def _read_bare(
    content: bytes, signature_name: str, infos: Mapping[str, TensorInfo], servable: Servable
) -> dict[str, Array]:
    """The only input, from a body that is nothing but its values: a batch of one, at most one other length left open.

    The body of a BYTES input is its one element, without a length before it.
    """
    where = f"for model '{servable.name}', whose request came as bare bytes without JSON; describe the inputs in JSON"
    if len(infos) != 1:
        raise InvalidArgumentError(f"expected exactly one input {where}, because it has {len(infos)}.")
    ((name, info),) = infos.items()
    shape = [-1] if info.shape is None else list(info.shape)
    if shape and shape[0] < 0 and servable.has_rows(signature_name):
        shape[0] = 1
    if info.dtype.is_string:
        if [length for length in shape if length not in (1, -1)]:
            raise InvalidArgumentError(f"expected one element of input '{name}' {where}, of shape {_dims(shape)}.")
        return {name: tensors.from_raw(name, tensors.to_raw(as_strings([content])), info.dtype, (1,) * len(shape), 1)}
    open_axes = [axis for axis, length in enumerate(shape) if length < 0]
    if len(open_axes) > 1:
        raise InvalidArgumentError(
            f"expected at most one variable dimension of input '{name}' {where}, because its shape is {_dims(shape)}."
        )
    if open_axes:
        shape[open_axes[0]] = 1
        row_bytes = tensors.check_shape(name, shape) * info.dtype.numpy.itemsize
        shape[open_axes[0]] = len(content) // row_bytes if row_bytes else 0
    return {name: tensors.from_raw(name, content, info.dtype, tuple(shape), tensors.check_shape(name, shape))}


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _dims(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


# --- outputs become an answer ---


def to_answers(outputs: Outputs, request: Request, servable: Servable) -> list[Answer]:
    """The outputs in the order in which they were asked for, else the signature's. Raises InvalidArgumentError."""
    asked: Sequence[Output] = request.form.outputs
    infos = servable.signatures[request.signature_name].outputs
    if not asked:
        return [Answer(name, datatypes.of(infos[name].dtype).name, array, _NOTHING) for name, array in outputs.items()]
    answers = []
    for name, parameters in asked:
        array = outputs[name]
        count = parameters.get(CLASSIFICATION) if parameters else None
        if count is None:
            answers.append(Answer(name, datatypes.of(infos[name].dtype).name, array, parameters))
        else:
            # The largest values of each row, [rows, count], or [count] of a model without rows: "value:index".
            if type(count) is not int or count < 1:
                raise InvalidArgumentError(
                    f"The parameter {CLASSIFICATION} of output '{name}' must be a number above 0."
                )
            if array.dtype.kind not in "fiu":
                raise InvalidArgumentError(f"The output '{name}' holds no numbers, which classification needs.")
            has_rows = servable.has_rows(request.signature_name)
            rows = array.reshape(len(array), -1) if has_rows and array.ndim else array.reshape(1, -1)
            # By falling value; of equal ones, the first wins.
            indices = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
            classes: Array = np.empty(indices.shape, object)
            for row, ranked in enumerate(indices.tolist()):
                classes[row] = [
                    f"{rows[row, index]:f}:{index}" if rows.dtype.kind == "f" else f"{rows[row, index]}:{index}"
                    for index in ranked
                ]
            answers.append(Answer(name, "BYTES", classes if has_rows else classes.reshape(-1), parameters))
    return answers
