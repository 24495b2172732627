"""An ONNX model's file, read as far as it has to be known before a runtime opens it.

Owns a scan of ModelProto's wire format: versions, metadata, which inputs and outputs are no tensors, and every tensor
whose values lie in another file, wherever it hides (initializers, constants, subgraphs, functions, sparse tensors).
Values are skipped, not copied, so a file of gigabytes is read in an instant. The bytes are hostile: each length is
checked before it is believed.
Source: onnx.proto of ONNX 1.21 (field numbers).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

Buffer = bytes | mmap.mmap

NEEDS_ROWS_PROPERTY = "needs_rows"
"""In a model's metadata, "true" where the exporter saw that the graph fails on an input without an element."""

# On none, these end the process that ONNX Runtime 1.31 runs in: on no row, and GRU on no step, too.
_NEED_ROWS = frozenset({"LSTM", "GRU"})
# Messages inside messages; protobuf's own limit.
DEPTH_MAX = 100
WORDS_MAX = 1000
_VARINT_BYTES_MAX = 10
_EXTERNAL = 1  # TensorProto.DataLocation


class OnnxError(ValueError):
    """A file that is no ONNX model, or not a whole one."""


class ExternalTensor(NamedTuple):
    """A tensor whose values lie in another file, as the model says it: nothing of it is checked here."""

    name: str
    location: str
    offset: str
    length: str


@dataclass
class OnnxModel:
    """What a model's file says about itself.

    Attributes:
        ir_version: the version of the format.
        opsets: operator set versions by domain; "" is ONNX's own.
        metadata: the model's metadata_props.
        external: the tensors whose values lie in other files, in the file's order.
        others: the graph's inputs and outputs that are no tensors, by name, with what they are instead.
        needs_rows: whether it must never be run on an input without an element.
        words: texts in attributes and tensors, such as the keys of a look-up; at most WORDS_MAX.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    external: list[ExternalTensor] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    needs_rows: bool = False
    words: list[bytes] = field(default_factory=list)
    has_graph: bool = False


class _Field(NamedTuple):
    """One field: a number, or the bounds of its bytes."""

    number: int
    value: int
    start: int
    end: int


# Message type -> field number -> type of the message in that field: the ways to a tensor.
_PARTS = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}


def read_model(path: Path) -> OnnxModel:
    """What the model in a file says about itself.

    Raises OnnxError where the file is empty, cut or no ONNX model; OSError where it cannot be read.
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return parse_model(b"", path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return parse_model(buffer, path)


def parse_model(buffer: Buffer, path: Path) -> OnnxModel:
    """What a model says about itself, of the content of its file. Raises OnnxError, which names the file."""
    if not len(buffer):
        raise OnnxError(f"{path} is empty; export or copy the model again.")
    try:
        model = scan(buffer)
    except OnnxError as error:
        head = bytes(buffer[:16])
        raise OnnxError(f"{path} is no whole ONNX model ({error}); it begins with {head!r}.") from None
    if not model.has_graph or not model.ir_version:
        raise OnnxError(f"{path} is no ONNX model: it holds no graph; export or copy the model again.")
    return model


def scan(buffer: Buffer) -> OnnxModel:
    """What a serialized ModelProto says about itself. Raises OnnxError where it is cut or malformed."""
    model = OnnxModel()
    pending = [("Model", 0, len(buffer), 0)]
    while pending:
        kind, start, end, depth = pending.pop()
        if depth > DEPTH_MAX:
            raise OnnxError(f"more than {DEPTH_MAX} messages inside each other")
        parts = _PARTS[kind]
        for entry in _fields(buffer, start, end):
            if kind == "Model":
                _note_own(model, buffer, entry)
            elif kind == "Node" and entry.number == 4:
                model.needs_rows |= _text(buffer, entry) in _NEED_ROWS
            elif kind == "Attribute" and entry.number == 9 and len(model.words) < WORDS_MAX:
                model.words.append(bytes(buffer[entry.start : entry.end]))
            elif kind == "Graph" and depth == 1 and entry.number in (11, 12):
                _note_value(model, buffer, entry)
            part = parts.get(entry.number)
            if part == "Tensor":
                _note_tensor(model, buffer, entry)
            elif part is not None:
                pending.append((part, entry.start, entry.end, depth + 1))
    return model


def _note_own(model: OnnxModel, buffer: Buffer, entry: _Field) -> None:
    match entry.number:
        case 1:
            model.ir_version = entry.value
        case 7:
            model.has_graph = True
        case 8:
            domain, version = "", 0
            for part in _fields(buffer, entry.start, entry.end):
                if part.number == 1:
                    domain = _text(buffer, part)
                elif part.number == 2:
                    version = part.value
            model.opsets[domain] = version
        case 14:
            key, value = _pair(buffer, entry)
            model.metadata[key] = value
            model.needs_rows |= key == NEEDS_ROWS_PROPERTY and value == "true"


def _note_tensor(model: OnnxModel, buffer: Buffer, entry: _Field) -> None:
    name, is_external, places = "", False, {}
    for part in _fields(buffer, entry.start, entry.end):
        if part.number == 8:
            name = _text(buffer, part)
        elif part.number == 13:
            key, value = _pair(buffer, part)
            places[key] = value
        elif part.number == 14:
            is_external = part.value == _EXTERNAL
        elif part.number == 6 and len(model.words) < WORDS_MAX:
            model.words.append(bytes(buffer[part.start : part.end]))
    if is_external or places:
        place: Callable[[str], str] = lambda key: places.get(key, "")  # noqa: E731
        model.external.append(ExternalTensor(name, place("location"), place("offset"), place("length")))


# Fields of TypeProto's choice; 1 is a tensor.
_KINDS = {4: "a sequence", 5: "a map", 7: "a value of a private type", 8: "a sparse tensor", 9: "an optional"}


def _note_value(model: OnnxModel, buffer: Buffer, entry: _Field) -> None:
    """An input or output of the graph, as a ValueInfoProto."""
    name = kind = ""
    for part in _fields(buffer, entry.start, entry.end):
        if part.number == 1:
            name = _text(buffer, part)
        elif part.number == 2:
            kind = next(
                (_KINDS[one.number] for one in _fields(buffer, part.start, part.end) if one.number in _KINDS), ""
            )
    if kind:
        model.others[name] = kind


def _pair(buffer: Buffer, entry: _Field) -> tuple[str, str]:
    """A StringStringEntryProto."""
    texts = {part.number: _text(buffer, part) for part in _fields(buffer, entry.start, entry.end) if part.number <= 2}
    return texts.get(1, ""), texts.get(2, "")


def _text(buffer: Buffer, entry: _Field) -> str:
    return bytes(buffer[entry.start : entry.end]).decode(errors="replace")


def _fields(buffer: Buffer, start: int, end: int) -> Iterator[_Field]:
    at = start
    while at < end:
        tag, at = _varint(buffer, at, end)
        number, wire_type = tag >> 3, tag & 7
        value, first = 0, at
        match wire_type:
            case 0:
                value, at = _varint(buffer, at, end)
            case 1:
                at += 8
            case 2:
                length, first = _varint(buffer, at, end)
                at = first + length
            case 5:
                at += 4
            case _:
                raise OnnxError(f"byte {first - 1} begins no field")
        if at > end:
            raise OnnxError(f"it ends inside the field at byte {first}")
        if not number:
            raise OnnxError(f"byte {first - 1} begins no field")
        yield _Field(number, value, first, at if wire_type == 2 else first)


def _varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(at, min(end, at + _VARINT_BYTES_MAX)):
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise OnnxError(f"it ends inside the number at byte {at}")
