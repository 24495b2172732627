"""Reflection: services, whole files, and upstream's shapes."""

import subprocess
import sys

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from spoken import SERVICE


def reflect(channel, **question):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=10)
    return answer


def files_of(channel, symbol):
    answer = reflect(channel, file_containing_symbol=symbol)
    return [FileDescriptorProto.FromString(one) for one in answer.file_descriptor_response.file_descriptor_proto]


def test_reflection_lists_the_services(channel):
    listed = {one.name for one in reflect(channel, list_services="").list_services_response.service}
    assert listed == {
        SERVICE, "tensorflow.serving.PredictionService", "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "method"),
    [
        ("tensorflow.serving.PredictionService", "MultiInference"),
        ("tensorflow.serving.ModelService", "HandleReloadConfigRequest"),
        ("inference.GRPCInferenceService", "ModelStreamInfer"),
        ("grpc.health.v1.Health", "Watch"),
        ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
        ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
    ],
)
def test_reflection_gives_every_service_whole(channel, symbol, method):
    """What comes back has to link by itself: a client builds its pool of nothing else."""
    pool, files = DescriptorPool(), {file.name: file for file in files_of(channel, symbol)}

    def add(name):
        file = files.pop(name, None)
        if file is not None:
            for needed in file.dependency:
                add(needed)
            pool.Add(file)

    for name in list(files):
        add(name)
    assert method in pool.FindServiceByName(symbol).methods_by_name


def test_reflection_shows_upstreams_shapes(channel):
    """Examples are messages to clients, whatever they are here."""
    (file,) = (
        one
        for one in files_of(channel, "tensorflow.serving.Input")
        if one.name == "tensorflow_serving/apis/input.proto"
    )
    shapes = {
        (message.name, field.name): field.type_name
        for message in file.message_type
        for field in message.field
        if field.type == FieldDescriptorProto.TYPE_MESSAGE
    }
    assert shapes["ExampleList", "examples"] == ".tensorflow.Example"
    assert shapes["ExampleListWithContext", "examples"] == ".tensorflow.Example"
    assert shapes["ExampleListWithContext", "context"] == ".tensorflow.Example"


def test_reflection_of_an_unknown_symbol(channel):
    answer = reflect(channel, file_containing_symbol="no.Such")
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize(
    "theirs",
    ["import tritonclient.grpc", "import tensorboard.compat.proto.summary_pb2", "import ovmsclient",
     "from grpc_health.v1 import health_pb2; from grpc_reflection.v1alpha import reflection_pb2"],
)  # fmt: skip
@pytest.mark.parametrize("ours_first", [True, False])
def test_lives_beside_other_packages_messages(theirs, ours_first):
    """health and reflection come with modules in the pool that the whole process shares."""
    ours = (
        "import estimator_serving.serving.grpc.server, estimator_serving.serving.grpc.reflection as r; r.shown_pool()"
    )
    code = "\n".join([ours, theirs] if ours_first else [theirs, ours])
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
