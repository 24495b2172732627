"""Tiny models around one op, made with onnx.helper, and what a test feeds them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from estimator_serving import ops
from estimator_serving.wire.examples import FeatureSpec, FixedLenFeature, VarLenFeature, join_examples

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


@pytest.fixture(scope="session")
def attributes_of():
    """The attributes and output names of a ParseExample node, by a feature spec."""

    def attributes(spec: FeatureSpec) -> tuple[dict[str, Any], list[str]]:
        features = list(spec.values())
        shapes = [list(feature.shape) if isinstance(feature, FixedLenFeature) else [] for feature in features]
        named: dict[str, Any] = {f"key_{i}": key for i, key in enumerate(spec)}
        for i, feature in enumerate(features):
            if isinstance(feature, FixedLenFeature) and feature.default_array is not None:
                named[f"default_{i}"] = numpy_helper.from_array(feature.default_array)
        lists = {
            "kinds": [int(isinstance(feature, VarLenFeature)) for feature in features],
            "dtypes": [feature.dtype.number for feature in features],
            "ranks": [len(shape) for shape in shapes],
            "dims": [dim for shape in shapes for dim in shape] or None,
        }
        outputs = []
        for key, feature in spec.items():
            outputs += [key] if isinstance(feature, FixedLenFeature) else [f"{key}/values", f"{key}/lengths"]
        return {**lists, **named}, outputs

    return attributes


@pytest.fixture(scope="session")
def parser(load, attributes_of, parse_inputs):
    """Makes a function from serialized Examples to {output name: array}, by a feature spec."""

    def make(spec: FeatureSpec) -> Parse:
        attributes, outputs = attributes_of(spec)
        node = helper.make_node("ParseExample", list(parse_inputs), outputs, domain=ops.DOMAIN, **attributes)
        session = load([node], parse_inputs)

        def parse(examples: Sequence[bytes]) -> dict[str, Any]:
            values, row_splits = join_examples(examples)
            return dict(zip(outputs, session.run(None, {"values": values, "row_splits": row_splits}), strict=True))

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
