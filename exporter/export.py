"""An estimator and a receiver -> a servable directory: the steps in order.

Owns how receiver, transform and network become one graph, and what the estimator itself gives for the samples it is
checked with. What each step does is in the module of its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import spox
import spox.opset.ai.onnx.ml.v4 as ml
import spox.opset.ai.onnx.v21 as op
import torch
from onnxruntime import InferenceSession
from spox import Var

from estimator_serving.exporter.network import (
    Caller,
    Network,
    NetworkOutput,
    NetworkOutputs,
    Roles,
    exports_of,
    list_outputs,
    select,
)
from estimator_serving.exporter.receivers.features_graph import (
    count_rows,
    direct_feature,
    feed_transform,
    forward,
    is_string,
    look_up_text,
    run_graph,
)
from estimator_serving.exporter.receivers.front import Front, add_empty_defaults, build_front
from estimator_serving.exporter.receivers.padding import Padded
from estimator_serving.exporter.receivers.receivers import (
    ServingInputReceiver,
    ServingInputReceiverFn,
    SupervisedInputReceiver,
)
from estimator_serving.exporter.receivers.samples import graph_feeds, sample_inputs
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.directory import MODEL_FILE, write_servable
from estimator_serving.exporter.servable.draft import SAMPLE_ROWS, Draft, run_all, session_of
from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS, ExportOptions
from estimator_serving.exporter.servable.provenance import describe_estimator
from estimator_serving.exporter.servable.signature_defs import (
    CLASSIFICATION,
    EVALUATION,
    PREDICTION,
    REGRESSION,
    TRAINING,
    Kind,
)
from estimator_serving.exporter.supervised import EvalOutput, TrainOutput
from estimator_serving.training.columns.definitions import inputs as transform_inputs
from estimator_serving.training.columns.finish import finish_graph
from estimator_serving.training.estimator import Estimator, TrainedModel
from estimator_serving.training.model_fn import (
    ClassificationOutput,
    ExportOutput,
    ModeKeys,
    PredictOutput,
    RegressionOutput,
    StringPrediction,
)

Array = npt.NDArray[Any]

KINDS: Mapping[type[ExportOutput], Kind] = {
    PredictOutput: PREDICTION,
    ClassificationOutput: CLASSIFICATION,
    RegressionOutput: REGRESSION,
    TrainOutput: TRAINING,
    EvalOutput: EVALUATION,
}
_GIVEN = "given/"
MODE_FILES = {
    ModeKeys.PREDICT: MODEL_FILE,
    ModeKeys.TRAIN: "model.train.onnx",
    ModeKeys.EVAL: "model.eval.onnx",
}


def export_saved_model(
    estimator: Estimator,
    export_dir_base: str | os.PathLike[str],
    serving_input_receiver_fn: ServingInputReceiverFn,
    assets_extra: Mapping[str, str] | None = None,
    checkpoint_path: str | None = None,
    experimental_mode: str = ModeKeys.PREDICT,
    options: ExportOptions | None = None,
) -> str:
    """Exports a trained estimator as `<export_dir_base>/<unix seconds>/model.onnx`.

    Args:
        estimator: a trained estimator.
        export_dir_base: the directory whose numbered children are versions.
        serving_input_receiver_fn: makes the receiver, see `build_parsing_serving_input_receiver_fn`.
        assets_extra: files to put under `assets.extra/`: path there -> path here.
        checkpoint_path: the checkpoint to export; None takes the latest.
        experimental_mode: what the graph is for. TRAIN and EVAL give `model.train.onnx` and `model.eval.onnx`, which no
            server loads, and take a supervised receiver. A graph takes no step: TRAIN gives loss and predictions of
            model_fn in TRAIN mode, dropout left out and batch normalization by the moving values.
        options: opset, external data, tolerances; see ExportOptions.

    Returns:
        The path of the new version directory. It appears under its name only when it is whole.

    Raises:
        ValueError: no receiver, no checkpoint, or a model that cannot become a graph.
        ExportMismatch: ONNX Runtime and torch disagree on a sample batch.
        OSError: the directory cannot be written.

    Source: TF 2.15 estimator, Estimator.export_saved_model (which returns bytes; this returns str).
    """
    if serving_input_receiver_fn is None:
        raise ValueError(
            "An input_receiver_fn must be defined. Pass build_parsing_serving_input_receiver_fn(feature_spec)."
        )
    receivers = {experimental_mode: serving_input_receiver_fn}
    return _export(estimator, export_dir_base, receivers, assets_extra, checkpoint_path, options)


def export_all_saved_models(
    estimator: Estimator,
    export_dir_base: str | os.PathLike[str],
    input_receiver_fn_map: Mapping[str, Callable[[], ServingInputReceiver]],
    assets_extra: Mapping[str, str] | None = None,
    checkpoint_path: str | None = None,
    options: ExportOptions | None = None,
) -> str:
    """Exports a graph for every mode into one version: `model.onnx`, `model.train.onnx`, `model.eval.onnx`.

    `input_receiver_fn_map` maps ModeKeys to functions that make receivers: supervised ones for TRAIN and EVAL. The rest
    as in export_saved_model. Raises ValueError where no mode is one of ModeKeys, too.
    Source: TF 2.15 estimator, Estimator.experimental_export_all_saved_models.
    """
    known = {mode: make for mode, make in input_receiver_fn_map.items() if mode in MODE_FILES}
    if not known:
        raise ValueError(
            f"No valid modes for exporting found. Got {input_receiver_fn_map.keys()}. "
            "Map ModeKeys.PREDICT, TRAIN or EVAL to functions that make receivers."
        )
    return _export(estimator, export_dir_base, known, assets_extra, checkpoint_path, options)


def _export(
    estimator: Estimator,
    base: str | os.PathLike[str],
    receivers: Mapping[str, Callable[[], ServingInputReceiver]],
    assets_extra: Mapping[str, str] | None,
    checkpoint_path: str | None,
    options: ExportOptions | None,
) -> str:
    model = estimator.load(checkpoint_path)
    drafts = {MODE_FILES[mode]: build_draft(model, make(), mode) for mode, make in receivers.items()}
    return str(write_servable(Path(base), drafts, assets_extra or {}, options or DEFAULT_OPTIONS))


def build_draft(model: TrainedModel, receiver: ServingInputReceiver, mode: str = ModeKeys.PREDICT) -> Draft:
    """The graph of a trained model behind a receiver, and what to check it with.

    Raises ValueError for a receiver that does not fit the model, and for a model that cannot become a graph.
    """
    front = build_front(receiver)
    vocabularies = _label_vocabularies(model, receiver, front, mode)
    given = _Given.build(model, receiver, front, vocabularies)
    inputs = sample_inputs(receiver, _definitions(model, receiver, vocabularies), SAMPLE_ROWS)
    sample = given.run(graph_feeds(receiver, inputs))
    caller = Caller(model, mode, given.roles)
    exported = exports_of(caller(sample), mode)
    outputs = list_outputs(exported, front.inputs)
    computed = [one for one in outputs.distinct if one.forwarded is None]
    read = [name for name in sample if given.roles.is_read(name, caller.read_keys)]
    network = Network(caller, read, computed).to_onnx([sample[name] for name in read])
    # First: with its weights a large network fits no message.
    detached = weights.detach(network)
    graph = finish_graph(network)
    return Draft(
        receiver=receiver,
        front=front,
        model=_merge(front, given, graph, detached, outputs),
        detached=detached,
        outputs={key: (KINDS[type(exported[key])], outputs.aliases[key]) for key in exported},
        inputs=inputs,
        expected=_expected(caller, exported, computed, sample),
        provenance=describe_estimator(model),
        assets=name_assets(caller.vocabulary_files),
    )


Vocabularies = Mapping[str, tuple[str, ...]]


def _label_vocabularies(model: TrainedModel, receiver: ServingInputReceiver, front: Front, mode: str) -> Vocabularies:
    """The vocabularies of labels that are words, by name: model_fn is asked with none, and its heads say theirs."""
    if not isinstance(receiver, SupervisedInputReceiver):
        return {}
    words = {_label_name(key): () for key, label in receiver.labels.items() if _is_text(label)}
    if not words:
        return {}
    given = _Given.build(model, receiver, front, words)
    inputs = sample_inputs(receiver, _definitions(model, receiver, {}), SAMPLE_ROWS)
    sample = given.run(graph_feeds(receiver, inputs))
    caller = Caller(model, mode, given.roles)
    caller({**sample, **{name: torch.zeros_like(sample[name]) for name in words}})
    return {**words, **caller.label_vocabularies}


def _definitions(model: TrainedModel, receiver: ServingInputReceiver, vocabularies: Vocabularies) -> dict[str, Any]:
    """What samples are chosen by: the transform's definitions, and labels that heads take."""
    labels = receiver.labels if isinstance(receiver, SupervisedInputReceiver) else {}
    known: dict[str, Any] = {}
    for key, label in labels.items():
        # Without a vocabulary numbers that every kind of head takes.
        words = vocabularies.get(_label_name(key), ()) if _is_text(label) else (0, 1)
        known[_label_name(key)] = {"key": receiver.source_of(label, key), "vocabulary_list": words, "is_label": True}
    return {**({} if model.transform is None else model.transform.definitions), **known}


