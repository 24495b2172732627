"""A SavedModel of TensorFlow -> a servable, without TensorFlow.

Owns the steps: read, lower each signature into one ONNX graph, refuse what is not converted, check that ONNX Runtime
runs the graph, write. Signatures keep their keys, aliases, dtypes, shapes, method names and tensor names.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, OrtValue, SessionOptions

import estimator_serving.exporter.sources.saved_model.lower  # noqa: F401 - registers what ops become
from estimator_serving import ops
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.directory import ASSETS_EXTRA, copy_files, write_version
from estimator_serving.exporter.servable.draft import MODEL_FILE
from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS
from estimator_serving.exporter.servable.proof import REQUESTS_FILE
from estimator_serving.exporter.servable.provenance import describe_versions
from estimator_serving.exporter.servable.weights import DATA_SUFFIX
from estimator_serving.exporter.sources.builder import Builder
from estimator_serving.exporter.sources.saved_model.errors import SavedModelError, Unsupported, UnsupportedOps
from estimator_serving.exporter.sources.saved_model.graph import Graph, Node, Ref, shape_of, without_collection
from estimator_serving.exporter.sources.saved_model.lowering import (
    LOWERINGS,
    MISFITS,
    STATEFUL,
    STATEFUL_REASON,
    Lowering,
    SequenceSpec,
)
from estimator_serving.exporter.sources.saved_model.reader import PROTO_FILE, SERVE, SavedModel, open_saved_model
from estimator_serving.exporter.sources.saved_model.resources import Resources
from estimator_serving.exporter.sources.saved_model.values import Tensor, Value
from estimator_serving.training.columns.finish import finish_graph, serialize
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import encode_example_by_spec, encode_sequence_example, join_examples
from estimator_serving.wire.features import FeatureSpec, FixedLenFeature, FixedLenSequenceFeature, VarLenFeature
from estimator_serving.wire.prediction_logs import LOG_FIELDS, log_of
from estimator_serving.wire.records import write_records
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PROVENANCE_PROPERTY,
    REGRESS_METHOD,
    TOLERANCE_PROPERTY,
    Metadata,
    Signature,
    TensorInfo,
    to_properties,
)
from estimator_serving.wire.tensor_bundle import TensorBundleError

Array = npt.NDArray[Any]

logger = logging.getLogger(__name__)

# Of the graph behind the outputs of one signature. The import and each start of a server take about 0.3 ms for a node.
SIGNATURE_NODES_MAX = 50_000
# Signatures that TensorFlow writes for itself.
_INTERNAL_PREFIX = "__saved_model_"
_ASSERTION_FAILED = "assertion failed:"


@dataclass(frozen=True)
class Imported:
    """The graph of a SavedModel's signatures.

    Attributes:
        model: not yet finished; its inputs are what clients send, and the detached weights.
        detached: large weights by the names of the inputs that stand for them.
        metadata: signatures, and the features of its Examples.
        specs: what is parsed from inputs that take serialized messages.
        skipped: why signatures were left out, by key.
        optional: inputs that not every signature has.
    """

    model: onnx.ModelProto
    detached: Mapping[str, TensorProto]
    metadata: Metadata
    specs: Mapping[str, FeatureSpec | SequenceSpec]
    skipped: Mapping[str, Sequence[Unsupported]]
    optional: frozenset[str]


def import_saved_model(
    path: str | os.PathLike[str],
    export_dir_base: str | os.PathLike[str],
    *,
    tags: Sequence[str] = (SERVE,),
    signatures: Sequence[str] | None = None,
    name: str | None = None,
    skip_unsupported: bool = False,
    warmup: bool = True,
) -> str:
    """Writes a TensorFlow SavedModel as `<export_dir_base>/<unix seconds>/model.onnx`. TensorFlow is not needed.

    Args:
        path: the directory that holds `saved_model.pb`.
        export_dir_base: the directory whose numbered children are versions.
        tags: those of the graph to read; a SavedModel may hold several.
        signatures: the keys to convert; None takes all.
        name: a directory below `export_dir_base` to write versions to.
        skip_unsupported: leave out signatures with ops that are not converted, and write the others.
        warmup: where the SavedModel has no warmup requests, write one of blank rows for each signature, so that a
            server's first request is not its slowest.

    Returns:
        The path of the new version directory. It appears under its name only when it is whole. Files of
        `assets.extra/` come along; those of `assets/` are part of the graph.

    Raises:
        SavedModelError: a file that is missing, damaged or not a SavedModel; tags or signatures that are not there.
        UnsupportedOps: ops that are not converted, how many of each, and the signatures they block.
        TensorBundleError: variables that cannot be read.
        OSError: the directory cannot be written.
    """
    base = Path(export_dir_base) / name if name else Path(export_dir_base)
    saved_model = open_saved_model(path, tags)
    imported = convert(saved_model, signatures, skip_unsupported)
    provenance = {
        **describe_versions(),
        "source": {
            "format": "SavedModel",
            "tensorflow": saved_model.tensorflow_version,
            "tags": sorted(saved_model.meta_graph.meta_info_def.tags),
            "sha256": hashlib.sha256((saved_model.path / PROTO_FILE).read_bytes()).hexdigest(),
        },
        "ops": sorted({node.op_type for node in imported.model.graph.node if node.domain == ops.DOMAIN}),
    }
    properties = to_properties(imported.metadata) | {
        TOLERANCE_PROPERTY: json.dumps(dict(sorted(DEFAULT_OPTIONS.parity_tolerance.items()))),
        PROVENANCE_PROPERTY: json.dumps(provenance, sort_keys=True),
    }
    finished = finish_graph(imported.model, metadata=properties)
    if imported.optional:
        _add_defaults(finished, imported.optional)
    data = weights.attach(
        finished, imported.detached, DEFAULT_OPTIONS.external_data_min_bytes, MODEL_FILE + DATA_SUFFIX
    )
    content = serialize(finished)
    requests = _check(imported, content, data)

    def fill(directory: Path) -> None:
        (directory / MODEL_FILE).write_bytes(content)
        if data:
            with open(directory / (MODEL_FILE + DATA_SUFFIX), "wb") as file:
                file.writelines(data)
        extra_files = saved_model.extra_files()
        copy_files(extra_files, directory / ASSETS_EXTRA)
        if warmup and requests and REQUESTS_FILE not in extra_files:
            (directory / ASSETS_EXTRA).mkdir(exist_ok=True)
            write_records(directory / ASSETS_EXTRA / REQUESTS_FILE, requests)

    return str(write_version(base, fill))


def convert(saved_model: SavedModel, keys: Sequence[str] | None = None, skip_unsupported: bool = False) -> Imported:
    """The graph of a SavedModel's signatures. Raises as import_saved_model does."""
    with without_collection():
        graph = Graph(saved_model.meta_graph)
        there = {
            key: one
            for key, one in sorted(saved_model.meta_graph.signature_def.items())
            if not key.startswith(_INTERNAL_PREFIX) and one.outputs
        }
        for key in keys or ():
            if key not in there:
                raise SavedModelError(
                    f"The SavedModel has no signature {key!r}; it has {', '.join(there) or 'none'}. Give --signature "
                    "for one of them, or none for all."
                )
        if not there:
            raise SavedModelError("The SavedModel has no signatures; export it with one, serving_default for example.")
        definitions = {key: there[key] for key in keys or there}
        conversion = _Conversion(graph, Resources(saved_model, graph), definitions)
        blocked: dict[str, list[Unsupported]] = {}
        for key, definition in definitions.items():
            refused = conversion.add(key, definition)
            if refused:
                blocked[key] = refused
    converted = [key for key in definitions if key not in blocked]
    if blocked and not (skip_unsupported and converted):
        raise UnsupportedOps(blocked, converted)
    if conversion.unchecked:
        logger.warning(
            "%d assertions of the graph are not checked (%s first): where TensorFlow refuses a request by one of them, "
            "this servable answers it.",
            len(conversion.unchecked),
            min(conversion.unchecked),
        )
    return conversion.imported(blocked)


