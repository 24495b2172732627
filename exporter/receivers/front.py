"""A receiver as a graph: from what clients send to raw features, with the places between where they may send instead.

Owns the receiver's part of the graph and the inputs of its alternatives. An alternative's input and the value it stands
for are joined along the batch: one of the two has no row, because every input has an empty default. Knows nothing of
columns or networks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import spox
import spox.opset.ai.onnx.v21 as op
from onnx import helper, numpy_helper
from onnx.utils import Extractor
from spox import Tensor, Var, argument

from estimator_serving.exporter.receivers.features_graph import is_string, pad_dense, run_graph
from estimator_serving.exporter.receivers.padding import Padded
from estimator_serving.exporter.receivers.receivers import FeatureValue, ReceiverTensor, ServingInputReceiver
from estimator_serving.training.columns.finish import finish_graph
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import TensorInfo

logger = logging.getLogger(__name__)

Features = Mapping[str, Var | Padded]


@dataclass(frozen=True)
class Front:
    """What stands in front of a model.

    Attributes:
        inputs: the graph's inputs by name.
        features: raw features by key.
        alternatives: name -> TensorInfo by alias, of the groups that clients may send instead.
    """

    inputs: Mapping[str, Var]
    features: Features
    alternatives: Mapping[str, Mapping[str, TensorInfo]] = field(default_factory=dict)


def build_front(receiver: ServingInputReceiver) -> Front:
    """The graph of a receiver; alternatives that do not reach every feature are left out with a warning."""
    if not receiver.receiver_tensors_alternatives:
        return Front(receiver.graph_inputs, receiver.feature_values)
    return _Splicing(receiver).front()


def add_empty_defaults(model: onnx.ModelProto) -> None:
    """Gives every input of a graph an empty default: no row of it was sent.

    Each then has rows of its own number. Under one name ONNX Runtime would take them for the same one, and let values
    of no row and of all rows share a buffer.
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
    """A value that clients may send: its name among the inputs, and its places in the receiver's graph."""

    name: str
    value: Var | Padded
    sources: tuple[str, ...]


class _Splicing:
    """A receiver's graph, taken apart where alternatives enter and put together again."""

    def __init__(self, receiver: ServingInputReceiver) -> None:
        self._receiver = receiver
        named: dict[int, tuple[str, Var | Padded]] = {}
        for name, alias, value in _alternatives(receiver):
            if not isinstance(value, ReceiverTensor):
                named.setdefault(id(value), (f"{name}/{alias}", value))
        outputs = {key: op.identity(var) for key, var in _feature_parts(receiver.feature_values)}
        for name, value in named.values():
            outputs |= {f"cut/{name}/{index}": op.identity(var) for index, var in enumerate(_vars(value))}
        self._model = finish_graph(spox.build(receiver.graph_inputs, outputs))
        self._producers = {output: node for node in self._model.graph.node for output in node.output}
        self._cuts = {identity: self._cut(name, value) for identity, (name, value) in named.items()}

    def front(self) -> Front:
        inputs: dict[str, Var] = dict(self._receiver.graph_inputs)
        known: dict[str, Var] = dict(inputs)
        waiting = list(self._cuts.values())
        while waiting:
            ready = [cut for cut in waiting if not self._reached(cut.sources, _sources(waiting) - set(cut.sources))]
            computed = self._compute([source for cut in ready for source in cut.sources], known)
            for cut in ready:
                inputs[cut.name] = sent = argument(_sent_type(cut.value))
                joined = _join(tuple(computed[source] for source in cut.sources), sent)
                known |= dict(zip(cut.sources, joined, strict=True))
            waiting = [cut for cut in waiting if cut not in ready]
        outputs = [key for key, _ in _feature_parts(self._receiver.feature_values)]
        return Front(inputs, self._features(self._compute(outputs, known)), self._groups())

    def _cut(self, name: str, value: Var | Padded) -> _Cut:
        sources = (self._behind_identities(f"cut/{name}/{index}") for index, _ in enumerate(_vars(value)))
        return _Cut(name, value, tuple(sources))

    def _behind_identities(self, name: str) -> str:
        while name in self._producers and self._producers[name].op_type == "Identity":
            name = self._producers[name].input[0]
        return name

    def _compute(self, names: list[str], known: Mapping[str, Var]) -> dict[str, Var]:
        """Values of the receiver's graph, by name, from those that are known."""
        given = {name: known[name] for name in names if name in known}
        wanted = [name for name in names if name not in known]
        if not wanted:
            return given
        part = Extractor(self._model).extract_model(sorted(self._reached(wanted, set(known))), wanted)
        return given | run_graph(part, known)

    def _reached(self, names: Iterable[str], among: set[str]) -> set[str]:
        """Which of the values `among` the named ones are computed from, nothing behind those counted."""
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

    def _features(self, given: Mapping[str, Var]) -> Features:
        features: dict[str, Var | Padded] = {}
        for key, value in self._receiver.feature_values.items():
            parts = [given[name] for name, _ in _feature_parts({key: value})]
            features[key] = Padded(*parts) if isinstance(value, Padded) else parts[0]
        return features

    def _groups(self) -> dict[str, dict[str, TensorInfo]]:
        groups = self._receiver.receiver_tensors_alternatives
        return {
            name: {alias: self._info(value) for alias, value in group.items()}
            for name, group in groups.items()
            if self._feeds_all(name, group)
        }

    def _feeds_all(self, name: str, group: Mapping[str, FeatureValue]) -> bool:
        """Whether all features follow from the tensors of a group; says so where they do not."""
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

    def _info(self, value: FeatureValue) -> TensorInfo:
        if isinstance(value, ReceiverTensor):
            return value.info
        sent = _sent_type(value)
        dims = tuple(dim if isinstance(dim, int) else -1 for dim in sent.shape or ())
        return TensorInfo(f"{self._cuts[id(value)].name}:0", dtypes.from_numpy(np.dtype(sent.dtype)), dims)


