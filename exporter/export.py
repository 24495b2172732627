"""An estimator and a receiver -> a servable directory: the steps in order.

Owns the order, the verification and the atomic rename. What each step does is in the module of its name.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import spox
import torch
from onnxruntime import InferenceSession
from spox import Var

from estimator_serving import ops
from estimator_serving.exporter.merge import direct_feature, feed_transform, look_up_text, run_graph
from estimator_serving.exporter.network import Network, NetworkOutputs, export_outputs, list_outputs, select
from estimator_serving.exporter.receivers import EXAMPLES_KEY, Padded, ServingInputReceiver, ServingInputReceiverFn
from estimator_serving.exporter.samples import sample_examples
from estimator_serving.exporter.signature_defs import (
    CLASSIFICATION,
    PREDICTION,
    REGRESSION,
    ExportedOutput,
    build_signatures,
)
from estimator_serving.exporter.verify import check_outputs
from estimator_serving.training.definitions import inputs as transform_inputs
from estimator_serving.training.estimator import Estimator, TrainedModel
from estimator_serving.training.features import Features
from estimator_serving.training.finish import finish_graph, serialize
from estimator_serving.training.model_fn import (
    ClassificationOutput,
    EstimatorSpec,
    PredictOutput,
    RegressionOutput,
    StringPrediction,
)
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import join_examples
from estimator_serving.wire.signatures import Metadata, TensorInfo, to_properties

Array = npt.NDArray[Any]

SAMPLE_ROWS = 16
RENAME_ATTEMPTS_MAX = 10
KINDS = {PredictOutput: PREDICTION, ClassificationOutput: CLASSIFICATION, RegressionOutput: REGRESSION}


def export_saved_model(
    estimator: Estimator,
    export_dir_base: str | os.PathLike[str],
    serving_input_receiver_fn: ServingInputReceiverFn,
    assets_extra: Mapping[str, str] | None = None,
    checkpoint_path: str | None = None,
) -> str:
    """Exports a trained estimator as `<export_dir_base>/<unix seconds>/model.onnx`.

    Args:
        estimator: a trained estimator.
        export_dir_base: the directory whose numbered children are versions.
        serving_input_receiver_fn: makes the receiver, see `build_parsing_serving_input_receiver_fn`.
        assets_extra: files to put under `assets.extra/`: path there -> path here.
        checkpoint_path: the checkpoint to export; None takes the latest.

    Returns:
        The path of the new version directory. It appears under its name only when it is whole.

    Raises:
        ValueError: no receiver, no checkpoint, or a model that cannot become a graph.
        ExportMismatch: ONNX Runtime and torch disagree on a sample batch.

    Source: TF 2.15 estimator, Estimator.export_saved_model (which returns bytes; this returns str).
    """
    if serving_input_receiver_fn is None:
        raise ValueError(
            "An input_receiver_fn must be defined. Pass build_parsing_serving_input_receiver_fn(feature_spec)."
        )
    model = estimator.load(checkpoint_path)
    content = build_servable(model, serving_input_receiver_fn())
    return str(write_version(Path(export_dir_base), content, assets_extra or {}))


def build_servable(model: TrainedModel, receiver: ServingInputReceiver) -> bytes:
    """The verified bytes of `model.onnx`. Raises as export_saved_model does."""
    front = _Front.build(model, receiver)
    feeds = _sample_feeds(receiver, model, SAMPLE_ROWS)
    sample = _run(front.session, feeds)
    spec, read_keys = _call_eagerly(model, front, sample)
    outputs = list_outputs(spec)
    network = Network(model, list(front.transformed), [key for key in front.direct if key in read_keys], outputs)
    graph = network.to_onnx([torch.from_numpy(sample[name]) for name in network.input_names])
    built = _merge(receiver, front, graph, outputs)
    content = serialize(finish_graph(built, metadata=to_properties(_metadata(receiver, built, spec, outputs))))
    _verify(content, receiver, model, feeds, _expected(spec, outputs))
    return content


@dataclass(frozen=True)
class _Front:
    """The graph in front of the network: receiver and transform.

    Attributes:
        session: runs it alone.
        transformed: outputs of the transform, by name.
        direct: features that model_fn could read itself, by key.
    """

    session: InferenceSession
    transformed: Mapping[str, Var]
    direct: Mapping[str, Var]

    @classmethod
    def build(cls, model: TrainedModel, receiver: ServingInputReceiver) -> _Front:
        transformed: dict[str, Var] = {}
        if model.transform is not None:
            fed = feed_transform(receiver.features, transform_inputs(model.transform.definitions.values()))
            transformed = run_graph(onnx.load_from_string(model.transform.model_bytes), fed)
        direct = {
            key: direct_feature(receiver.features, key)
            for key, feature in receiver.features.items()
            if not isinstance(feature, Padded) and feature.unwrap_tensor().dtype.kind not in "OSUT"
        }
        built = finish_graph(spox.build(receiver.graph_inputs, transformed | direct))
        return cls(ops.session(serialize(built)), transformed, direct)


def _sample_feeds(receiver: ServingInputReceiver, model: TrainedModel, rows: int) -> dict[str, Array]:
    if receiver.feature_spec is None or not receiver.takes_examples:
        raise ValueError(
            "Only receivers of serialized Examples can be exported; make one with "
            "build_parsing_serving_input_receiver_fn(feature_spec)."
        )
    definitions = {} if model.transform is None else model.transform.definitions
    joined = join_examples(sample_examples(receiver.feature_spec, definitions, rows))
    return dict(zip(receiver.receiver_tensors[EXAMPLES_KEY].info.ragged_names, joined, strict=True))


def _call_eagerly(model: TrainedModel, front: _Front, sample: Mapping[str, Array]) -> tuple[EstimatorSpec, set[str]]:
    tensors = {name: torch.from_numpy(value) for name, value in sample.items()}
    recorder = model.recorder()
    transformed = {name: tensors[name] for name in front.transformed}
    features = Features.traced(transformed, {key: tensors[key] for key in front.direct}, recorder)
    return model.call(features), recorder.read_keys


def _merge(
    receiver: ServingInputReceiver, front: _Front, graph: onnx.ModelProto, outputs: NetworkOutputs
) -> onnx.ModelProto:
    given = run_graph(finish_graph(graph), {**front.transformed, **front.direct})
    texts = {one.name: one.vocabulary for one in outputs.distinct if one.vocabulary is not None}
    named = {name: look_up_text(var, texts[name]) if name in texts else var for name, var in given.items()}
    return spox.build(receiver.graph_inputs, named)


def _metadata(
    receiver: ServingInputReceiver, built: onnx.ModelProto, spec: EstimatorSpec, outputs: NetworkOutputs
) -> Metadata:
    infos = {value.name: _info(value) for value in built.graph.output}
    exports = export_outputs(spec)
    exported = {
        key: ExportedOutput(KINDS[type(exports[key])], {alias: infos[name] for alias, name in aliases.items()})
        for key, aliases in outputs.aliases.items()
    }
    return Metadata(build_signatures(receiver, exported), receiver.feature_spec)


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    dtype = dtypes.from_numpy(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return TensorInfo(f"{value.name}:0", dtype, shape)


def _expected(spec: EstimatorSpec, outputs: NetworkOutputs) -> dict[str, Array]:
    values = select(spec, outputs)
    return {one.name: _array(value) for one, value in zip(outputs.distinct, values, strict=True)}


def _array(value: Any) -> Array:
    if isinstance(value, StringPrediction):
        # ONNX Runtime gives text as str.
        text: Array = np.array(value.vocabulary, object)[value.ids.numpy()]
        return text
    array: Array = value.detach().numpy()
    return array


def _verify(
    content: bytes,
    receiver: ServingInputReceiver,
    model: TrainedModel,
    feeds: Mapping[str, Array],
    expected: Mapping[str, Array],
) -> None:
    session = ops.session(content)
    check_outputs(expected, _run(session, feeds), f"{SAMPLE_ROWS} sample rows")
    for rows in (1, 0):
        first = {name: value[:rows] for name, value in expected.items() if value.ndim}
        check_outputs(first, _run(session, _sample_feeds(receiver, model, rows)), f"a batch of {rows}")


def _run(session: InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a session, by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def write_version(base: Path, content: bytes, assets_extra: Mapping[str, str]) -> Path:
    """Writes a version aside and renames it into place; nothing is left under `base` where that fails.

    Raises OSError naming the path where it cannot be written.
    """
    version = int(time.time())
    # Not an integer, so no server takes it for a version; not the time alone, since two may export in one second.
    aside = base / f"temp-{version}-{uuid.uuid4().hex[:8]}"
    try:
        aside.mkdir(parents=True)
        (aside / "model.onnx").write_bytes(content)
        for destination, source in assets_extra.items():
            target = aside / "assets.extra" / destination
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return _rename(aside, base, version)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(aside)
        raise


def _rename(aside: Path, base: Path, version: int) -> Path:
    """Two exports within one second want one number: the later one takes the next second's, as TensorFlow does."""
    for attempt in range(RENAME_ATTEMPTS_MAX):
        target = base / str(version + attempt)
        try:
            aside.rename(target)
        except OSError:
            if not target.exists():
                raise
            continue
        return target
    raise FileExistsError(
        f"{base} already has versions {version} to {version + RENAME_ATTEMPTS_MAX - 1}; "
        "export to another directory, or later."
    )