class _Conversion:
    """Signatures put into one graph, one after the other."""

    def __init__(self, graph: Graph, resources: Resources, definitions: Mapping[str, Any]) -> None:
        # What no output may be called: the graph has inputs of these names, whichever signature is fed them.
        fed = {info.name.removesuffix(":0") for one in definitions.values() for info in one.inputs.values()}
        self._fed = {name + part for name in fed for part in ("", "/values", "/row_splits")}
        self._graph = graph
        self._resources = resources
        self._builder = Builder()
        self._lowerings: dict[frozenset[Ref], Lowering] = {}
        # The assertions that nothing checks here, because what they compute is not converted.
        self.unchecked: set[str] = set()
        self._inputs: dict[str, Tensor] = {}
        self._ragged: dict[str, FeatureSpec] = {}
        self._sequences: dict[str, SequenceSpec] = {}
        self._plain: set[str] = set()
        self._signatures: dict[str, Signature] = {}
        self._outputs: dict[str, tuple[str, np.dtype[Any], Sequence[int | str | None]]] = {}

    def add(self, key: str, definition: Any) -> list[Unsupported]:
        """Lowers a signature; returns what is not converted, nothing where all is."""
        try:
            return self._add(key, definition)
        except Unsupported as refusal:
            return [refusal]
        except RecursionError:
            return [Unsupported("Graph", "", "its expressions are nested too deeply")]
        except (SavedModelError, TensorBundleError):
            raise
        except MISFITS as error:
            return [Unsupported("Graph", "", f"its values do not fit each other ({error})")]

    def _add(self, key: str, definition: Any) -> list[Unsupported]:
        inputs = {alias: (self._ref(one), _tensor_info(one)) for alias, one in sorted(definition.inputs.items())}
        outputs = {alias: (self._ref(one), _tensor_info(one)) for alias, one in sorted(definition.outputs.items())}
        fed = {ref: self._input(info) for ref, info in inputs.values()}
        refused = self._unknown([ref for ref, _ in outputs.values()], set(fed))
        if refused:
            return refused
        names = {}
        # Signatures that are fed the same tensors share a lowering.
        nodes = frozenset(fed)
        if nodes not in self._lowerings:
            self._lowerings[nodes] = Lowering(self._graph, self._resources, self._builder, fed, self._examples)
        lowering = self._lowerings[nodes]
        for alias, (ref, info) in outputs.items():
            names[alias] = self._output(lowering, key, alias, ref, info, set(fed))
        infos = {
            alias: info if name == info.value_name else TensorInfo(f"{name}:0", info.dtype, info.shape)
            for alias, (name, info) in names.items()
        }
        if definition.method_name in (CLASSIFY_METHOD, REGRESS_METHOD):
            # Their one input is of Examples, even where nothing is read of them.
            for _, info in inputs.values():
                if info.value_name not in self._ragged and info.value_name not in self._plain:
                    self._ragged[info.value_name] = {}
        self._signatures[key] = Signature(
            {alias: info for alias, (_, info) in inputs.items()}, infos, definition.method_name
        )
        return []

    def imported(self, skipped: Mapping[str, Sequence[Unsupported]]) -> Imported:
        both = self._plain & self._ragged.keys()
        if both:
            raise SavedModelError(
                f"The input {', '.join(sorted(both))} is parsed as Examples and read as text, too; export signatures "
                "that do one of both."
            )
        used = {info.value_name for one in self._signatures.values() for info in one.inputs.values()}
        everywhere = set.intersection(
            *({info.value_name for info in one.inputs.values()} for one in self._signatures.values())
        )
        for name in sorted(used):
            tensor = self._inputs[name]
            if name in self._ragged:
                self._builder.add_input(f"{name}/values", np.dtype(np.uint8), ["bytes"])
                self._builder.add_input(f"{name}/row_splits", np.dtype(np.int64), ["batch+1"])
            else:
                shape = [dim if isinstance(dim, int) else f"{name}_{axis}" for axis, dim in enumerate(tensor.shape)]
                if shape and not isinstance(shape[0], int):
                    shape[0] = "batch"
                self._builder.add_input(name, tensor.dtype, shape)
        specs = {name: spec for name, spec in self._ragged.items() if name in used}
        spec = next((one for one in specs.values() if one), None)
        return Imported(
            self._builder.model(self._outputs),
            self._builder.detached,
            Metadata(self._signatures, spec),
            {**specs, **{name: one for name, one in self._sequences.items() if name in used}},
            skipped,
            frozenset(used - everywhere),
        )

    def _ref(self, info: Any) -> Ref:
        if info.WhichOneof("encoding") not in (None, "name"):
            raise Unsupported("SparseTensor", "", "a signature gives or takes a sparse tensor")
        ref = self._graph.parse(info.name)
        self._graph.node(ref.node)
        return ref

    def _input(self, info: TensorInfo) -> Tensor:
        name = info.value_name
        if name in self._inputs:
            return self._inputs[name]
        if info.shape is None:
            raise Unsupported("Placeholder", name, "not even its rank is known")
        scratch = Lowering(self._graph, self._resources, self._builder, {}, self._examples)

        def emit() -> str:
            self._plain.add(name)
            return name

        shape = [None if dim < 0 else dim for dim in info.shape]
        self._inputs[name] = scratch.tensor(info.dtype.numpy, shape, emit)
        return self._inputs[name]

    def _examples(self, serialized: Value, node: Node, spec: FeatureSpec | SequenceSpec) -> tuple[str, str]:
        """The graph inputs that carry Examples, for an input of a signature. Raises Unsupported for another value."""
        name = next((name for name, one in self._inputs.items() if one is serialized), None)
        if name is None or not isinstance(serialized, Tensor) or serialized.rank != 1:
            raise node.refuse("it parses what is no input of the signature")
        if isinstance(spec, SequenceSpec):
            if self._sequences.setdefault(name, spec) != spec or self._ragged.setdefault(name, {}):
                raise node.refuse("an input is parsed in two ways")
            return f"{name}/values", f"{name}/row_splits"
        if name in self._sequences:
            raise node.refuse("an input is parsed as Examples and as SequenceExamples")
        merged = dict(self._ragged.get(name, {}))
        for feature, kind in spec.items():
            if merged.setdefault(feature, kind) != kind:
                raise node.refuse(f"{feature} is parsed in two ways")
        self._ragged[name] = merged
        return f"{name}/values", f"{name}/row_splits"

    def _output(
        self, lowering: Lowering, key: str, alias: str, ref: Ref, info: TensorInfo, fed: set[Ref]
    ) -> tuple[str, TensorInfo]:
        node = self._graph.node(ref.node)
        tensor = lowering.dense(lowering.value(ref), node)
        checks = list(self._checks(lowering, ref, fed)) if self._graph.has_assertions else []
        if checks:
            # Nothing is given where an assertion fails that the output waits for.
            unchecked, one = tensor, self._builder.one

            def emit() -> str:
                shape = one("Shape", unchecked.name)
                for condition, message in checks:
                    (zero,) = self._builder.node("RequireTrue", [condition.name], domain=ops.DOMAIN, message=message)
                    shape = one("Add", shape, zero)
                return one("Reshape", unchecked.name, shape, allowzero=1)

            tensor = lowering.tensor(unchecked.dtype, unchecked.shape, emit)
        if tensor.dtype != info.dtype.numpy:
            raise node.refuse(f"it gives {tensor.dtype}, and the signature says {info.dtype.name}")
        value = tensor.name
        # The same tensor is another one where other tensors are fed, and is called by its signature then.
        names = chain([info.value_name, f"{key}/{alias}"], (f"{key}/{alias}_{number}" for number in count(2)))
        name = next(one for one in names if one not in self._fed and self._outputs.get(one, (value,))[0] == value)
        shape: list[int | str | None] = [dim if isinstance(dim, int) else None for dim in tensor.shape]
        self._outputs[name] = (value, tensor.dtype, shape)
        return name, info

    def _unknown(self, outputs: Sequence[Ref], fed: set[Ref]) -> list[Unsupported]:
        """Every op behind the outputs that is not converted, and state that changes while a request is answered."""
        # By the name of the node; ops of a loop's body by theirs.
        found: dict[str, Unsupported] = {}
        for node, is_beside in self._behind(outputs, fed):
            if node.op in STATEFUL:
                found[node.name] = node.refuse(STATEFUL_REASON)
            elif not is_beside and node.op not in LOWERINGS:
                found[node.name] = node.refuse("this op is not converted")
            elif not is_beside and node.op in ("While", "StatelessWhile"):
                found |= {
                    f"{node.name}/{op}": Unsupported(op, node.name, "this op is not converted")
                    for op in self._graph.ops_of(node.function("body"))
                    if op not in LOWERINGS
                }
        return list(found.values())

    def _behind(self, outputs: Sequence[Ref], fed: set[Ref]) -> Iterator[tuple[Node, bool]]:
        """The nodes that outputs are computed from, and beside them those that they wait for: what such a node computes
        is not used, but what it changes or checks counts."""
        seen = set[str]()
        waiting = [(self._graph.resolve(ref), False) for ref in outputs]
        beside, scopes = set[str](), set[str]()
        while waiting:
            ref, is_beside = waiting.pop()
            if ref in fed or ref.node in seen or (is_beside and ref.node in beside):
                continue
            node = self._graph.node(ref.node)
            (beside if is_beside else seen).add(ref.node)
            for scope in {node.scope, node.name} - scopes:
                scopes.add(scope)
                waiting.extend((Ref(one, 0), True) for one in self._graph.effects_of(scope))
            if len(seen) > SIGNATURE_NODES_MAX:
                raise SavedModelError(
                    f"A signature computes more than {SIGNATURE_NODES_MAX} nodes, and ONNX Runtime would take minutes "
                    "to open a graph of so many. Write what repeats as a loop (tf.while_loop), and export again."
                )
            yield node, is_beside
            waiting.extend((self._graph.resolve(one), is_beside) for one in node.inputs)
            waiting.extend((Ref(one, 0), True) for one in node.controls if one in self._graph.nodes)

    def _checks(self, lowering: Lowering, ref: Ref, fed: set[Ref]) -> Iterator[tuple[Tensor, str]]:
        """The conditions of the assertions that an output waits for, and what is said where one is false."""
        for node in [node for node, _ in self._behind([ref], fed) if node.op == "Assert"]:
            try:
                condition = lowering.dense(lowering.value(node.inputs[0]), node)
                _ = condition.name
            except (SavedModelError, TensorBundleError):
                raise
            except (Unsupported, *MISFITS):
                self.unchecked.add(node.name)
                continue
            if condition.constant is None:
                # The texts among what the assertion tells, as far as they are constants.
                sources = [self._graph.nodes.get(self._graph.resolve(ref).node) for ref in node.inputs[1:]]
                constants = [one.tensor("value") for one in sources if one is not None and one.op == "Const"]
                texts = [text for one in constants if one.dtype.kind == "O" for text in one.ravel().tolist()]
                yield condition, " ".join(f"[{text.decode('utf-8', 'replace')}]" for text in texts)
            elif not condition.constant.all():
                self.unchecked.add(node.name)


