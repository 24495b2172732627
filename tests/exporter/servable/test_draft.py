"""From a draft to a finished model: signatures, metadata, verification, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import spox
import spox.opset.ai.onnx.v21 as op
from onnx import TensorProto, helper, numpy_helper

from estimator_serving.exporter import (
    ExportMismatch,
    ExportOptions,
    ServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    placeholder,
)
from estimator_serving.exporter.receivers.receiver_graph import build_receiver_graph
from estimator_serving.exporter.receivers.samples import graph_feeds, sample_inputs
from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.servable.draft import SAMPLE_ROWS, Draft, finish
from estimator_serving.exporter.servable.running import evaluate, run_all
from estimator_serving.exporter.servable.signature_defs import PREDICTION, REGRESSION
from estimator_serving.training import FixedLenFeature
from estimator_serving.wire.onnx_model import scan
from estimator_serving.wire.signatures import from_properties

PARSING = build_parsing_serving_input_receiver_fn({"x": FixedLenFeature([], float)})
RAW = build_raw_serving_input_receiver_fn({"x": np.zeros([1], np.float32)})


def double(x):
    return {"y": op.add(x, x)}


def draft_of(compute=double, receiver_fn=PARSING, detached=None, **changes):
    """A draft whose model computes this of the feature x, and is expected to."""
    receiver = receiver_fn()
    graph = build_receiver_graph(receiver)
    inputs = {name: weights.weight_input(tensor) for name, tensor in (detached or {}).items()}
    values = compute(graph.features["x"], *inputs.values())
    rows = sample_inputs(receiver, {}, SAMPLE_ROWS)
    expected = {} if detached else evaluate(graph, values, graph_feeds(receiver, rows))
    draft = Draft(
        receiver=receiver,
        receiver_graph=graph,
        model=spox.build({**graph.inputs, **inputs}, values),
        detached=detached or {},
        outputs={"serving_default": (PREDICTION, {name: name for name in values})},
        inputs=rows,
        expected=expected,
        provenance={"versions": {}},
    )
    return replace(draft, **changes)


def test_a_finished_model_runs_and_says_what_it_is():
    model = finish(draft_of(), ExportOptions())
    metadata = from_properties(scan(model.content).metadata)
    assert metadata == model.metadata
    (signature,) = metadata.signatures.values()
    assert {alias: (one.name, one.dtype.name, one.shape) for alias, one in signature.outputs.items()} == {
        "y": ("y:0", "float", (-1,))
    }
    assert metadata.feature_spec == {"x": FixedLenFeature([], float)}
    assert model.data == ()
    feeds = {"input_example_tensor/values": np.zeros(0, np.uint8), "input_example_tensor/row_splits": np.int64([0])}
    assert run_all(model.session, feeds)["y"].tolist() == []


def test_properties_beside_the_signatures():
    options = ExportOptions(parity_tolerance={"CPUExecutionProvider": 1e-3})
    properties = scan(finish(draft_of(), options).content).metadata
    assert json.loads(properties["provenance"]) == {"versions": {}, "ops": ["ParseExample"]}
    assert json.loads(properties["parity_tolerance"])["CPUExecutionProvider"] == 1e-3
    raw = scan(finish(draft_of(receiver_fn=RAW), options).content).metadata
    assert json.loads(raw["provenance"])["ops"] == []
    assert "example_parser_configuration" not in raw


def test_the_same_draft_gives_the_same_bytes():
    assert finish(draft_of(), ExportOptions()).content == finish(draft_of(), ExportOptions()).content


def test_the_proof_has_as_many_requests_as_asked():
    for count in (0, 3):
        proof = finish(draft_of(), ExportOptions(warmup_requests=count)).proof
        assert [len(records) for records in proof.values()] == [count] * (2 if count else 0)


def test_a_regression_of_tensors_is_asked_as_predict():
    outputs = {"serving_default": (REGRESSION, {"outputs": "y"})}
    methods = {
        receiver_fn: finish(draft_of(receiver_fn=receiver_fn, outputs=outputs), ExportOptions())
        .metadata.signatures["serving_default"]
        .method_name.rpartition("/")[2]
        for receiver_fn in (PARSING, RAW)
    }
    assert methods == {PARSING: "regress", RAW: "predict"}


def test_a_wrong_number_anywhere_is_a_mismatch():
    draft = draft_of()
    wrong = draft.expected["y"].copy()
    wrong[-1] += 1
    with pytest.raises(ExportMismatch, match=rf"16 sample rows: output 'y', at \[{SAMPLE_ROWS - 1}\]"):
        finish(replace(draft, expected={"y": wrong}), ExportOptions())
    far = ExportOptions(parity_tolerance={"CPUExecutionProvider": 1.0})
    assert finish(replace(draft, expected={"y": wrong}), far).content


def mean_of_batch(x):
    return {"y": op.sub(x, op.reduce_mean(x, keepdims=True))}


def test_a_row_must_not_depend_on_its_neighbours():
    with pytest.raises(ExportMismatch, match="on a batch of 1: output 'y'"):
        finish(draft_of(mean_of_batch), ExportOptions())


def total(x):
    return {"loss": op.reduce_sum(x, keepdims=False)}


def test_an_output_without_a_batch_is_compared_on_all_rows():
    draft = draft_of(total)
    assert finish(draft, ExportOptions()).content
    with pytest.raises(ExportMismatch, match="16 sample rows: output 'loss'"):
        finish(replace(draft, expected={"loss": draft.expected["loss"] + 1}), ExportOptions())


def first_row(x):
    return {"y": op.add(x, op.gather(x, op.const(np.int64(0))))}


def test_a_graph_that_cannot_run_on_no_row_says_so_to_servers():
    assert scan(finish(draft_of(first_row, expected={}), ExportOptions()).content).needs_rows
    assert not scan(finish(draft_of(), ExportOptions()).content).needs_rows


def test_a_graph_that_cannot_be_loaded_is_refused():
    unknown = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="com.microsoft")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in "xy")
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([unknown], "g", [x], [y]), opset_imports=opsets, ir_version=10)
    with pytest.raises(ValueError, match="cannot load the exported graph .*NoSuchOperator.*nothing was written"):
        finish(draft_of(receiver_fn=RAW, model=model), ExportOptions())


def test_an_opset_that_cannot_say_it_is_refused():
    node = helper.make_node("RMSNormalization", ["x", "one"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in "xy")
    one = numpy_helper.from_array(np.float32([1]), "one")
    graph = helper.make_graph([node], "g", [x], [y], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    with pytest.raises(ValueError, match="cannot be written in ONNX opset 19"):
        finish(draft_of(receiver_fn=RAW, model=model), ExportOptions(opset=19))


LARGE = numpy_helper.from_array(np.linspace(0, 1, 30000, dtype=np.float32), "w")


def times_weight(x, w):
    return {"y": op.mul(x, op.gather(w, op.const(np.int64(7))))}


@pytest.mark.parametrize(("least", "is_outside"), [(1, True), (1 << 20, False)])
def test_detached_weights_come_back(least, is_outside):
    draft = draft_of(times_weight, RAW, {"w": LARGE})
    model = finish(draft, ExportOptions(external_data_min_bytes=least), "model.eval.onnx")
    described = scan(model.content)
    assert bool(model.data) == bool(described.external) == is_outside
    assert {one.location for one in described.external} <= {"model.eval.onnx.data"}
    got = run_all(model.session, {"x": np.float32([2])})["y"]
    np.testing.assert_allclose(got, [2 * numpy_helper.to_array(LARGE)[7]])


def test_inputs_of_alternatives_have_defaults():
    def receiver_fn():
        sent = placeholder(float, [None], "sent")
        x = op.mul(sent.var, op.const(np.float32(3)))
        return ServingInputReceiver({"x": x}, {"sent": sent}, {"ready": {"x": x}})

    model = finish(draft_of(receiver_fn=receiver_fn), ExportOptions())
    assert set(model.metadata.signatures) == {"serving_default", "ready:serving_default"}
    assert run_all(model.session, {"ready/x": np.float32([1])})["y"].tolist() == [2.0]
    assert run_all(model.session, {"sent": np.float32([1])})["y"].tolist() == [6.0]
