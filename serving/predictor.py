"""The one path from a payload to an answer, for every dialect and both transports.

Owns the order of the steps, and that every request is counted and can be observed. Synchronous, bytes to bytes: the
caller decides on which thread. Knows no wire format; a Codec brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import MappingProxyType
from typing import Any, NamedTuple

from estimator_serving.serving import errors
from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.crowd import Crowd
from estimator_serving.serving.errors import Code, ServingError
from estimator_serving.serving.metrics import UNKNOWN_MODEL, RequestMetrics
from estimator_serving.serving.models import memory
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.request import (
    PATIENT,
    Context,
    Document,
    ModelSpec,
    NotQuickError,
    Outputs,
    Request,
)
from estimator_serving.serving.routing import Route, Router
from estimator_serving.serving.running.servable import Servable
from estimator_serving.serving.running.session import AtOnce


class Codec(NamedTuple):
    """How one method of one dialect reads and writes: three pure functions.

    method, entrypoint: how the request is counted, such as Classify by REST.
    parse: payload -> Document. Checks only syntax; the ModelSpec is what a URL said, None where the payload says it.
    decode: Document -> Request, by the servable's signatures.
    encode: outputs -> payload.
    takes_examples: whether its requests are tf.Examples, to be counted as such.
    at_once: all three steps and the run in one, where a quick version is asked in the plainest way; None for what is
        not plain or goes wrong, which the steps then answer.

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
    at_once: Callable[[bytes, ModelSpec, Servable], Done | None] | None = None


# A request that was answered at once: the payload to send back, the rows of its batch, and the seconds before the model
# and in it. A bare tuple, because a named one is made by a call in Python.
Done = tuple[bytes, int, float, float]


class ShortWay:
    """`Codec.at_once` by one call of `wire/native`, for a version's default signature.

    plan: how `call` runs a version, first of all the graph's bare function; None where it cannot. It is made once a
    version. call: takes the plan and a payload; None for a payload that is left to the steps.
    """

    def __init__(
        self, plan: Callable[[Servable, AtOnce], Any], call: Callable[[Any, bytes], Done | None]
    ) -> None:  # fmt: skip
        self._plan, self._call = plan, call

    def __call__(self, payload: bytes, spec: ModelSpec, servable: Servable) -> Done | None:
        plain = servable.at_once
        if plain is None or spec.signature_name != plain.signature_name:
            return None
        plan = servable.worked_out.get(self, self)
        if plan is self:  # not made yet
            plan = servable.worked_out[self] = self._plan(servable, plain)
        # Where something else stands for the graph, it has to be called.
        if plan is None or plan[0] is not getattr(plain.runner.graph, "bare", None):
            return None
        done = self._call(plan, payload)
        if done is None:
            return None
        answer, rows, read_s, run_s = done
        plain.runner.note_run(run_s)
        return answer, rows if plain.has_rows else 1, read_s, run_s


class Answer(NamedTuple):
    """The payload to send back, and the version that computed it."""

    payload: bytes
    version: int


class Call:
    """The record of one request that metrics, the request log and the access log receive; filled in step by step.

    spec, servable, request, outputs and answer are None where the request did not get that far. read_s: how long it
    took before the model. run_s: how long the model took, queueing included. Times are in seconds. is_counted: False
    for a request that is asked again on another thread. route: which is closed at the end. crowd: where it entered.
    """

    __slots__ = (
        "answer", "code", "codec", "context", "crowd", "elapsed_s", "is_counted", "outputs", "payload", "read_s",
        "request", "route", "run_s", "servable", "spec",
    )  # fmt: skip

    def __init__(self, codec: Codec, payload: bytes, spec: ModelSpec | None, context: Context) -> None:
        self.codec = codec
        self.payload = payload
        self.context = context
        self.spec = spec
        self.route: Route | None = None
        self.crowd: Crowd | None = None
        self.servable: Servable | None = None
        self.request: Request | None = None
        self.outputs: Outputs | None = None
        self.answer: bytes | None = None
        self.code = Code.OK
        self.read_s = 0.0
        self.run_s = 0.0
        self.elapsed_s = 0.0
        self.is_counted = True


Observer = Callable[[Call], None]


