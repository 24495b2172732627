"""TensorFlow Serving's inferences of the loaded models, as the interactive docs show them, with bodies that work."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import numpy as np

from estimator_serving.serving.dialects import openapi
from estimator_serving.serving.dialects.tfs import json_tensor
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.request import DEFAULT_SIGNATURE
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.signatures import CLASSIFY_INPUTS, CLASSIFY_METHOD, REGRESS_METHOD

TAG = "TensorFlow Serving"
_VERBS = {CLASSIFY_METHOD: "classify", REGRESS_METHOD: "regress"}


def operations(manager: Manager) -> dict[str, openapi.Object]:
    """Path -> its operation, for the default signature of each model."""
    paths = {}
    for servable in openapi.newest(manager):
        url = f"/v1/models/{quote(servable.name, safe='')}"
        signature = servable.signatures.get(DEFAULT_SIGNATURE)
        if signature is None:
            continue
        paths[f"{url}:predict"] = _post(servable, "predict", _predict_body(servable))
        verb = _VERBS.get(signature.method_name)
        if verb and set(signature.inputs) == {CLASSIFY_INPUTS} and servable.feature_spec is not None:
            body = {"examples": [openapi.sample_features(servable.feature_spec)]}
            paths[f"{url}:{verb}"] = _post(servable, verb, body)
    return paths


def _post(servable: Servable, verb: str, body: Any) -> openapi.Object:
    content: openapi.Object = {"schema": {"type": "object"}}
    if body is not None:
        content["example"] = body
    return openapi.post(TAG, f"{verb.capitalize()} by {servable.name}", {"application/json": content})


def _predict_body(servable: Servable) -> Any:
    """A body in rows; in columns, if the signature has no rows. None if there is no telling."""
    inputs = openapi.sample_inputs(servable, DEFAULT_SIGNATURE)
    if inputs is None:
        return None
    signature = servable.signatures[DEFAULT_SIGNATURE]
    infos = signature.inputs
    if len(infos) == 1 and servable.feature_spec is not None and servable.takes_examples(DEFAULT_SIGNATURE, *infos):
        return {"instances": [openapi.sample_features(servable.feature_spec)]}
    columns = {}
    try:
        for alias, array in inputs.items():
            shown = array
            if array.dtype == object:
                shown = np.array([value.decode("latin-1") for value in array.ravel()], object).reshape(array.shape)
            columns[alias] = json_tensor.to_json(shown, alias.removesuffix("_bytes"))
    except ServingError:
        return None
    shapes = [info.shape for info in (*infos.values(), *signature.outputs.values())]
    if not servable.has_rows(DEFAULT_SIGNATURE) or None in shapes:
        return {"inputs": columns}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {"instances": rows}
