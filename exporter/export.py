"""An estimator and a receiver -> a servable directory: the steps in order.

Owns how receiver, transform and network become one graph, and what the estimator itself gives for the sample rows that
the graph is checked with. What each step does is in the module of its name; `draft_of_estimator` lists them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import spox
import torch
from spox import Var

from estimator_serving.exporter.network import (
    ModelFnCaller,
    Network,
    NetworkOutput,
    exports_of,
    list_outputs,
    select,
)
from estimator_serving.exporter.network_inputs import (
    build_network_inputs,
    label_vocabularies,
    sample_definitions,
    with_transform,
)
from estimator_serving.exporter.receivers.features_graph import forward, look_up_text, run_graph
from estimator_serving.exporter.receivers.receiver_graph import build_receiver_graph
from estimator_serving.exporter.receivers.receivers import ServingInputReceiver, ServingInputReceiverFn, make_receiver
from estimator_serving.exporter.receivers.samples import accepted_inputs, graph_feeds
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.directory import write_servable
from estimator_serving.exporter.servable.draft import MODEL_FILE, SAMPLE_ROWS, Draft, finish, noise_of
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
from estimator_serving.training.arrays import Array
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

KINDS: Mapping[type[ExportOutput], Kind] = {
    PredictOutput: PREDICTION,
    ClassificationOutput: CLASSIFICATION,
    RegressionOutput: REGRESSION,
    TrainOutput: TRAINING,
    EvalOutput: EVALUATION,
}
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
        The path of the new version directory, which is written aside and renamed once it is whole.

    Raises:
        ValueError: no receiver, an unknown mode, no checkpoint, or a model that cannot become a graph.
        ExportMismatch: ONNX Runtime and torch disagree on a sample batch.
        OSError: the directory cannot be written.

    Source: TF 2.15 estimator, Estimator.export_saved_model (which returns bytes; this returns str).
    """
    if serving_input_receiver_fn is None:
        raise ValueError(
            "An input_receiver_fn must be defined. Pass build_parsing_serving_input_receiver_fn(feature_spec)."
        )
    receivers = {experimental_mode: serving_input_receiver_fn}
    return export_all_saved_models(estimator, export_dir_base, receivers, assets_extra, checkpoint_path, options)


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
    as in export_saved_model. Also raises ValueError where no mode is one of ModeKeys.
    Source: TF 2.15 estimator, Estimator.experimental_export_all_saved_models.
    """
    known = {mode: make for mode, make in input_receiver_fn_map.items() if mode in MODE_FILES}
    if not known:
        raise ValueError(
            f"No valid modes for exporting found. Got {input_receiver_fn_map.keys()}. "
            "Map ModeKeys.PREDICT, TRAIN or EVAL to functions that make receivers."
        )
    model = estimator.load(checkpoint_path)
    models = {}
    for mode, receiver_fn in known.items():
        file = MODE_FILES[mode]
        models[file] = finish(
            draft_of_estimator(model, make_receiver(receiver_fn), mode), options or DEFAULT_OPTIONS, file
        )
    return str(write_servable(Path(export_dir_base), models, assets_extra or {}))


def draft_of_estimator(model: TrainedModel, receiver: ServingInputReceiver, mode: str = ModeKeys.PREDICT) -> Draft:
    """The graph of a trained model behind a receiver, and what to check it with.

    Raises ValueError for a receiver that does not fit the model, and for a model that cannot become a graph.
    """
    # The graph in front of the network.
    graph = build_receiver_graph(receiver)
    model = with_transform(model, receiver, graph)
    vocabularies = label_vocabularies(model, receiver, graph, mode)
    network_inputs = build_network_inputs(model, receiver, graph, vocabularies)
    # Sample rows that model_fn takes, what it gives for them, and what it reads of them.
    caller = ModelFnCaller(model, mode, network_inputs.arguments)

    def called(rows: Mapping[str, Array]) -> tuple[dict[str, torch.Tensor], Mapping[str, ExportOutput]]:
        sample = network_inputs.run(graph_feeds(receiver, rows))
        return sample, exports_of(caller(sample), mode)

    known = sample_definitions(model, receiver, vocabularies)
    rows, (sample, exported) = accepted_inputs(receiver, [known], SAMPLE_ROWS, called)
    outputs = list_outputs(exported, graph.inputs)
    computed = [one for one in outputs.distinct if one.forwarded is None]
    read = [name for name in sample if network_inputs.arguments.is_read(name, caller.read_keys)]
    # The network as ONNX; its weights leave first, because with them a large one fits no message.
    network = Network(caller, read, computed).to_onnx([sample[name] for name in read])
    detached = weights.detach(network)
    weight_inputs = {name: weights.weight_input(tensor) for name, tensor in detached.items()}
    got = run_graph(finish_graph(network), {**network_inputs.values, **weight_inputs})
    # The outputs: what the network gives, the words behind its ids, and features that are handed on.
    values: dict[str, Var] = {}
    for one in outputs.distinct:
        if one.forwarded is not None:
            values[one.name] = forward(graph.features, one.forwarded)
        else:
            values[one.name] = got[one.name] if one.vocabulary is None else look_up_text(got[one.name], one.vocabulary)
    return Draft(
        receiver=receiver,
        receiver_graph=graph,
        model=spox.build({**graph.inputs, **weight_inputs}, values),
        detached=detached,
        outputs={key: (KINDS[type(exported[key])], outputs.aliases[key]) for key in exported},
        inputs=rows,
        expected=_expected(caller, exported, computed, sample),
        provenance=describe_estimator(model),
        assets=name_assets(caller.vocabulary_files),
        noise=partial(_noise, caller, computed, sample),
    )


def _noise(
    caller: ModelFnCaller, computed: Sequence[NetworkOutput], sample: Mapping[str, torch.Tensor]
) -> dict[str, Array]:
    """See draft.noise_of."""

    def answer(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in inputs.items()}
        exported = exports_of(caller(tensors), caller.mode)
        return _expected(caller, exported, computed, tensors)

    return noise_of(answer, {name: tensor.numpy() for name, tensor in sample.items()})


def _expected(
    caller: ModelFnCaller,
    exported: Mapping[str, ExportOutput],
    computed: Sequence[NetworkOutput],
    sample: Mapping[str, torch.Tensor],
) -> dict[str, Array]:
    """What the estimator gives, by graph name.

    An output that differs from call to call, as one behind dropout in TRAIN mode does, is left out.
    """
    asked = [exported]
    if caller.mode == ModeKeys.TRAIN:
        asked.append(exports_of(caller(sample), caller.mode))
    expected: dict[str, Array] = {}
    for output, *values in zip(computed, *(select(one, computed) for one in asked), strict=True):
        arrays: list[Array] = [
            # ONNX Runtime gives text as str.
            np.array(value.vocabulary, object)[value.ids.numpy()]
            if isinstance(value, StringPrediction)
            else value.detach().numpy()
            for value in values
        ]
        if all(np.array_equal(arrays[0], other) for other in arrays[1:]):
            expected[output.name] = arrays[0]
    return expected


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
