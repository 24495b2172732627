"""grpc's server reflection: what tools such as grpcurl ask to learn the services and their messages.

Owns the pool of descriptors that is shown: those of `wire.services`, of health, and of reflection itself in both
versions. Where our messages carry another one's bytes along, the shown ones have upstream's shapes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
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
    """ServerReflectionInfo for these services. admit: ends a call of an unknown caller."""

    def __init__(
        self, services: Collection[str], admit: Callable[[grpc.ServicerContext], None] = lambda _call: None
    ) -> None:
        self._admit = admit
        self._servicer = ReflectionServicer([*services, *NAMES], pool=shown_pool())
        self._open: set[grpc.ServicerContext] = set()
        self._lock = threading.Lock()

    def handlers(self, on_threads: Callable[[Any], Any]) -> Mapping[str, Any]:
        """grpc's handlers by the full name of the method. on_threads: gives a stream's behaviour the threads it has."""

        def info(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            self._admit(context)
            with self._lock:
                self._open.add(context)
            try:
                yield from self._servicer.ServerReflectionInfo(requests, context)
            finally:
                with self._lock:
                    self._open.discard(context)

        handler = grpc.stream_stream_rpc_method_handler(
            on_threads(info),
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return {f"/{name}/ServerReflectionInfo": handler for name in NAMES}

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
    # The v1 file of reflection differs from v1alpha's only in its names.
    stable = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(stable)
    stable.name, stable.package = "grpc/reflection/v1/reflection.proto", _STABLE
    for message in stable.message_type:
        for field in (one for one in message.field if one.type_name):
            field.type_name = field.type_name.replace(f".{_ALPHA}.", f".{_STABLE}.")
    for method in stable.service[0].method:
        method.input_type = method.input_type.replace(f".{_ALPHA}.", f".{_STABLE}.")
        method.output_type = method.output_type.replace(f".{_ALPHA}.", f".{_STABLE}.")
    pool.Add(stable)
    return pool


def _add(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    """Add a file after everything it imports, with upstream's shapes of Examples."""
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add(pool, imported, added)
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    shapes = _EXAMPLES.get(proto.name, {})
    if shapes:
        proto.dependency.append(_EXAMPLE_FILE)
    for message in proto.message_type:
        for field in message.field:
            if field.name in shapes.get(message.name, ()):
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = ".tensorflow.Example"
    pool.Add(proto)
