"""The last step of every graph that is built: the transform's here, the servable's in the exporter.

Owns the points in which a built graph is not yet fit to be hashed, stored and served (each was met in a trial). Only
finished bytes are hashed. Knows nothing of columns or signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    shape_inference,
)

from estimator_serving.ops import DOMAIN
from estimator_serving.training.columns.onnx_ops import describe_outputs

IR_VERSION_MAX = 13
_PRODUCER = "estimator-serving"
_ARG_REDUCTIONS = ("ArgMax", "ArgMin")


def finish_graph(
    model: ModelProto, *, batch_dim: str = "batch", metadata: Mapping[str, str] | None = None
) -> ModelProto:
    """A finished copy of `model`; the same graph always gives the same bytes by `serialize`.

    - Constant nodes become initializers: external data holds initializers alone.
    - Node metadata and doc strings go: torch writes source paths and line numbers there, which would move the hash.
    - Negative axes of ArgMax and ArgMin become positive: with a batch of 0 rows ONNX Runtime gives a wrong shape
      otherwise.
    - Every value gets its type and shape; a first dimension of the graph's inputs and outputs that has no name, or one
      that torch made up ("s77"), is called `batch_dim`.
    - `ir_version` is at most 13; the producer is this package; metadata_props are `metadata`, sorted, nothing else.

    Raises:
        ValueError: a graph that ONNX's own checks refuse, or an ArgMax whose rank cannot be inferred.
    """
    finished = ModelProto()
    finished.CopyFrom(model)
    for graph in _graphs(finished.graph):
        _constants_to_initializers(graph)
    _drop_traces(finished)
    _name_batch(finished.graph, batch_dim)
    _set_value_info(finished)
    ranks = _ranks(finished.graph)
    for graph in _graphs(finished.graph):
        _make_axes_positive(graph, ranks)
    _set_header(finished, metadata or {})
    return finished


def serialize(model: ModelProto) -> bytes:
    """The model's bytes, map fields sorted."""
    return model.SerializeToString(deterministic=True)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and those inside its nodes (If, Loop, Scan), innermost last."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _GRAPH_TYPES else ():
                yield from _graphs(inner)


_GRAPH_TYPES = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def _constants_to_initializers(graph: GraphProto) -> None:
    kept = []
    for node in graph.node:
        tensor = _constant(node)
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.append(tensor)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)


def _constant(node: NodeProto) -> TensorProto | None:
    """The Constant's tensor under the name of its output; None for another node, or for a sparse constant."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or node.attribute[0].name == "sparse_value":
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto.FromString(attribute.t.SerializeToString())
    else:
        tensor = _tensor(attribute)
    tensor.name = node.output[0]
    tensor.doc_string = ""
    return tensor


def _tensor(attribute: AttributeProto) -> TensorProto:
    value = helper.get_attribute_value(attribute)
    element = {
        "value_float": TensorProto.FLOAT,
        "value_floats": TensorProto.FLOAT,
        "value_int": TensorProto.INT64,
        "value_ints": TensorProto.INT64,
        "value_string": TensorProto.STRING,
        "value_strings": TensorProto.STRING,
    }[attribute.name]
    is_list = attribute.name.endswith("s")
    return helper.make_tensor("constant", element, [len(value)] if is_list else [], value if is_list else [value])


def _drop_traces(model: ModelProto) -> None:
    model.doc_string = ""
    bodies: list[GraphProto | FunctionProto] = [*_graphs(model.graph), *model.functions]
    for body in bodies:
        body.doc_string = ""
        del body.metadata_props[:]
        for node in body.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for graph in _graphs(model.graph):
        values: list[ValueInfoProto | TensorProto] = [
            *graph.input,
            *graph.output,
            *graph.value_info,
            *graph.initializer,
        ]
        for value in values:
            value.doc_string = ""
            del value.metadata_props[:]


def _name_batch(graph: GraphProto, batch_dim: str) -> None:
    initialized = {tensor.name for tensor in graph.initializer}
    values = [value for value in (*graph.input, *graph.output) if value.name not in initialized]
    made_up = {_first_dim_name(value) for value in values} & _torch_symbols(values)
    for value in values:
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            unnamed = place == 0 and not dim.HasField("dim_value") and not dim.dim_param
            if unnamed or (dim.dim_param and dim.dim_param in made_up):
                dim.dim_param = batch_dim


def _first_dim_name(value: ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return dims[0].dim_param if dims else ""


def _torch_symbols(values: list[ValueInfoProto]) -> set[str]:
    """Dimension names as torch's tracer numbers them: s0, s77."""
    names = {dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim}
    return {name for name in names if name.startswith("s") and name[1:].isdigit()}


def _set_value_info(model: ModelProto) -> None:
    """Infer all types and shapes anew, from what the op library's nodes give: ONNX knows nothing of those.

    Without their types onnx's inference of LabelEncoder crashes the process (seen with onnx 1.23).
    """
    graph = model.graph
    del graph.value_info[:]
    graph.value_info.extend(info for node in graph.node if node.domain == DOMAIN for info in describe_outputs(node))
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: value for value in inferred.graph.value_info}
    ends = {value.name for value in (*graph.input, *graph.output)}
    produced = {name for node in graph.node for name in node.output}
    del graph.value_info[:]
    graph.value_info.extend(known[name] for name in sorted(known.keys() & produced - ends))


def _ranks(graph: GraphProto) -> dict[str, int]:
    values = [*graph.input, *graph.output, *graph.value_info]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values if _has_shape(value)}
    return ranks | {tensor.name: len(tensor.dims) for tensor in graph.initializer}


def _has_shape(value: ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")


def _make_axes_positive(graph: GraphProto, ranks: Mapping[str, int]) -> None:
    for node in graph.node:
        axis = next((a for a in node.attribute if a.name == "axis" and a.i < 0), None)
        if node.op_type not in _ARG_REDUCTIONS or axis is None:
            continue
        if node.input[0] not in ranks:
            raise ValueError(
                f"The rank of {node.input[0]!r}, the input of {node.op_type} {node.name!r}, is unknown; "
                f"give its axis as a positive number (it is {axis.i})."
            )
        axis.i += ranks[node.input[0]]


def _set_header(model: ModelProto, metadata: Mapping[str, str]) -> None:
    model.ir_version = min(model.ir_version, IR_VERSION_MAX)
    model.producer_name = _PRODUCER
    model.producer_version = ""
    model.model_version = 0
    model.domain = ""
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(metadata.items())))
    opsets = sorted((entry.domain, entry.version) for entry in model.opset_import)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*entry) for entry in opsets)
