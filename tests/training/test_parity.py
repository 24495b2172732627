"""What TensorFlow 2.15's Estimator gave for the same rows, order and first weights (goldens/make_goldens.py)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import optimizers

GOLDENS = json.loads(Path(__file__).with_name("goldens").joinpath("optimizers.json").read_text())
CLASSES = {"RMSprop": optimizers.RMSProp}


def input_fn():
    rows = GOLDENS["rows"]
    features = {"x": np.array(rows["x"], np.float32), "c": np.array(rows["c"], object)}
    return training.Dataset.from_tensor_slices((features, np.array(rows["y"]))).batch(GOLDENS["batch"])


class SetWeights(training.SessionRunHook):
    def __init__(self, values):
        self.values = values

    def after_create_session(self, session, coord):
        with torch.no_grad():
            for name, value in self.values.items():
                session.store.get(name).copy_(torch.tensor(value))


def build(key, run, model_dir):
    model, _, label = key.partition("/")
    name = label.partition("_")[0]
    optimizer = CLASSES.get(name) or getattr(optimizers, name)
    numeric = fc.numeric_column("x")
    category = fc.categorical_column_with_vocabulary_list("c", GOLDENS["words"])
    arguments = {"model_dir": model_dir, "optimizer": lambda: optimizer(**run["arguments"])}
    if model == "linear":
        return training.LinearClassifier([numeric, category], **arguments)
    columns = [numeric, fc.indicator_column(category), fc.embedding_column(category, 2)]
    return training.DNNClassifier([3], columns, **arguments)


@pytest.mark.parametrize("key", GOLDENS["runs"])
def test_three_steps_give_tensorflows_weights_metrics_and_names(key, tmp_path):
    run = GOLDENS["runs"][key]
    estimator = build(key, run, tmp_path)
    # Its first checkpoint holds the weights that training then starts from.
    estimator.train(input_fn, hooks=[SetWeights(run["initial"])], steps=GOLDENS["steps"])
    for name, value in run["final"].items():
        np.testing.assert_allclose(estimator.get_variable_value(name), value, rtol=1e-5, atol=1e-6, err_msg=name)
    found = estimator.evaluate(input_fn)
    assert set(found) == set(run["evaluation"])
    for name, value in run["evaluation"].items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert set(run["variable_names"]) == set(estimator.get_variable_names())
