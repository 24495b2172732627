"""Running graphs while a servable is made.

Owns the sessions of an export and the values they compute. Knows nothing of what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import spox
import spox.opset.ai.onnx.v21 as op
from onnxruntime import InferenceSession, SessionOptions
from spox import Var

from estimator_serving import ops
from estimator_serving.exporter.receivers.receiver_graph import ReceiverGraph, add_empty_defaults
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.finish import finish_graph, serialize

_PREFIX = "value/"


def session_of(model: onnx.ModelProto) -> InferenceSession:
    """A session of a graph that is finished."""
    return ops.session(serialize(model), options=quiet_options())


def quiet_options() -> SessionOptions:
    """Options of a session that logs errors only: ONNX Runtime warns of every default an alternative's input has."""
    options = SessionOptions()
    options.log_severity_level = 3
    return options


def run_all(session: InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a session, by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def evaluate(graph: ReceiverGraph, values: Mapping[str, Var], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What values made of a receiver's features are for these feeds, by name."""
    # The prefix keeps them apart from inputs: an input and what is made of it may have one name.
    outputs = {f"{_PREFIX}{name}": op.identity(var) for name, var in values.items()}
    model = finish_graph(spox.build(dict(graph.inputs), outputs))
    if graph.alternatives:
        add_empty_defaults(model)
    return {name.removeprefix(_PREFIX): array for name, array in run_all(session_of(model), feeds).items()}
