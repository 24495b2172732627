"""A receiver as a graph: from the tensors clients send to raw features, alternatives included.

Owns the receiver's part of the graph and the inputs of its alternatives. Knows nothing of columns or networks.

An alternative lets clients send a value from the middle of the graph instead of what it is computed from. The graph is
cut at that value and gets a new input there; the computed value and the new input are joined along the batch. Every
input has an empty default, so in each request one of the two has no rows and the join is the other one:

    examples ─▶ ParseExample ─▶ age (computed) ─┐
                                                ├─▶ Concat ─▶ age ─▶ …
                        single/age (new input) ─┘
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import spox
import spox.opset.ai.onnx.v21 as op
from onnx import helper, numpy_helper
from onnx.utils import Extractor
from spox import Tensor, Var, argument

from estimator_serving.exporter.receivers.features_graph import RawFeatures, is_string, run_graph
from estimator_serving.exporter.receivers.receivers import FeatureValue, ReceiverTensor, ServingInputReceiver
from estimator_serving.training.columns.finish import finish_graph
from estimator_serving.training.columns.padding import Padded, pad_dense
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import TensorInfo

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReceiverGraph:
    """The part of a servable's graph that a receiver describes.

    Attributes:
        inputs: the graph's inputs by name.
        features: raw features by key.
        alternatives: name -> TensorInfo by alias, of the groups of tensors that clients may send instead.
    """

    inputs: Mapping[str, Var]
    features: RawFeatures
    alternatives: Mapping[str, Mapping[str, TensorInfo]] = field(default_factory=dict)


def build_receiver_graph(receiver: ServingInputReceiver) -> ReceiverGraph:
    """The graph of a receiver. An alternative that does not reach every feature is left out with a warning."""
    if not receiver.receiver_tensors_alternatives:
        return ReceiverGraph(receiver.graph_inputs, receiver.feature_values)
    return _Splicing(receiver).graph()


def add_empty_defaults(model: onnx.ModelProto) -> None:
    """Gives every input of a graph an empty default, which stands for "no row was sent".

    Each input then gets a batch dimension with a different name: with one name for all, ONNX Runtime would take their
    sizes for equal and let values of no row and of all rows share a buffer.
    """
    del model.graph.value_info[:]
    for value in model.graph.input:
        tensor = value.type.tensor_type
        tensor.shape.dim[0].dim_param = f"{value.name} rows"
        if value.name.endswith("/row_splits"):
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), value.name))
        else:
            shape = [dim.dim_value for dim in tensor.shape.dim][1:]
            model.graph.initializer.append(helper.make_tensor(value.name, tensor.elem_type, [0, *shape], []))


@dataclass(frozen=True)
class _Cut:
    """A value that clients may send instead of having it computed.

    Attributes:
        name: the name of the input it gets.
        sent: the type of that input: any number of rows; a value with any number of values a row as one matrix.
        sources: the value's names in the receiver's graph: two for a padded one, its values and lengths.
    """

    name: str
    sent: Tensor
    sources: tuple[str, ...]

    @property
    def info(self) -> TensorInfo:
        """What signatures say of the input."""
        dims = tuple(dim if isinstance(dim, int) else -1 for dim in self.sent.shape or ())
        return TensorInfo(f"{self.name}:0", dtypes.from_numpy(np.dtype(self.sent.dtype)), dims)


class _Splicing:
    """A receiver's graph, taken apart at the cuts and put together again with their inputs.

    The receiver is built once as a graph whose outputs are the features and the cuts. Then the cuts are joined with
    their inputs from the front to the back: a cut is ready as soon as no other waiting cut lies in front of it.
    """

    def __init__(self, receiver: ServingInputReceiver) -> None:
        self._receiver = receiver
        named: dict[int, tuple[str, Var | Padded]] = {}
        for group, tensors in receiver.receiver_tensors_alternatives.items():
            for alias, value in tensors.items():
                # A value that several groups name is cut once, under the first name.
                if not isinstance(value, ReceiverTensor):
                    named.setdefault(id(value), (f"{group}/{alias}", value))
        outputs = {key: op.identity(var) for key, var in _feature_parts(receiver.feature_values)}
        for name, value in named.values():
            outputs |= {f"cut/{name}/{index}": op.identity(var) for index, var in enumerate(_vars(value))}
        self._model = finish_graph(spox.build(receiver.graph_inputs, outputs))
        self._producers = {output: node for node in self._model.graph.node for output in node.output}
        self._cuts: dict[int, _Cut] = {}
        for identity, (name, value) in named.items():
            sources = []
            for index, _ in enumerate(_vars(value)):
                source = f"cut/{name}/{index}"
                # In front of the identities that the graph's outputs are, where all readers of the value see the cut.
                while source in self._producers and self._producers[source].op_type == "Identity":
                    source = self._producers[source].input[0]
                sources.append(source)
            tensor = _vars(value)[0].unwrap_tensor()
            lengths = (dim if isinstance(dim, int) else None for dim in (tensor.shape or ())[1:])
            self._cuts[identity] = _Cut(name, Tensor(tensor.dtype, (None, *lengths)), tuple(sources))

    def graph(self) -> ReceiverGraph:
        inputs: dict[str, Var] = dict(self._receiver.graph_inputs)
        known: dict[str, Var] = dict(inputs)
        waiting = list(self._cuts.values())
        while waiting:
            ready = [cut for cut in waiting if not self._reached(cut.sources, _sources(waiting) - set(cut.sources))]
            computed = self._compute([source for cut in ready for source in cut.sources], known)
            for cut in ready:
                inputs[cut.name] = sent = argument(cut.sent)
                joined = _join(tuple(computed[source] for source in cut.sources), sent)
                known |= dict(zip(cut.sources, joined, strict=True))
            waiting = [cut for cut in waiting if cut not in ready]
        values = self._receiver.feature_values
        computed = self._compute([name for name, _ in _feature_parts(values)], known)
        features: dict[str, Var | Padded] = {}
        for key, value in values.items():
            parts = [computed[name] for name, _ in _feature_parts({key: value})]
            features[key] = Padded(*parts) if isinstance(value, Padded) else parts[0]
        alternatives = {
            name: {
                alias: value.info if isinstance(value, ReceiverTensor) else self._cuts[id(value)].info
                for alias, value in group.items()
            }
            for name, group in self._receiver.receiver_tensors_alternatives.items()
            if self._feeds_all(name, group)
        }
        return ReceiverGraph(inputs, features, alternatives)

    def _compute(self, names: list[str], known: Mapping[str, Var]) -> dict[str, Var]:
        """Values of the receiver's graph, by name, from those that are known."""
        given = {name: known[name] for name in names if name in known}
        wanted = [name for name in names if name not in known]
        if not wanted:
            return given
        part = Extractor(self._model).extract_model(sorted(self._reached(wanted, set(known))), wanted)
        return given | run_graph(part, known)

    def _reached(self, names: Iterable[str], among: set[str]) -> set[str]:
        """Which of the values `among` the named ones are computed from. The search ends at each value it finds."""
        found, seen, waiting = set[str](), set[str](), list(names)
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in among:
                found.add(name)
            elif name in self._producers:
                waiting.extend(self._producers[name].input)
        return found

    def _feeds_all(self, name: str, group: Mapping[str, FeatureValue]) -> bool:
        """Whether all features can be computed from the tensors of a group; logs a warning where they cannot."""
        sources = _sources(self._cuts[id(value)] for value in group.values() if id(value) in self._cuts)
        sent = {name for value in group.values() if isinstance(value, ReceiverTensor) for name in value.inputs}
        outputs = [key for key, _ in _feature_parts(self._receiver.feature_values)]
        missing = self._reached(outputs, sources | sent | set(self._receiver.graph_inputs)) - sources - sent
        if missing:
            logger.warning(
                "The receiver tensors of the alternative %r do not give every feature: %s would have to be sent too. "
                "It gets no signatures; let it name a value on the way to each feature.",
                name,
                ", ".join(sorted(missing)),
            )
        return not missing


