"""Models that other libraries trained -> servables: scikit-learn, boosters, torch, Keras, ONNX.

Owns the steps of such an export in order; `draft_of_source` lists them. What a library needs is in `sources`, and what
classify and regress give in `model_outputs`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.exporter.model_outputs import classify_outputs, predict_outputs, regress_outputs
from estimator_serving.exporter.receivers.features_graph import run_graph
from estimator_serving.exporter.receivers.receiver_graph import ReceiverGraph, build_receiver_graph
from estimator_serving.exporter.receivers.receivers import ServingInputReceiver, ServingInputReceiverFn, make_receiver
from estimator_serving.exporter.receivers.samples import accepted_inputs, graph_feeds, sample_inputs
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.directory import write_servable
from estimator_serving.exporter.servable.draft import MODEL_FILE, SAMPLE_ROWS, Draft, finish, noise_of
from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS, ExportOptions
from estimator_serving.exporter.servable.provenance import describe_versions
from estimator_serving.exporter.servable.running import evaluate
from estimator_serving.exporter.sources.base import CLASSIFY, PREDICT, REGRESS, ModelInput, Source
from estimator_serving.exporter.sources.recognize import recognize
from estimator_serving.exporter.sources.torch import TorchSource
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.onnx_export import OPSET
from estimator_serving.training.columns.padding import Padded, as_matrix
from estimator_serving.wire import dtypes

METHODS = (CLASSIFY, REGRESS, PREDICT)


def export_model(
    model: Any,
    export_dir_base: str | os.PathLike[str],
    serving_input_receiver_fn: ServingInputReceiverFn,
    *,
    method: str | None = None,
    label_vocabulary: Sequence[str] | None = None,
    assets_extra: Mapping[str, str] | None = None,
    options: ExportOptions | None = None,
    output_names: Mapping[str, str] | None = None,
) -> str:
    """Exports a model that another library trained as `<export_dir_base>/<unix seconds>/model.onnx`.

    Args:
        model: a fitted scikit-learn estimator or pipeline, an XGBoost, LightGBM or CatBoost model, a torch module, a
            Keras 3 model on the torch backend or the path of its `.keras` or `.h5` file, or an ONNX model (path, bytes
            or ModelProto).
        export_dir_base: the directory whose numbered children are versions.
        serving_input_receiver_fn: makes the receiver. Its features are found by the names the model was trained with;
            where it knows none, they stand side by side in the receiver's order.
        method: `classify` (probabilities of classes), `regress` (one number a row) or `predict` (all outputs as they
            are). None takes what the model is; torch, Keras and ONNX models predict.
        label_vocabulary: names of the classes; None takes the model's own, or '0', '1', …
        assets_extra: files to put under `assets.extra/`: path there -> path here.
        options: opset, external data, tolerances; see ExportOptions.
        output_names: the model's name of an output -> its name in the servable. A Keras model calls its outputs after
            the layers.

    Returns:
        The path of the new version directory. Its signatures: `predict` always; with classify `serving_default` and
        `classification`, for two classes `regression` (the second one's probability), too; with regress
        `serving_default` and `regression`. What clients send decides as for estimators which of them stay.

    Raises:
        TypeError: a model of no known kind.
        ValueError: features that do not fit the model, and what cannot be converted: which step, which line.
        ExportMismatch: ONNX Runtime and the model disagree on a sample batch; nothing was written.
        ModuleNotFoundError: the model's converter is not installed.
    """
    if method not in (None, *METHODS):
        raise ValueError(f"method is {method!r}; give one of {', '.join(METHODS)}.")
    source = recognize(model)
    receiver, method = make_receiver(serving_input_receiver_fn), method or source.method
    draft = draft_of_source(source, receiver, method, label_vocabulary, output_names or {})
    models = {MODEL_FILE: finish(draft, options or DEFAULT_OPTIONS)}
    return str(write_servable(Path(export_dir_base), models, assets_extra or {}))


def draft_of_source(
    source: Source,
    receiver: ServingInputReceiver,
    method: str,
    label_vocabulary: Sequence[str] | None,
    output_names: Mapping[str, str] = MappingProxyType({}),
) -> Draft:
    """The graph of a model behind a receiver, and what to check it with. Raises as export_model does."""
    # What the model takes, made of the receiver's features, and sample rows of it.
    graph = build_receiver_graph(receiver)
    wanted, fed = _feed(source, graph)
    rows, sample, answered = _samples(source, receiver, graph, fed)
    # The model as ONNX; its weights leave first, because with them a large one fits no message.
    with _saying_so(f"Converting the model ({type(source).__name__.removesuffix('Source')}) to ONNX"):
        converted = source.convert(wanted, sample)
    detached = weights.detach(converted)
    weight_inputs = {name: weights.weight_input(tensor) for name, tensor in detached.items()}
    got = run_graph(weights.pin_opset(converted, OPSET), {**fed, **weight_inputs})
    # What the model itself gives for the sample rows, and what the servable is to give.
    try:
        answered = answered or source.answer(sample)
    except AttributeError as error:
        raise ValueError(
            f"The model lacks what its library looks for ({error}), as a model does that another version of "
            f"{source.packages[0]} saved. Fit it again with the version that is installed, or export it with the one "
            "that saved it."
        ) from error
    except Exception as error:
        raise ValueError(
            f"The model refuses sample rows with words and numbers it was not trained with ({error}). Clients send "
            "such rows; let its encoders take them (handle_unknown='ignore')."
        ) from error
    if unknown := sorted(set(output_names) - set(got)):
        raise ValueError(f"output_names renames {', '.join(unknown)}, and the model gives {', '.join(got)}.")
    got = {output_names.get(name, name): var for name, var in got.items()}
    answered = {output_names.get(name, name): array for name, array in answered.items()}

    def named_answer(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {output_names.get(name, name): array for name, array in source.answer(inputs).items()}

    if method == CLASSIFY:
        outputs = classify_outputs(got, answered, source.labels if label_vocabulary is None else label_vocabulary)
    else:
        outputs = (regress_outputs if method == REGRESS else predict_outputs)(got, answered)
    # An output may not have an input's name.
    names = {name: f"predict/{name}" if name in graph.inputs else name for name in outputs.values}
    values = {names[name]: op.identity(var) for name, var in outputs.values.items()}
    return Draft(
        receiver=receiver,
        receiver_graph=graph,
        model=spox.build({**graph.inputs, **weight_inputs}, values),
        detached=detached,
        outputs={
            key: (kind, {alias: names[name] for alias, name in aliases.items()})
            for key, (kind, aliases) in outputs.signatures.items()
        },
        inputs=rows,
        expected={names[name]: array for name, array in outputs.expected.items()},
        provenance=describe_versions(source.packages),
        noise=partial(noise_of, named_answer, sample, source.nudged) if isinstance(source, TorchSource) else dict,
        cause=source.cause,
    )


def _feed(source: Source, graph: ReceiverGraph) -> tuple[list[ModelInput], dict[str, Var]]:
    """The inputs of the model, and their values made of the receiver's features, by name."""
    known = {}
    for key, feature in graph.features.items():
        if isinstance(feature, Padded):
            raise ValueError(
                f"The receiver gives {key} with any number of values a row, which only an Estimator's columns read; "
                "declare it as a FixedLenFeature."
            )
        known[str(key)] = dtypes.from_numpy(np.dtype(feature.unwrap_tensor().dtype))
    wanted = source.inputs(known)
    fed: dict[str, Var] = {}
    for one in wanted:
        tensors = [part for key in one.keys if isinstance(part := graph.features[key], Var)]
        if not one.dtype.is_string:
            tensors = [op.cast(part, to=one.dtype.numpy) for part in tensors]
        if one.is_matrix:
            columns = [as_matrix(part) for part in tensors]
            fed[one.name] = op.concat(columns, axis=1) if len(columns) > 1 else columns[0]
        else:
            fed[one.name] = tensors[0]
    opened: dict[str, tuple[int, ...]] = {}
    for one in wanted:
        shape = () if one.is_matrix else fed[one.name].unwrap_tensor().shape or ()
        opened[one.name] = tuple(axis for axis, size in enumerate(shape) if axis and not isinstance(size, int))
    return [replace(one, open_axes=opened[one.name]) for one in wanted], fed


def _samples(
    source: Source, receiver: ServingInputReceiver, graph: ReceiverGraph, fed: Mapping[str, Var]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """Sample rows, what the model is given for them, and what it gives; nothing where it refuses all of them."""
    words = {key: {"key": key, "vocabulary_list": list(values)} for key, values in source.known_values().items()}
    only_words = {key: {**one, "is_label": True} for key, one in words.items()}

    def fed_with(rows: Mapping[str, Array]) -> dict[str, Array]:
        return evaluate(graph, fed, graph_feeds(receiver, rows))

    def answered(rows: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        sample = fed_with(rows)
        return sample, source.answer(sample)

    try:
        rows, (sample, answers) = accepted_inputs(receiver, [words, only_words], SAMPLE_ROWS, answered)
    except Exception:
        # Its conversion, or its answer, says what is wrong.
        rows = sample_inputs(receiver, words, SAMPLE_ROWS)
        return rows, fed_with(rows), {}
    return rows, sample, answers


@contextmanager
def _saying_so(work: str) -> Iterator[None]:
    """Write a line where the work takes longer than 3 seconds."""
    # Tracing takes what is written to sys.stderr away.
    stream = sys.stderr
    line = f"{work}; a large network takes a minute or two."
    timer = threading.Timer(3, lambda: print(line, file=stream, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
