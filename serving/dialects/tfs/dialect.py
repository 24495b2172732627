"""TensorFlow Serving's dialect as the fronts see it: one object that answers its URLs and its rpcs.

Owns what an operator chose for the whole dialect: options of answers, and headers for browsers. The grammar of URLs is
in `rest`, the rpcs are in `grpc`, bodies and messages in the codecs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from estimator_serving.serving.dialects.base import (
    CORS,
    JSON,
    Headers,
    HttpError,
    Reply,
    Streaming,
    Target,
    Unary,
    error_reply,
)
from estimator_serving.serving.dialects.tfs import document, grpc, json_codec, rest
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.request import PATIENT, Context
from estimator_serving.serving.routing import Route


class TensorFlowServing:
    """The dialect over one predictor.

    cors: whether browsers may ask from other sites.
    reload: the answer to HandleReloadConfigRequest; without one, it is UNIMPLEMENTED.
    kserve: whether KServe v1's clients are answered too; their URLs are this dialect's.
    """

    prefix = rest.PREFIX
    header_names: frozenset[bytes] = frozenset()

    def __init__(
        self,
        predictor: Predictor,
        options: Options = DEFAULT,
        *,
        cors: bool = False,
        reload: Callable[[bytes, Context], bytes] | None = None,
        kserve: bool = False,
    ) -> None:
        self.pages = (*rest.PAGES, *(rest.KSERVE_PAGES if kserve else ()))
        self._kserve = kserve
        self._predictor = predictor
        self._codecs = json_codec.codecs(options)
        self._options = options
        self._reload = reload
        self._headers = CORS if cors else ()

        # Of each version, the headers of its answers. Not TensorFlow Serving's: one says which version answered.
        @lru_cache(maxsize=1024)
        def headers_of(version: int) -> Headers:
            return (*self._headers, (b"x-model-version", b"%d" % version))

        self._headers_of = headers_of

    def claims(self, method: bytes, path: bytes) -> Target | None:
        return rest.find_target(method, path)

    def infer(
        self,
        target: Target,
        route: Route | None,
        headers: Mapping[bytes, bytes],
        body: bytes,
        context: Context = PATIENT,
    ) -> Reply:
        answer = self._predictor.predict(self._codecs[target.action], body, route, context)
        return Reply(200, JSON, answer.payload, self._headers_of(answer.version))

    def describe(self, method: str, path: str, headers: Mapping[bytes, bytes], context: Context = PATIENT) -> Reply:
        origin = headers.get(b"origin", b"").decode("latin-1")
        reply = rest.describe_kserve(method, path) if self._kserve else None
        reply = reply or rest.describe_models(
            self._predictor.manager, method, path, origin, context, kserve=self._kserve
        )
        return reply._replace(headers=self._headers)

    def operations(self) -> Mapping[str, Any]:
        return document.operations(self._predictor.manager)

    def refuse(self, error: ServingError | HttpError) -> Reply:
        return error_reply(error, self._headers)

    def services(self) -> Mapping[str, Unary | Streaming]:
        return grpc.services(self._predictor, self._options, self._reload)