class Predictor:
    """Answers payloads from the servables of a Manager.

    observers: called at the end of every request, on its thread; they must neither raise nor take long.
    is_observed: whether an observer has a use for the calls of a model, by its name; called for each quick request.
    crowds: by entrypoint, what keeps one model from occupying all threads that its requests come on.
    """

    def __init__(
        self,
        manager: Manager,
        metrics: RequestMetrics,
        observers: Sequence[Observer] = (),
        crowds: Mapping[str, Crowd] = MappingProxyType({}),
        is_observed: Callable[[str], object] = lambda _name: True,
    ) -> None:
        self.manager = manager
        self.router = Router(manager)
        self._metrics = metrics
        self._observers = tuple(observers)
        self._crowds = crowds
        self._is_observed: Callable[[str], object] = is_observed if self._observers else frozenset[str]().__contains__

    def predict(self, codec: Codec, payload: bytes, route: Route | None = None, context: Context = PATIENT) -> Answer:
        """The answer to a payload; a request that nobody waits for any more, by its context, does not run.

        route: where the request came in, if its transport named the model; it is closed here, whatever happens. Without
            one the payload names the model, and the route is chosen as soon as it is parsed.

        Raises ServingError, and nothing else: an error that is not ours is logged and becomes InternalError. Where the
        context says that the thread reads requests, also NotQuickError; then the request is not counted.
        """
        started_s = perf_counter()
        if context.is_reader and route is not None and codec.at_once is not None and context.grant is None:
            answered = self._answer_at_once(codec.at_once, codec, payload, route, started_s)
            if answered is not None:
                return answered
        call = Call(codec, payload, None if route is None else route.spec, context)
        call.route = route
        try:
            return self._take_steps(call, started_s)
        except NotQuickError:
            call.is_counted = False
            raise
        except ServingError as error:
            call.code = error.code
            raise
        except Exception as error:
            call.code = Code.INTERNAL
            raise errors.as_serving_error(error) from error
        finally:
            if call.crowd is not None and call.servable is not None:
                call.crowd.leave(call.servable.name)
            if call.route is not None:
                call.route.close()
            if call.is_counted:
                call.elapsed_s = perf_counter() - started_s
                self._count(call)
                if len(payload) > memory.LARGE_BYTES:
                    memory.give_back_after(len(payload))

    def _take_steps(self, call: Call, started_s: float) -> Answer:
        codec, payload, context, route = call.codec, call.payload, call.context, call.route
        # What the thread that reads requests answers itself takes no thread from the crowd.
        is_reader = context.is_reader
        is_inline = is_reader or (route is not None and route.is_quick(len(payload)))
        if not is_reader:
            context.check()
        if route is not None and route.is_full:
            # Before anything is read: in overload, what a refusal costs is taken from the answers.
            context.require(Right.PREDICT, route.spec.name)
            call.servable = route.servable
            route.check_room()
        document = codec.parse(payload, call.spec)
        call.spec = document.spec
        context.require(Right.PREDICT, document.spec.name)
        if route is None:
            call.route = route = self.router.choose(document.spec)
            if is_reader and not route.is_quick(len(payload)):
                raise NotQuickError
        call.servable = servable = route.servable
        route.check_room()
        crowd = None if is_inline else self._crowds.get(codec.entrypoint)
        if crowd is not None:
            crowd.enter(servable.name)
            call.crowd = crowd
        call.request = request = codec.decode(document, servable)
        began_s = perf_counter()
        call.read_s = began_s - started_s
        call.outputs = outputs = servable.run(request, context)
        call.run_s = perf_counter() - began_s
        if not is_reader:
            context.check()
        call.answer = answer = codec.encode(outputs, request, servable)
        return Answer(answer, servable.version)

    def _answer_at_once(
        self, at_once: Callable[[bytes, ModelSpec, Servable], Done | None], codec: Codec, payload: bytes, route: Route,
        started_s: float,
    ) -> Answer | None:  # fmt: skip
        servable = route.pinned
        if servable is None or route.is_full or self._is_observed(servable.name):
            return None
        try:
            done = at_once(payload, route.spec, servable)
        except Exception:
            return None  # the steps have the sentences
        if done is None:
            return None
        content, rows, read_s, run_s = done
        route.close()
        self._metrics.observe(
            (servable.name, servable.version, route.spec.signature_name, codec.method, codec.entrypoint), Code.OK,
            perf_counter() - started_s, read_s=read_s, run_s=run_s, rows=rows,
        )  # fmt: skip
        return Answer(content, servable.version)

    def _count(self, call: Call) -> None:
        """A request has ended."""
        codec, request, servable = call.codec, call.request, call.servable
        # Only names of loaded models become labels: each name that a client makes up would be a new series.
        name, version = UNKNOWN_MODEL, None
        if servable is not None:
            name, version = servable.name, servable.version
        elif call.spec and self.manager.knows(call.spec.name):
            name = call.spec.name
        signature_name, rows, examples = "", 1, 0
        if request is not None and servable is not None:
            signature_name = request.signature_name
            # A request of a signature without rows counts as one.
            first = next(iter(request.inputs.values()), None) if servable.has_rows(signature_name) else None
            rows = len(first) if first is not None and first.ndim else 1
            # Of a method whose tensors may be anything, none count as Examples.
            examples = len(next(iter(request.inputs.values()))) if codec.takes_examples else 0
        self._metrics.observe(
            (name, version, signature_name, codec.method, codec.entrypoint), call.code, call.elapsed_s,
            read_s=call.read_s, run_s=call.run_s, rows=rows, examples=examples,
        )  # fmt: skip
        for observe in self._observers:
            observe(call)

    def has_quick(self) -> bool:
        """Whether any version is quick, so that it is worth looking which one a payload names."""
        return any(servable.runner.is_quick for servable in self.manager.servables())

    def refuse_if_full(self, codec: Codec) -> float | None:
        """Refuse a request of this method if no version has room for one; None if one has.

        Otherwise it is counted, and not observed, and the answer is that of `Router.full_for_s`.
        """
        full_for_s = self.router.full_for_s()
        if full_for_s is None:
            return None
        servables, name, version = self.manager.servables(), UNKNOWN_MODEL, None
        if len(servables) == 1:
            name, version = servables[0].name, servables[0].version
            servables[0].runner.count_refusal()
        self._metrics.observe((name, version, "", codec.method, codec.entrypoint), Code.UNAVAILABLE, 0.0)
        return full_for_s
