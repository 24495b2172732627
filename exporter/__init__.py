"""A trained estimator and a serving input receiver -> a servable directory. Knows training; knows no server."""

from estimator_serving import training as _training  # noqa: F401 - says which package is missing

# isort: split
from estimator_serving.exporter.export import export_all_saved_models, export_saved_model
from estimator_serving.exporter.other_models import export_model
from estimator_serving.exporter.receivers.receivers import (
    ReceiverTensor,
    ServingInputReceiver,
    SupervisedInputReceiver,
    TensorServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    build_raw_supervised_input_receiver_fn,
    parse_example,
    placeholder,
)
from estimator_serving.exporter.servable.options import ExportOptions
from estimator_serving.exporter.servable.verify import ExportMismatch
from estimator_serving.exporter.sources.saved_model import SavedModelError, UnsupportedOps, import_saved_model
from estimator_serving.training.columns.padding import Padded

__all__ = [
    # exports
    "ExportMismatch",
    "ExportOptions",
    "SavedModelError",
    "UnsupportedOps",
    "export_all_saved_models",
    "export_model",
    "export_saved_model",
    "import_saved_model",
    # receivers
    "Padded",
    "ReceiverTensor",
    "ServingInputReceiver",
    "SupervisedInputReceiver",
    "TensorServingInputReceiver",
    "build_parsing_serving_input_receiver_fn",
    "build_raw_serving_input_receiver_fn",
    "build_raw_supervised_input_receiver_fn",
    "parse_example",
    "placeholder",
]
