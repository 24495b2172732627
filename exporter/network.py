"""The network of an estimator -> ONNX: model_fn in PREDICT mode, from transformed features to outputs.

Owns which tensors a network takes and gives, and its tracing. Knows nothing of receivers or signatures' keys rules.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from estimator_serving.training.estimator import TrainedModel
from estimator_serving.training.features import Features
from estimator_serving.training.model_fn import (
    ClassificationOutput,
    EstimatorSpec,
    ExportOutput,
    Prediction,
    PredictOutput,
    RegressionOutput,
    StringPrediction,
)
from estimator_serving.training.onnx_export import to_onnx
from estimator_serving.wire.signatures import CLASSIFY_CLASSES, CLASSIFY_SCORES, REGRESS_OUTPUTS


@dataclass(frozen=True)
class NetworkOutput:
    """One output of a network.

    Attributes:
        name: its name in the graph.
        signature: the export output it belongs to.
        alias: its alias there.
        vocabulary: the words behind its ids, None for a number.
    """

    name: str
    signature: str
    alias: str
    vocabulary: tuple[str, ...] | None


@dataclass(frozen=True)
class NetworkOutputs:
    """What a network gives.

    Attributes:
        distinct: each tensor once, in the network's order.
        aliases: graph names by alias, for every export output.
    """

    distinct: tuple[NetworkOutput, ...]
    aliases: Mapping[str, Mapping[str, str]]


def list_outputs(spec: EstimatorSpec) -> NetworkOutputs:
    """The outputs of a PREDICT spec. A tensor that stands in several export outputs is given once.

    Names are the aliases of the predict outputs; others are `<signature>/<alias>`.
    """
    distinct: dict[object, NetworkOutput] = {}
    aliases: dict[str, dict[str, str]] = {}
    # PredictOutputs first: their names are the predictions' own.
    exported = export_outputs(spec)
    for key, output in sorted(exported.items(), key=lambda item: not isinstance(item[1], PredictOutput)):
        aliases[key] = {}
        for alias, value in tensors_of(output):
            vocabulary = value.vocabulary if isinstance(value, StringPrediction) else None
            # The same ids may be given as numbers and as words: two outputs.
            identity = (id(_tensor(value)), vocabulary)
            if identity not in distinct:
                name = _free_name(key, alias, isinstance(output, PredictOutput), distinct.values())
                distinct[identity] = NetworkOutput(name, key, alias, vocabulary)
            aliases[key][alias] = distinct[identity].name
    return NetworkOutputs(tuple(distinct.values()), {key: aliases[key] for key in exported})


def export_outputs(spec: EstimatorSpec) -> Mapping[str, ExportOutput]:
    """The export outputs of a PREDICT spec, which always has some."""
    assert spec.export_outputs is not None
    return spec.export_outputs


def tensors_of(output: ExportOutput) -> Iterator[tuple[str, Prediction]]:
    """The tensors of an export output by alias."""
    match output:
        case PredictOutput():
            assert isinstance(output.outputs, Mapping)
            yield from output.outputs.items()
        case ClassificationOutput():
            pairs = ((CLASSIFY_CLASSES, output.classes), (CLASSIFY_SCORES, output.scores))
            yield from ((alias, value) for alias, value in pairs if value is not None)
        case RegressionOutput():
            yield REGRESS_OUTPUTS, output.value
        case _:
            raise TypeError(
                f"An export output of type {type(output).__name__} came; "
                "use PredictOutput, ClassificationOutput or RegressionOutput."
            )


def select(spec: EstimatorSpec, outputs: NetworkOutputs) -> list[Prediction]:
    """The values of `outputs` in a spec, in the network's order."""
    exported = export_outputs(spec)
    return [dict(tensors_of(exported[one.signature]))[one.alias] for one in outputs.distinct]


class Network(nn.Module):
    """model_fn in PREDICT mode as a module: transformed and directly read features in, output tensors out.

    Text leaves as ids. The variables are the estimator's own.
    """

    def __init__(
        self, model: TrainedModel, transformed: Sequence[str], direct: Sequence[str], outputs: NetworkOutputs
    ) -> None:
        super().__init__()
        self.store = model.store
        self._model = model
        self._transformed = tuple(transformed)
        self._direct = tuple(direct)
        definitions = model.transform.definitions if model.transform is not None else {}
        # [batch, k] of any width, or [batch, steps, n].
        self._ids = frozenset(
            name for name, definition in definitions.items() if definition["use"] in ("ids", "weights", "steps")
        )
        self._outputs = outputs

    @property
    def input_names(self) -> tuple[str, ...]:
        return (*self._transformed, *self._direct)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        split = len(self._transformed)
        transformed = dict(zip(self._transformed, inputs[:split], strict=True))
        direct = dict(zip(self._direct, inputs[split:], strict=True))
        spec = self._model.call(Features.traced(transformed, direct, self._model.recorder()))
        return tuple(_tensor(value) for value in select(spec, self._outputs))

    def to_onnx(self, sample: Sequence[Tensor]) -> onnx.ModelProto:
        """The network as ONNX, batch axis dynamic.

        Args:
            sample: one tensor an input, at least two rows each.

        Raises ValueError where model_fn cannot be traced, with torch's reason.
        """
        names = [one.name for one in self._outputs.distinct]
        return to_onnx(self._trace(sample), input_names=self.input_names, output_names=names)

    def _trace(self, sample: Sequence[Tensor]) -> torch.export.ExportedProgram:
        are_ids = [name in self._ids for name in self.input_names]
        sample = [_widened(one) if ids else one for one, ids in zip(sample, are_ids, strict=True)]
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch, 1: torch.export.Dim.AUTO} if ids else {0: batch} for ids in are_ids)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                return torch.export.export(self, tuple(sample), dynamic_shapes=(shapes,), strict=False)
        except Exception as error:
            raise ValueError(_refusal(error)) from error


def _tensor(value: Prediction) -> Tensor:
    return value.ids if isinstance(value, StringPrediction) else value


def _widened(value: Tensor) -> Tensor:
    """Ids with room for at least three values a row: torch would take a width of 0 or 1 for a constant."""
    return nn.functional.pad(value, (*(0, 0) * (value.ndim - 2), 0, max(0, 3 - value.shape[1])), value=-1)


def _free_name(key: str, alias: str, is_predict: bool, taken: Iterable[NetworkOutput]) -> str:
    names = {one.name for one in taken}
    return alias if is_predict and alias not in names else f"{key}/{alias}"


def _refusal(error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"model_fn cannot become a graph ({type(error).__name__}: {reason[:300]}). In PREDICT mode compute with torch "
        "functions of the features alone: torch.where instead of an if on values, no .item(), no numpy, nothing random."
    )