def _label_name(key: Any) -> str:
    return f"label/{key}"


@dataclass(frozen=True)
class _Given:
    """The graph in front of the network: receiver and transform.

    Attributes:
        values: what the network may take, by name.
        roles: what each of them is to model_fn.
    """

    values: Mapping[str, Var]
    roles: Roles
    _session: InferenceSession

    @classmethod
    def build(
        cls, model: TrainedModel, receiver: ServingInputReceiver, front: Front, vocabularies: Vocabularies
    ) -> _Given:
        transformed: dict[str, Var] = {}
        if model.transform is not None:
            fed = feed_transform(front.features, transform_inputs(model.transform.definitions.values()))
            transformed = run_graph(onnx.load_from_string(model.transform.model_bytes), fed)
        direct = {key: var for key, one in front.features.items() if (var := direct_feature(one)) is not None}
        if not transformed and not direct:
            # A baseline reads nothing of its features but how many rows they have.
            transformed = {"rows": count_rows(next(iter(front.features.values())))}
        labels: dict[Any, Var] = {}
        if isinstance(receiver, SupervisedInputReceiver):
            labels = {
                key: _label(key, label, vocabularies.get(_label_name(key))) for key, label in receiver.labels.items()
            }
        roles = Roles(
            transformed=tuple(transformed),
            direct={str(key): key for key in direct},
            labels={_label_name(key): key for key in labels},
            words=frozenset(vocabularies),
            open=frozenset(str(key) for key, var in direct.items() if _has_open_rows(var)),
            is_bare=receiver.is_bare,
            has_one_label=isinstance(receiver, SupervisedInputReceiver) and receiver.has_one_label,
        )
        values = transformed | {str(key): var for key, var in direct.items()}
        values |= {_label_name(key): var for key, var in labels.items()}
        # Apart by a prefix: an input and the feature read from it may have one name.
        outputs = {f"{_GIVEN}{name}": op.identity(var) for name, var in values.items()}
        built = finish_graph(spox.build(dict(front.inputs), outputs))
        if front.alternatives:
            add_empty_defaults(built)
        return cls(values, roles, session_of(built))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        outputs = run_all(self._session, feeds)
        return {name.removeprefix(_GIVEN): torch.from_numpy(value) for name, value in outputs.items()}


