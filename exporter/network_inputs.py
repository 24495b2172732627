"""What a network takes: the receiver and the transform in front of it, and the labels of supervised exports.

Owns how raw features and labels become the tensors that model_fn is called with, and which of its arguments each of
them is. Knows nothing of what a network gives, of signatures or of files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import onnx
import spox.opset.ai.onnx.ml.v4 as ml
import torch
from spox import Var

from estimator_serving.exporter.network import ModelFnArguments, ModelFnCaller
from estimator_serving.exporter.receivers.features_graph import (
    count_rows,
    direct_feature,
    feed_transform,
    is_string,
    run_graph,
)
from estimator_serving.exporter.receivers.receiver_graph import ReceiverGraph
from estimator_serving.exporter.receivers.receivers import ServingInputReceiver, SupervisedInputReceiver
from estimator_serving.exporter.receivers.samples import accepted_inputs, graph_feeds, sample_inputs
from estimator_serving.exporter.servable.draft import SAMPLE_ROWS
from estimator_serving.exporter.servable.running import evaluate
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.features import Features
from estimator_serving.training.columns.padding import Padded
from estimator_serving.training.estimator import TrainedModel

Vocabularies = Mapping[str, tuple[str, ...]]
"""The words of labels that are words, by the labels' names."""


@dataclass(frozen=True)
class NetworkInputs:
    """The graph in front of a network: receiver and transform.

    Attributes:
        values: what the network may take, by name.
        arguments: which argument of model_fn each of them is.
        graph: the receiver's graph, of which they are made.
    """

    values: Mapping[str, Var]
    arguments: ModelFnArguments
    graph: ReceiverGraph

    def run(self, feeds: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """The values for what clients send."""
        return {name: torch.from_numpy(array) for name, array in evaluate(self.graph, self.values, feeds).items()}


def build_network_inputs(
    model: TrainedModel, receiver: ServingInputReceiver, graph: ReceiverGraph, vocabularies: Vocabularies
) -> NetworkInputs:
    """The transform's outputs, the features that model_fn may read itself, and the labels.

    Labels in `vocabularies` become ids: a word's place in the vocabulary, -1 for a word it lacks.

    Raises ValueError for a feature that does not fit the transform, and for a label with any number of values a row.
    """
    transformed: dict[str, Var] = {}
    if model.transform is not None:
        fed = feed_transform(graph.features, model.transform.inputs)
        transformed = run_graph(onnx.load_from_string(model.transform.model_bytes), fed)
    direct = {key: var for key, one in graph.features.items() if (var := direct_feature(one)) is not None}
    if not transformed and not direct:
        # A baseline reads nothing of its features but how many rows they have.
        transformed = {"rows": count_rows(next(iter(graph.features.values())))}
    labels: dict[Any, Var] = {}
    for key, label in _labels_of(receiver).items():
        vocabulary = vocabularies.get(_label_name(key))
        if vocabulary is not None:
            assert isinstance(label, Var), "only text has a vocabulary, and no feature of text is padded here"
            words = vocabulary or ("",)
            labels[key] = ml.label_encoder(label, keys_strings=words, values_int64s=range(len(words)), default_int64=-1)
        elif (number := direct_feature(label)) is not None:
            labels[key] = number
        else:
            raise ValueError(f"The label {key} has any number of values a row; declare it as a FixedLenFeature.")
    open_axes: dict[str, tuple[int, ...]] = {}
    for key, var in direct.items():
        # As of a FixedLenSequenceFeature: a row has any number of steps.
        shape = var.unwrap_tensor().shape or ()
        if axes := tuple(axis for axis, size in enumerate(shape) if axis and not isinstance(size, int)):
            open_axes[str(key)] = axes
    arguments = ModelFnArguments(
        transformed=tuple(transformed),
        direct={str(key): key for key in direct},
        labels={_label_name(key): key for key in labels},
        words=frozenset(vocabularies),
        open_axes=open_axes,
        is_bare=receiver.is_bare,
        has_one_label=isinstance(receiver, SupervisedInputReceiver) and receiver.has_one_label,
    )
    values = transformed | {str(key): var for key, var in direct.items()}
    values |= {_label_name(key): var for key, var in labels.items()}
    return NetworkInputs(values, arguments, graph)


def with_transform(model: TrainedModel, receiver: ServingInputReceiver, graph: ReceiverGraph) -> TrainedModel:
    """The model with its columns' transform, recorded here if its checkpoint has none.

    A model that was only warm-started, or that TensorFlow trained, has no transform yet. model_fn is called for a
    prediction with samples of the receiver's features, and the columns it uses are recorded. The first call has no
    rows, and its errors are ignored, because not every model_fn takes such a batch. It makes the columns known, so that
    the samples of the second call have values that they accept.
    """
    if model.transform is not None or receiver.is_bare:
        return model
    recorder = model.recorder()
    parts: dict[str, Var] = {}
    for key, value in graph.features.items():
        if isinstance(value, Padded):
            parts |= {f"{key}/values": value.values, f"{key}/lengths": value.lengths}
        else:
            parts[key] = value

    def call(rows: Mapping[str, Array]) -> None:
        model.call(Features(evaluate(graph, parts, graph_feeds(receiver, rows)), recorder))

    with suppress(Exception):
        call(sample_inputs(receiver, {}, 0))
    known = {} if recorder.transform is None else recorder.transform.definitions
    accepted_inputs(receiver, [known], SAMPLE_ROWS, call)
    completed = copy.copy(model)
    completed.transform = recorder.transform
    return completed


def label_vocabularies(
    model: TrainedModel, receiver: ServingInputReceiver, graph: ReceiverGraph, mode: str
) -> Vocabularies:
    """The vocabularies of labels that are words, by name.

    model_fn is called once with ids of no vocabulary, and its heads name theirs; one that no head names stays empty.
    """
    words: dict[str, tuple[str, ...]] = {
        _label_name(key): () for key, label in _labels_of(receiver).items() if _is_text(label)
    }
    if not words:
        return {}
    inputs = build_network_inputs(model, receiver, graph, words)
    caller = ModelFnCaller(model, mode, inputs.arguments)

    def call(rows: Mapping[str, Array]) -> None:
        sample = inputs.run(graph_feeds(receiver, rows))
        caller({**sample, **{name: torch.zeros_like(sample[name]) for name in words}})

    accepted_inputs(receiver, [sample_definitions(model, receiver, {})], SAMPLE_ROWS, call)
    return {**words, **caller.label_vocabularies}


def sample_definitions(
    model: TrainedModel, receiver: ServingInputReceiver, vocabularies: Vocabularies
) -> dict[str, Any]:
    """What samples are chosen by: the transform's definitions, and the labels that heads take."""
    known: dict[str, Any] = {}
    for key, label in _labels_of(receiver).items():
        # Without a vocabulary, numbers that every kind of head takes.
        words = vocabularies.get(_label_name(key), ()) if _is_text(label) else (0, 1)
        source = receiver.source_of(label, key)
        known[_label_name(key)] = {"key": source, "vocabulary_list": words, "is_label": True}
    return {**({} if model.transform is None else model.transform.definitions), **known}


def _labels_of(receiver: ServingInputReceiver) -> Mapping[Any, Var | Padded]:
    return receiver.labels if isinstance(receiver, SupervisedInputReceiver) else {}


def _label_name(key: Any) -> str:
    return f"label/{key}"


def _is_text(label: Var | Padded) -> bool:
    return isinstance(label, Var) and is_string(label)
