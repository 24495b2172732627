"""The services spoken here, as a table: service -> method -> request and response class. All are unary.

Holds names and messages; the transport that serves them is above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from google.protobuf.message import Message

from estimator_serving.wire.pb import POOL, serving_pb


class Method(NamedTuple):
    """The message classes of one rpc."""

    request: type[Message]
    response: type[Message]


def _methods(file: str, service: str) -> Mapping[str, Method]:
    descriptor = POOL.FindFileByName(file).services_by_name[service]
    return {
        method.name: Method(getattr(serving_pb, method.input_type.name), getattr(serving_pb, method.output_type.name))
        for method in descriptor.methods
    }


SERVICES: Mapping[str, Mapping[str, Method]] = {
    "tensorflow.serving.PredictionService": _methods(
        "tensorflow_serving/apis/prediction_service.proto", "PredictionService"
    ),
    "tensorflow.serving.ModelService": _methods("tensorflow_serving/apis/model_service.proto", "ModelService"),
}
