"""Checkpoints that TensorFlow's estimators wrote (goldens/make_checkpoint_goldens.py), read and trained on here."""

import json
import shutil
from pathlib import Path

import bundles
import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import optimizers, train
from estimator_serving.training.checkpoints.checkpoint import read_checkpoint
from estimator_serving.training.errors import CheckpointError, CorruptCheckpointError
from estimator_serving.wire.tensor_bundle import open_bundle

GOLDENS = Path(__file__).parents[1] / "goldens" / "checkpoints"
ROWS = json.loads((GOLDENS / "rows.json").read_text())
FEATURES = {"age": np.array(ROWS["age"], np.float32), "city": np.array(ROWS["city"], object)}
EMBEDDING = "dnn/input_from_feature_columns/input_layer/city_embedding/embedding_weights"


def input_fn():
    return training.Dataset.from_tensor_slices((FEATURES, np.array(ROWS["label"]))).repeat().batch(16)


def make_columns():
    age = fc.numeric_column("age")
    hashed = fc.categorical_column_with_hash_bucket("city", 6)
    wide = [fc.categorical_column_with_vocabulary_list("city", ["aa", "bb", "cc"]), fc.bucketized_column(age, [0.0])]
    return wide, [age, fc.embedding_column(hashed, 2)]


def combined(model_dir=None, **arguments):
    wide, deep = make_columns()
    return training.DNNLinearCombinedClassifier(
        model_dir, linear_feature_columns=wide, dnn_feature_columns=deep, dnn_hidden_units=[4], **arguments
    )


def dnn(model_dir, **arguments):
    return training.DNNClassifier([4], make_columns()[1], model_dir, **arguments)


ESTIMATORS = {
    "combined": lambda d: combined(d),
    "combined_adam_rmsprop": lambda d: combined(
        d,
        linear_optimizer=optimizers.Adam(0.01),
        dnn_optimizer=optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    ),
    "dnn_momentum_batch_norm": lambda d: dnn(d, optimizer=optimizers.SGD(0.05, momentum=0.9), batch_norm=True),
    # TensorFlow 1 adds losses up where TensorFlow 2 takes their mean.
    "v1_combined": lambda d: combined(
        d,
        loss_reduction="sum",
        linear_optimizer=train.MomentumOptimizer(0.05, 0.9),
        dnn_optimizer=train.AdamOptimizer(0.01),
    ),
    "v1_dnn": lambda d: dnn(
        d, loss_reduction="sum", optimizer=train.RMSPropOptimizer(0.01, momentum=0.5, centered=True)
    ),
    "v1_linear": lambda d: training.LinearClassifier(
        make_columns()[0], d, loss_reduction="sum", optimizer=train.FtrlOptimizer(0.1)
    ),
}


@pytest.fixture
def model_dir(tmp_path):
    """A copy of a model_dir that TensorFlow left."""

    def copy(name):
        folder = tmp_path / name
        shutil.copytree(GOLDENS / name, folder, ignore=shutil.ignore_patterns("after"))
        return folder

    return copy


@pytest.mark.parametrize("name", ESTIMATORS)
def test_training_goes_on_as_tensorflows_own_did(name, model_dir):
    estimator = ESTIMATORS[name](model_dir(name))
    estimator.train(input_fn, steps=20)
    expected = read_checkpoint(GOLDENS / name / "after" / "model.ckpt-50").values
    found = read_checkpoint(estimator.latest_checkpoint()).values
    variables = [key for key in estimator.get_variable_names() if not key.startswith("training/")]
    assert set(variables) <= set(expected)
    assert found["global_step"] == expected["global_step"] == 50
    for key in variables:
        torch.testing.assert_close(
            found[key], expected[key], rtol=0, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}"
        )


EXPORTS = {"age": training.FixedLenFeature([1], "float32"), "city": training.VarLenFeature("string")}


def test_x(model_dir, tmp_path):
    receiver = training.export.build_parsing_serving_input_receiver_fn(EXPORTS)
    for start in (dict(model_dir=model_dir("combined")), dict(warm_start_from=GOLDENS/"combined")):
        e = combined(**start)
        print(e.evaluate(input_fn, steps=4))
        print(next(e.predict(input_fn)))
        print(e.export_saved_model(tmp_path / "export", receiver))
    f = e.checkpoint_fit(GOLDENS/"combined"/"model.ckpt-30")
    print(f)
    f = e.checkpoint_fit(GOLDENS/"v1_linear"/"model.ckpt-30", input_fn)
    print(f)
    print(training.list_variables(GOLDENS/"v1_linear"))
