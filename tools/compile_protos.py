"""Compiles proto/ into wire/pb/: one FileDescriptorSet and a type stub for each package.

Owns the step from .proto text to what is committed. Knows nothing of how the messages are loaded (wire/pb does).
`--check` compiles aside and fails when what is committed differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTOR_SET = "descriptors.binpb"
# The stub of a package: the module of wire/pb that holds its messages.
MODULES = {
    "tensorflow": "tensorflow_pb",
    "tensorflow.boosted_trees": "boosted_trees_pb",
    "tensorflow.error": "tensorflow_pb",
    "tensorflow.serving": "serving_pb",
}
WELL_KNOWN = {
    ".google.protobuf.Any": "any_pb2.Any",
    ".google.protobuf.BoolValue": "wrappers_pb2.BoolValue",
    ".google.protobuf.Int64Value": "wrappers_pb2.Int64Value",
    ".google.protobuf.StringValue": "wrappers_pb2.StringValue",
}
SCALARS = {
    FieldDescriptorProto.TYPE_DOUBLE: "float",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_INT64: "int",
    FieldDescriptorProto.TYPE_UINT64: "int",
    FieldDescriptorProto.TYPE_INT32: "int",
    FieldDescriptorProto.TYPE_UINT32: "int",
    FieldDescriptorProto.TYPE_FIXED32: "int",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_STRING: "str",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_ENUM: "int",
}


def compile_descriptors() -> FileDescriptorSet:
    """Runs protoc over every file of proto/ and returns the set, imports included, in dependency order."""
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / DESCRIPTOR_SET
        arguments = [f"-I{ROOT / 'proto'}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", *arguments, *sources]) != 0:
            sys.exit("protoc refused proto/; its message above says which file and line.")
        return FileDescriptorSet.FromString(out.read_bytes())


def outputs(descriptors: FileDescriptorSet) -> dict[str, bytes]:
    """What wire/pb has to hold: file name -> content."""
    ours = [file for file in descriptors.file if file.package in MODULES]
    stubs = {
        f"{module}.pyi": stub(module, [file for file in ours if MODULES[file.package] == module]).encode()
        for module in sorted(set(MODULES.values()))
    }
    return {DESCRIPTOR_SET: descriptors.SerializeToString(deterministic=True), **stubs}


def stub(module: str, files: Iterable[FileDescriptorProto]) -> str:
    """The text of a module's .pyi."""
    lines = [
        "# Made by tools/compile_protos.py from proto/.",
        "from collections.abc import Iterable, Mapping",
        "",
        "from google.protobuf import any_pb2, wrappers_pb2",
        "from google.protobuf.internal import containers, enum_type_wrapper",
        "from google.protobuf.message import Message",
        "",
    ]
    if module != "tensorflow_pb":
        lines += ["from estimator_serving.wire.pb import tensorflow_pb", ""]
    for file in files:
        for enum in file.enum_type:
            lines += [*enum_lines(enum), ""]
        for message in file.message_type:
            lines += [*message_lines(message, f".{file.package}", module), ""]
    return "\n".join(lines).rstrip() + "\n"


def enum_lines(enum: EnumDescriptorProto) -> list[str]:
    return [f"{enum.name}: enum_type_wrapper.EnumTypeWrapper"]


def message_lines(message: DescriptorProto, scope: str, module: str) -> list[str]:
    full_name = f"{scope}.{message.name}"
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    lines = [f"class {message.name}(Message):"]
    for nested in message.nested_type:
        if not nested.options.map_entry:
            lines += indent(message_lines(nested, full_name, module))
    for enum in message.enum_type:
        lines += indent([*enum_lines(enum), *(f"{value.name}: int" for value in enum.value)])
    arguments = []
    for field in message.field:
        attribute, argument, settable = field_types(field, entries, module)
        lines += indent([f"{field.name}: {attribute}"] if settable else property_lines(field.name, attribute))
        arguments.append(f"{field.name}: {argument} | None = ...")
    star = ", *, " if arguments else ""
    return [*lines, f"    def __init__(self{star}{', '.join(arguments)}) -> None: ..."]


def property_lines(name: str, attribute: str) -> list[str]:
    return ["@property", f"def {name}(self) -> {attribute}: ..."]


def field_types(field: FieldDescriptorProto, entries: dict[str, DescriptorProto], module: str) -> tuple[str, str, bool]:
    """(type of the attribute, type of the constructor's argument, whether the attribute can be assigned)."""
    entry = entries.get(field.type_name.rsplit(".", 1)[-1])
    if entry is not None:
        key, value = (python_type(part, module) for part in entry.field)
        kind = "MessageMap" if entry.field[1].type == FieldDescriptorProto.TYPE_MESSAGE else "ScalarMap"
        return f"containers.{kind}[{key}, {value}]", f"Mapping[{key}, {value}]", False
    single = python_type(field, module)
    is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        kind = "RepeatedCompositeFieldContainer" if is_message else "RepeatedScalarFieldContainer"
        return f"containers.{kind}[{single}]", f"Iterable[{single}]", False
    return single, single, not is_message


def python_type(field: FieldDescriptorProto, module: str) -> str:
    if field.type != FieldDescriptorProto.TYPE_MESSAGE:
        return SCALARS[field.type]
    if field.type_name in WELL_KNOWN:
        return WELL_KNOWN[field.type_name]
    package = max((name for name in MODULES if field.type_name.startswith(f".{name}.")), key=len)
    local = field.type_name.removeprefix(f".{package}.")
    return local if MODULES[package] == module else f"{MODULES[package]}.{local}"


def indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def stale(files: dict[str, bytes], directory: Path) -> Iterator[str]:
    for name, content in files.items():
        path = directory / name
        if not path.exists() or path.read_bytes() != content:
            yield name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed; write nothing")
    arguments = parser.parse_args()
    directory = ROOT / "wire" / "pb"
    files = outputs(compile_descriptors())
    old = list(stale(files, directory))
    if arguments.check and old:
        sys.exit(
            f"wire/pb is older than proto/: {', '.join(old)} would change. Run `make proto` and commit the result."
        )
    if not arguments.check:
        for name in old:
            (directory / name).write_bytes(files[name])


if __name__ == "__main__":
    main()