def _feature_parts(features: RawFeatures) -> list[tuple[str, Var]]:
    """Every value of the features, each under a name that no other has."""
    return [
        (f"feature/{key}/{index}", var) for key, value in features.items() for index, var in enumerate(_vars(value))
    ]


def _vars(value: Var | Padded) -> tuple[Var, ...]:
    return (value.values, value.lengths) if isinstance(value, Padded) else (value,)


def _sources(cuts: Iterable[_Cut]) -> set[str]:
    return {source for cut in cuts for source in cut.sources}


def _join(computed: tuple[Var, ...], sent: Var) -> tuple[Var, ...]:
    """The rows that were computed, or those that were sent: one of the two has none."""
    if len(computed) == 1:
        return (op.concat([computed[0], sent], axis=0),)
    values, lengths = computed
    # What clients fill up rows of fewer values with.
    blank: str | float = -1
    if is_string(sent):
        blank = ""
    elif sent.unwrap_tensor().dtype.type in (np.float32, np.float64):
        blank = float("nan")
    padded = pad_dense(sent, blank)
    # The two matrices may differ in width, so they are joined flat, and take the shape of the one that has rows: the
    # sum of both shapes, each times 1 if it has rows and 0 if not.
    flat, shapes = [], []
    for matrix in (values, padded.values):
        flat.append(op.reshape(matrix, op.const(np.array([-1], np.int64))))
        has_rows = op.greater(op.shape(matrix, end=1), op.const(np.array([0], np.int64)))
        shapes.append(op.mul(op.shape(matrix), op.cast(has_rows, to=np.int64)))
    joined = op.reshape(op.concat(flat, axis=0), op.add(*shapes), allowzero=True)
    return joined, op.concat([lengths, padded.lengths], axis=0)
