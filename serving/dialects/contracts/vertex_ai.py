"""Vertex AI's contract: {"instances": […], "parameters": {…}} -> {"predictions": […]}, at routes the platform names.

Source: Google's requirements for containers that predict. `parameters` may choose a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from estimator_serving.serving.dialects.contracts.contract import Contract, media_type, select_signature
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import Context, Document, ModelSpec


class VertexAi(Contract):
    """The contract, for one model."""

    def asked(
        self, spec: ModelSpec | None, headers: Mapping[bytes, bytes], context: Context
    ) -> tuple[ModelSpec, Codec]:
        assert spec is not None, "this contract is for one model"
        media_type(headers, "application/json", ("application/json",))
        codec = self.codecs["predict"]
        return spec, codec._replace(parse=partial(parse, codec))


def parse(codec: Codec, payload: bytes, spec: ModelSpec | None) -> Document:
    """A body of TensorFlow Serving's, with the signature that its parameters choose."""
    document = codec.parse(payload, spec)
    # A body of nothing but numbers was read as a whole, and has no parameters.
    if not isinstance(document.content, dict):
        return document
    return document._replace(spec=select_signature(document.spec, document.content.get("parameters"), "parameters"))
