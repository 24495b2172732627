"""The one path from a payload to an answer, for every dialect and both transports.

Owns the order of the steps, and that every request is counted and can be observed. Synchronous, bytes to bytes: the
caller decides on which thread. Knows no wire format; a Codec brings it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from estimator_serving.serving import errors
from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.crowd import Crowd
from estimator_serving.serving.errors import Code, ServingError
from estimator_serving.serving.metrics import UNKNOWN_MODEL, RequestMetrics
from estimator_serving.serving.models import memory
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.request import PATIENT, Context, Document, ModelSpec, Outputs, Request
from estimator_serving.serving.routing import Route, Router
from estimator_serving.serving.running.servable import Servable

# After a request of this size, what the C library keeps of its memory goes back to the system.
LARGE_BYTES = 8 << 20


class Codec(NamedTuple):
    """How one method of one dialect reads and writes: three pure functions.

    method, entrypoint: how the request is counted, such as Classify by REST.
    parse: payload -> Document. Checks only syntax; the ModelSpec is what a URL said, None where the payload says it.
    decode: Document -> Request, by the servable's signatures.
    encode: outputs -> payload.
    takes_examples: whether its requests are tf.Examples, to be counted as such.

    All three raise ServingError for what is the client's fault. A codec that answers x + 1 for a plain number:

        Codec(
            "Predict", "TEXT",
            parse=lambda payload, spec: Document(spec or ModelSpec("m"), float(payload), payload),
            decode=lambda document, _servable: Request("serving_default", {"x": np.float32([document.content])}),
            encode=lambda outputs, _request, _servable: str(outputs["y"][0]).encode(),
        )
    """

    method: str
    entrypoint: str
    parse: Callable[[bytes, ModelSpec | None], Document]
    decode: Callable[[Document, Servable], Request]
    encode: Callable[[Outputs, Request, Servable], bytes]
    takes_examples: bool = False


class Answer(NamedTuple):
    """The payload to send back, and the version that computed it."""

    payload: bytes
    version: int


class Call:
    """The record of one request that metrics, the request log and the access log receive; filled in step by step.

    spec, servable, request, outputs and answer are None where the request did not get that far. read_s: how long it
    took before the model. run_s: how long the model took, queueing included. Times are in seconds.
    """

    __slots__ = (
        "answer", "code", "codec", "context", "elapsed_s", "outputs", "payload", "read_s", "request", "run_s",
        "servable", "spec",
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
        self.read_s = 0.0
        self.run_s = 0.0
        self.elapsed_s = 0.0

    @property
    def rows(self) -> int:
        """How many rows came; a request of a signature without rows counts as one."""
        request = self.request
        if request is None or self.servable is None or not self.servable.has_rows(request.signature_name):
            return 1
        first = next(iter(request.inputs.values()), None)
        return len(first) if first is not None and first.ndim else 1

    @property
    def examples(self) -> int:
        """How many Examples came; 0 for a method whose tensors may be anything."""
        if self.request is None or not self.codec.takes_examples:
            return 0
        return len(next(iter(self.request.inputs.values())))


Observer = Callable[[Call], None]


class Predictor:
    """Answers payloads from the servables of a Manager.

    observers: called at the end of every request, on its thread; they must neither raise nor take long.
    crowds: by entrypoint, what keeps one model from occupying all threads that its requests come on.
    """

    def __init__(
        self,
        manager: Manager,
        metrics: RequestMetrics,
        observers: Sequence[Observer] = (),
        crowds: Mapping[str, Crowd] = MappingProxyType({}),
    ) -> None:
        self.manager = manager
        self.router = Router(manager)
        self._metrics = metrics
        self._observers = tuple(observers)
        self._crowds = crowds

    def predict(self, codec: Codec, payload: bytes, route: Route | None = None, context: Context = PATIENT) -> Answer:
        """The answer to a payload; a request that nobody waits for any more, by its context, does not run.

        route: where the request came in, if its transport named the model; it is closed here, whatever happens. Without
            one the payload names the model, and the route is chosen as soon as it is parsed.

        Raises ServingError, and nothing else: an error that is not ours is logged and becomes InternalError.
        """
        started_s = time.perf_counter()
        call = Call(codec, payload, route.spec if route else None, context)
        # What the thread that reads requests answers itself takes no thread from the crowd.
        is_inline = route is not None and route.is_quick(len(payload))
        crowd, entered = None if is_inline else self._crowds.get(codec.entrypoint), ""
        try:
            context.check()
            document = codec.parse(payload, call.spec)
            call.spec = document.spec
            context.require(Right.PREDICT, document.spec.name)
            route = route or self.router.choose(document.spec)
            call.servable = servable = route.servable
            if crowd is not None:
                crowd.enter(servable.name)
                entered = servable.name
            call.request = request = codec.decode(document, servable)
            began_s = time.perf_counter()
            call.read_s = began_s - started_s
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
            if crowd is not None and entered:
                crowd.leave(entered)
            if route:
                route.close()
            call.elapsed_s = time.perf_counter() - started_s
            # Only names of loaded models become labels: each name that a client makes up would be a new series.
            name, version = UNKNOWN_MODEL, None
            if call.servable is not None:
                name, version = call.servable.name, call.servable.version
            elif call.spec and self.manager.knows(call.spec.name):
                name = call.spec.name
            signature_name = call.request.signature_name if call.request else ""
            key = (name, version, signature_name, codec.method, codec.entrypoint)
            self._metrics.observe(
                key, call.code, call.elapsed_s,
                read_s=call.read_s, run_s=call.run_s, rows=call.rows, examples=call.examples,
            )  # fmt: skip
            for observe in self._observers:
                observe(call)
            if len(payload) > LARGE_BYTES:
                memory.give_back()

    def refuse_if_full(self, codec: Codec) -> bool:
        """Refuse a request of this method if no version has room for one: whether it is to be refused.

        A refused request is counted, and not observed.
        """
        servables = self.manager.servables()
        if not servables or not all(servable.runner.is_full for servable in servables):
            return False
        name, version = UNKNOWN_MODEL, None
        if len(servables) == 1:
            name, version = servables[0].name, servables[0].version
            servables[0].runner.note_refused()
        self._metrics.observe((name, version, "", codec.method, codec.entrypoint), Code.UNAVAILABLE, 0.0)
        return True
