"""forward_features: instance keys that pass through a model to its predictions.

Owns the wrapping of an estimator's model_fn. Knows nothing of graphs; under export a forwarded feature is a marker that
the exporter replaces by the feature itself.
Source: tf.contrib.estimator.forward_features (TF 1.15).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from estimator_serving.training.arrays import as_text
from estimator_serving.training.columns.features import Features
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.model_fn import (
    EstimatorSpec,
    ModeKeys,
    Prediction,
    PredictOutput,
    StringPrediction,
)


@dataclass(frozen=True, slots=True)
class ForwardedFeature(StringPrediction):
    """A feature as a prediction, under export. `default` fills the rows of a feature with any number of values."""

    key: str
    default: Any = None


def forward_features(
    estimator: Estimator,
    keys: str | Sequence[str] | None = None,
    sparse_default_values: Mapping[str, Any] | None = None,
) -> Estimator:
    """The same trained estimator, with features among its predictions: an id that clients send comes back.

    Args:
        estimator: any estimator; the new one shares its model_dir, config and params.
        keys: the features to forward; None for all.
        sparse_default_values: for features with any number of values a row (VarLenFeature): what fills up the rows.

    Returns:
        An estimator whose `predict` yields the features under their keys, and whose exports have them in the outputs
        of every predict signature.

    Raises TypeError for keys of another type, ValueError for an unknown key in sparse_default_values, and at the first
    prediction ValueError for a key that is no feature or is a prediction already.
    """
    wanted = [keys] if isinstance(keys, str) else keys
    _check_keys(wanted)
    defaults = dict(sparse_default_values or {})
    if wanted is not None and (unknown := sorted(set(defaults) - set(wanted))):
        raise ValueError(f"sparse_default_values has the keys {unknown}, which are not forwarded; add them to keys.")
    original = estimator.model_fn

    def model_fn(features: Any, labels: Any, mode: str, config: Any) -> EstimatorSpec:
        spec = original(features, labels, mode, config)
        if mode != ModeKeys.PREDICT:
            return spec
        _check_spec(spec, features)
        chosen = list(features) if wanted is None else wanted
        return _extended(spec, {key: _read(features, key, defaults.get(key)) for key in chosen})

    return Estimator(model_fn, config=estimator.config)


def _check_keys(keys: Sequence[str] | None) -> None:
    if keys is None:
        return
    if not isinstance(keys, list | tuple):
        raise TypeError(f"keys should be either a string or a list of strings. Given: {type(keys)}")
    if not all(isinstance(key, str) for key in keys):
        raise TypeError(f"All items in the given keys list should be a string. Given: {keys}")


def _check_spec(spec: EstimatorSpec, features: Any) -> None:
    if not isinstance(spec.predictions, Mapping):
        raise ValueError(
            "Predictions should be a dict to be able to forward features. "
            f"Given: {type(spec.predictions)}. Return them by name."
        )
    if not isinstance(features, Mapping):
        raise ValueError(
            f"Features should be a dict to be able to forward them. Given: {type(features)}. Let input_fn name them."
        )


def _extended(spec: EstimatorSpec, forwarded: Mapping[str, Prediction]) -> EstimatorSpec:
    predictions = spec.predictions
    assert isinstance(predictions, Mapping)
    for key in forwarded:
        if key in predictions:
            raise ValueError(
                f"Cannot forward feature key ({key}). Since it does exist in predictions. "
                f"Existing prediction keys: ({list(predictions)}). Please use `keys` argument of forward_features to "
                "filter unwanted features."
            )
    exports = {
        name: PredictOutput({**dict(output.outputs), **forwarded}) if type(output) is PredictOutput else output
        for name, output in (spec.export_outputs or {}).items()
    }
    return replace(spec, predictions={**predictions, **forwarded}, export_outputs=exports)


def _read(features: Mapping[str, Any], key: str, default: Any) -> Prediction:
    if isinstance(features, Features) and features.is_traced:
        return ForwardedFeature(torch.zeros(0), (), key, default)
    pair = f"{key}/values"
    if key not in features and pair in features:
        return _padded(features, key, default)
    if key not in features:
        raise ValueError(
            f"keys should be feature names. Given: {key}, and the features are {sorted(map(str, features))}. "
            "Send it as a feature, or leave it out of keys."
        )
    return _prediction(features[key])


def _padded(features: Mapping[str, Any], key: str, default: Any) -> Prediction:
    if default is None:
        raise ValueError(
            f"Feature ({key}) should be a Tensor. Please use `keys` argument of forward_features to filter unwanted "
            "features, or add key to argument `sparse_default_values`."
        )
    values, lengths = np.array(features[f"{key}/values"]), np.asarray(features[f"{key}/lengths"])
    values[np.arange(values.shape[1]) >= lengths[:, None]] = default
    return _prediction(values)


def _prediction(value: Any) -> Prediction:
    """Numbers as they are; words as ids into the words of this batch."""
    if isinstance(value, torch.Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "OSUT":
        return torch.from_numpy(array)
    words, ids = np.unique(as_text(array, "forwarded").astype(str), return_inverse=True)
    return StringPrediction(torch.from_numpy(ids.reshape(array.shape)), tuple(words.tolist()))
