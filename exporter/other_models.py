"""Models that other libraries trained -> servables: scikit-learn, XGBoost, LightGBM, torch, Keras, ONNX.

Owns the recognition of a model, the composition of receiver, converted graph and signatures, and the words of classify
and regress for models without a head. What a library needs is in the module of its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import spox
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.exporter.receivers.features_graph import as_matrix, look_up_text, run_graph
from estimator_serving.exporter.receivers.front import Front, add_empty_defaults, build_front
from estimator_serving.exporter.receivers.padding import Padded
from estimator_serving.exporter.receivers.receivers import ServingInputReceiver, ServingInputReceiverFn
from estimator_serving.exporter.receivers.samples import graph_feeds, sample_inputs
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.directory import MODEL_FILE, write_servable
from estimator_serving.exporter.servable.draft import SAMPLE_ROWS, Draft, run_all, session_of
from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS, ExportOptions
from estimator_serving.exporter.servable.provenance import describe_versions
from estimator_serving.exporter.servable.signature_defs import CLASSIFICATION, PREDICTION, REGRESSION, Kind
from estimator_serving.exporter.sources.base import (
    CLASS_IDS,
    CLASSIFY,
    PREDICT,
    PREDICTIONS,
    PROBABILITIES,
    REGRESS,
    ModelInput,
    Source,
)
from estimator_serving.training.columns.finish import finish_graph
from estimator_serving.training.columns.onnx_export import OPSET
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.signatures import (
    CLASSIFY_CLASSES,
    CLASSIFY_SCORES,
    DEFAULT_SIGNATURE_KEY,
    REGRESS_OUTPUTS,
)

Array = npt.NDArray[Any]
Outputs = Mapping[str, tuple[Kind, Mapping[str, str]]]

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
) -> str:
    """Exports a model that another library trained as `<export_dir_base>/<unix seconds>/model.onnx`.

    Args:
        model: a fitted scikit-learn estimator or pipeline, an XGBoost or LightGBM model, a torch module, a Keras 3
            model on the torch backend, or an ONNX model (path, bytes or ModelProto).
        export_dir_base: the directory whose numbered children are versions.
        serving_input_receiver_fn: makes the receiver. Its features are found by the names the model was trained with;
            where it knows none, they stand side by side in the receiver's order.
        method: `classify` (probabilities of classes), `regress` (one number a row) or `predict` (all outputs as they
            are). None takes what the model is; torch, Keras and ONNX models predict.
        label_vocabulary: names of the classes; None takes the model's own, or '0', '1', …
        assets_extra: files to put under `assets.extra/`: path there -> path here.
        options: opset, external data, tolerances; see ExportOptions.

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
    draft = build_draft(source, serving_input_receiver_fn(), method or source.method, label_vocabulary)
    drafts = {MODEL_FILE: draft}
    return str(write_servable(Path(export_dir_base), drafts, assets_extra or {}, options or DEFAULT_OPTIONS))


def recognize(model: Any) -> Source:
    """The source behind a model, by the module its class comes from. Raises TypeError for an unknown one."""
    if isinstance(model, onnx.ModelProto | bytes | str | os.PathLike):
        from estimator_serving.exporter.sources.onnx import OnnxSource

        return OnnxSource(model)
    modules = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    for module, make in _SOURCES.items():
        if module in modules:
            return make(model)
    raise TypeError(
        f"export_model takes a scikit-learn, XGBoost, LightGBM, torch, Keras or ONNX model; "
        f"got {type(model).__name__}. Convert it to ONNX with its own tools and pass the file."
    )


def _lightgbm(model: Any) -> Source:
    from estimator_serving.exporter.sources.trees import LightGbmSource

    return LightGbmSource(model)


def _xgboost(model: Any) -> Source:
    from estimator_serving.exporter.sources.trees import XgBoostSource

    return XgBoostSource(model)


def _keras(model: Any) -> Source:
    from estimator_serving.exporter.sources.torch import KerasSource

    return KerasSource(model)


def _torch(model: Any) -> Source:
    from estimator_serving.exporter.sources.torch import TorchSource

    return TorchSource(model)


def _sklearn(model: Any) -> Source:
    from estimator_serving.exporter.sources.sklearn import SklearnSource

    return SklearnSource(model)


# The first that fits: boosters derive from scikit-learn's classes, Keras models from torch's.
_SOURCES: Mapping[str, Callable[[Any], Source]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "keras": _keras,
    "torch": _torch,
    "sklearn": _sklearn,
}


