"""grpc's server reflection: what tools such as grpcurl ask to learn the services and their messages.

Owns the pool of descriptors that is shown. It is ours with upstream's shapes put back where a message only carries
another one's bytes along, and with the services that are not ours: health, and reflection itself in both versions.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from estimator_serving.wire.pb import POOL
from estimator_serving.wire.services import SERVICES

_ALPHA = "grpc.reflection.v1alpha"
# The same messages under a later name, which newer clients ask for first.
_STABLE = "grpc.reflection.v1"
_SERVICE = "ServerReflection"
NAMES = (f"{_ALPHA}.{_SERVICE}", f"{_STABLE}.{_SERVICE}")

_EXAMPLE_FILE = "tensorflow/core/example/example.proto"
# Fields that are declared as bytes here and as tensorflow.Example upstream: file -> message -> fields.
_EXAMPLES = {
    "tensorflow_serving/apis/input.proto": {
        "ExampleList": {"examples"},
        "ExampleListWithContext": {"examples", "context"},
    }
}


class Reflection:
    """ServerReflectionInfo for these services. A stream holds a thread while it is open, so it has its own few."""

    def __init__(self, services: Collection[str]) -> None:
        self._servicer = ReflectionServicer([*services, *NAMES], pool=shown_pool())
        self._open: set[grpc.ServicerContext] = set()
        self._lock = threading.Lock()

    def handlers(self, pool: ThreadPoolExecutor) -> list[Any]:
        """grpc's handlers, one for each name of the service."""

        def info(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            with self._lock:
                self._open.add(context)
            try:
                yield from self._servicer.ServerReflectionInfo(requests, context)
            finally:
                with self._lock:
                    self._open.discard(context)

        info.experimental_thread_pool = pool  # type: ignore[attr-defined]
        handler = grpc.stream_stream_rpc_method_handler(
            info,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}) for name in NAMES]

    def stop(self) -> None:
        """End the streams that are open: an idle one would hold up the server's end."""
        with self._lock:
            contexts = list(self._open)
        for context in contexts:
            context.cancel()


def shown_pool() -> DescriptorPool:
    """The descriptors as upstream's clients know them."""
    pool = DescriptorPool()
    added: set[str] = set()
    ours = [POOL.FindFileByName(_EXAMPLE_FILE), *(POOL.FindFileContainingSymbol(name) for name in SERVICES)]
    for file in [*ours, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]:
        _add(pool, file, added)
    pool.Add(_stable_reflection())
    return pool


def _add(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    """Add a file behind all it imports."""
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add(pool, imported, added)
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    _put_examples_back(proto)
    pool.Add(proto)


def _put_examples_back(proto: FileDescriptorProto) -> None:
    shapes = _EXAMPLES.get(proto.name, {})
    if shapes:
        proto.dependency.append(_EXAMPLE_FILE)
    for field in _fields(proto, shapes):
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = ".tensorflow.Example"


def _fields(proto: FileDescriptorProto, shapes: dict[str, set[str]]) -> Iterable[FieldDescriptorProto]:
    return (
        field for message in proto.message_type for field in message.field if field.name in shapes.get(message.name, ())
    )


def _stable_reflection() -> FileDescriptorProto:
    """The v1 file of reflection, made from v1alpha's: it differs in its names alone."""
    proto = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(proto)
    proto.name, proto.package = "grpc/reflection/v1/reflection.proto", _STABLE
    for message in proto.message_type:
        for field in (one for one in message.field if one.type_name):
            field.type_name = field.type_name.replace(f".{_ALPHA}.", f".{_STABLE}.")
    for method in proto.service[0].method:
        method.input_type = method.input_type.replace(f".{_ALPHA}.", f".{_STABLE}.")
        method.output_type = method.output_type.replace(f".{_ALPHA}.", f".{_STABLE}.")
    return proto
