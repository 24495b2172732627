"""Messages of the package `tensorflow`: Examples, tensors, signatures, status codes."""

from estimator_serving.wire.pb import load_messages

globals().update(
    load_messages(
        "tensorflow/core/example/feature.proto",
        "tensorflow/core/example/example.proto",
        "tensorflow/core/example/example_parser_configuration.proto",
        "tensorflow/core/framework/types.proto",
        "tensorflow/core/framework/tensor_shape.proto",
        "tensorflow/core/framework/tensor.proto",
        "tensorflow/core/protobuf/meta_graph.proto",
        "tensorflow/core/protobuf/error_codes.proto",
    )
)
