"""Answers a request message on a version that takes no traffic yet, the whole way from bytes to bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.services import SERVICES

_METHODS = SERVICES["tensorflow.serving.PredictionService"]


def answer(codecs: Mapping[str, Codec], rpc: str, request: Any, servable: Servable) -> Any:
    """The response message. Raises ServingError as the rpc would."""
    codec = codecs[rpc]
    decoded = codec.decode(codec.parse(request.SerializeToString(), None), servable)
    return _METHODS[rpc].response.FromString(codec.encode(servable.run(decoded), decoded, servable))
