"""A servable before it is written: its graph, what the graph is checked with, and what goes beside it.

Owns the steps that follow for every kind of model: finishing, the signatures, the proof against the source model.
Knows nothing of how a model became a graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import TensorProto
from onnxruntime import InferenceSession, OrtValue, SessionOptions

from estimator_serving import ops
from estimator_serving.exporter.receivers.front import Front, add_empty_defaults
from estimator_serving.exporter.receivers.receivers import ServingInputReceiver
from estimator_serving.exporter.receivers.samples import graph_feeds
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.options import ExportOptions
from estimator_serving.exporter.servable.signature_defs import ExportedOutput, Kind, Sent, build_signatures
from estimator_serving.exporter.servable.verify import check_outputs
from estimator_serving.training.columns.finish import finish_graph, serialize
from estimator_serving.wire import dtypes
from estimator_serving.wire.onnx_model import scan
from estimator_serving.wire.signatures import (
    PROVENANCE_PROPERTY,
    TOLERANCE_PROPERTY,
    Metadata,
    TensorInfo,
    to_properties,
)

Array = npt.NDArray[Any]

SAMPLE_ROWS = 16


@dataclass(frozen=True)
class Draft:
    """What a kind of model hands over.

    Attributes:
        receiver, front: what clients send, and the graph made of it.
        model: the whole graph, not yet finished; its inputs are the front's, and the detached weights.
        detached: large weights by the names of the inputs that stand for them.
        outputs: export outputs by signature key: kind, and graph names by alias.
        inputs: sample rows by receiver alias.
        expected: what the source model gives for them, by graph name.
        provenance: where the model comes from, JSON-able.
        assets: files for `assets/`, by name.
    """

    receiver: ServingInputReceiver
    front: Front
    model: onnx.ModelProto
    detached: Mapping[str, TensorProto]
    outputs: Mapping[str, tuple[Kind, Mapping[str, str]]]
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """A finished graph that has proved itself.

    Attributes:
        content: the bytes of `model.onnx`.
        data: the bytes of its weights' file piece by piece, empty where the weights are in `content`.
        metadata: its signatures and features.
        session: runs it.
    """

    content: bytes
    data: tuple[bytes, ...]
    metadata: Metadata
    session: InferenceSession


def finish(draft: Draft, options: ExportOptions, data_file: str) -> Checked:
    """The finished graph of a draft, checked against the source model on its samples, on one row and on none if it can.

    `data_file` is where it looks for its weights, if they are large.

    Raises ExportMismatch where the two disagree, ValueError where the graph cannot be expressed in the wanted opset.
    """
    built = weights.pin_opset(finish_graph(draft.model), options.opset)
    metadata = _metadata(draft, built)
    extra = {
        TOLERANCE_PROPERTY: json.dumps(dict(sorted(options.parity_tolerance.items()))),
        PROVENANCE_PROPERTY: json.dumps({**draft.provenance, "ops": _own_ops(built)}, sort_keys=True),
    }
    finished = finish_graph(built, metadata=to_properties(metadata) | extra)
    if draft.front.alternatives:
        add_empty_defaults(finished)
    data = weights.attach(finished, draft.detached, options.external_data_min_bytes, data_file)
    content = serialize(finished)
    checked = Checked(content, data, metadata, _session(content, data, draft.detached))
    _verify(draft, checked.session, options.tolerance, (1,) if scan(content).needs_rows else (1, 0))
    return checked


def _own_ops(model: onnx.ModelProto) -> list[str]:
    """The operators of our domain that a graph needs."""
    return sorted({node.op_type for node in model.graph.node if node.domain == ops.DOMAIN})


def run_all(session: InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a session, by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def first_rows(arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """The first rows of every array."""
    return {name: array[:rows] for name, array in arrays.items()}


def session_of(model: onnx.ModelProto) -> InferenceSession:
    """A session of a graph that is finished."""
    return ops.session(serialize(model), options=_quiet_options())


def _quiet_options() -> SessionOptions:
    options = SessionOptions()
    # Warnings would be of every default that an alternative's input has.
    options.log_severity_level = 3
    return options


def _session(content: bytes, data: tuple[bytes, ...], detached: Mapping[str, TensorProto]) -> InferenceSession:
    options = _quiet_options()
    if data:
        values = [OrtValue.ortvalue_from_numpy(onnx.numpy_helper.to_array(tensor)) for tensor in detached.values()]
        options.add_external_initializers(list(detached), values)
    return ops.session(content, options=options)


def _metadata(draft: Draft, built: onnx.ModelProto) -> Metadata:
    infos = {value.name: _info(value) for value in built.graph.output}
    tensors = {alias: tensor.info for alias, tensor in draft.receiver.receiver_tensors.items()}
    outputs = {
        key: ExportedOutput(kind, {alias: infos[name] for alias, name in aliases.items()})
        for key, (kind, aliases) in draft.outputs.items()
    }
    sent = Sent(tensors, draft.receiver.takes_examples, draft.front.alternatives)
    return Metadata(build_signatures(sent, outputs), draft.receiver.feature_spec)


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    dtype = dtypes.from_numpy(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return TensorInfo(f"{value.name}:0", dtype, shape)


def _verify(draft: Draft, session: InferenceSession, tolerance: float, sizes: Iterable[int]) -> None:
    """Compares on all sample rows, and on as many of them as each of `sizes` says."""
    check_outputs(draft.expected, _run_rows(draft, session, SAMPLE_ROWS), f"{SAMPLE_ROWS} sample rows", tolerance)
    by_row = {name: array for name, array in draft.expected.items() if array.shape[:1] == (SAMPLE_ROWS,)}
    for rows in sizes:
        check_outputs(first_rows(by_row, rows), _run_rows(draft, session, rows), f"a batch of {rows}", tolerance)


def _run_rows(draft: Draft, session: InferenceSession, rows: int) -> dict[str, Array]:
    try:
        return run_all(session, graph_feeds(draft.receiver, first_rows(draft.inputs, rows)))
    except Exception as error:
        raise ValueError(
            f"ONNX Runtime cannot run the exported graph on a batch of {rows} rows ({ops.failed_node(error)}: "
            f"{ops.own_text(error).strip()}); nothing was written. Write what this operator comes from with others."
        ) from error
