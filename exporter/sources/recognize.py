"""Which source a model belongs to.

Owns the table of libraries. A new library gets a row here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import onnx

from estimator_serving.exporter.sources.base import Source
from estimator_serving.exporter.sources.catboost import CatBoostSource
from estimator_serving.exporter.sources.keras import KerasSource, load_keras
from estimator_serving.exporter.sources.lightgbm import LightGbmSource
from estimator_serving.exporter.sources.onnx import OnnxSource
from estimator_serving.exporter.sources.sklearn import SklearnSource
from estimator_serving.exporter.sources.torch import TorchSource
from estimator_serving.exporter.sources.xgboost import XgBoostSource

# By the package that a model's class, or a class above it, comes from. The first that fits: boosters derive from
# scikit-learn's classes, Keras models from torch's. None of these modules imports its library before it has a model.
_SOURCES: Mapping[str, Callable[[Any], Source]] = {
    "lightgbm": LightGbmSource,
    "xgboost": XgBoostSource,
    "catboost": CatBoostSource,
    "keras": KerasSource,
    "torch": TorchSource,
    "sklearn": SklearnSource,
}


def recognize(model: Any) -> Source:
    """The source of a model. Raises TypeError for a model of no known library, and what the source refuses."""
    if isinstance(model, str | os.PathLike) and os.fspath(model).endswith((".keras", ".h5", ".hdf5")):
        return KerasSource(load_keras(model))
    if isinstance(model, onnx.ModelProto | bytes | str | os.PathLike):
        return OnnxSource(model)
    packages = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    for package, source in _SOURCES.items():
        if package in packages:
            return source(model)
    raise TypeError(
        f"export_model takes a scikit-learn, XGBoost, LightGBM, CatBoost, torch, Keras or ONNX model; "
        f"got {type(model).__name__}. Convert it to ONNX with its own tools and pass the file."
    )
