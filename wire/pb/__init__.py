"""The project's protobuf messages, in one descriptor pool of their own.

Owns the pool and the step from descriptors to message classes; what the messages mean is the business of the modules
beside this package. The pool is private because the default one is shared by the whole process: `tensorflow.Example`
registered there by us would crash the import of TensorFlow, tritonclient or kserve, or ours after theirs.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def _load_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    content = (resources.files(__name__) / "descriptors.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    return pool


POOL = _load_pool()


def load_messages(*files: str) -> dict[str, Any]:
    """The message classes and enums that these .proto files declare at top level, by their short names."""
    names: dict[str, Any] = {}
    for file in files:
        descriptor = POOL.FindFileByName(file)
        for name, message in descriptor.message_types_by_name.items():
            names[name] = message_factory.GetMessageClass(message)
        for name, enum in descriptor.enum_types_by_name.items():
            names[name] = EnumTypeWrapper(enum)
    return names
