"""A trained estimator and a serving input receiver -> a servable directory. Knows training; knows no server."""

from estimator_serving.exporter.export import export_saved_model
from estimator_serving.exporter.receivers import ServingInputReceiver, build_parsing_serving_input_receiver_fn
from estimator_serving.exporter.verify import ExportMismatch

__all__ = [
    "ExportMismatch",
    "ServingInputReceiver",
    "build_parsing_serving_input_receiver_fn",
    "export_saved_model",
]
