"""The network of an estimator -> ONNX: model_fn in one mode, from transformed features to outputs.

Owns which tensors a network takes and gives, its tracing, and the sentence for a model_fn that cannot be traced. The
model_fn of a Keras model is not traced: its layers are written by their rules, as `export_model` does. Knows nothing of
receivers or of signatures' key rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import setitem
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from estimator_serving.exporter.sources.keras import KerasSource, keras_to_onnx
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError
from estimator_serving.exporter.sources.tracing import check_open, explain, trace_program
from estimator_serving.exporter.supervised import supervised_outputs
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.features import Features
from estimator_serving.training.columns.onnx_export import to_onnx
from estimator_serving.training.estimator import TrainedModel
from estimator_serving.training.forward_features import ForwardedFeature
from estimator_serving.training.heads.base import ExportedWords
from estimator_serving.training.keras_model import KerasModelFn, named_outputs
from estimator_serving.training.model_fn import (
    DEFAULT_SERVING_KEY,
    ClassificationOutput,
    EstimatorSpec,
    ExportOutput,
    ModeKeys,
    Prediction,
    PredictOutput,
    RegressionOutput,
    StringPrediction,
)
from estimator_serving.wire.signatures import CLASSIFY_CLASSES, CLASSIFY_SCORES, REGRESS_OUTPUTS


@dataclass(frozen=True)
class NetworkOutput:
    """One output of a network.

    Attributes:
        name: its name in the graph.
        signature: the export output it belongs to.
        alias: its alias there.
        vocabulary: the words behind its ids, None for a number.
        forwarded: the feature that is handed on as this output, which no network computes; None for what the network
            gives.
    """

    name: str
    signature: str
    alias: str
    vocabulary: tuple[str, ...] | None
    forwarded: ForwardedFeature | None = None


@dataclass(frozen=True)
class NetworkOutputs:
    """What a network gives.

    Attributes:
        distinct: each tensor once, in the network's order.
        aliases: graph names by alias, for every export output.
    """

    distinct: tuple[NetworkOutput, ...]
    aliases: Mapping[str, Mapping[str, str]]


def list_outputs(exported: Mapping[str, ExportOutput], taken: Iterable[str] = ()) -> NetworkOutputs:
    """The tensors of export outputs. One that stands in several export outputs is given once.

    Names are the aliases of the predict outputs, unless `taken` by the graph; others are `<signature>/<alias>`.
    """
    distinct: dict[object, NetworkOutput] = {}
    aliases: dict[str, dict[str, str]] = {}
    names = set(taken)
    # PredictOutputs first: their names are the predictions' own.
    for key, output in sorted(exported.items(), key=lambda item: not isinstance(item[1], PredictOutput)):
        aliases[key] = {}
        for alias, value in output_tensors(output):
            vocabulary = value.vocabulary if isinstance(value, StringPrediction) else None
            # The same ids may be given as numbers and as words: two outputs.
            identity = (id(_tensor(value)), vocabulary)
            if identity not in distinct:
                is_free = isinstance(output, PredictOutput) and alias not in names
                name = alias if is_free else f"{key}/{alias}"
                while name in names:
                    name = f"{name}/output"
                forwarded = value if isinstance(value, ForwardedFeature) else None
                distinct[identity] = NetworkOutput(name, key, alias, vocabulary, forwarded)
                names.add(name)
            aliases[key][alias] = distinct[identity].name
    return NetworkOutputs(tuple(distinct.values()), {key: aliases[key] for key in exported})


def output_tensors(output: ExportOutput) -> Iterator[tuple[str, Prediction]]:
    """The tensors of an export output by alias. Raises TypeError for an export output of another type."""
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


def select(exported: Mapping[str, ExportOutput], outputs: Iterable[NetworkOutput]) -> list[Prediction]:
    """The values of `outputs` in export outputs, in their order."""
    return [dict(output_tensors(exported[one.signature]))[one.alias] for one in outputs]


@dataclass(frozen=True)
class ModelFnArguments:
    """Which argument of model_fn each tensor is that a network may take.

    Attributes:
        transformed: names of the transform's outputs.
        direct: features that model_fn may read itself, key by name.
        labels: labels, key by name.
        words: names of the labels that are words.
        open_axes: of the features read directly, the axes that may have any size beside the first, the batch.
        is_bare: whether model_fn takes its single feature as it is instead of a mapping.
        has_one_label: whether it takes its single label as it is instead of a mapping.
    """

    transformed: tuple[str, ...]
    direct: Mapping[str, Any]
    labels: Mapping[str, Any]
    words: frozenset[str] = frozenset()
    open_axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    is_bare: bool = False
    has_one_label: bool = True

    def is_read(self, name: str, read_keys: Iterable[Any]) -> bool:
        """Whether a model_fn that read these keys needs the tensor."""
        return name not in self.direct or self.is_bare or self.direct[name] in read_keys


@dataclass(eq=False)
class ModelFnCaller:
    """Calls a trained model_fn for export: tensors by name in, its spec out.

    Attributes:
        model: the trained model.
        mode: what model_fn is called for.
        arguments: which argument each tensor is.
        read_keys: the features that model_fn has read itself so far.
        vocabulary_files: the files that its columns read words from.
        label_vocabularies: the words of labels that are words, by name, as far as a head has said them.
    """

    model: TrainedModel
    mode: str
    arguments: ModelFnArguments
    read_keys: set[str] = field(default_factory=set)
    vocabulary_files: tuple[str, ...] = ()
    label_vocabularies: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __call__(self, tensors: Mapping[str, Tensor]) -> EstimatorSpec:
        """What model_fn returns for these tensors, by their names in `arguments`."""
        arguments = self.arguments
        transformed = {name: tensors[name] for name in arguments.transformed if name in tensors}
        direct = {key: tensors[name] for name, key in arguments.direct.items() if name in tensors}
        labels: Any = {key: tensors[name] for name, key in arguments.labels.items() if name in tensors}
        for name in arguments.words & tensors.keys():
            # The graph looks the words up, in the vocabulary that the head names.
            tell = partial(setitem, self.label_vocabularies, name)
            labels[arguments.labels[name]] = ExportedWords(tensors[name], tell)
        if arguments.has_one_label or not labels:
            labels = next(iter(labels.values()), None)
        if arguments.is_bare:
            (feature,) = direct.values()
            return self.model.call(feature, self.mode, labels)
        recorder = self.model.recorder()
        spec = self.model.call(Features.traced(transformed, direct, recorder), self.mode, labels)
        self.read_keys |= recorder.read_keys
        self.vocabulary_files = recorder.vocabulary_files
        return spec


def exports_of(spec: EstimatorSpec, mode: str) -> Mapping[str, ExportOutput]:
    """The export outputs of a spec of this mode."""
    if mode != ModeKeys.PREDICT:
        return supervised_outputs(spec, mode)
    assert spec.export_outputs is not None, "a PREDICT spec always has some"
    return spec.export_outputs


class Network(nn.Module):
    """model_fn as a module: transformed and directly read features in, output tensors out.

    Text leaves as ids. The variables are the estimator's own.
    """

    def __init__(self, caller: ModelFnCaller, input_names: Sequence[str], outputs: Sequence[NetworkOutput]) -> None:
        super().__init__()
        self.store = caller.model.store
        self.input_names = tuple(input_names)
        self._caller = caller
        self._outputs = tuple(outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        spec = self._caller(dict(zip(self.input_names, inputs, strict=True)))
        return tuple(_tensor(value) for value in select(exports_of(spec, self._caller.mode), self._outputs))

    def to_onnx(self, sample: Sequence[Tensor]) -> onnx.ModelProto:
        """The network as ONNX, batch axis dynamic.

        Args:
            sample: one tensor an input, at least two rows each.

        Raises ValueError where model_fn cannot be traced: which line, why, and what to write instead.
        """
        model_fn = self._caller.model.model_fn
        is_plain = self._caller.mode == ModeKeys.PREDICT and not self._caller.arguments.transformed
        if isinstance(model_fn, KerasModelFn) and is_plain:
            return self._of_keras(model_fn, sample)
        return self._traced(sample)

    def _of_keras(self, model_fn: KerasModelFn, sample: Sequence[Tensor]) -> onnx.ModelProto:
        """The predictions of a Keras model, which says itself what it computes."""
        arguments = self._caller.arguments
        arrays = {name: tensor.numpy() for name, tensor in zip(self.input_names, sample, strict=True)}
        open_axes = {name: arguments.open_axes.get(name, ()) for name in self.input_names}

        def arranged(values: Mapping[str, Any]) -> Any:
            direct = {arguments.direct[name]: value for name, value in values.items()}
            inputs, _ = model_fn.called_with(next(iter(direct.values())) if arguments.is_bare else direct)
            return inputs

        def named(made: Any) -> dict[str, Any]:
            known = named_outputs(model_fn.model, made)
            for one in self._outputs:
                if one.signature != DEFAULT_SERVING_KEY or one.alias not in known:
                    raise NotLoweredError(f"the export output {one.name}, which is computed from the predictions")
            return {one.name: known[one.alias] for one in self._outputs}

        def answer(inputs: Mapping[str, Array]) -> dict[str, Array]:
            given = self(*(torch.from_numpy(inputs[name]) for name in self.input_names))
            return {one.name: value.detach().numpy() for one, value in zip(self._outputs, given, strict=True)}

        def traced() -> onnx.ModelProto:
            converted = self._traced(sample)
            check_open(KerasSource.what, open_axes, converted, arrays, answer)
            return converted

        with model_fn.values_of(self.store):
            return keras_to_onnx(model_fn.model, arrays, open_axes, arranged, named, answer, traced)

    def _traced(self, sample: Sequence[Tensor]) -> onnx.ModelProto:
        transform = self._caller.model.transform
        definitions = {} if transform is None else transform.definitions
        # [batch, k] of any width, or [batch, steps, n].
        wide: dict[str, tuple[int, ...]] = {
            name: (1,) for name, definition in definitions.items() if definition["use"] in ("ids", "weights", "steps")
        }
        wide |= self._caller.arguments.open_axes
        batch = torch.export.Dim("batch")
        tensors: list[Tensor] = []
        shapes: list[dict[int, Any]] = []
        for name, tensor in zip(self.input_names, sample, strict=True):
            axes = wide.get(name, ())
            if 1 in axes:
                # Room for at least three values a row: torch would take a width of 0 or 1 for a constant.
                room = (*(0, 0) * (tensor.ndim - 2), 0, max(0, 3 - tensor.shape[1]))
                tensor = nn.functional.pad(tensor, room, value=-1)
            tensors.append(tensor)
            shapes.append({0: batch, **dict.fromkeys(axes, torch.export.Dim.AUTO)})
        try:
            program = trace_program(self, tuple(tensors), (tuple(shapes),))
            output_names = [one.name for one in self._outputs]
            return to_onnx(program, input_names=self.input_names, output_names=output_names)
        except Exception as error:
            raise ValueError(explain("model_fn", self._caller.model.model_fn, error)) from error


def _tensor(value: Prediction) -> Tensor:
    return value.ids if isinstance(value, StringPrediction) else value
