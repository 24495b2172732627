"""The graphs of a transform: its columns' nodes put together, and the nodes in front of it that pad dense features.

Owns the assembly. What a column computes is in the file of its kind, what counts as nothing in inputs.py. Knows nothing
of hashes, sessions or arrays.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import onnx
import spox
from spox import Tensor, Var

from estimator_serving.training.columns.base import Arguments, Output
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.inputs import Input, PaddedInput, inputs_of


def build_graph(outputs: Mapping[str, Output], definitions: Mapping[str, Definition]) -> onnx.ModelProto:
    """The graph that computes these outputs under their names, in the order of `definitions`; not yet finished."""
    arguments = Arguments(inputs_of(definitions.values()))
    computed = {name: outputs[name].compute(arguments) for name in definitions}
    return spox.build(inputs=arguments.by_name, outputs=computed)


def pad_inputs(model: onnx.ModelProto, inputs: Iterable[Input], dense: Container[str]) -> onnx.ModelProto:
    """The graph of a transform behind the nodes that pad dense features, the same nodes that the exporter uses.

    Args:
        model: the transform's graph.
        inputs: its inputs.
        dense: which of their `dense_names` are fed, instead of values and lengths.
    """
    arguments: dict[str, Var] = {}
    feeds: dict[str, Var] = {}
    for wanted in inputs:
        matrix, single = wanted.dense_names if isinstance(wanted, PaddedInput) else ("", "")
        name = single if single in dense else matrix
        if isinstance(wanted, PaddedInput) and name in dense:
            width = 1 if name == single else f"{name}/k"
            arguments[name] = spox.argument(Tensor(wanted.element, ("batch", width)))
            padded = wanted.pad(arguments[name])
            feeds |= dict(zip(wanted.names, (padded.values, padded.lengths), strict=True))
        else:
            given = wanted.arguments()
            arguments |= given
            feeds |= given
    return spox.build(arguments, spox.inline(model)(**feeds))
