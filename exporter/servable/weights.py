"""Weights apart from the graph: out of it while it is built, back into it or into a file beside it at the end.

Owns the layout of external data and the conversion to another opset. A graph without its weights stays small, so that
every step works on models that no protobuf message could hold:

    detach ─▶ a graph with inputs for its weights ─▶ … built, merged, finished … ─▶ attach

Source: ONNX's external data, with offsets aligned to pages as its documentation recommends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, version_converter
from spox import Tensor, Var, argument

DETACHED_MIN_BYTES = 1 << 16
DATA_SUFFIX = ".data"
"""Behind the file name of a graph, whose weights lie beside it: graphs of one version may have different weights."""
_ALIGNMENT = 4096


def detach(model: ModelProto) -> dict[str, TensorProto]:
    """Takes the large initializers out of a graph, which gets inputs in their places. Returns them by the inputs'
    names."""
    graph = model.graph
    large = {one.name: one for one in graph.initializer if _size(one) >= DETACHED_MIN_BYTES}
    if not large:
        return {}
    assert not {value.name for value in graph.input} & large.keys(), (
        "an initializer that is an input, too, is a default and not a weight"
    )
    names = {name: f"weights/{name}" for name in large}
    detached: dict[str, TensorProto] = {}
    for name, tensor in large.items():
        copied = TensorProto()
        copied.CopyFrom(tensor)
        copied.name = names[name]
        copied.doc_string = ""
        del copied.metadata_props[:]
        detached[names[name]] = copied
    kept = [TensorProto.FromString(one.SerializeToString()) for one in graph.initializer if one.name not in large]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for tensor in detached.values():
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for node in all_nodes(graph):
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    return detached


def weight_input(tensor: TensorProto) -> Var:
    """The graph input that a detached weight takes."""
    return argument(Tensor(helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)))


def attach(
    model: ModelProto, detached: Mapping[str, TensorProto], external_min_bytes: int, data_file: str
) -> tuple[bytes, ...]:
    """Puts detached weights back, into the graph or beside it.

    Returns the pieces of `data_file` in order, none where the weights are smaller than `external_min_bytes`.
    """
    graph = model.graph
    kept: list[ValueInfoProto] = [value for value in graph.input if value.name not in detached]
    kept = [ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    used = [value.name for value in graph.input if value.name in detached]
    del graph.input[:]
    graph.input.extend(kept)
    if sum(_size(detached[name]) for name in used) < external_min_bytes or not used:
        graph.initializer.extend(detached[name] for name in used)
        return ()
    pieces: list[bytes] = []
    offset = 0
    for name in sorted(used):
        tensor = detached[name]
        content: bytes = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
        outside = TensorProto(
            name=name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL
        )
        place = {"location": data_file, "offset": str(offset), "length": str(len(content))}
        outside.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in place.items())
        graph.initializer.append(outside)
        padding = bytes(-len(content) % _ALIGNMENT)
        pieces += [content, padding]
        offset += len(content) + len(padding)
    return tuple(pieces)


def pin_opset(model: ModelProto, opset: int) -> ModelProto:
    """The model in another ONNX opset. Raises ValueError naming what the opset cannot say."""
    # Converters list ONNX's domain twice, or not at all.
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    others = [(entry.domain, entry.version) for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]
    version = max(versions, default=opset)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*entry) for entry in (*others, ("", version)))
    if version == opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"The graph cannot be written in ONNX opset {opset} ({reason}); leave opset at {version}, or take one "
            "nearer to it."
        ) from error


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them (If, Loop, Scan), which read the values around them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def _size(tensor: TensorProto) -> int:
    if tensor.data_type == TensorProto.STRING:
        return 0
    return len(tensor.raw_data) or onnx.numpy_helper.to_array(tensor).nbytes
