"""Every family of estimators behind receivers that parse nothing: signatures, and the numbers of estimator.predict."""

import numpy as np
import pytest
from exports import assert_near, batch_of, predict_table, rows_of, signature_table
from small_estimators import KINDS, ROWS, every_column, every_linear_column, sequence_columns

from estimator_serving.exporter import (
    ExportOptions,
    ServingInputReceiver,
    TensorServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    parse_example,
    placeholder,
)
from estimator_serving.exporter.export import build_draft
from estimator_serving.exporter.servable.draft import finish
from estimator_serving.serving import load
from estimator_serving.training import (
    Estimator,
    EstimatorSpec,
    FixedLenSequenceFeature,
    RunConfig,
    feature_column,
    layers,
    losses,
    numpy_input_fn,
    optimizers,
)

RAW = build_raw_serving_input_receiver_fn(ROWS)


def feed(session, features):
    names = {node.name for node in session.get_inputs()}
    return {key: value for key, value in features.items() if key in names}


@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_receiver_gives_what_predict_gives(trained, kind):
    checked = finish(build_draft(trained(kind).load(), RAW()), ExportOptions(), "model.onnx.data")
    signatures = checked.metadata.signatures
    # Raw tensors cannot feed classify and regress; the default signature stays, and answers predict.
    assert {key: set(one.outputs) for key, one in signatures.items()} == predict_table(kind)
    assert {one.method_name for one in signatures.values()} == {"tensorflow/serving/predict"}
    assert all(set(one.inputs) == set(ROWS) for one in signatures.values())
    outputs = signatures.get("predict", signatures["serving_default"]).outputs
    names = [info.value_name for info in outputs.values()]
    expected = batch_of(trained(kind), rows_of(1000))
    for rows in (0, 1, 1000):
        values = checked.session.run(names, feed(checked.session, rows_of(rows)))
        for alias, got in zip(outputs, values, strict=True):
            assert_near(got, expected[alias][:rows], alias)


SPEC = feature_column.make_parse_example_spec([*every_column(), *every_linear_column(), *sequence_columns()])


def receiver_with_alternatives():
    serialized = placeholder(str, [None], "input_example_tensor")
    features = parse_example(serialized, SPEC)
    return ServingInputReceiver(features, {"examples": serialized}, {"single": features})


@pytest.mark.parametrize("kind", KINDS)
def test_alternatives_answer_like_predict(trained, kind):
    checked = finish(
        build_draft(trained(kind).load(), receiver_with_alternatives()), ExportOptions(), "model.onnx.data"
    )
    signatures = checked.metadata.signatures
    found = {key: one for key, one in signatures.items() if key.startswith("single:")}
    assert {key.removeprefix("single:"): set(one.outputs) for key, one in found.items()} == predict_table(kind)
    assert {one.method_name for one in found.values()} == {"tensorflow/serving/predict"}
    assert {key: one.method_name.rpartition("/")[2] for key, one in signatures.items() if key not in found} == {
        key: one.method for key, one in signature_table(kind).items()
    }
    single = found["single:serving_default"]
    # The sixth row has '', which an alternative takes for nothing, and a cross of dense features for a word.
    rows = rows_of(5)
    # A missing number is NaN where it may be any number, and its weight is missing with it.
    given = rows | {"deck_weight": np.where(rows["deck"] == -1, np.float32("nan"), rows["deck_weight"])}
    sent = {info.value_name: given[alias].reshape(5, -1) for alias, info in single.inputs.items()}
    values = checked.session.run([info.value_name for info in single.outputs.values()], sent)
    expected = batch_of(trained(kind), rows)
    for alias, got in zip(single.outputs, values, strict=True):
        assert_near(got, expected[alias], alias)


def bare_model_fn(features, labels, mode):
    logits = layers.dense(features, units=1)
    if mode == "infer":
        return EstimatorSpec(mode, predictions=logits)
    loss = losses.mean_squared_error(labels.float().reshape(-1, 1), logits)
    return EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.1).minimize(loss))


def steps_model_fn(features, labels, mode):
    logits = layers.dense(features["x"].sum(dim=1, keepdim=True), units=1)
    if mode == "infer":
        return EstimatorSpec(mode, predictions=logits)
    loss = losses.mean_squared_error(labels.float().reshape(-1, 1), logits)
    return EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.1).minimize(loss))


def test_a_model_that_reads_steps_itself(tmp_path):
    x = np.float32([[1, 2], [3, 4], [5, 6]])
    estimator = Estimator(steps_model_fn, config=RunConfig(tf_random_seed=1, model_dir=str(tmp_path / "model")))
    estimator.train(numpy_input_fn({"x": x}, np.float32([1, 2, 3]), shuffle=False), steps=1)
    spec = {"x": FixedLenSequenceFeature([], float, allow_missing=True)}
    loaded = load(estimator.export_saved_model(tmp_path / "base", build_parsing_serving_input_receiver_fn(spec)))
    got = loaded.signatures["serving_default"](examples=[{"x": [1.0, 2.0, 3.0, 4.0, 5.0]}, {}])["output"]
    wide = np.float32([[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]])
    expected = np.stack(list(estimator.predict(numpy_input_fn({"x": wide}, shuffle=False))))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_model_of_one_tensor(tmp_path):
    x = np.float32([[1, 2], [3, 4], [5, 6]])
    estimator = Estimator(bare_model_fn, config=RunConfig(tf_random_seed=1, model_dir=str(tmp_path / "model")))
    estimator.train(numpy_input_fn(x, np.float32([1, 2, 3]), shuffle=False), steps=1)

    def receiver_fn():
        sent = placeholder(float, [None, 2], "x")
        return TensorServingInputReceiver(sent, {"x": sent})

    loaded = load(estimator.export_saved_model(tmp_path / "base", receiver_fn))
    got = loaded.signatures["serving_default"](x=x)["output"]
    np.testing.assert_allclose(got, np.stack(list(estimator.predict(numpy_input_fn(x, shuffle=False)))), atol=1e-5)
