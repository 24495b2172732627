"""An ONNX model's file, read as far as it has to be known before a runtime opens it.

Owns what such a file says about itself: versions, metadata, which inputs and outputs are no tensors, and every tensor
whose values lie in another file, wherever it hides. The compiled module reads ModelProto's wire format, because a model
of trees has millions of fields.
Source: onnx.proto of ONNX 1.21 (field numbers).
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from estimator_serving.wire import native

Buffer = bytes | mmap.mmap

NEEDS_ROWS_PROPERTY = "needs_rows"
"""In a model's metadata, "true" where the exporter saw that the graph fails on an input without an element."""

# What an input or output may be instead of a tensor.
SEQUENCE, SEQUENCE_OF_MAPS, MAP, OPTIONAL = "a sequence", "a sequence of maps", "a map", "an optional"
SPARSE, PRIVATE = "a sparse tensor", "a value of a private type"


class OnnxError(ValueError):
    """A file that is no ONNX model, or not a whole one."""


class ExternalTensor(NamedTuple):
    """A tensor whose values lie in another file, as the model says it: nothing of it is checked here."""

    name: str
    location: str
    offset: str
    length: str


class Other(NamedTuple):
    """An input or output of the graph that is no tensor. kind: what it is instead, such as "a sequence"."""

    kind: str
    is_input: bool


@dataclass
class OnnxModel:
    """What a model's file says about itself.

    Attributes:
        ir_version: the version of the format.
        opsets: operator set versions by domain; "" is ONNX's own.
        metadata: the model's metadata_props.
        external: the tensors whose values lie in other files, in the file's order.
        others: the graph's inputs and outputs that are no tensors, by name.
        needs_rows: whether it must never be run on an input without an element.
        words: texts in attributes and tensors, such as the keys of a look-up; at most 1,000.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    external: list[ExternalTensor] = field(default_factory=list)
    others: dict[str, Other] = field(default_factory=dict)
    needs_rows: bool = False
    words: list[bytes] = field(default_factory=list)
    has_graph: bool = False


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


# What is wrong with a file, by native.read_onnx's number.
_FAULTS = {
    1: "byte {} begins no field",
    2: "it ends inside the field at byte {}",
    3: "it ends inside the number at byte {}",
    4: "more than 100 messages inside each other",
}
# Fields of TypeProto's choice; 1 is a tensor.
_KINDS = {4: SEQUENCE, 5: MAP, 7: PRIVATE, 8: SPARSE, 9: OPTIONAL}


# How ONNX Runtime's names of types begin, the longer ones first.
_NAMES = {"seq(map(": SEQUENCE_OF_MAPS, "seq(": SEQUENCE, "map(": MAP, "optional(": OPTIONAL, "sparse_tensor(": SPARSE}


def kind_of(onnx_type: str) -> str:
    """What a value of this type is, by ONNX Runtime's name of it, such as "a sequence"; "" for a tensor."""
    if onnx_type.startswith("tensor("):
        return ""
    return next((kind for start, kind in _NAMES.items() if onnx_type.startswith(start)), PRIVATE)


def scan(buffer: Buffer) -> OnnxModel:
    """What a serialized ModelProto says about itself. Raises OnnxError where it is cut or malformed."""
    fault, at, content = native.read_onnx(buffer)
    if content is None:
        raise OnnxError(_FAULTS[fault].format(at))
    ir_version, has_graph, needs_rows, opsets, metadata, external, others, words = content
    kinds = {
        name: Other(SEQUENCE_OF_MAPS if _KINDS.get(element) == MAP else _KINDS[kind], is_input)
        for name, is_input, kind, element in others
    }
    return OnnxModel(
        ir_version=ir_version,
        opsets=dict(opsets),
        metadata=dict(metadata),
        external=[ExternalTensor(*places) for places in external],
        others=kinds,
        needs_rows=needs_rows or (NEEDS_ROWS_PROPERTY, "true") in metadata,
        words=words,
        has_graph=has_graph,
    )