def _alternatives(receiver: ServingInputReceiver) -> Iterator[tuple[str, str, FeatureValue]]:
    for name, group in receiver.receiver_tensors_alternatives.items():
        for alias, value in group.items():
            yield name, alias, value


def _feature_parts(features: Features) -> list[tuple[str, Var]]:
    """Every value of the features, under a name of its own."""
    return [
        (f"feature/{key}/{index}", var) for key, value in features.items() for index, var in enumerate(_vars(value))
    ]


def _vars(value: Var | Padded) -> tuple[Var, ...]:
    return (value.values, value.lengths) if isinstance(value, Padded) else (value,)


def _sources(cuts: Iterable[_Cut]) -> set[str]:
    return {source for cut in cuts for source in cut.sources}


def _sent_type(value: Var | Padded) -> Tensor:
    tensor = _vars(value)[0].unwrap_tensor()
    lengths = (dim if isinstance(dim, int) else None for dim in (tensor.shape or ())[1:])
    return Tensor(tensor.dtype, (None, *lengths))


def _join(computed: tuple[Var, ...], sent: Var) -> tuple[Var, ...]:
    """The rows that were computed, or those that were sent: one of the two has none."""
    if len(computed) == 1:
        return (op.concat([computed[0], sent], axis=0),)
    values, lengths = computed
    padded = pad_dense(sent, _blank(sent))
    return _join_rows(values, padded.values), op.concat([lengths, padded.lengths], axis=0)


def _blank(sent: Var) -> str | float:
    """What clients fill up rows of fewer values with."""
    if is_string(sent):
        return ""
    return float("nan") if sent.unwrap_tensor().dtype.type in (np.float32, np.float64) else -1


def _join_rows(left: Var, right: Var) -> Var:
    """Two matrices of which one has no row: the other one, whatever the widths are."""
    flat = op.concat([_flat(left), _flat(right)], axis=0)
    # The shape of the one that has rows: shapes times "has rows", added up.
    shape = op.add(*(op.mul(op.shape(one), _has_rows(one)) for one in (left, right)))
    return op.reshape(flat, shape, allowzero=True)


def _flat(matrix: Var) -> Var:
    return op.reshape(matrix, op.const(np.array([-1], np.int64)))


def _has_rows(matrix: Var) -> Var:
    rows = op.shape(matrix, end=1)
    return op.cast(op.greater(rows, op.const(np.array([0], np.int64))), to=np.int64)
