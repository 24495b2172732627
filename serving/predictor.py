"""The one path from a payload to an answer, for every dialect and both transports.

Owns the order of the steps, and that every request is counted and can be observed. Synchronous, bytes to bytes: who
calls it decides on which thread. Knows no wire format; a Codec brings it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from estimator_serving.serving import errors
from estimator_serving.serving.errors import Code, ServingError
from estimator_serving.serving.metrics import UNKNOWN_MODEL, RequestKey, RequestMetrics
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.request import PATIENT, Context, Document, ModelSpec, Outputs, Request
from estimator_serving.serving.running.servable import Servable

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


class Answer(NamedTuple):
    """The payload to send back, and the version that computed it."""

    payload: bytes
    version: int


class Call:
    """One request on its way, filled in step by step: what those who take note of requests get to see.

    spec, servable, request, outputs and answer are None where the request did not get that far. run_s: how long the
    model took, queueing included. Times are in seconds.
    """

    __slots__ = (
        "answer", "code", "codec", "context", "elapsed_s", "outputs", "payload", "request", "run_s", "servable", "spec",
    )  # fmt: skip

    def __init__(self, codec: Codec, payload: bytes, spec: ModelSpec | None, context: Context) -> None:
        self.codec = codec
        self.payload = payload
        self.context = context
        self.spec = spec
        self.servable: Servable | None = None
        self.request: Request | None = None
        self.outputs: Outputs | None = None
        self.answer: bytes | None = None
        self.code = Code.OK
        self.run_s = 0.0
        self.elapsed_s = 0.0

    @property
    def examples(self) -> int:
        """How many Examples came; 0 for Predict, whose tensors may be anything."""
        if self.request is None or self.codec.method == "Predict":
            return 0
        return len(next(iter(self.request.inputs.values())))


Observer = Callable[[Call], None]


class Predictor:
    """Answers payloads from the servables of a Manager.

    observers: called at the end of every request, on its thread; they must neither raise nor take long.
    """

    def __init__(self, manager: Manager, metrics: RequestMetrics, observers: Sequence[Observer] = ()) -> None:
        self.manager = manager
        self._metrics = metrics
        self._observers = tuple(observers)

    def predict(
        self, codec: Codec, payload: bytes, target: ModelSpec | None = None, context: Context = PATIENT
    ) -> Answer:
        """The answer to a payload; what its context says nobody waits for is not run.

        Raises ServingError, and nothing else: an error that is not ours is logged and becomes InternalError.
        """
        started_s = time.perf_counter()
        call = Call(codec, payload, target, context)
        try:
            context.check()
            document = codec.parse(payload, target)
            call.spec = document.spec
            with self.manager.servable(document.spec) as servable:
                call.servable = servable
                call.request = request = codec.decode(document, servable)
                began_s = time.perf_counter()
                call.outputs = outputs = servable.run(request, context)
                call.run_s = time.perf_counter() - began_s
                context.check()
                call.answer = answer = codec.encode(outputs, request, servable)
                return Answer(answer, servable.version)
        except ServingError as error:
            call.code = error.code
            raise
        except Exception as error:
            call.code = Code.INTERNAL
            raise errors.as_serving_error(error) from error
        finally:
            call.elapsed_s = time.perf_counter() - started_s
            self._metrics.observe(self._key(call), call.code, call.elapsed_s, run_s=call.run_s, examples=call.examples)
            for observe in self._observers:
                observe(call)

    def turns_away(self, codec: Codec) -> bool:
        """Whether there is no room for any request of this method now; counted where so, and not observed."""
        crowd = self.manager.crowd()
        if not crowd:
            return False
        name, version = (crowd[0].name, crowd[0].version) if len(crowd) == 1 else (UNKNOWN_MODEL, None)
        for servable in crowd if len(crowd) == 1 else ():
            servable.note_turned_away()
        self._metrics.observe((name, version, "", codec.method, codec.entrypoint), Code.UNAVAILABLE, 0.0)
        return True

    def _key(self, call: Call) -> RequestKey:
        """Names of what is loaded alone: those a client makes up would each be a series of its own."""
        codec, servable, request = call.codec, call.servable, call.request
        if servable is not None:
            return (
                servable.name,
                servable.version,
                request.signature_name if request else "",
                codec.method,
                codec.entrypoint,
            )
        name = call.spec.name if call.spec and self.manager.knows(call.spec.name) else UNKNOWN_MODEL
        return name, None, "", codec.method, codec.entrypoint

    def is_quick(self, target: ModelSpec, payload_bytes: int) -> bool:
        """Whether a request may run on the thread that reads requests.

        It may if the payload is small and the version's own last runs took microseconds; until a version has run, and
        again as soon as its runs get slow, its requests go to another thread. What answers without running (an unknown
        model) is quick.
        """
        if payload_bytes > QUICK_PAYLOAD_BYTES:
            return False
        servable = self.manager.peek(target)
        return servable is None or servable.is_quick
