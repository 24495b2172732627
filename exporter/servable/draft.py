"""A servable before it is written: from a draft (its graph, and what to check it with) to a finished, verified model.

Owns the steps that follow for every kind of model: finishing the graph, its signatures, the comparison with the source
model, the proof. Knows nothing of how a model became a graph, or of directories.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnxruntime import InferenceSession, OrtValue, RunOptions

from estimator_serving import ops
from estimator_serving.exporter.receivers.receiver_graph import ReceiverGraph, add_empty_defaults
from estimator_serving.exporter.receivers.receivers import ServingInputReceiver
from estimator_serving.exporter.receivers.samples import graph_feeds
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.options import ExportOptions
from estimator_serving.exporter.servable.proof import sample_logs
from estimator_serving.exporter.servable.running import quiet_options, run_all
from estimator_serving.exporter.servable.signature_defs import (
    ExportedOutput,
    Kind,
    SignatureInputs,
    build_signatures,
)
from estimator_serving.exporter.servable.verify import MODEL_FN_CAUSE, check_outputs
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.finish import finish_graph, serialize
from estimator_serving.wire import dtypes
from estimator_serving.wire.onnx_model import NEEDS_ROWS_PROPERTY, scan
from estimator_serving.wire.signatures import (
    PROVENANCE_PROPERTY,
    TOLERANCE_PROPERTY,
    Metadata,
    TensorInfo,
    to_properties,
)

SAMPLE_ROWS = 16
MODEL_FILE = "model.onnx"
_NOISE_TRIALS = 8


@dataclass(frozen=True)
class Draft:
    """What a kind of model hands over.

    Attributes:
        receiver, receiver_graph: what clients send, and the graph made of it.
        model: the whole graph, not yet finished; its inputs are the receiver graph's, and the detached weights.
        detached: large weights by the names of the inputs they take.
        outputs: export outputs by signature key: kind, and graph names by alias.
        inputs: SAMPLE_ROWS sample rows by receiver alias.
        expected: what the source model gives for them, by graph name.
        provenance: where the model comes from, JSON-able.
        assets: files for `assets/`, by name.
        noise, cause: see `verify.check_outputs`.
    """

    receiver: ServingInputReceiver
    receiver_graph: ReceiverGraph
    model: onnx.ModelProto
    detached: Mapping[str, TensorProto]
    outputs: Mapping[str, tuple[Kind, Mapping[str, str]]]
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, Path] = field(default_factory=dict)
    noise: Callable[[], Mapping[str, Array]] = dict
    cause: str = MODEL_FN_CAUSE


@dataclass(frozen=True)
class FinishedModel:
    """A graph that is ready to be written: ONNX Runtime gives the source model's numbers with it.

    Attributes:
        content: the bytes of its file.
        data: the bytes of its weights' file piece by piece, empty where the weights are in `content`.
        metadata: its signatures and features.
        session: runs it.
        proof: the records of its sample requests and their answers, by file name in `assets.extra/`.
        assets: files for `assets/`, by name.
    """

    content: bytes
    data: tuple[bytes, ...]
    metadata: Metadata
    session: InferenceSession
    proof: Mapping[str, list[bytes]]
    assets: Mapping[str, Path]


def finish(draft: Draft, options: ExportOptions, file: str = MODEL_FILE) -> FinishedModel:
    """Finishes the graph of a draft and verifies it against the source model.

    `file` is the name it will be written under; large weights are looked for in `<file>.data`.

    Raises ExportMismatch where the two models disagree, ValueError where the graph cannot be expressed in the wanted
    opset or ONNX Runtime cannot run it.
    """
    built = weights.pin_opset(finish_graph(draft.model), options.opset)
    infos: dict[str, TensorInfo] = {}
    for value in built.graph.output:
        tensor = value.type.tensor_type
        dtype = dtypes.from_numpy(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        infos[value.name] = TensorInfo(f"{value.name}:0", dtype, shape)
    tensors = {alias: tensor.info for alias, tensor in draft.receiver.receiver_tensors.items()}
    outputs = {
        key: ExportedOutput(kind, {alias: infos[name] for alias, name in aliases.items()})
        for key, (kind, aliases) in draft.outputs.items()
    }
    inputs = SignatureInputs(tensors, draft.receiver.takes_examples, draft.receiver_graph.alternatives)
    metadata = Metadata(build_signatures(inputs, outputs), draft.receiver.feature_spec)
    own_ops = sorted({node.op_type for node in built.graph.node if node.domain == ops.DOMAIN})
    extra = {
        TOLERANCE_PROPERTY: json.dumps(dict(sorted(options.parity_tolerance.items()))),
        PROVENANCE_PROPERTY: json.dumps({**draft.provenance, "ops": own_ops}, sort_keys=True),
    }
    finished = finish_graph(built, metadata=to_properties(metadata) | extra)
    if draft.receiver_graph.alternatives:
        add_empty_defaults(finished)
    data = weights.attach(finished, draft.detached, options.external_data_min_bytes, file + weights.DATA_SUFFIX)
    content = serialize(finished)
    session_options = quiet_options()
    if data:
        values = [OrtValue.ortvalue_from_numpy(onnx.numpy_helper.to_array(one)) for one in draft.detached.values()]
        session_options.add_external_initializers(list(draft.detached), values)
    try:
        session = ops.session(content, options=session_options)
    except Exception as error:
        raise ValueError(
            f"ONNX Runtime cannot load the exported graph ({ops.own_text(error).strip()}); nothing was written. Write "
            "what this operator comes from with others."
        ) from error
    _verify(draft, session, options.tolerance)
    if scan(content).needs_rows or not _runs_on_nothing(draft, session):
        # A server then refuses empty requests.
        finished.metadata_props.add(key=NEEDS_ROWS_PROPERTY, value="true")
        content = serialize(finished)
    proof = sample_logs(
        metadata.signatures,
        draft.inputs,
        lambda rows: run_all(session, graph_feeds(draft.receiver, rows)),
        options.warmup_requests,
    )
    return FinishedModel(content, data, metadata, session, proof, draft.assets)


def _verify(draft: Draft, session: InferenceSession, tolerance: float) -> None:
    """Compares the graph's outputs with the expected ones, on all sample rows and on one."""
    judge = partial(check_outputs, tolerance=tolerance, noise=cache(draft.noise), cause=draft.cause)
    for rows in (SAMPLE_ROWS, 1):
        try:
            actual = run_all(session, _first_rows(draft, rows))
        except Exception as error:
            raise ValueError(
                f"ONNX Runtime cannot run the exported graph on a batch of {rows} rows ({ops.failed_node(error)}: "
                f"{ops.own_text(error).strip()}); nothing was written. Write what this operator comes from with others."
            ) from error
        if rows == SAMPLE_ROWS:
            judge(draft.expected, actual, f"{SAMPLE_ROWS} sample rows")
        else:
            # An output without a batch, such as a loss, is known for all rows only.
            by_row = {key: one[:rows] for key, one in draft.expected.items() if one.shape[:1] == (SAMPLE_ROWS,)}
            judge(by_row, actual, f"a batch of {rows}")


