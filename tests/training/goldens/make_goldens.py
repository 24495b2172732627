"""Weights after three steps of TensorFlow 2.15's Estimator, for the optimizers with its constants.

    python tests/training/goldens/make_goldens.py [directory]      in an environment with tensorflow 2.15

Writes optimizers.json into the directory (by default beside this file): a small linear model (numeric and vocabulary
columns) and a small DNN (numeric, indicator and embedding columns) per optimizer, the two combined under two
optimizers, and a model_fn of tf.layers under tf.compat.v1.train's optimizers; all trained on the same rows in the same
order from the same weights. What the tests read back: `initial` and `final` weights, the evaluation after the last
step, the names of all variables (of a model_fn only of those that are no slots: v1 optimizers name theirs otherwise).
"""

import json
import os
import sys
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


COMBINED = {
    "Ftrl_and_Adagrad": [("Ftrl", {"learning_rate": 0.2}), ("Adagrad", {"learning_rate": 0.1})],
    "Adam_twice": [("Adam", {"learning_rate": 0.05}), ("Adam", {"learning_rate": 0.02})],
}

V1_OPTIMIZERS = {
    "AdagradOptimizer": {"learning_rate": 0.1},
    "AdamOptimizer": {"learning_rate": 0.05},
    "FtrlOptimizer": {"learning_rate": 0.2, "l1_regularization_strength": 0.01, "l2_regularization_strength": 0.1},
    "GradientDescentOptimizer": {"learning_rate": 0.1},
    "MomentumOptimizer": {"learning_rate": 0.1, "momentum": 0.9},
    "MomentumOptimizer_nesterov": {"learning_rate": 0.1, "momentum": 0.9, "use_nesterov": True},
    "RMSPropOptimizer": {"learning_rate": 0.05},
    "RMSPropOptimizer_centered": {"learning_rate": 0.05, "momentum": 0.5, "centered": True},
}


def initial_value(name, shape):
    """Any fixed numbers will do; not 0, and not alike."""
    seed = sum(map(ord, name))
    return (np.sin(np.arange(int(np.prod(shape))) * 1.7 + seed) * 0.4).reshape(shape).astype(np.float32)


def make_builders(tf):
    """model -> a function of (optimizer, config) that makes the estimator."""
    fc = tf.feature_column
    numeric = fc.numeric_column("x")
    category = fc.categorical_column_with_vocabulary_list("c", WORDS)

    dnn_columns = [numeric, fc.indicator_column(category), fc.embedding_column(category, 2)]

    def linear(optimizer, config):
        return tf.estimator.LinearClassifier([numeric, category], config=config, optimizer=optimizer)

    def dnn(optimizer, config):
        return tf.estimator.DNNClassifier([3], dnn_columns, config=config, optimizer=optimizer)

    def combined(optimizers, config):
        linear_optimizer, dnn_optimizer = optimizers
        return tf.estimator.DNNLinearCombinedClassifier(
            linear_feature_columns=[numeric, category],
            linear_optimizer=linear_optimizer,
            dnn_feature_columns=dnn_columns,
            dnn_optimizer=dnn_optimizer,
            dnn_hidden_units=[3],
            config=config,
        )

    def custom(optimizer, config):
        v1 = tf.compat.v1

        def model_fn(features, labels, mode):
            net = v1.feature_column.input_layer(features, dnn_columns)
            net = v1.layers.dense(net, 3, activation=tf.nn.relu)
            logits = v1.layers.dense(net, 2)
            loss = v1.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
            accuracy = v1.metrics.accuracy(labels, tf.argmax(logits, 1))
            train_op = optimizer().minimize(loss, global_step=v1.train.get_global_step())
            return tf.estimator.EstimatorSpec(
                mode, loss=loss, train_op=train_op, eval_metric_ops={"accuracy": accuracy}
            )

        return tf.estimator.Estimator(model_fn, config=config)

    return {"linear": linear, "dnn": dnn, "combined": combined, "custom": custom}


def make_runner(tf):
    """A function of (build, optimizer) that trains and says what came of it."""

    def input_fn():
        features = {"x": np.array(ROWS["x"], np.float32), "c": np.array(ROWS["c"])}
        return tf.data.Dataset.from_tensor_slices((features, np.array(ROWS["y"]))).batch(BATCH)

    class SetWeights(tf.estimator.SessionRunHook):
        """Puts the fixed numbers into the trainable variables before the first step."""

        def begin(self):
            self.values = {v: initial_value(v.op.name, v.shape) for v in tf.compat.v1.trainable_variables()}
            self.assign = [tf.compat.v1.assign(v, value) for v, value in self.values.items()]

        def after_create_session(self, session, coord):
            session.run(self.assign)

    def run(build, optimizer, is_custom=False):
        config = tf.estimator.RunConfig(model_dir=tempfile.mkdtemp())
        estimator = build(optimizer, config)
        weights = SetWeights()
        estimator.train(input_fn, hooks=[weights], steps=STEPS)
        names = sorted(estimator.get_variable_names())
        trained = [name for name in names if name in {v.op.name for v in weights.values}]
        evaluation = estimator.evaluate(input_fn)
        return {
            "initial": {v.op.name: value.tolist() for v, value in weights.values.items()},
            "final": {name: estimator.get_variable_value(name).tolist() for name in trained},
            "evaluation": {key: float(value) for key, value in evaluation.items()},
            "variable_names": [*trained, "global_step"] if is_custom else names,
        }

    return run


def main():
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    builders, run = make_builders(tf), make_runner(tf)

    def keras(label, arguments):
        make = getattr(tf.keras.optimizers.legacy, label.partition("_")[0])
        return lambda: make(**arguments)

    goldens = {}
    for label, arguments in OPTIMIZERS.items():
        for model in ("linear", "dnn"):
            goldens[f"{model}/{label}"] = {"arguments": arguments, **run(builders[model], keras(label, arguments))}
    for label, parts in COMBINED.items():
        goldens[f"combined/{label}"] = {
            "arguments": parts,
            **run(builders["combined"], [keras(*part) for part in parts]),
        }
    for label, arguments in V1_OPTIMIZERS.items():
        make = getattr(tf.compat.v1.train, label.partition("_")[0])
        made = run(builders["custom"], lambda make=make, arguments=arguments: make(**arguments), is_custom=True)
        goldens[f"custom/{label}"] = {"arguments": arguments, **made}
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    content = {"rows": ROWS, "words": WORDS, "batch": BATCH, "steps": STEPS, "runs": goldens}
    (directory / "optimizers.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
