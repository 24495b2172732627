"""What TensorFlow 2.15's canned estimators give after three steps, for every family and the arguments of its training.

    python tests/training/goldens/make_canned_goldens.py      in an environment with tensorflow 2.15

Writes canned.json beside this file: per run the estimator and its arguments, the weights before and after, the
evaluation after the last step, the names of all variables in the checkpoint, and the tags of the training summaries.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

E, fc = tf.estimator, tf.feature_column
STEPS, BATCH = 3, 4
ROWS = {
    "x": [0.5, -1.0, 2.0, 0.25, 1.5, -0.75, 0.0, 3.0, -2.0, 1.0, 0.1, -0.3],
    "c": [["a", "b"], ["b", ""], ["a", "d"], ["a", ""]] * 3,
    "w": [1.0, 0.5, 2.0, 0.0, 1.0, 1.5, 3.0, 1.0, 0.25, 1.0, 1.0, 2.0],
}
WORDS = ["a", "b", "c", "d"]
LABELS = {
    "binary": [1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1],
    "words": ["no", "yes", "maybe"] * 4,
    "classes": [1, 0, 2, 1, 0, 2, 0, 1, 2, 0, 1, 1],
    "number": [1.5, -0.5, 3.0, 2.0, 0.0, 1.0, 0.5, 4.0, -1.0, 1.0, 2.0, 0.25],
    "numbers": [[1.5, 0.0], [-0.5, 1.0], [3.0, -1.0], [2.0, 2.0]] * 3,
    "counts": [1, 0, 3, 2, 0, 1, 5, 4, 1, 1, 2, 0],
    "hot": [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]] * 3,
}
DNN = {"hidden_units": [3]}
RUNS = {
    "linear weighted": ("LinearClassifier", "linear", "binary", {"weight_column": "w"}),
    "linear multi_class": (
        "LinearClassifier",
        "linear",
        "words",
        {"n_classes": 3, "label_vocabulary": ["no", "yes", "maybe"]},
    ),
    "linear mean": ("LinearClassifier", "linear", "binary", {"sparse_combiner": "mean", "loss_reduction": "sum"}),
    "linear sqrtn": ("LinearClassifier", "linear", "binary", {"sparse_combiner": "sqrtn", "optimizer": "SGD"}),
    "linear no optimizer": ("LinearRegressor", "linear", "number", {"optimizer": None}),
    "linear regressor": ("LinearRegressor", "linear", "numbers", {"label_dimension": 2, "weight_column": "w"}),
    "linear poisson": ("LinearEstimator", "linear", "counts", {"head": "PoissonRegressionHead"}),
    "dnn defaults": ("DNNClassifier", "dnn", "binary", {**DNN}),
    "dnn SGD": ("DNNClassifier", "dnn", "classes", {**DNN, "n_classes": 3, "optimizer": "SGD"}),
    "dnn batch_norm": (
        "DNNClassifier",
        "dnn",
        "binary",
        {"hidden_units": [3, 2], "batch_norm": True, "optimizer": "Adam"},
    ),
    "dnn no hidden layer": ("DNNRegressor", "dnn", "number", {"hidden_units": [], "optimizer": "RMSProp"}),
    "dnn regressor": ("DNNRegressor", "dnn", "numbers", {**DNN, "label_dimension": 2, "weight_column": "w"}),
    "dnn multi_label": ("DNNEstimator", "dnn", "hot", {**DNN, "head": "MultiLabelHead", "optimizer": "Adam"}),
    "dnn tanh": ("DNNClassifier", "dnn", "binary", {**DNN, "activation_fn": "tanh", "optimizer": "Ftrl"}),
    "combined": ("DNNLinearCombinedClassifier", "both", "binary", {}),
    "combined one class": (
        "DNNLinearCombinedClassifier",
        "both",
        "classes",
        {"n_classes": 3, "linear_optimizer": "Adagrad", "weight_column": "w"},
    ),
    "combined SGD": (
        "DNNLinearCombinedRegressor",
        "both",
        "number",
        {"linear_optimizer": "SGD", "dnn_optimizer": "SGD"},
    ),
    "combined linear": ("DNNLinearCombinedRegressor", "wide", "numbers", {"label_dimension": 2}),
    "combined dnn": (
        "DNNLinearCombinedEstimator",
        "deep",
        "number",
        {"head": "RegressionHead", "dnn_optimizer": "Adam"},
    ),
    "baseline": ("BaselineClassifier", "none", "binary", {"weight_column": "w"}),
    "baseline classes": ("BaselineClassifier", "none", "classes", {"n_classes": 3, "optimizer": "Adam"}),
    "baseline regressor": ("BaselineRegressor", "none", "numbers", {"label_dimension": 2}),
    "baseline estimator": (
        "BaselineEstimator",
        "none",
        "counts",
        {"head": "PoissonRegressionHead", "optimizer": "SGD"},
    ),
}
OPTIMIZERS = {
    "clipnorm": ("SGD", {"learning_rate": 0.1, "clipnorm": 0.05}),
    "clipvalue": ("Adagrad", {"learning_rate": 0.1, "clipvalue": 0.05}),
    "global_clipnorm": ("Adam", {"learning_rate": 0.1, "global_clipnorm": 0.05}),
    "amsgrad": ("Adam", {"learning_rate": 0.05, "amsgrad": True}),
    "Adamax": ("Adamax", {"learning_rate": 0.05}),
    "Adadelta": ("Adadelta", {"learning_rate": 0.5}),
    "decay": ("Adagrad", {"learning_rate": 0.1, "decay": 0.5}),
    "named": ("Adagrad", {"learning_rate": 0.1, "name": "Mine"}),
    "shrinkage": (
        "Ftrl",
        {
            "learning_rate": 0.2,
            "learning_rate_power": -0.3,
            "initial_accumulator_value": 0.5,
            "l1_regularization_strength": 0.02,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.05,
            "beta": 0.3,
        },
    ),
    "schedule": ("SGD", {"learning_rate": ["ExponentialDecay", [0.2, 1, 0.5]], "momentum": 0.9}),
}
for label, (kind, settings) in OPTIMIZERS.items():
    for family in ("linear", "dnn"):
        arguments = {"optimizer": [kind, settings]} | (DNN if family == "dnn" else {})
        RUNS[f"{family} {label}"] = (f"{'DNN' if family == 'dnn' else 'Linear'}Classifier", family, "binary", arguments)


def initial_value(name, shape):
    """Any fixed numbers will do; not 0, and not alike."""
    seed = sum(map(ord, name))
    return (np.sin(np.arange(int(np.prod(shape))) * 1.7 + seed) * 0.4).reshape(shape).astype(np.float32)


def columns(family):
    numeric = fc.numeric_column("x")
    category = fc.categorical_column_with_vocabulary_list("c", WORDS)
    wide = [numeric, category]
    deep = [numeric, fc.indicator_column(category), fc.embedding_column(category, 2)]
    return {
        "linear": {"feature_columns": wide},
        "dnn": {"feature_columns": deep},
        "wide": {"linear_feature_columns": wide},
        "deep": {"dnn_feature_columns": deep, "dnn_hidden_units": [3]},
        "both": {"linear_feature_columns": wide, "dnn_feature_columns": deep, "dnn_hidden_units": [3]},
        "none": {},
    }[family]


def optimizer_of(kind, settings):
    settings = dict(settings)
    if isinstance(settings["learning_rate"], list):
        name, values = settings["learning_rate"]
        settings["learning_rate"] = getattr(tf.keras.optimizers.schedules, name)(*values)
    return getattr(tf.keras.optimizers.legacy, kind)(**settings)


def build(kind, family, arguments):
    arguments = dict(arguments)
    if isinstance(arguments.get("optimizer"), list):
        described = arguments["optimizer"]
        arguments["optimizer"] = lambda: optimizer_of(*described)
    if "head" in arguments:
        arguments["head"] = getattr(E, arguments["head"])(*([3] if arguments["head"] == "MultiLabelHead" else []))
    if "activation_fn" in arguments:
        arguments["activation_fn"] = getattr(tf.nn, arguments["activation_fn"])
    config = E.RunConfig(model_dir=tempfile.mkdtemp())
    return getattr(E, kind)(**arguments, **columns(family), config=config)


def input_fn(kind, labels):
    def batches():
        # A baseline with several features fails in TF 2.15.
        names = ["x"] if kind == "BaselineEstimator" else list(ROWS)
        features = {name: np.array(ROWS[name], np.float32 if name != "c" else None) for name in names}
        if kind.startswith("Baseline"):
            features.pop("c", None)
        wanted = np.array(LABELS[labels])
        wanted = wanted.astype(np.float32) if wanted.dtype.kind == "f" else wanted
        if kind.startswith("Baseline"):
            batch = {k: v[:BATCH] for k, v in features.items()}, wanted[:BATCH]
            return {k: tf.constant(v) for k, v in batch[0].items()}, tf.constant(batch[1])
        return tf.data.Dataset.from_tensor_slices((features, wanted)).batch(BATCH)

    return batches


class SetWeights(E.SessionRunHook):
    """Puts the fixed numbers into the trainable variables before the first step."""

    def begin(self):
        self.values = {v: initial_value(v.op.name, v.shape) for v in tf.compat.v1.trainable_variables()}
        self.assign = [tf.compat.v1.assign(v, value) for v, value in self.values.items()]

    def after_create_session(self, session, coord):
        session.run(self.assign)


def tags(model_dir):
    (path,) = Path(model_dir).glob("events.out.tfevents.*")
    found = {value.tag for event in tf.compat.v1.train.summary_iterator(str(path)) for value in event.summary.value}
    return sorted(found - {"global_step/sec"})


def main():
    goldens = {}
    for key, (kind, family, labels, arguments) in RUNS.items():
        estimator = build(kind, family, arguments)
        weights = SetWeights()
        estimator.train(input_fn(kind, labels), hooks=[weights], steps=STEPS)
        names = estimator.get_variable_names()
        evaluation = estimator.evaluate(input_fn(kind, labels), steps=STEPS)
        goldens[key] = {
            "estimator": kind,
            "family": family,
            "labels": labels,
            "arguments": arguments,
            "initial": {v.op.name: value.tolist() for v, value in weights.values.items()},
            "final": {
                name: estimator.get_variable_value(name).tolist()
                for name in names
                if not name.startswith(("training/", "global_step"))
            },
            "rates": {
                name: float(estimator.get_variable_value(name)) for name in names if name.endswith("/learning_rate")
            },
            "evaluation": {name: float(value) for name, value in evaluation.items()},
            "variable_names": sorted(names),
            "tags": tags(estimator.model_dir),
        }
    inputs = {"rows": ROWS, "words": WORDS, "labels": LABELS, "batch": BATCH, "steps": STEPS}
    Path(__file__).with_name("canned.json").write_text(json.dumps({**inputs, "runs": goldens}))


if __name__ == "__main__":
    main()
