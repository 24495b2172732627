"""Graphs run while a servable is made."""

import numpy as np
import pytest
import spox
import spox.opset.ai.onnx.v21 as op
from spox import Tensor, argument

from estimator_serving.exporter import ServingInputReceiver, placeholder
from estimator_serving.exporter.receivers.receiver_graph import build_receiver_graph
from estimator_serving.exporter.servable.running import evaluate, run_all, session_of
from estimator_serving.training.columns.finish import finish_graph


def test_all_outputs_come_by_name():
    x = argument(Tensor(np.float32, (None,)))
    model = finish_graph(spox.build({"x": x}, {"double": op.add(x, x), "x too": op.identity(x)}))
    got = run_all(session_of(model), {"x": np.float32([1, 2])})
    assert {name: one.tolist() for name, one in got.items()} == {"double": [2, 4], "x too": [1, 2]}


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_value_may_have_its_inputs_name(rows):
    x = placeholder(float, [None], "x")
    graph = build_receiver_graph(ServingInputReceiver({"x": x}, {"x": x}))
    got = evaluate(graph, {"x": op.neg(graph.features["x"])}, {"x": np.ones(rows, np.float32)})
    assert got["x"].tolist() == [-1] * rows


def test_alternatives_may_be_left_out(capfd):
    x = placeholder(float, [None], "x")
    half = op.div(x.var, op.const(np.float32(2)))
    graph = build_receiver_graph(ServingInputReceiver({"half": half}, {"x": x}, {"ready": {"half": half}}))
    assert evaluate(graph, graph.features, {"x": np.float32([3])})["half"].tolist() == [1.5]
    assert evaluate(graph, graph.features, {"ready/half": np.float32([3])})["half"].tolist() == [3.0]
    assert evaluate(graph, graph.features, {})["half"].tolist() == []
    # ONNX Runtime would warn of every default.
    assert capfd.readouterr().err == ""
