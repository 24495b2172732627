"""Asks the served Titanic model over gRPC, with serialized tf.Examples.

python examples/titanic/client_grpc.py [localhost:8500]

Any client of TensorFlow Serving does as well; this one needs no TensorFlow.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import numpy as np

from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.services import SERVICES
from estimator_serving.wire.tensors import decode_tensor, encode_tensor

SERVICE = "tensorflow.serving.PredictionService"

# An Example's lists have types: numbers that the model takes as float are written as float.
PASSENGER = {
    "gender": "female",
    "age": 22.0,
    "class": "3rd",
    "embarked": "Southampton",
    "fare": 7.25,
    "sibsp": 1.0,
    "parch": 0.0,
}


def call(channel: grpc.Channel, method: str, request: Any) -> Any:
    """One rpc of PredictionService."""
    response = SERVICES[SERVICE][method].response
    return channel.unary_unary(f"/{SERVICE}/{method}", type(request).SerializeToString, response.FromString)(
        request, timeout=10
    )


def classify(channel: grpc.Channel, passenger: dict[str, Any]) -> Any:
    request = serving_pb.ClassificationRequest()
    request.model_spec.name = "titanic"
    request.input.example_list.examples.append(encode_example(passenger))
    return call(channel, "Classify", request).result


def predict(channel: grpc.Channel, passenger: dict[str, Any]) -> dict[str, Any]:
    request = serving_pb.PredictRequest()
    request.model_spec.name = "titanic"
    request.model_spec.signature_name = "predict"
    request.inputs["examples"].CopyFrom(encode_tensor(np.array([encode_example(passenger)], object)))
    outputs = call(channel, "Predict", request).outputs
    return {alias: decode_tensor(outputs[alias]) for alias in sorted(outputs)}


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:8500"
    with grpc.insecure_channel(address) as channel:
        print("classify:", classify(channel, PASSENGER))
        print("predict: ", predict(channel, PASSENGER))


if __name__ == "__main__":
    main()
