"""TensorFlow SavedModels as a source of servables, read without TensorFlow.

Owns everything between `saved_model.pb` and a graph of ONNX's and this project's ops. Knows no estimator.
"""

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError, UnsupportedOps
from estimator_serving.exporter.sources.saved_model.importer import import_saved_model

__all__ = ["SavedModelError", "UnsupportedOps", "import_saved_model"]
