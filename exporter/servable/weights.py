"""Weights apart from the graph: out of it while it is built, back into it or into a file beside it at the end.

Owns the layout of external data and the conversion to another opset. A graph without its weights stays small, so that
every step works on models that no protobuf message could hold.
Source: ONNX's external data, with offsets aligned to pages as its documentation recommends.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, version_converter
from spox import Tensor, Var, argument

DETACHED_MIN_BYTES = 1 << 16
_ALIGNMENT = 4096


def detach(model: ModelProto) -> dict[str, TensorProto]:
    """Takes the large initializers out of a graph; inputs of their names stand for them. Returns them by name."""
    graph = model.graph
    large = {one.name: one for one in graph.initializer if _size(one) >= DETACHED_MIN_BYTES}
    if not large:
        return {}
    names = {name: f"weights/{name}" for name in large}
    kept = [TensorProto.FromString(one.SerializeToString()) for one in graph.initializer if one.name not in large]
    detached = {names[name]: _named(tensor, names[name]) for name, tensor in large.items()}
    del graph.initializer[:]
    graph.initializer.extend(kept)
    listed = {value.name for value in graph.input}
    assert not listed & large.keys(), "an initializer that is an input, too, is a default and not a weight"
    for tensor in detached.values():
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for node in graph.node:
        _rename_inputs(node, names)
    return detached


def stand_in(tensor: TensorProto) -> Var:
    """The input that stands for a detached weight."""
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
    return _attach_outside(model, {name: detached[name] for name in sorted(used)}, data_file)


def pin_opset(model: ModelProto, opset: int) -> ModelProto:
    """The model in another ONNX opset. Raises ValueError naming what the opset cannot say."""
    version = _take_version(model)
    if version in (None, opset):
        model.opset_import.append(helper.make_opsetid("", opset))
        return model
    model.opset_import.append(helper.make_opsetid("", version))
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"The graph cannot be written in ONNX opset {opset} ({reason}); leave opset at {version}, or take one "
            "nearer to it."
        ) from error


def _take_version(model: ModelProto) -> int | None:
    """Removes ONNX's own domain from the opsets, where converters put it twice or not at all; returns its version."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    kept = [(entry.domain, entry.version) for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in kept)
    return max(versions, default=None)


def _attach_outside(model: ModelProto, detached: Mapping[str, TensorProto], data_file: str) -> tuple[bytes, ...]:
    pieces: list[bytes] = []
    offset = 0
    for name, tensor in detached.items():
        content = _content(tensor)
        outside = TensorProto(
            name=name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL
        )
        place = {"location": data_file, "offset": str(offset), "length": str(len(content))}
        outside.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in place.items())
        model.graph.initializer.append(outside)
        padding = bytes(-len(content) % _ALIGNMENT)
        pieces += [content, padding]
        offset += len(content) + len(padding)
    return tuple(pieces)


def _rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        if name in names:
            node.input[index] = names[name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _rename_inputs(inner, names)


def _named(tensor: TensorProto, name: str) -> TensorProto:
    named = TensorProto()
    named.CopyFrom(tensor)
    named.name = name
    named.doc_string = ""
    del named.metadata_props[:]
    return named


def _size(tensor: TensorProto) -> int:
    if tensor.data_type == TensorProto.STRING:
        return 0
    return len(tensor.raw_data) or onnx.numpy_helper.to_array(tensor).nbytes


def _content(tensor: TensorProto) -> bytes:
    content: bytes = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
    return content
