"""Model directories that TensorFlow 2.15's estimators wrote, and what 20 more steps made of each.

    python tests/training/goldens/make_checkpoint_goldens.py [directory]      in an environment with tensorflow 2.15

Writes checkpoints/ into the directory, by default the one of this file: rows.json, and per model its model_dir after 30
steps with the checkpoint of 50 steps in `after`. The names that begin with v1 are of tf.compat.v1's estimators, whose
checkpoints are TF 1.15's.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

STEPS, MORE_STEPS, BATCH = 30, 20, 16
fc, v1 = tf.feature_column, tf.compat.v1
keras = tf.keras.optimizers.legacy
HALVES = v1.fixed_size_partitioner(2)


def make_rows():
    rng = np.random.default_rng(0)
    age = rng.normal(0, 1, 64).round(3)
    city = rng.choice(["aa", "bb", "cc", "dd"], 64)
    return {
        "age": age.tolist(),
        "city": city.tolist(),
        "label": [
            int(a + (c < "cc") + noise > 0.5) for a, c, noise in zip(age, city, rng.normal(0, 0.5, 64), strict=True)
        ],
    }


def make_columns():
    age = fc.numeric_column("age")
    hashed = fc.categorical_column_with_hash_bucket("city", 6)
    wide = [fc.categorical_column_with_vocabulary_list("city", ["aa", "bb", "cc"]), fc.bucketized_column(age, [0.0])]
    return wide, [age, fc.embedding_column(hashed, 2)]


def combined(kind, model_dir, **arguments):
    wide, deep = make_columns()
    return kind.DNNLinearCombinedClassifier(
        model_dir, linear_feature_columns=wide, dnn_feature_columns=deep, dnn_hidden_units=[4], **arguments
    )


def dnn(kind, model_dir, **arguments):
    return kind.DNNClassifier([4], make_columns()[1], model_dir, **arguments)


def linear(kind, model_dir, **arguments):
    return kind.LinearClassifier(make_columns()[0], model_dir, **arguments)


ESTIMATORS = {
    "combined": lambda d: combined(tf.estimator, d),
    "combined_adam_rmsprop": lambda d: combined(
        tf.estimator,
        d,
        linear_optimizer=keras.Adam(0.01),
        dnn_optimizer=keras.RMSprop(0.01, momentum=0.5, centered=True),
    ),
    "dnn_momentum_batch_norm": lambda d: dnn(tf.estimator, d, optimizer=keras.SGD(0.05, momentum=0.9), batch_norm=True),
    "v1_combined": lambda d: combined(
        v1.estimator,
        d,
        linear_optimizer=v1.train.MomentumOptimizer(0.05, 0.9),
        dnn_optimizer=v1.train.AdamOptimizer(0.01),
        input_layer_partitioner=HALVES,
    ),
    "v1_dnn": lambda d: dnn(
        v1.estimator,
        d,
        optimizer=v1.train.RMSPropOptimizer(0.01, momentum=0.5, centered=True),
        input_layer_partitioner=HALVES,
    ),
    "v1_linear": lambda d: linear(v1.estimator, d, optimizer=v1.train.FtrlOptimizer(0.1), partitioner=HALVES),
}


def make_input_fn(rows):
    features = {"age": np.array(rows["age"], np.float32), "city": np.array(rows["city"])}
    return lambda: tf.data.Dataset.from_tensor_slices((features, rows["label"])).repeat().batch(BATCH)


def keep(model_dir, step, folder):
    folder.mkdir(parents=True)
    for file in Path(model_dir).glob(f"model.ckpt-{step}.*"):
        if file.suffix != ".meta":
            shutil.copy(file, folder)


def main(directory):
    folder = Path(directory) / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    rows = make_rows()
    for name, make in ESTIMATORS.items():
        with tempfile.TemporaryDirectory() as model_dir:
            make(model_dir).train(make_input_fn(rows), steps=STEPS)
            keep(model_dir, STEPS, folder / name)
            shutil.copy(Path(model_dir) / "checkpoint", folder / name)
            make(model_dir).train(make_input_fn(rows), steps=MORE_STEPS)
            keep(model_dir, STEPS + MORE_STEPS, folder / name / "after")
    (folder / "rows.json").write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
