"""The Open Inference dialect as the fronts see it: one object that answers its URLs and its rpcs.

Owns which headers of a request count and which an answer carries, and the statuses of its errors. The grammar of URLs
is in `rest`, the rpcs are in `grpc`, bodies and messages in the codecs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from estimator_serving.serving.dialects.base import (
    JSON,
    Headers,
    HttpError,
    Reply,
    Streaming,
    Target,
    Unary,
    error_reply,
)
from estimator_serving.serving.dialects.http_status import HTTP_STATUS
from estimator_serving.serving.dialects.oip import compression, document, grpc, infer, rest
from estimator_serving.serving.dialects.oip.describe import Models
from estimator_serving.serving.dialects.oip.json_codec import Exchange
from estimator_serving.serving.dialects.oip.repository import Repository
from estimator_serving.serving.dialects.oip.shared_memory import Regions
from estimator_serving.serving.errors import Code, NotFoundError, ServingError
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.request import Context
from estimator_serving.serving.routing import Route

# Triton's statuses, where they differ from the canonical ones.
STATUSES = {**HTTP_STATUS, Code.ALREADY_EXISTS: 400, Code.CANCELLED: 400, Code.UNKNOWN: 400}
_JSON_LENGTH = b"inference-header-content-length"
_ACCEPTED = b"accept-encoding"
_BINARY = b"application/octet-stream"


class OpenInference:
    """The dialect over one predictor.

    regions: the registered shared memory. unready: why requests cannot be answered now, empty when they can.
    headers: what each answer carries.
    """

    prefix = rest.PREFIX
    pages = rest.PAGES
    header_names = frozenset({_JSON_LENGTH, _ACCEPTED})

    def __init__(
        self,
        predictor: Predictor,
        models: Models,
        repository: Repository,
        regions: Regions,
        unready: Callable[[], str],
        *,
        headers: Headers = (),
    ) -> None:
        self._predictor = predictor
        self._calls = rest.Calls(models, repository, regions, unready)
        self._headers = headers

    def claims(self, method: bytes, path: bytes) -> Target | None:
        return rest.find_target(method, path)

    def infer(
        self, target: Target, route: Route | None, headers: Mapping[bytes, bytes], body: bytes, context: Context
    ) -> Reply:
        if target.spec is None:
            # As it is, even if the client says that it accepts compression: Triton's aio client then cannot read it.
            reply = self._calls.answer("POST", target.action, context, body)
            return reply._replace(headers=self._headers + reply.headers)
        exchange = Exchange(headers.get(_JSON_LENGTH), self._calls.regions)
        try:
            answer = self._predictor.predict(exchange.codec(), body, route, context)
        except NotFoundError:
            raise infer.unknown_model(target.spec) from None
        if exchange.json_bytes is None:
            reply = Reply(200, JSON, answer.payload, self._headers)
        else:
            length = (_JSON_LENGTH, b"%d" % exchange.json_bytes)
            reply = Reply(200, _BINARY, answer.payload, (*self._headers, length))
        accepted = headers.get(_ACCEPTED)
        return reply if accepted is None else compression.compressed(reply, accepted)

    def describe(self, method: str, path: str, headers: Mapping[bytes, bytes], context: Context) -> Reply:
        reply = self._calls.answer(method, path, context)
        return reply._replace(headers=self._headers + reply.headers)

    def operations(self) -> Mapping[str, Any]:
        return document.operations(self._predictor.manager)

    def refuse(self, error: ServingError | HttpError) -> Reply:
        return error_reply(error, self._headers, STATUSES)

    def services(self) -> Mapping[str, Unary | Streaming]:
        return grpc.Rpcs(self._predictor, *self._calls).services()