def _runs_on_nothing(draft: Draft, session: InferenceSession) -> bool:
    """Whether the graph gives outputs without a row for inputs without a row."""
    names, quiet = [output.name for output in session.get_outputs()], RunOptions()
    quiet.log_severity_level = 4
    try:
        actual = dict(zip(names, session.run(names, _first_rows(draft, 0), quiet), strict=True))
        check_outputs(
            {key: one[:0] for key, one in draft.expected.items() if one.shape[:1] == (SAMPLE_ROWS,)}, actual, "no row"
        )
    except Exception:  # ONNX Runtime's errors have no common class.
        return False
    return True


def _first_rows(draft: Draft, rows: int) -> dict[str, Array]:
    return graph_feeds(draft.receiver, {alias: array[:rows] for alias, array in draft.inputs.items()})


def noise_of(
    answer: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    sample: Mapping[str, Array],
    nudged: Callable[[np.random.Generator], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> dict[str, Array]:
    """How far what a model answers moves when the float32 numbers that it reads move by at most one unit in the last
    place: its inputs, and inside `nudged` its weights.

    Each product that is summed moves by its own rounding error then, so the answer moves by as much as the magnitude of
    what was summed allows, and so far may another order of summing be off.
    """
    generator = np.random.default_rng(0)
    # What differs from call to call by itself has no noise that could be measured.
    exact, again = answer(sample), answer(sample)
    exact = {name: array for name, array in exact.items() if np.array_equal(array, again[name])}
    moved: dict[str, Array] = {}
    for _ in range(_NOISE_TRIALS):
        near = {name: one_ulp_off(array, generator) for name, array in sample.items()}
        with nudged(generator):
            answered = answer(near)
        for name, array in answered.items():
            if array.dtype.kind == "f" and name in exact and array.shape == exact[name].shape:
                distance = np.abs(array - exact[name])
                moved[name] = np.fmax(moved.get(name, distance), distance)
    return moved


def one_ulp_off(array: Array, generator: np.random.Generator) -> Array:
    """float32 numbers moved by at most one unit in the last place; others as they are."""
    if array.dtype != np.float32:
        return array
    return np.nextafter(array, np.multiply(array, generator.uniform(0, 2, array.shape), dtype=np.float32))