def _tensor_info(proto: Any) -> TensorInfo:
    try:
        return TensorInfo(proto.name, dtypes.from_number(proto.dtype), shape_of(proto.tensor_shape))
    except TypeError as error:
        raise Unsupported("TensorInfo", proto.name, str(error)) from None


# ---- finishing ------------------------------------------------------------------------------------------------------


def _add_defaults(model: onnx.ModelProto, optional: frozenset[str]) -> None:
    """Gives inputs that only some signatures have a default of one row, which nobody sees the answer of.

    Each input then has rows of its own number, so that no two may share their name.
    """
    del model.graph.value_info[:]
    for value in model.graph.input:
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if value.name.startswith("weights/"):
            continue
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_param = f"{value.name} rows"
        base = value.name.removesuffix("/values").removesuffix("/row_splits")
        if base not in optional and value.name not in optional:
            continue
        if value.name.endswith("/row_splits"):
            array: Array = np.zeros(2, np.int64)
        elif value.name.endswith("/values") and base in optional:
            array = np.zeros(0, np.uint8)
        else:
            array = _blank(helper.tensor_dtype_to_np_dtype(tensor.elem_type), [max(d.dim_value, 1) for d in dims])
        model.graph.initializer.append(numpy_helper.from_array(array, value.name))


def _blank(dtype: Any, shape: Sequence[int]) -> Array:
    return np.full(shape, "", object) if np.dtype(dtype) == object else np.zeros(shape, dtype)


