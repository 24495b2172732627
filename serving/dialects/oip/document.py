"""Inferences of the loaded models, as the interactive docs show them, with bodies that work when they are sent."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import numpy as np

from estimator_serving.serving.dialects import openapi
from estimator_serving.serving.dialects.oip import datatypes, infer
from estimator_serving.serving.errors import UnimplementedError
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.running.servable import Servable

TAG = "Open Inference Protocol"
_PARAMETERS: openapi.Object = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}


def operations(manager: Manager) -> dict[str, openapi.Object]:
    """Path -> its operation, for each model."""
    paths = {}
    for servable in openapi.newest(manager):
        content: openapi.Object = {"schema": _schema(servable)}
        body = _body(servable)
        if body is not None:
            content["example"] = body
        paths[f"/v2/models/{quote(servable.name, safe='')}/infer"] = openapi.post(
            TAG,
            f"Inference by {servable.name}",
            {"application/json": content, "application/octet-stream": {}},
            ("application/json", "application/octet-stream"),
        )
    return paths


def _schema(servable: Servable) -> openapi.Object:
    """The requests that the default signature takes."""
    signature = servable.signatures[infer.default_signature(servable)]
    return {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "shape", "datatype"],
                    "additionalProperties": False,
                    "properties": {
                        "name": {"enum": sorted(signature.inputs)},
                        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                        "datatype": {"enum": sorted(datatypes.NAMES)},
                        "parameters": _PARAMETERS,
                        "data": {"type": "array"},
                    },
                },
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "additionalProperties": False,
                    "properties": {"name": {"enum": sorted(signature.outputs)}, "parameters": _PARAMETERS},
                },
            },
        },
    }


def _body(servable: Servable) -> Any:
    """A request of one row; None if JSON has no form for it, or if its values cannot be told."""
    signature_name = infer.default_signature(servable)
    signature = servable.signatures[signature_name]
    inputs = openapi.sample_inputs(servable, signature_name)
    try:
        kinds = [datatypes.of(info.dtype) for info in (*signature.inputs.values(), *signature.outputs.values())]
    except UnimplementedError:
        return None
    if inputs is None or not all(kind.contents for kind in kinds):
        return None
    tensors = []
    for name, array in inputs.items():
        datatype = datatypes.of(signature.inputs[name].dtype).name
        tensor: openapi.Object = {"name": name, "shape": list(array.shape), "datatype": datatype}
        if servable.takes_examples(signature_name, name):
            tensor["parameters"] = {"content_type": "base64"}
            tensor["data"] = [base64.b64encode(value).decode() for value in array.ravel()]
        else:
            tensor["data"] = (
                [value.decode() for value in array.ravel()] if array.dtype == np.object_ else array.ravel().tolist()
            )
        tensors.append(tensor)
    return {"id": "1", "inputs": tensors}
