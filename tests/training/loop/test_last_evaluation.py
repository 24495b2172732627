"""What an evaluation leaves for the report, of every kind of model."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import small_estimators
import torch
from sklearn.metrics import roc_auc_score

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import numpy_input_fn
from estimator_serving.training.loop import last_evaluation
from estimator_serving.training.model_fn import StringPrediction


def left(estimator, inputs, **given):
    estimator.evaluate(inputs, **given)
    return json.loads((last_evaluation.Path(estimator.eval_dir()) / last_evaluation.FILE).read_text())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear multiclass", [("", "classes")]),
        ("multi_label", [("", "multi_label")]),
        ("multi_head", [("prices", "numbers"), ("survived", "classes")]),
        ("custom", [("", "classes")]),
    ],
)
def test_targets(kind, expected, tmp_path):
    estimator = small_estimators.make_estimator(kind, tmp_path)
    rows, labels = small_estimators.ROWS, small_estimators.labels_for(kind)
    found = left(estimator, numpy_input_fn(rows, labels, batch_size=4, shuffle=False))
    assert [(target["name"], target["kind"]) for target in found["targets"]] == expected
    assert (found["rows"], found["note"]) == (6, "")
    for target in found["targets"]:
        if target["kind"] == "classes":
            assert np.sum(target["confusion"]) == 6


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More rows than are put aside at once: a binary model's record, its labels and probabilities."""
    random = np.random.default_rng(0)
    x = random.normal(size=9_000).astype(np.float32)
    y = (x + random.normal(size=x.size) > 0).astype(np.int64)
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path_factory.mktemp("many"))
    inputs = numpy_input_fn({"x": x}, y, batch_size=1000, shuffle=False)
    estimator.train(inputs, steps=5)
    scores = np.concatenate([one["logistic"] for one in estimator.predict(inputs)])
    return left(estimator, inputs), y, scores


def test_buckets_keep_the_order_of_scores(many):
    found, labels, scores = many
    (counts,) = found["targets"][0]["scores"]
    positives, negatives = (np.array(counts[key]) for key in ("positives", "negatives"))
    assert (positives.sum(), negatives.sum()) == (labels.sum(), (1 - labels).sum())
    below = np.cumsum(negatives) - negatives / 2
    area = (positives * below).sum() / positives.sum() / negatives.sum()
    assert area == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)
    assert sum(counts["score_sums"]) == pytest.approx(scores.sum(), rel=1e-4)


def test_columns_are_counted_over_the_first_rows(many):
    found, *_ = many
    assert found["rows"] == 9_000
    assert last_evaluation.COVERED_ROWS <= found["covered_rows"] < 9_000
    assert found["columns"][0]["rows"] == found["covered_rows"]


def test_a_regression_keeps_a_sample_and_the_sums_of_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(last_evaluation, "SAMPLE_ROWS", 10)
    estimator = training.LinearRegressor([fc.numeric_column("x")], tmp_path)
    y = np.arange(50, dtype=np.float32)
    found = left(estimator, numpy_input_fn({"x": y}, y, batch_size=7, shuffle=False))["targets"][0]
    assert (found["rows"], len(found["sample"])) == (50, 10)
    assert {label for label, predicted in found["sample"] if predicted == 0} <= set(y)
    assert found["mean_error"] == pytest.approx(y.mean())
    assert found["root_mean_squared_error"] == pytest.approx(np.sqrt((y**2).mean()))


def test_a_class_may_have_a_name_that_is_not_utf_8(tmp_path):
    ids = torch.tensor([[1]])
    predictions = {"class_ids": ids, "classes": StringPrediction(ids, ("a", "\udcff"))}
    record = last_evaluation.LastEvaluation(SimpleNamespace(recorder=SimpleNamespace(transform=None)))
    record.add({}, torch.tensor([1]), {"probabilities": torch.tensor([[0.2, 0.8]]), **predictions})
    record.write(tmp_path, {"accuracy": np.float32(1)}, None)
    found = json.loads((tmp_path / last_evaluation.FILE).read_text())
    assert (found["metrics"], found["targets"][0]["classes"]) == ({"accuracy": 1.0}, ["a", "\udcff"])


def test_predictions_that_do_not_tell_are_named(tmp_path):
    def model_fn(features, labels, mode):
        loss = training.losses.mean_squared_error(labels, features["x"])
        predictions = {"left": features["x"], "right": features["x"]}
        return training.EstimatorSpec(mode, predictions=predictions, loss=loss)

    estimator = training.Estimator(model_fn, tmp_path)
    found = left(estimator, numpy_input_fn({"x": np.float32([1, 2])}, np.float32([1, 2]), shuffle=False))
    assert found["targets"] == []
    assert "they are ['left', 'right']. Name them `probabilities`" in found["note"]


@pytest.mark.parametrize("labels", [np.float32([1, 2]), None], ids=["labels", "no labels"])
def test_a_model_fn_without_predictions_leaves_metrics_and_columns(tmp_path, labels):
    column = fc.numeric_column("x")

    def model_fn(features, mode, labels=None):
        loss = fc.input_layer(features, [column]).mean()
        return training.EstimatorSpec(mode, loss=loss, eval_metric_ops={"mean": training.metrics.mean(loss)})

    inputs = numpy_input_fn({"x": np.float32([1, 2])}, labels, shuffle=False)
    found = left(training.Estimator(model_fn, tmp_path), inputs)
    assert (found["rows"], found["covered_rows"], found["metrics"]["mean"]) == (2, 2, 1.5)
    assert [column["column"] for column in found["columns"]] == ["x"]
    assert ("no predictions for EVAL" if labels is not None else "no labels") in found["note"]


def test_what_cannot_be_counted_costs_the_file_only(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(last_evaluation, "targets_of", lambda *_: 1 / 0)
    estimator = small_estimators.make_estimator("linear binary", tmp_path)
    inputs = numpy_input_fn(small_estimators.ROWS, small_estimators.labels_for("linear binary"), shuffle=False)
    caplog.set_level(logging.WARNING)
    assert "accuracy" in estimator.evaluate(inputs)
    assert [message for message in caplog.messages if "is not written" in message] == [
        "last_evaluation.json is not written (ZeroDivisionError: division by zero). A report lacks it."
    ]
    assert not list(last_evaluation.Path(estimator.eval_dir()).glob("*last_evaluation*"))
