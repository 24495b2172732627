"""compat.v1: TensorFlow 1's defaults of the canned estimators; everything else is training's."""

import inspect

import numpy as np
import pytest

from estimator_serving import training
from estimator_serving.training.compat import v1


def small(name, model_dir, **arguments):
    columns = [training.feature_column.numeric_column("x")]
    given = {"feature_columns": columns, "hidden_units": [2]}
    if "Combined" in name:
        given = {"linear_feature_columns": columns, "dnn_feature_columns": columns, "dnn_hidden_units": [2]}
    cls = getattr(v1.estimator, name)
    fitting = {key: value for key, value in given.items() if key in inspect.signature(cls).parameters}
    return cls(model_dir=str(model_dir), **fitting, **arguments)


def batch():
    return training.Dataset.from_tensor_slices(({"x": np.float32([1, 2, 3, 4])}, np.int64([0, 1, 1, 0]))).batch(4)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("DNNClassifier", {"Adagrad": 0.05}),
        ("DNNRegressor", {"Adagrad": 0.05}),
        ("LinearClassifier", {"Ftrl": 0.2}),
        ("DNNLinearCombinedRegressor", {"Adagrad": 0.001, "Ftrl": 0.005}),
        ("BaselineClassifier", {"Ftrl": 0.3}),
    ],
)
def test_the_loss_is_a_sum_and_names_stand_for_tf_1s_optimizers(name, rates, tmp_path):
    estimator = small(name, tmp_path).train(batch)
    for optimizer, rate in rates.items():
        assert estimator.get_variable_value(f"training/{optimizer}/learning_rate") == pytest.approx(rate)
    results = estimator.evaluate(batch)
    assert results["loss"] == pytest.approx(4 * results["average_loss"], rel=1e-5)


def test_what_is_given_stays(tmp_path):
    made = training.train.FtrlOptimizer(0.7)
    estimator = small("LinearRegressor", tmp_path, optimizer=made, loss_reduction="sum_over_batch_size").train(batch)
    assert estimator.get_variable_value("training/Ftrl/learning_rate") == pytest.approx(0.7)
    results = estimator.evaluate(batch)
    assert results["loss"] == pytest.approx(results["average_loss"], rel=1e-5)


def test_other_names_are_trainings():
    assert v1.train is training.train
    assert v1.estimator.RunConfig is training.RunConfig
    assert v1.estimator.inputs is training.inputs
    assert v1.estimator.DNNClassifier is not training.DNNClassifier
    assert v1.zeros_initializer()((2,), None).tolist() == [0.0, 0.0]
