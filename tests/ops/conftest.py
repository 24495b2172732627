"""Tiny models around one op, made with onnx.helper, and what a test feeds them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from estimator_serving import ops
from estimator_serving.training import onnx_ops
from estimator_serving.wire.examples import FeatureSpec, join_examples, list_tensors_of, tensors_of

Parse = Callable[[Sequence[bytes]], dict[str, Any]]


@pytest.fixture(scope="session")
def load():
    """Loads a model of the given nodes; the outputs of the last node are the graph's."""

    def load_nodes(
        nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, tuple[int, Sequence[str]]], **options: Any
    ) -> ort.InferenceSession:
        infos = [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()]
        outputs = [helper.make_empty_tensor_value_info(name) for name in nodes[-1].output if name]
        graph = helper.make_graph(nodes, "test", infos, outputs)
        imports = [helper.make_opsetid("", 20), helper.make_opsetid(ops.DOMAIN, ops.VERSION)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        session_options = ort.SessionOptions()
        session_options.log_severity_level = 4  # a refusal is the result here, not an event for the log
        return ops.session(model.SerializeToString(), options=session_options)

    return load_nodes


@pytest.fixture(scope="session")
def parse_inputs() -> dict[str, tuple[int, list[str]]]:
    return {"values": (TensorProto.UINT8, ["bytes"]), "row_splits": (TensorProto.INT64, ["batch+1"])}


def placed(spec: FeatureSpec, lists: FeatureSpec | None) -> list[onnx_ops.Placed]:
    features = [(name, feature, False) for name, feature in spec.items()]
    return features + [(name, feature, True) for name, feature in (lists or {}).items()]


@pytest.fixture(scope="session")
def node_of(parse_inputs):
    """A ParseExample node, by a feature spec; with the spec of feature lists a ParseSequenceExample node.

    Its outputs are named as wire.features names them, those of the lists with `lists/` before.
    """

    def make(
        spec: FeatureSpec, lists: FeatureSpec | None = None, outputs: Sequence[str] | None = None
    ) -> onnx.NodeProto:
        if outputs is None:
            outputs = [tensor.name for name, feature in spec.items() for tensor in tensors_of(name, feature)]
            for name, feature in (lists or {}).items():
                outputs += [f"lists/{tensor.name}" for tensor in list_tensors_of(name, feature)]
        op_type = "ParseExample" if lists is None else "ParseSequenceExample"
        node = helper.make_node(op_type, list(parse_inputs), outputs, domain=ops.DOMAIN)
        node.attribute.extend(onnx_ops.attributes_of(placed(spec, lists)))
        return node

    return make


@pytest.fixture(scope="session")
def parser(load, node_of, parse_inputs):
    """Makes a function from serialized messages to {output name: array}, by a feature spec and that of lists."""

    def make(spec: FeatureSpec, lists: FeatureSpec | None = None) -> Parse:
        node = node_of(spec, lists)
        session = load([node], parse_inputs)

        def parse(examples: Sequence[bytes]) -> dict[str, Any]:
            values, row_splits = join_examples(examples)
            found = session.run(None, {"values": values, "row_splits": row_splits})
            return dict(zip(node.output, found, strict=True))

        return parse

    return make


@pytest.fixture(scope="session")
def rows_of():
    """The rows of a padded output as lists, without the padding; asserts that the padding is zeros or ''."""

    def rows(parsed: Mapping[str, Any], key: str) -> list[list[Any]]:
        padded, lengths = parsed[f"{key}/values"], parsed[f"{key}/lengths"]
        assert padded.shape == (len(lengths), max(lengths, default=0))
        behind = np.arange(padded.shape[1]) >= lengths[:, None]
        assert not padded[behind].any()
        return [row[:length].tolist() for row, length in zip(padded, lengths, strict=True)]

    return rows