def build_draft(
    source: Source, receiver: ServingInputReceiver, method: str, label_vocabulary: Sequence[str] | None
) -> Draft:
    """The graph of a model behind a receiver, and what to check it with. Raises as export_model does."""
    front = build_front(receiver)
    wanted = source.inputs({str(key): _dtype(key, one) for key, one in front.features.items()})
    fed = {one.name: _fed(one, front) for one in wanted}
    inputs, sample = _samples(source, receiver, front, fed)
    converted = source.convert(wanted, sample)
    # First: with its weights a large model fits no message.
    detached = weights.detach(converted)
    converted = weights.pin_opset(converted, OPSET)
    stand_ins = {name: weights.stand_in(tensor) for name, tensor in detached.items()}
    got = run_graph(converted, {**fed, **stand_ins})
    answered = _answer(source, sample)
    labels = list(label_vocabulary) if label_vocabulary is not None else source.labels
    given, outputs, expected = _COMPOSERS[method](got, answered, labels)
    names = {name: _free(name, front) for name in given}
    return Draft(
        receiver=receiver,
        front=front,
        model=spox.build({**front.inputs, **stand_ins}, {names[name]: op.identity(var) for name, var in given.items()}),
        detached=detached,
        outputs={
            key: (kind, {alias: names[name] for alias, name in aliases.items()})
            for key, (kind, aliases) in outputs.items()
        },
        inputs=inputs,
        expected={names[name]: array for name, array in expected.items()},
        provenance=describe_versions(source.packages),
    )


