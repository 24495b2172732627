"""Messages of the package `tensorflow`: Examples, tensors, signatures, graphs, checkpoints, status codes."""

from estimator_serving.wire.pb import load_messages

globals().update(
    load_messages(
        "tensorflow/core/example/feature.proto",
        "tensorflow/core/example/example.proto",
        "tensorflow/core/example/example_parser_configuration.proto",
        "tensorflow/core/framework/types.proto",
        "tensorflow/core/framework/tensor_shape.proto",
        "tensorflow/core/framework/tensor.proto",
        "tensorflow/core/framework/tensor_slice.proto",
        "tensorflow/core/framework/versions.proto",
        "tensorflow/core/framework/attr_value.proto",
        "tensorflow/core/framework/node_def.proto",
        "tensorflow/core/framework/op_def.proto",
        "tensorflow/core/framework/function.proto",
        "tensorflow/core/framework/graph.proto",
        "tensorflow/core/framework/variable.proto",
        "tensorflow/core/protobuf/saver.proto",
        "tensorflow/core/protobuf/tensor_bundle.proto",
        "tensorflow/core/protobuf/trackable_object_graph.proto",
        "tensorflow/core/protobuf/saved_object_graph.proto",
        "tensorflow/core/protobuf/meta_graph.proto",
        "tensorflow/core/protobuf/saved_model.proto",
        "tensorflow/core/protobuf/error_codes.proto",
    )
)
