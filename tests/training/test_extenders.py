import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import metrics

FEATURES = {"x": np.float32([1, 2, 3]), "w": np.float32([1, 0, 2])}
LABELS = np.int64([0, 1, 1])


def inputs():
    return training.Dataset.from_tensor_slices((FEATURES, LABELS)).batch(2)


def classifier(tmp_path):
    return training.LinearClassifier([training.feature_column.numeric_column("x")], model_dir=tmp_path)


def test_metrics_of_ones_own_stand_beside_the_estimators_and_replace_them(tmp_path):
    def metric_fn(labels, predictions, features, config):
        assert isinstance(config, training.RunConfig)
        errors = (predictions["logistic"].squeeze(1) - labels).abs()
        return {
            "error": metrics.mean(errors, features["w"]),
            "largest_error": metrics.Metric(torch.ones(()), lambda state: float(state)),
            "accuracy": metrics.mean(torch.full((len(labels),), 7.0)),
        }

    plain = classifier(tmp_path).train(inputs)
    extended = training.add_metrics(plain, metric_fn)
    found, before = extended.evaluate(inputs), plain.evaluate(inputs)
    assert set(found) == {*before, "error", "largest_error"}
    assert found["accuracy"] == 7
    assert found["auc"] == before["auc"]
    assert found["largest_error"] == 2  # one for each batch
    logistic = np.concatenate([row["logistic"] for row in plain.predict(inputs)])
    assert found["error"] == pytest.approx(np.average(np.abs(logistic - LABELS), weights=FEATURES["w"]), rel=1e-5)


def test_both_share_what_is_learned(tmp_path):
    extended = training.add_metrics(classifier(tmp_path), lambda predictions: {})  # noqa: ARG005
    assert extended.model_dir == str(tmp_path)
    extended.train(inputs, steps=2)
    assert classifier(tmp_path).get_variable_value("global_step") == 2
    assert [set(row) for row in extended.predict(inputs)] == [set(row) for row in classifier(tmp_path).predict(inputs)]


def no_metrics():
    return {}


def test_everything_of_the_estimator_is_kept(tmp_path):
    def model_fn(features, labels, mode, params):
        loss = training.layers.dense(features["x"][:, None], params["units"]).square().mean()
        return training.EstimatorSpec(mode, loss=loss, train_op=training.optimizers.SGD(0.1).minimize(loss))

    config = training.RunConfig(model_dir=str(tmp_path), tf_random_seed=3)
    plain = training.Estimator(model_fn, config=config, params={"units": 2})
    extended = training.add_metrics(plain, lambda config: {"seed": metrics.mean(torch.tensor(config.tf_random_seed))})
    assert (extended.params, extended.config.tf_random_seed) == ({"units": 2}, 3)
    assert extended.train(inputs, steps=1).evaluate(inputs)["seed"] == 3
    assert "seed" not in plain.evaluate(inputs)
    assert type(training.add_metrics(classifier(tmp_path), no_metrics)) is training.LinearClassifier


def test_other_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"metric_fn \(.*\) has following not expected args: \['foo'\]"):
        training.add_metrics(classifier(tmp_path), lambda labels, foo: {})  # noqa: ARG005