# What a graph is tried with, one after the other until it runs: the element everywhere, and every open size but the
# first. A graph may refuse zeros, and an image of one pixel.
_BLANKS = ((0, 1), (1, 1), (1, 64))


def _check(imported: Imported, content: bytes, data: tuple[bytes, ...]) -> list[bytes]:
    """Opens the graph and runs it on blank rows. Raises SavedModelError where ONNX Runtime cannot.

    Returns the requests that it answered, one for each signature, as records of a warmup file.
    """
    options = SessionOptions()
    # Errors alone: warnings would be of every default.
    options.log_severity_level = 3
    if data:
        values = [OrtValue.ortvalue_from_numpy(numpy_helper.to_array(one)) for one in imported.detached.values()]
        options.add_external_initializers(list(imported.detached), values)
    try:
        session = ops.session(content, options=options)
    except Exception as error:
        raise SavedModelError(_cannot_run(error)) from error
    requests = []
    for key, signature in sorted(imported.metadata.signatures.items()):
        for number, size in _BLANKS:
            inputs = _blank_inputs(imported, signature, number, size)
            try:
                _run(session, imported, signature, inputs)
                if signature.method_name in LOG_FIELDS:
                    log = log_of(signature.method_name, key, inputs)
                    requests.append(log.SerializeToString(deterministic=True))
                break
            except Exception as error:
                if _ASSERTION_FAILED in str(error):
                    # Blank rows are not what the model is asked, and it says so.
                    break
                if (number, size) == _BLANKS[-1]:
                    raise SavedModelError(f"Signature {key}: {_cannot_run(error)}") from error
    return requests


