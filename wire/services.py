"""The services spoken here, as a table: service -> method -> request and response class.

Holds names and messages; the transport that serves them is above.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

from google.protobuf.message import Message

from estimator_serving.wire.pb import POOL, inference_pb, serving_pb


class Method(NamedTuple):
    """The message classes of one rpc. is_stream: whether requests and responses are streams."""

    request: type[Message]
    response: type[Message]
    is_stream: bool = False


def _methods(file: str, service: str, messages: ModuleType = serving_pb) -> Mapping[str, Method]:
    descriptor = POOL.FindFileByName(file).services_by_name[service]
    return {
        method.name: Method(
            getattr(messages, method.input_type.name),
            getattr(messages, method.output_type.name),
            method.server_streaming,
        )
        for method in descriptor.methods
    }


SERVICES: Mapping[str, Mapping[str, Method]] = {
    "tensorflow.serving.PredictionService": _methods(
        "tensorflow_serving/apis/prediction_service.proto", "PredictionService"
    ),
    "tensorflow.serving.ModelService": _methods("tensorflow_serving/apis/model_service.proto", "ModelService"),
    "inference.GRPCInferenceService": _methods("inference/grpc_service.proto", "GRPCInferenceService", inference_pb),
}
