"""Graphs of evaluation and training: what they take and give, and the numbers of evaluate and predict."""

from pathlib import Path

import numpy as np
import pytest
from exports import assert_near, batch_of
from small_estimators import ROWS, labels_for, make_columns

from estimator_serving import ops
from estimator_serving.exporter import (
    ExportOptions,
    SupervisedInputReceiver,
    build_raw_serving_input_receiver_fn,
    build_raw_supervised_input_receiver_fn,
    export_all_saved_models,
    parse_example,
    placeholder,
)
from estimator_serving.serving import load
from estimator_serving.training import (
    Estimator,
    EstimatorSpec,
    ModeKeys,
    classifier_parse_example_spec,
    layers,
    numpy_input_fn,
    optimizers,
    regressor_parse_example_spec,
)
from estimator_serving.wire.examples import encode_example, join_examples
from estimator_serving.wire.onnx_model import read_model
from estimator_serving.wire.signatures import from_properties

SUPERVISED = ("dnn binary", "dnn multiclass", "dnn regressor", "dnn batch_norm", "multi_head", "custom")
MODES = {"eval": ModeKeys.EVAL, "train": ModeKeys.TRAIN}
METHODS = {"eval": "tensorflow/supervised/eval", "train": "tensorflow/supervised/training"}


def sent_labels(kind):
    """As columns for two kinds: so their graphs are those of Examples, which carry [1]; others send [batch]."""
    labels = labels_for(kind)
    return labels[:, None] if kind in ("dnn binary", "dnn multiclass") else labels


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A function from kind to the version directory of its two supervised graphs."""
    made = {}

    def get(kind):
        if kind not in made:
            receiver_fn = build_raw_supervised_input_receiver_fn(ROWS, sent_labels(kind))
            base = tmp_path_factory.mktemp("base")
            made[kind] = trained(kind).experimental_export_all_saved_models(
                base, dict.fromkeys(MODES.values(), receiver_fn)
            )
        return made[kind]

    return get


def asked(path, mode, sent):
    """The signature of a supervised graph, and its outputs by alias."""
    file = f"{path}/model.{mode}.onnx"
    ((key, signature),) = from_properties(read_model(file).metadata).signatures.items()
    assert (key, signature.method_name) == (mode, METHODS[mode])
    session = ops.session(file)
    names = {node.name for node in session.get_inputs()}
    feeds = {info.value_name: sent[alias] for alias, info in signature.inputs.items() if info.value_name in names}
    values = session.run([info.value_name for info in signature.outputs.values()], feeds)
    return signature, dict(zip(signature.outputs, values, strict=True))


def sent_to(kind):
    labels = sent_labels(kind)
    return ROWS | (labels if isinstance(labels, dict) else {"label": labels})


@pytest.mark.parametrize("kind", SUPERVISED)
def test_an_evaluation_graph_gives_what_evaluate_gives(trained, exported, kind):
    signature, got = asked(exported(kind), "eval", sent_to(kind))
    assert set(signature.inputs) == set(sent_to(kind))
    expected = trained(kind).evaluate(numpy_input_fn(ROWS, labels_for(kind), shuffle=False, batch_size=6))
    del expected["global_step"]
    loss = expected.pop("loss")
    assert_near(got["loss"], loss, "loss")
    for name, value in expected.items():
        assert_near(got[f"metrics/{name}/value"], value, name)
        assert np.array_equal(got[f"metrics/{name}/value"], got[f"metrics/{name}/update_op"])
    assert_predictions(got, batch_of(trained(kind), ROWS))
    assert len(got) == 1 + 2 * len(expected) + len(batch_of(trained(kind), ROWS))


@pytest.mark.parametrize("kind", SUPERVISED)
def test_a_training_graph_gives_loss_and_predictions(trained, exported, kind):
    """Nothing random, nothing of the other rows: what training alone does is left out."""
    signature, got = asked(exported(kind), "train", sent_to(kind))
    assert set(signature.inputs) == set(sent_to(kind))
    evaluated = trained(kind).evaluate(numpy_input_fn(ROWS, labels_for(kind), shuffle=False, batch_size=6))
    assert_near(got.pop("loss"), evaluated["loss"], "loss")
    predicted = batch_of(trained(kind), ROWS)
    assert_predictions(got, predicted)
    assert len(got) == len(predicted)


def assert_predictions(got, predicted):
    for key, wanted in predicted.items():
        assert_near(got[f"predictions/{key}"], wanted, key)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("dnn binary", classifier_parse_example_spec(make_columns(), "survived")),
        ("dnn multiclass", classifier_parse_example_spec(make_columns(), "survived", label_dtype=str)),
        ("dnn regressor", regressor_parse_example_spec(make_columns(), "survived", label_dimension=2)),
    ],
)
def test_examples_with_labels(trained, tmp_path, kind, spec):
    def receiver_fn():
        serialized = placeholder(str, [None], "input_example_tensor")
        features = parse_example(serialized, spec)
        return SupervisedInputReceiver(features, features.pop("survived"), {"examples": serialized})

    path = trained(kind).export_saved_model(tmp_path, receiver_fn, experimental_mode=ModeKeys.EVAL)
    session = ops.session(f"{path}/model.eval.onnx")
    labels = labels_for(kind)
    rows = [
        {key: ROWS[key][row] for key in ("age", "fare", "class", "port")} | {"survived": labels[row]}
        for row in range(6)
    ]
    values, row_splits = join_examples([encode_example(row) for row in rows])
    feeds = {"input_example_tensor/values": values, "input_example_tensor/row_splits": row_splits}
    (loss,) = session.run(["loss"], feeds)
    expected = trained(kind).evaluate(numpy_input_fn(ROWS, labels, shuffle=False, batch_size=6))
    assert_near(loss, expected["loss"], "loss")


def test_labels_of_another_shape_are_refused(trained, tmp_path):
    receiver_fn = build_raw_supervised_input_receiver_fn(ROWS, np.zeros((6, 3), np.int64))
    with pytest.raises(ValueError, match=r"Mismatched label shape. Expected labels dimension=1.  Received 3"):
        trained("dnn binary").export_saved_model(tmp_path / "base", receiver_fn, experimental_mode=ModeKeys.EVAL)
    assert not (tmp_path / "base").exists()


def test_words_for_a_head_of_numbers_are_refused(trained, tmp_path):
    receiver_fn = build_raw_supervised_input_receiver_fn(ROWS, np.array(["a"] * 6, object))
    with pytest.raises(ValueError, match="no label_vocabulary"):
        trained("dnn binary").export_saved_model(tmp_path / "base", receiver_fn, experimental_mode=ModeKeys.EVAL)


def test_each_graph_has_its_own_large_weights(tmp_path):
    """One file for both would move the weights of the graph that serves: evaluation alone has the layer `a`."""

    def model_fn(features, labels, mode):
        wide = layers.dense(features["x"], units=200, name="z1")
        predictions = {"p": layers.dense(wide, units=200, name="z2")}
        if mode == ModeKeys.PREDICT:
            return EstimatorSpec(mode, predictions=predictions)
        loss = predictions["p"].mean() + layers.dense(wide, units=300, name="a").mean()
        step = optimizers.SGD(0.1).minimize(loss) if mode == ModeKeys.TRAIN else None
        return EstimatorSpec(mode, predictions=predictions, loss=loss, train_op=step)

    x, y = {"x": np.float32([[1, 2], [3, 4]])}, np.float32([0, 1])
    estimator = Estimator(model_fn, model_dir=str(tmp_path / "model"))
    estimator.train(numpy_input_fn(x, y, shuffle=False, batch_size=2), steps=1)
    receivers = {
        ModeKeys.PREDICT: build_raw_serving_input_receiver_fn(x),
        ModeKeys.EVAL: build_raw_supervised_input_receiver_fn(x, y),
    }
    outside = ExportOptions(external_data_min_bytes=1)
    path = Path(export_all_saved_models(estimator, tmp_path / "base", receivers, options=outside))
    assert {one.name for one in path.glob("*.data")} == {"model.onnx.data", "model.eval.onnx.data"}
    expected = batch_of(estimator, x)["p"]
    assert_near(load(path).signatures["serving_default"](**x)["p"], expected, "model.onnx")
    assert_near(asked(path, "eval", x | {"label": y})[1]["predictions/p"], expected, "model.eval.onnx")
