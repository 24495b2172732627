"""Weights after three steps of TensorFlow 2.15's Estimator, for the optimizers with its constants.

    python tests/training/goldens/make_goldens.py      in an environment with tensorflow 2.15 (not this project's)

Writes optimizers.json beside this file: a small linear model (numeric and vocabulary columns) and a small DNN (numeric,
indicator and embedding columns) per optimizer, trained on the same rows in the same order from the same weights. What
the tests read back: `initial` and `final` weights, the evaluation after the last step, the names of all variables.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

STEPS = 3
BATCH = 4
ROWS = {
    "x": [0.5, -1.0, 2.0, 0.25, 1.5, -0.75, 0.0, 3.0, -2.0, 1.0, 0.1, -0.3],
    "c": ["a", "b", "a", "a", "d", "b", "a", "", "b", "b", "a", "zz"],
    "y": [1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1],
}
WORDS = ["a", "b", "c", "d"]

OPTIMIZERS = {
    "Adagrad": {"learning_rate": 0.1},
    "Adam": {"learning_rate": 0.05},
    "Ftrl": {"learning_rate": 0.2, "l1_regularization_strength": 0.01, "l2_regularization_strength": 0.1},
    "Ftrl_plain": {"learning_rate": 0.2},
    "RMSprop": {"learning_rate": 0.05},
    "RMSprop_momentum": {"learning_rate": 0.05, "momentum": 0.9, "centered": True},
    "SGD": {"learning_rate": 0.1},
    "SGD_momentum": {"learning_rate": 0.1, "momentum": 0.9},
    "SGD_nesterov": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
}


def initial_value(name, shape):
    """Any fixed numbers will do; not 0, and not alike."""
    seed = sum(map(ord, name))
    return (np.sin(np.arange(int(np.prod(shape))) * 1.7 + seed) * 0.4).reshape(shape).astype(np.float32)


def main():
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    fc = tf.feature_column
    numeric = fc.numeric_column("x")
    category = fc.categorical_column_with_vocabulary_list("c", WORDS)

    def input_fn():
        features = {"x": np.array(ROWS["x"], np.float32), "c": np.array(ROWS["c"])}
        return tf.data.Dataset.from_tensor_slices((features, np.array(ROWS["y"]))).batch(BATCH)

    def linear(optimizer, config):
        return tf.estimator.LinearClassifier([numeric, category], config=config, optimizer=optimizer)

    def dnn(optimizer, config):
        columns = [numeric, fc.indicator_column(category), fc.embedding_column(category, 2)]
        return tf.estimator.DNNClassifier([3], columns, config=config, optimizer=optimizer)

    class SetWeights(tf.estimator.SessionRunHook):
        """Puts the fixed numbers into the trainable variables before the first step."""

        def begin(self):
            self.values = {v: initial_value(v.op.name, v.shape) for v in tf.compat.v1.trainable_variables()}
            self.assign = [tf.compat.v1.assign(v, value) for v, value in self.values.items()]

        def after_create_session(self, session, coord):
            session.run(self.assign)

    goldens = {}
    for label, arguments in OPTIMIZERS.items():
        make = getattr(tf.keras.optimizers.legacy, label.partition("_")[0])
        for model, build in (("linear", linear), ("dnn", dnn)):
            config = tf.estimator.RunConfig(model_dir=tempfile.mkdtemp())
            estimator = build(lambda make=make, arguments=arguments: make(**arguments), config)
            weights = SetWeights()
            estimator.train(input_fn, hooks=[weights], steps=STEPS)
            final = {
                name: estimator.get_variable_value(name).tolist()
                for name in estimator.get_variable_names()
                if not name.startswith(("training/", "global_step"))
            }
            evaluation = estimator.evaluate(input_fn)
            goldens[f"{model}/{label}"] = {
                "arguments": arguments,
                "initial": {v.op.name: value.tolist() for v, value in weights.values.items()},
                "final": final,
                "evaluation": {key: float(value) for key, value in evaluation.items()},
                "variable_names": sorted(estimator.get_variable_names()),
            }
    path = Path(__file__).with_name("optimizers.json")
    path.write_text(
        json.dumps({"rows": ROWS, "words": WORDS, "batch": BATCH, "steps": STEPS, "runs": goldens}, indent=1)
    )


if __name__ == "__main__":
    main()
