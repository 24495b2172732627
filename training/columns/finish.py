"""The last step of every graph that is built: the transform's here, the servable's in the exporter.

Owns what must be mended in a built graph before it is hashed, stored and served. Only finished bytes are hashed. Knows
nothing of columns or signatures.
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

    - Constant nodes become initializers: external data holds only initializers.
    - Node metadata and doc strings go: torch writes source paths and line numbers there, which would move the hash.
    - Negative axes of ArgMax and ArgMin become positive: with a batch of 0 rows ONNX Runtime gives a wrong shape
      otherwise.
    - Every value gets its type and shape; a first dimension of the graph's inputs and outputs that has no name, or one
      that torch made up ("s77"), is called `batch_dim`.
    - `ir_version` is at most 13; the producer is this package; metadata_props are exactly `metadata`, sorted.

    Raises:
        ValueError: a graph that ONNX's own checks refuse, or an ArgMax whose rank cannot be inferred.
    """
    finished = ModelProto()
    finished.CopyFrom(model)
    for part in _graphs(finished.graph):
        _constants_to_initializers(part)
    _drop_traces(finished)
    _name_batch(finished.graph, batch_dim)
    # Infer all types and shapes anew, from what the op library's nodes give: ONNX knows nothing of those. Without their
    # types onnx's inference of LabelEncoder crashes the process (seen with onnx 1.23).
    graph = finished.graph
    del graph.value_info[:]
    graph.value_info.extend(info for node in graph.node if node.domain == DOMAIN for info in describe_outputs(node))
    inferred = shape_inference.infer_shapes(finished, data_prop=True)
    known = {value.name: value for value in inferred.graph.value_info}
    ends = {value.name for value in (*graph.input, *graph.output)}
    produced = {name for node in graph.node for name in node.output}
    del graph.value_info[:]
    graph.value_info.extend(known[name] for name in sorted(known.keys() & produced - ends))
    _make_axes_positive(finished)
    finished.ir_version = min(finished.ir_version, IR_VERSION_MAX)
    finished.producer_name = _PRODUCER
    finished.producer_version = ""
    finished.model_version = 0
    finished.domain = ""
    del finished.metadata_props[:]
    helper.set_model_props(finished, dict(sorted((metadata or {}).items())))
    opsets = sorted((entry.domain, entry.version) for entry in finished.opset_import)
    del finished.opset_import[:]
    finished.opset_import.extend(helper.make_opsetid(*entry) for entry in opsets)
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
    """Constants become tensors under the name of their output; a sparse constant stays a node."""
    kept = []
    for node in graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or node.attribute[0].name == "sparse_value":
            kept.append(NodeProto.FromString(node.SerializeToString()))
            continue
        attribute = node.attribute[0]
        if attribute.name == "value":
            tensor = TensorProto.FromString(attribute.t.SerializeToString())
        else:
            value = helper.get_attribute_value(attribute)
            is_list = attribute.name.endswith("s")
            element = _CONSTANT_ELEMENTS[attribute.name.removesuffix("s")]
            tensor = helper.make_tensor(
                "constant", element, [len(value)] if is_list else [], value if is_list else [value]
            )
        tensor.name = node.output[0]
        tensor.doc_string = ""
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


_CONSTANT_ELEMENTS = {
    "value_float": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_string": TensorProto.STRING,
}


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
    # torch's tracer numbers the dimensions it names: s0, s77.
    made_up = {
        dims[0].dim_param
        for dims in (value.type.tensor_type.shape.dim for value in values)
        if dims and dims[0].dim_param.startswith("s") and dims[0].dim_param[1:].isdigit()
    }
    for value in values:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            unnamed = axis == 0 and not dim.HasField("dim_value") and not dim.dim_param
            if unnamed or (dim.dim_param and dim.dim_param in made_up):
                dim.dim_param = batch_dim


def _make_axes_positive(model: ModelProto) -> None:
    graph = model.graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
    } | {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for node in (node for one in _graphs(graph) for node in one.node):
        axis = next((a for a in node.attribute if a.name == "axis" and a.i < 0), None)
        if node.op_type not in _ARG_REDUCTIONS or axis is None:
            continue
        if node.input[0] not in ranks:
            raise ValueError(
                f"The rank of {node.input[0]!r}, the input of {node.op_type} {node.name!r}, is unknown; "
                f"give its axis as a positive number (it is {axis.i})."
            )
        axis.i += ranks[node.input[0]]