def _cannot_run(error: Exception) -> str:
    return (
        f"ONNX Runtime cannot run the converted graph ({ops.failed_node(error)}: {ops.own_text(error).strip()}); "
        "nothing was written. Import the other signatures with --signature, and report the model."
    )


def _blank_features(spec: FeatureSpec, number: int) -> dict[str, list[Any]]:
    features: dict[str, list[Any]] = {}
    for key, feature in spec.items():
        if isinstance(feature, FixedLenFeature | VarLenFeature | FixedLenSequenceFeature):
            count = 1 if isinstance(feature, VarLenFeature) else int(np.prod(feature.shape))
            element = b"" if feature.dtype.is_string else feature.dtype.numpy.type(number).item()
            features[key] = [element] * count
    return features


def _blank_inputs(imported: Imported, signature: Signature, number: int, size: int) -> dict[str, Array]:
    """Two rows for each input by alias: serialized messages, texts without characters, or numbers that are `number`."""
    rows = 2
    inputs: dict[str, Array] = {}
    for alias, info in signature.inputs.items():
        if info.value_name in imported.specs:
            # Each feature has one value or as many as it has to have; lists have one step.
            spec = imported.specs[info.value_name]
            if isinstance(spec, SequenceSpec):
                steps = {key: [values] for key, values in _blank_features(spec.lists, number).items()}
                message = encode_sequence_example(_blank_features(spec.context, number), steps)
            else:
                message = encode_example_by_spec(_blank_features(spec, number), spec)
            inputs[alias] = np.array([message] * rows, object)
            continue
        shape = [dim if dim >= 0 else size if axis else rows for axis, dim in enumerate(info.shape or ())]
        array = _blank(info.dtype.numpy, shape)
        inputs[alias] = array if info.dtype.is_string else np.full_like(array, number)
    return inputs


def _run(session: InferenceSession, imported: Imported, signature: Signature, inputs: Mapping[str, Array]) -> None:
    feeds: dict[str, Array] = {}
    for alias, info in signature.inputs.items():
        if info.value_name in imported.specs:
            feeds |= dict(zip(info.ragged_names, join_examples(inputs[alias].tolist()), strict=True))
        else:
            feeds[info.value_name] = inputs[alias]
    session.run([info.value_name for info in signature.outputs.values()], feeds)


__all__ = ["Imported", "convert", "import_saved_model"]