def _samples(
    source: Source, receiver: ServingInputReceiver, front: Front, fed: Mapping[str, Var]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Sample rows, and what the model is given for them. Where it refuses numbers, as a table of ten rows refuses the
    id 11, the numbers are 0 and 1: whole ones first, then all."""
    tried = []
    for kinds in ("", "iu", "iuf"):
        inputs = sample_inputs(receiver, _small_numbers(receiver, kinds), SAMPLE_ROWS)
        sample = _sample(front, fed, graph_feeds(receiver, inputs))
        tried.append((inputs, sample))
        with suppress(Exception):
            source.answer(sample)
            return tried[-1]
    # Its conversion, or its answer, says what is wrong.
    return tried[0]


def _small_numbers(receiver: ServingInputReceiver, kinds: str) -> dict[str, Any]:
    """Definitions by which numbers of these kinds of dtype are 0 or 1, for sample_inputs."""
    dtype_by_key = {one.info.value_name: one.info.dtype for one in receiver.receiver_tensors.values()}
    for one in receiver.receiver_tensors.values():
        dtype_by_key |= {key: feature.dtype for key, feature in (one.feature_spec or {}).items()}
    small = [key for key, dtype in dtype_by_key.items() if not dtype.is_string and dtype.numpy.kind in kinds]
    return {key: {"kind": "identity", "key": key, "num_buckets": 2} for key in small}


def _answer(source: Source, sample: Mapping[str, Array]) -> dict[str, Array]:
    try:
        return source.answer(sample)
    except Exception as error:
        raise ValueError(
            f"The model refuses sample rows with words and numbers it was not trained with ({error}). Clients send "
            "such rows; let its encoders take them (handle_unknown='ignore')."
        ) from error


def _dtype(key: Any, feature: Var | Padded) -> DType:
    if isinstance(feature, Padded):
        raise ValueError(
            f"The receiver gives {key} with any number of values a row, which only an Estimator's columns read; "
            "declare it as a FixedLenFeature."
        )
    return dtypes.from_numpy(np.dtype(feature.unwrap_tensor().dtype))


def _fed(wanted: ModelInput, front: Front) -> Var:
    parts = [front.features[key] for key in wanted.keys]
    tensors = [part for part in parts if isinstance(part, Var)]
    if not wanted.dtype.is_string:
        tensors = [op.cast(part, to=wanted.dtype.numpy) for part in tensors]
    if not wanted.is_matrix:
        return tensors[0]
    columns = [as_matrix(part) for part in tensors]
    return op.concat(columns, axis=1) if len(columns) > 1 else columns[0]


def _sample(front: Front, fed: Mapping[str, Var], feeds: Mapping[str, Array]) -> dict[str, Array]:
    # Apart by a prefix: an input and what is made of it may have one name.
    outputs = {f"given/{name}": op.identity(var) for name, var in fed.items()}
    model = finish_graph(spox.build(dict(front.inputs), outputs))
    if front.alternatives:
        add_empty_defaults(model)
    arrays = run_all(session_of(model), feeds)
    return {name.removeprefix("given/"): array for name, array in arrays.items()}


def _free(name: str, front: Front) -> str:
    return name if name not in front.inputs else f"predict/{name}"


# -- what the signatures give -----------------------------------------------------------------------------------------

Composed = tuple[dict[str, Var], Outputs, dict[str, Array]]
Labels = Sequence[str] | None


def _compose_predict(got: Mapping[str, Var], answered: Mapping[str, Array], _: Labels) -> Composed:
    prediction = (PREDICTION, {name: name for name in got})
    return dict(got), {DEFAULT_SIGNATURE_KEY: prediction, PREDICT: prediction}, dict(answered)


def _compose_regress(got: Mapping[str, Var], answered: Mapping[str, Array], _: Labels) -> Composed:
    name = _only(got, PREDICTIONS, REGRESS)
    value = op.cast(got[name], to=np.float32)
    given = {**_others(got, name), PREDICTIONS: as_matrix(value)}
    regression = (REGRESSION, {REGRESS_OUTPUTS: PREDICTIONS})
    outputs: Outputs = {
        DEFAULT_SIGNATURE_KEY: regression,
        "regression": regression,
        PREDICT: (PREDICTION, {alias: alias for alias in given}),
    }
    expected = answered[name].astype(np.float32)
    return given, outputs, {PREDICTIONS: expected.reshape(len(expected), -1)}


def _compose_classify(got: Mapping[str, Var], answered: Mapping[str, Array], labels: Labels) -> Composed:
    name = _only(got, PROBABILITIES, CLASSIFY)
    expected = answered[name].astype(np.float32)
    scores = as_matrix(op.cast(got[name], to=np.float32))
    expected = expected.reshape(len(expected), -1)
    if expected.shape[1] == 1:
        # One number for two classes: the second one's probability.
        scores = op.concat([op.sub(op.const(np.float32(1)), scores), scores], axis=1)
        expected = np.concatenate([1 - expected, expected], axis=1)
    words = _words(labels, expected.shape[1])
    ids = _class_ids(got, scores)
    all_ids = op.expand(op.const(np.arange(len(words), dtype=np.int64)[None]), op.shape(scores))
    given = {
        **{key: var for key, var in _others(got, name).items() if key not in (CLASS_IDS, "label")},
        PROBABILITIES: scores,
        CLASS_IDS: ids,
        "classes": look_up_text(ids, words),
        "all_class_ids": op.cast(all_ids, to=np.int32),
        "all_classes": look_up_text(all_ids, words),
    }
    classification = (CLASSIFICATION, {CLASSIFY_CLASSES: "all_classes", CLASSIFY_SCORES: PROBABILITIES})
    outputs: dict[str, tuple[Kind, Mapping[str, str]]] = {
        DEFAULT_SIGNATURE_KEY: classification,
        "classification": classification,
    }
    if len(words) == 2:
        given["logistic"] = op.slice(scores, *(op.const(np.array([at], np.int64)) for at in (1, 2, 1)))
        outputs["regression"] = (REGRESSION, {REGRESS_OUTPUTS: "logistic"})
    outputs[PREDICT] = (PREDICTION, {alias: alias for alias in given})
    known = {CLASS_IDS: answered[CLASS_IDS]} if CLASS_IDS in answered else {}
    return given, outputs, {PROBABILITIES: expected, **known}


_COMPOSERS: Mapping[str, Callable[[Mapping[str, Var], Mapping[str, Array], Labels], Composed]] = {
    CLASSIFY: _compose_classify,
    REGRESS: _compose_regress,
    PREDICT: _compose_predict,
}


def _class_ids(got: Mapping[str, Var], scores: Var) -> Var:
    """int64 [batch, 1]: what the model itself calls the best class, else the one with the largest score."""
    if CLASS_IDS in got:
        return got[CLASS_IDS]
    return op.arg_max(scores, axis=1, keepdims=True)


def _only(got: Mapping[str, Var], preferred: str, method: str) -> str:
    """The output that a method is about."""
    if preferred in got:
        return preferred
    if len(got) != 1:
        raise ValueError(
            f"The model gives {', '.join(got)}, and {method} is about one of them; call it {preferred!r}, or give the "
            "model one output."
        )
    return next(iter(got))


def _others(got: Mapping[str, Var], name: str) -> dict[str, Var]:
    return {key: var for key, var in got.items() if key != name}


def _words(labels: Labels, count: int) -> tuple[str, ...]:
    words = tuple(map(str, range(count))) if labels is None else tuple(map(str, labels))
    if len(words) != count:
        raise ValueError(
            f"label_vocabulary names {len(words)} classes, and the model gives {count} scores a row; name each class."
        )
    return words
