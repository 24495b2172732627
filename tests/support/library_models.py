"""Data that models of other libraries are fitted to, and what clients send of it."""

import numpy as np
from onnx import TensorProto, helper

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.training import FixedLenFeature

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(300, 3))  # float64, so that thresholds are no float32
Y = X[:, 0] * 2 + np.sin(X[:, 1] * 5)
BINARY = (Y > 0).astype(int)
WORDS = np.array(["a", "b", "c"], object)[np.digitize(Y, [-1, 1])]
SPEC = {key: FixedLenFeature([], float) for key in ("u", "v", "w")}
EXAMPLES = build_parsing_serving_input_receiver_fn(SPEC)


def as_examples(rows):
    return [dict(zip(SPEC, map(float, row), strict=True)) for row in np.float32(rows)]


def add_one(first="batch"):
    """An ONNX model: y = x + 1, [first, 3]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [first, 3])
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], "g", [x], [y], [one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
