"""The one path from a payload to an answer, for every dialect and both transports.

Owns the order of the steps, and that every request is counted. Synchronous, bytes to bytes: who calls it decides on
which thread. Knows no wire format; a Codec brings it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from estimator_serving.serving import errors
from estimator_serving.serving.errors import Code, ServingError
from estimator_serving.serving.manager import Manager
from estimator_serving.serving.metrics import UNKNOWN_MODEL, RequestMetrics
from estimator_serving.serving.request import PATIENT, Context, Document, ModelSpec, Outputs, Request
from estimator_serving.serving.servable import Servable

# A payload this big takes long to read and to run, whatever the model took for the last ones.
QUICK_PAYLOAD_BYTES = 16 * 1024


class Codec(NamedTuple):
    """How one method of one dialect reads and writes: three pure functions.

    parse: payload -> Document. Checks syntax alone; the ModelSpec is what a URL said, None where the payload says it.
    decode: Document -> Request, by the servable's signatures.
    encode: outputs -> payload.

    All three raise ServingError for what is the client's fault.
    """

    method: str
    entrypoint: str
    parse: Callable[[bytes, ModelSpec | None], Document]
    decode: Callable[[Document, Servable], Request]
    encode: Callable[[Outputs, Request, Servable], bytes]


class Predictor:
    """Answers payloads from the servables of a Manager."""

    def __init__(self, manager: Manager, metrics: RequestMetrics) -> None:
        self.manager = manager
        self._metrics = metrics

    def predict(
        self, codec: Codec, payload: bytes, target: ModelSpec | None = None, context: Context = PATIENT
    ) -> bytes:
        """The answer to a payload; what its context says nobody waits for is not run.

        Raises ServingError, and nothing else: an error that is not ours is logged and becomes InternalError.
        """
        started_s = time.perf_counter()
        code, spec = Code.OK, target
        try:
            context.check()
            document = codec.parse(payload, target)
            spec = document.spec
            with self.manager.servable(spec) as servable:
                request = codec.decode(document, servable)
                outputs = servable.run(request, context)
                return codec.encode(outputs, request, servable)
        except ServingError as error:
            code = error.code
            raise
        except Exception as error:
            code = Code.INTERNAL
            raise errors.as_serving_error(error) from error
        finally:
            name = spec.name if spec and self.manager.knows(spec.name) else UNKNOWN_MODEL
            self._metrics.observe(name, codec.method, codec.entrypoint, code, time.perf_counter() - started_s)

    def is_quick(self, target: ModelSpec, payload_bytes: int) -> bool:
        """Whether a request may run on the thread that reads requests.

        It may if the payload is small and the version's own last runs took microseconds; until a version has run, and
        again as soon as its runs get slow, its requests go to another thread. What answers without running (an unknown
        model) is quick.
        """
        if payload_bytes > QUICK_PAYLOAD_BYTES:
            return False
        servable = self.manager.peek(target.name, target.version)
        return servable is None or servable.is_quick
