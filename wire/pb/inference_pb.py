"""Messages of the package `inference`: the Open Inference Protocol, with Triton's extensions."""

from estimator_serving.wire.pb import load_messages

globals().update(load_messages("inference/model_config.proto", "inference/grpc_service.proto"))
