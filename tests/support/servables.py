"""Servables around a function that stands for the graph."""

from pathlib import Path

from estimator_serving.serving.running.binding import bind
from estimator_serving.serving.running.servable import Servable
from estimator_serving.serving.running.session import SessionRunner
from estimator_serving.wire.signatures import Metadata


def servable_of(signatures, graph, graph_inputs):
    """Version 1 of model m, which feeds `graph(names, feeds, context)` and answers what it returns."""
    graph_outputs = {info.value_name for signature in signatures.values() for info in signature.outputs.values()}
    bindings = bind(signatures, graph_inputs, graph_outputs, path=Path("model.onnx"))
    return Servable("m", 1, Metadata(signatures), bindings, SessionRunner(graph, bindings))


def session_runner(servable):
    """What runs a servable's graph, beneath what is around it."""
    runner = servable.runner
    while hasattr(runner, "inner"):
        runner = runner.inner
    return runner


class Uncounted:
    """A BatchObserver that counts nothing."""

    def ran(self, *_, **__):
        pass

    waited = refused = ran
