"""What the interactive docs say about the models that are loaded: parts of an OpenAPI document, and sample values.

Owns the forms that every dialect's operations share, and requests that a signature's own inputs suggest. Knows no URL.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.request import Array, as_strings
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import ExampleError, FeatureSpec, FixedLenFeature, VarLenFeature

# An operation or a schema, as OpenAPI writes it.
Object = dict[str, Any]

ERROR: Object = {
    "description": "An error, with its reason",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}
# What any call may answer beside its success.
ERRORS: dict[int | str, Object] = {"4XX": ERROR, "501": ERROR, "503": ERROR, "504": ERROR}


def post(
    tag: str, summary: str, contents: Mapping[str, Object], answers: Sequence[str] = ("application/json",)
) -> Object:
    """A path whose POST takes these media types, by schema and example."""
    succeeded = {"description": "The answer", "content": {media_type: {} for media_type in answers}}
    return {
        "post": {
            "tags": [tag],
            "summary": summary,
            "requestBody": {"required": True, "content": dict(contents)},
            "responses": {"200": succeeded} | ERRORS,
        }
    }


def newest(manager: Manager) -> Iterator[Servable]:
    """The version of each model that answers where a request names none, by the models' names."""
    by_name: dict[str, Servable] = {}
    for servable in manager.servables():
        known = by_name.get(servable.name)
        if known is None or known.version < servable.version:
            by_name[servable.name] = servable
    for name in sorted(by_name):
        yield by_name[name]


def sample_features(spec: FeatureSpec) -> dict[str, list[Any]]:
    """Features that a spec asks for, in the form of an Example's lists; those that need none are left out."""
    features = {}
    for name, feature in spec.items():
        if isinstance(feature, FixedLenFeature):
            features[name] = [_sample(feature.dtype)] * math.prod(feature.shape)
        elif isinstance(feature, VarLenFeature):
            features[name] = [_sample(feature.dtype)]
    return features


def sample_inputs(servable: Servable, signature_name: str) -> dict[str, Array] | None:
    """One row for each input, strings as bytes. None if its Examples' features are not known."""
    inputs = {}
    for alias, info in servable.signatures[signature_name].inputs.items():
        if not servable.takes_examples(signature_name, alias):
            # One along each dimension that is open.
            shape = [1 if length < 0 else length for length in info.shape or (1,)]
            text = as_strings([b"text"] * math.prod(shape)).reshape(shape) if info.dtype.is_string else None
            inputs[alias] = np.ones(shape, info.dtype.numpy) if text is None else text
        elif servable.encoder is None or servable.feature_spec is None:
            return None
        else:
            try:
                inputs[alias] = as_strings([servable.encoder.encode(sample_features(servable.feature_spec))])
            except ExampleError:
                return None
    return inputs


def _sample(dtype: DType) -> Any:
    return "text" if dtype.is_string else 1.0 if dtype.numpy.kind == "f" else 1
