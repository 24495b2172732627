"""What TensorFlow 2.15's Estimator gives for the same rows, order and first weights (goldens/make_goldens.py).

The goldens are TensorFlow's numbers as they were written once; `make oracle-training TF=…` compares with a TensorFlow that
runs at that moment.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import layers, losses, metrics, optimizers, train

DIRECTORY = Path(os.environ.get("ESTIMATOR_GOLDENS", Path(__file__).with_name("goldens")))
GOLDENS = json.loads((DIRECTORY / "optimizers.json").read_text())


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


def optimizer_maker(label, arguments):
    kind = label.partition("_")[0]
    return lambda: getattr(train if kind.endswith("Optimizer") else optimizers, kind)(**arguments)


def custom_model_fn(columns, optimizer):
    def model_fn(features, labels, mode):
        net = layers.dense(fc.input_layer(features, columns), 3, activation=torch.relu)
        logits = layers.dense(net, 2)
        loss = losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
        accuracy = metrics.accuracy(labels, logits.argmax(1))
        train_op = optimizer().minimize(loss, global_step=training.get_global_step())
        return training.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops={"accuracy": accuracy})

    return model_fn


def build(key, run, model_dir):
    model, _, label = key.partition("/")
    numeric = fc.numeric_column("x")
    category = fc.categorical_column_with_vocabulary_list("c", GOLDENS["words"])
    columns = [numeric, fc.indicator_column(category), fc.embedding_column(category, 2)]
    if model == "combined":
        linear_optimizer, dnn_optimizer = (optimizer_maker(*part) for part in run["arguments"])
        return training.DNNLinearCombinedClassifier(
            model_dir=model_dir,
            linear_feature_columns=[numeric, category],
            linear_optimizer=linear_optimizer,
            dnn_feature_columns=columns,
            dnn_optimizer=dnn_optimizer,
            dnn_hidden_units=[3],
        )
    optimizer = optimizer_maker(label, run["arguments"])
    if model == "linear":
        return training.LinearClassifier([numeric, category], model_dir=model_dir, optimizer=optimizer)
    if model == "dnn":
        return training.DNNClassifier([3], columns, model_dir=model_dir, optimizer=optimizer)
    return training.Estimator(custom_model_fn(columns, optimizer), model_dir)


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
    names = set(estimator.get_variable_names())
    assert set(run["variable_names"]) == {n for n in names if not key.startswith("custom") or "training/" not in n}
