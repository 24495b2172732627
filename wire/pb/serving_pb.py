"""Messages of the package `tensorflow.serving`: requests and responses of its services."""

from estimator_serving.wire.pb import load_messages

globals().update(
    load_messages(
        "tensorflow_serving/apis/model.proto",
        "tensorflow_serving/apis/predict.proto",
        "tensorflow_serving/apis/input.proto",
        "tensorflow_serving/apis/classification.proto",
        "tensorflow_serving/apis/regression.proto",
        "tensorflow_serving/apis/inference.proto",
        "tensorflow_serving/apis/get_model_metadata.proto",
        "tensorflow_serving/apis/get_model_status.proto",
        "tensorflow_serving/apis/model_management.proto",
        "tensorflow_serving/apis/logging.proto",
        "tensorflow_serving/apis/prediction_log.proto",
        "tensorflow_serving/config/log_collector_config.proto",
        "tensorflow_serving/config/logging_config.proto",
        "tensorflow_serving/config/file_system_storage_path_source.proto",
        "tensorflow_serving/config/model_server_config.proto",
        "tensorflow_serving/config/monitoring_config.proto",
        "tensorflow_serving/config/ssl_config.proto",
        "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
        "tensorflow_serving/util/status.proto",
    )
)