def _has_open_rows(var: Var) -> bool:
    """Whether a row has any number of steps, as of a FixedLenSequenceFeature."""
    shape = var.unwrap_tensor().shape or ()
    return len(shape) > 1 and not isinstance(shape[1], int)


def _is_text(label: Var | Padded) -> bool:
    return isinstance(label, Var) and is_string(label)


def _label(key: Any, label: Var | Padded, vocabulary: tuple[str, ...] | None) -> Var:
    """A label as the network takes it: a number, or a word's place in the vocabulary, -1 for a word it lacks."""
    if vocabulary is not None:
        assert isinstance(label, Var)
        words = vocabulary or ("",)
        return ml.label_encoder(label, keys_strings=words, values_int64s=range(len(words)), default_int64=-1)
    number = direct_feature(label)
    if number is None:
        raise ValueError(f"The label {key} has any number of values a row; declare it as a FixedLenFeature.")
    return number


def _merge(
    front: Front,
    given: _Given,
    graph: onnx.ModelProto,
    detached: Mapping[str, onnx.TensorProto],
    outputs: NetworkOutputs,
) -> onnx.ModelProto:
    stand_ins = {name: weights.stand_in(tensor) for name, tensor in detached.items()}
    got = run_graph(graph, {**given.values, **stand_ins})

    def output(one: NetworkOutput) -> Var:
        if one.forwarded is not None:
            return forward(front.features, one.forwarded)
        return got[one.name] if one.vocabulary is None else look_up_text(got[one.name], one.vocabulary)

    return spox.build({**front.inputs, **stand_ins}, {one.name: output(one) for one in outputs.distinct})


def _expected(
    caller: Caller,
    exported: Mapping[str, ExportOutput],
    computed: Sequence[NetworkOutput],
    sample: Mapping[str, torch.Tensor],
) -> dict[str, Array]:
    """What the estimator gives; without what it gives differently the next time, as dropout in TRAIN mode does."""
    expected = {one.name: _array(value) for one, value in zip(computed, select(exported, computed), strict=True)}
    if caller.mode != ModeKeys.TRAIN:
        return expected
    again = select(exports_of(caller(sample), caller.mode), computed)
    repeated = {one.name: _array(value) for one, value in zip(computed, again, strict=True)}
    return {name: value for name, value in expected.items() if np.array_equal(value, repeated[name])}


def _array(value: Any) -> Array:
    if isinstance(value, StringPrediction):
        # ONNX Runtime gives text as str.
        text: Array = np.array(value.vocabulary, object)[value.ids.numpy()]
        return text
    array: Array = value.detach().numpy()
    return array


def name_assets(files: Iterable[str]) -> dict[str, Path]:
    """Files by the names they get under `assets/`: their own, with _1, _2, … behind it where two have one name."""
    named: dict[str, Path] = {}
    for file in map(Path, files):
        name, number = file.name, 0
        while name in named:
            number += 1
            name = f"{file.stem}_{number}{file.suffix}"
        named[name] = file
    return named
