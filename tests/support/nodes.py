"""Tiny models around one op of the library, and what they make of serialized messages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from estimator_serving import ops
from estimator_serving.training.columns import onnx_ops
from estimator_serving.wire.examples import FeatureSpec, join_examples, list_tensors_of, tensors_of

Inputs = Mapping[str, tuple[int, Sequence[Any]]]
Parse = Callable[[Sequence[bytes]], dict[str, Any]]

PARSE_INPUTS: Inputs = {"values": (TensorProto.UINT8, ["bytes"]), "row_splits": (TensorProto.INT64, ["batch+1"])}


def load(nodes: Sequence[onnx.NodeProto], inputs: Inputs, threads: int = 0) -> ort.InferenceSession:
    """A session of a model of the given nodes; the outputs of the last node are the graph's."""
    infos = [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in nodes[-1].output if name]
    graph = helper.make_graph(nodes, "test", infos, outputs)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(ops.DOMAIN, ops.VERSION)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a refusal is the result here, not an event for the log
    options.intra_op_num_threads = threads
    return ops.session(model.SerializeToString(), options=options)


def parse_node(
    spec: FeatureSpec, lists: FeatureSpec | None = None, outputs: Sequence[str] | None = None
) -> onnx.NodeProto:
    """A ParseExample node, by a feature spec; with the spec of feature lists a ParseSequenceExample node.

    Its outputs are named as wire.features names them, those of the lists with `lists/` before.
    """
    if outputs is None:
        outputs = [tensor.name for name, feature in spec.items() for tensor in tensors_of(name, feature)]
        for name, feature in (lists or {}).items():
            outputs += [f"lists/{tensor.name}" for tensor in list_tensors_of(name, feature)]
    op_type = "ParseExample" if lists is None else "ParseSequenceExample"
    node = helper.make_node(op_type, list(PARSE_INPUTS), outputs, domain=ops.DOMAIN)
    placed = [(name, feature, False) for name, feature in spec.items()]
    placed += [(name, feature, True) for name, feature in (lists or {}).items()]
    node.attribute.extend(onnx_ops.attributes_of(placed))
    return node


def make_parser(spec: FeatureSpec, lists: FeatureSpec | None = None, threads: int = 1) -> Parse:
    """A function from serialized messages to {output name: array}, by a feature spec and that of feature lists."""
    node = parse_node(spec, lists)
    session = load([node], PARSE_INPUTS, threads)

    def parse(examples: Sequence[bytes]) -> dict[str, Any]:
        values, row_splits = join_examples(examples)
        found = session.run(None, {"values": values, "row_splits": row_splits})
        return dict(zip(node.output, found, strict=True))

    return parse
