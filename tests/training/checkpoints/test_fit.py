"""What of a checkpoint a model says it takes, lacks and leaves."""

import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import layers, optimizers, train
from estimator_serving.training.checkpoints.checkpoint import write_checkpoint

WEIGHTS, BIAS = "linear/linear_model/x/weights", "linear/linear_model/bias_weights"
SLOTS = {f"training/Ftrl/{name}/{slot}" for name in (WEIGHTS, BIAS) for slot in ("accumulator", "linear")}


@pytest.fixture
def checkpoint(tmp_path):
    def write(**shapes):
        values = {name.replace("__", "/"): torch.zeros(shape) for name, shape in shapes.items()}
        write_checkpoint(str(tmp_path / "start"), values, None, [])
        return tmp_path / "start"

    return write


def linear(**arguments):
    return training.LinearRegressor([fc.numeric_column("x")], **arguments)


def input_fn():
    return training.Dataset.from_tensor_slices(({"x": np.ones(4, np.float32)}, np.ones(4, np.float32))).batch(2)


@pytest.mark.parametrize("given", [None, input_fn])
def test_what_is_taken_lacking_and_left(given, checkpoint):
    path = checkpoint(linear__linear_model__x__weights=(1, 1), global_step=(), other=(2,))
    fit = linear().checkpoint_fit(path, given)
    assert fit.taken == {WEIGHTS: (1, 1), "global_step": ()}
    assert fit.lacking.keys() == {BIAS, *SLOTS}
    assert fit.left == {"other": (2,)}
    assert fit.has_slots
    assert not fit.fits


def test_another_shape(checkpoint):
    path = checkpoint(linear__linear_model__x__weights=(2, 1), linear__linear_model__bias_weights=(1,))
    fit = linear().checkpoint_fit(path)
    assert fit.misshapen == {WEIGHTS: ((1, 1), (2, 1))}
    assert fit.taken == {BIAS: (1,)}
    assert fit.lacking.keys() == SLOTS


def test_slots_of_tensorflow_1_are_taken_under_their_names(checkpoint):
    path = checkpoint(linear__linear_model__x__weights__Momentum=(1, 1))
    fit = linear(optimizer=train.MomentumOptimizer(0.1, 0.9)).checkpoint_fit(path)
    assert fit.taken == {f"{WEIGHTS}/Momentum": (1, 1)}
    assert fit.renamed == {f"{WEIGHTS}/Momentum": f"training/Momentum/{WEIGHTS}/momentum"}
    assert fit.left == {}


def test_slots_of_keras_outside_an_estimator_are_taken(checkpoint):
    path = checkpoint(Adam__linear__linear_model__x__weights__m=(1, 1))
    fit = linear(optimizer="Adam").checkpoint_fit(path)
    assert fit.renamed == {f"Adam/{WEIGHTS}/m": f"training/Adam/{WEIGHTS}/m"}


def test_a_checkpoint_of_the_model_fits(tmp_path):
    estimator = linear(model_dir=tmp_path / "model").train(input_fn)
    fit = estimator.checkpoint_fit(estimator.latest_checkpoint())
    assert fit.fits
    assert all(name.startswith("training/Ftrl/") for name in fit.left)


def reads_itself(features, labels, mode):
    logits = layers.dense(features["x"].reshape(-1, 1), 1)
    loss = None if labels is None else ((logits - labels) ** 2).mean()
    train_op = None if loss is None else optimizers.SGD(0.1, momentum=0.5).minimize(loss)
    return training.EstimatorSpec(mode, predictions=logits, loss=loss, train_op=train_op)


def test_a_model_fn_that_needs_data_asks_for_it(checkpoint):
    estimator = training.Estimator(reads_itself)
    with pytest.raises(ValueError, match=r"only with data \(.*features\['x'\].*Give an input_fn"):
        estimator.checkpoint_fit(checkpoint(dense__kernel=(1, 1)))
    fit = estimator.checkpoint_fit(checkpoint(dense__kernel=(1, 1)), input_fn)
    assert fit.taken == {"dense/kernel": (1, 1)}
    assert fit.lacking.keys() == {
        "dense/bias", "training/SGD/dense/kernel/momentum", "training/SGD/dense/bias/momentum",
    }  # fmt: skip


def test_without_labels_slots_are_not_known(checkpoint):
    """A multi-head's labels are a dict, so only its predictions work without data."""
    head = training.MultiHead([training.RegressionHead(name="a"), training.RegressionHead(name="b")])
    estimator = training.LinearEstimator(head, [fc.numeric_column("x")])
    fit = estimator.checkpoint_fit(checkpoint(linear__linear_model__x__weights=(1, 2)))
    assert not fit.has_slots
    assert fit.lacking == {BIAS: (2,)}


@pytest.mark.parametrize(
    "column",
    [
        fc.embedding_column(fc.categorical_column_with_vocabulary_list("c", ["a", "b"]), 2),
        fc.embedding_column(fc.categorical_column_with_identity("c", 3), 2),
        fc.embedding_column(fc.crossed_column(["c", "d"], 7), 2),
        fc.indicator_column(fc.weighted_categorical_column(fc.categorical_column_with_hash_bucket("c", 4), "w")),
        fc.numeric_column("v", shape=(2, 3)),
    ],
    ids=lambda column: column.name,
)
def test_columns_of_every_kind_need_no_data(column, checkpoint):
    estimator = training.DNNClassifier([2], [column], batch_norm=True)
    fit = estimator.checkpoint_fit(checkpoint(nothing=(1,)))
    assert fit.has_slots
    assert "dnn/hiddenlayer_0/kernel" in fit.lacking
