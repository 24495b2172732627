"""What TensorFlow 2.15's losses, streaming metrics and learning rate schedules give, for the tests of ours.

    python tests/training/goldens/make_function_goldens.py      in an environment with tensorflow 2.15

Writes functions.json beside this file: per function its arguments and TF's value. Metrics are fed two batches.
"""

import json
import os
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

losses, metrics, reductions = tf.compat.v1.losses, tf.compat.v1.metrics, tf.compat.v1.losses.Reduction
REDUCTIONS = {
    "none": reductions.NONE,
    "sum": reductions.SUM,
    "mean": reductions.MEAN,
    "sum_over_batch_size": reductions.SUM_OVER_BATCH_SIZE,
    "sum_by_nonzero_weights": reductions.SUM_BY_NONZERO_WEIGHTS,
}
RANDOM = np.random.default_rng(0)
REAL = RANDOM.normal(size=(4, 3)).round(2).tolist()
OTHER = RANDOM.normal(size=(4, 3)).round(2).tolist()
ZERO_ONE = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
ONE_HOT = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.25, 0.75]]
SHARES = [[0.1, 0.9, 0.5], [0.7, 0.2, 0.0], [0.3, 0.4, 1.0], [0.6, 0.8, 0.05]]
NONE, NUMBER, ROWS = None, 0.5, [[1.0], [0.0], [2.5], [0.5]]
EACH = [[1.0, 0.0, 2.0], [0.0, 0.0, 0.5], [1.5, 1.0, 1.0], [1.0, 0.0, 0.0]]

LOSSES = [
    ("absolute_difference", {"labels": REAL, "predictions": OTHER}, [NONE, NUMBER, ROWS, EACH]),
    ("mean_squared_error", {"labels": REAL, "predictions": OTHER}, [NONE, NUMBER, ROWS, EACH]),
    ("huber_loss", {"labels": REAL, "predictions": OTHER}, [NONE, ROWS]),
    ("huber_loss", {"labels": REAL, "predictions": OTHER, "delta": 0.3}, [EACH]),
    ("hinge_loss", {"labels": ZERO_ONE, "logits": OTHER}, [NONE, ROWS]),
    ("log_loss", {"labels": ZERO_ONE, "predictions": SHARES}, [NONE, EACH]),
    ("log_loss", {"labels": ZERO_ONE, "predictions": SHARES, "epsilon": 0.1}, [ROWS]),
    ("cosine_distance", {"labels": REAL, "predictions": OTHER, "axis": 1}, [NONE, ROWS]),
    ("sigmoid_cross_entropy", {"multi_class_labels": ZERO_ONE, "logits": REAL}, [NONE, NUMBER, ROWS, EACH]),
    ("sigmoid_cross_entropy", {"multi_class_labels": ZERO_ONE, "logits": REAL, "label_smoothing": 0.2}, [EACH]),
    ("softmax_cross_entropy", {"onehot_labels": ONE_HOT, "logits": REAL}, [NONE, NUMBER, [1.0, 0.0, 2.5, 0.5]]),
    ("softmax_cross_entropy", {"onehot_labels": ONE_HOT, "logits": REAL, "label_smoothing": 0.2}, [NONE]),
    ("sparse_softmax_cross_entropy", {"labels": [0, 2, 1, 1], "logits": REAL}, [NONE, NUMBER, [1.0, 0.0, 2.5, 0.5]]),
    ("sparse_softmax_cross_entropy", {"labels": [[0], [2], [1], [1]], "logits": REAL}, [NONE, ROWS]),
]
BINARY = [[0, 1, 1, 0, 1, 0], [1, 1, 0, 0]]
SCORES = [[0.1, 0.8, 0.6, 0.6, 0.9, 0.2], [0.45, 1.0, 0.0, 0.7]]
WEIGHTS = [[1.0, 2.0, 0.0, 1.0, 0.5, 3.0], [1.0, 0.25, 2.0, 1.0]]
NUMBERS = [[1.0, -2.0, 0.5, 3.0, 2.0, -1.0], [0.0, 1.0, 4.0, -3.0]]
GUESSES = [[1.5, -1.0, 0.5, 2.0, 2.5, 1.0], [0.5, 1.0, 2.0, -4.0]]
IDS = [[0, 1, 2, 1, 0, 2], [2, 2, 1, 0]]
GUESSED = [[0, 2, 2, 1, 1, 2], [2, 0, 1, 0]]
RANKED = [RANDOM.uniform(size=(3, 5)).round(3).tolist(), RANDOM.uniform(size=(2, 5)).round(3).tolist()]
WANTED = [[[0, 3], [1, 1], [4, 2]], [[2, 0], [3, 4]]]
SINGLE = [[[0], [1], [4]], [[2], [9]]]
PER_ROW = [[1.0, 0.5, 2.0], [0.0, 1.0]]
THRESHOLDS = [0.0, 0.3, 0.6, 0.95]

METRICS = [
    ("mean", {"values": NUMBERS}, {}, [NONE, WEIGHTS]),
    ("mean_tensor", {"values": [NUMBERS[0], NUMBERS[0][::-1]]}, {}, [NONE, [WEIGHTS[0], WEIGHTS[0]]]),
    ("percentage_below", {"values": NUMBERS}, {"threshold": 1.0}, [NONE, WEIGHTS]),
    ("accuracy", {"labels": IDS, "predictions": GUESSED}, {}, [NONE, WEIGHTS]),
    ("mean_absolute_error", {"labels": NUMBERS, "predictions": GUESSES}, {}, [NONE, WEIGHTS]),
    ("mean_squared_error", {"labels": NUMBERS, "predictions": GUESSES}, {}, [NONE, WEIGHTS]),
    ("root_mean_squared_error", {"labels": NUMBERS, "predictions": GUESSES}, {}, [NONE, WEIGHTS]),
    ("mean_relative_error", {"labels": NUMBERS, "predictions": GUESSES, "normalizer": NUMBERS}, {}, [NONE, WEIGHTS]),
    ("mean_cosine_distance", {"labels": [REAL, OTHER], "predictions": [OTHER, REAL]}, {"dim": 1}, [NONE, [ROWS, ROWS]]),
    *[
        (f"{name}{suffix}", {"labels": BINARY, "predictions": SCORES}, extra, [NONE, WEIGHTS])
        for name in ("true_positives", "false_positives", "true_negatives", "false_negatives")
        for suffix, extra in (("_at_thresholds", {"thresholds": THRESHOLDS}),)
    ],
    *[
        (name, {"labels": BINARY, "predictions": GUESSED}, {}, [NONE, WEIGHTS])
        for name in ("true_positives", "false_positives", "true_negatives", "false_negatives", "precision", "recall")
    ],
    ("precision_at_thresholds", {"labels": BINARY, "predictions": SCORES}, {"thresholds": THRESHOLDS}, [NONE, WEIGHTS]),
    ("recall_at_thresholds", {"labels": BINARY, "predictions": SCORES}, {"thresholds": THRESHOLDS}, [NONE, WEIGHTS]),
    *[
        ("sensitivity_at_specificity", {"labels": BINARY, "predictions": SCORES}, {"specificity": at}, [NONE, WEIGHTS])
        for at in (0.0, 0.5, 0.7, 1.0)
    ],
    *[
        ("specificity_at_sensitivity", {"labels": BINARY, "predictions": SCORES}, {"sensitivity": at}, [NONE, WEIGHTS])
        for at in (0.0, 0.4, 0.8, 1.0)
    ],
    *[
        (
            "auc",
            {"labels": BINARY, "predictions": SCORES},
            {"curve": curve, "summation_method": method},
            [NONE, WEIGHTS],
        )
        for curve, method in (("ROC", "trapezoidal"), ("PR", "trapezoidal"))
    ],
    ("mean_per_class_accuracy", {"labels": IDS, "predictions": GUESSED}, {"num_classes": 4}, [NONE, WEIGHTS]),
    ("mean_iou", {"labels": IDS, "predictions": GUESSED}, {"num_classes": 4}, [NONE, WEIGHTS]),
    *[
        (name, {"labels": labels, "predictions": RANKED}, {"k": k, **extra}, [NONE, PER_ROW])
        for name in ("precision_at_k", "recall_at_k")
        for labels in (WANTED, SINGLE)
        for k in (1, 3)
        for extra in ({}, {"class_id": 4})
    ],
    *[
        ("average_precision_at_k", {"labels": labels, "predictions": RANKED}, {"k": k}, [NONE, PER_ROW])
        for labels in (WANTED, SINGLE)
        for k in (1, 3)
    ],
]
# These follow Keras, whose AUC the heads use.
AREAS = [
    (curve, method, weights)
    for curve in ("ROC", "PR")
    for method in ("interpolation", "minoring", "majoring")
    for weights in (NONE, WEIGHTS)
]
SCHEDULES = [
    ("ExponentialDecay", [0.1, 10, 0.5], {}),
    ("ExponentialDecay", [0.1, 10, 0.5], {"staircase": True}),
    ("InverseTimeDecay", [0.1, 10, 0.5], {}),
    ("InverseTimeDecay", [0.1, 10, 0.5], {"staircase": True}),
    ("PiecewiseConstantDecay", [[5, 20], [0.1, 0.05, 0.01]], {}),
    ("PolynomialDecay", [0.1, 10], {"power": 2.0}),
    ("PolynomialDecay", [0.1, 10], {"cycle": True}),
    ("CosineDecay", [0.1, 20], {"alpha": 0.1}),
    ("CosineDecay", [0.0, 20], {"warmup_target": 0.1, "warmup_steps": 6}),
    ("CosineDecayRestarts", [0.1, 7], {"m_mul": 0.5, "alpha": 0.1}),
    ("CosineDecayRestarts", [0.1, 7], {"t_mul": 1.0}),
]
FUNCTIONS = [
    ("exponential_decay", [0.1], [10, 0.5]),
    ("natural_exp_decay", [0.1], [10, 0.5, True]),
    ("inverse_time_decay", [0.1], [10, 0.5]),
    ("polynomial_decay", [0.1], [10]),
    ("cosine_decay", [0.1], [20]),
    ("cosine_decay_restarts", [0.1], [7]),
    ("linear_cosine_decay", [0.1], [20]),
    ("piecewise_constant", [], [[5, 20], [0.1, 0.05, 0.01]]),
]
STEPS = [0, 1, 5, 6, 7, 10, 14, 20, 21, 35, 100]


def loss_cases():
    for name, arguments, all_weights in LOSSES:
        for weights in all_weights:
            for label, reduction in REDUCTIONS.items():
                extra = {} if weights is None else {"weights": weights}
                value = getattr(losses, name)(**arguments, **extra, reduction=reduction)
                yield {
                    "function": name,
                    "arguments": arguments,
                    "weights": weights,
                    "reduction": label,
                    "value": value.numpy().tolist(),
                }
    for weights in (NONE, ROWS, 2.0):
        extra = {} if weights is None else {"weights": weights}
        # In a graph, as in an Estimator: run eagerly it counts the pairs of the whole batch where weights are a number.
        value = tf.function(lambda extra=extra: losses.mean_pairwise_squared_error(REAL, OTHER, **extra))()
        value = value.numpy().tolist()
        arguments = {"labels": REAL, "predictions": OTHER}
        yield {
            "function": "mean_pairwise_squared_error",
            "arguments": arguments,
            "weights": weights,
            "reduction": None,
            "value": value,
        }
    for full in (False, True):
        arguments = {"targets": [0.0, 0.5, 1.0, 2.0, 7.0], "log_input": [0.1, -1.0, 0.0, 1.5, 2.0]}
        value = tf.nn.log_poisson_loss(**arguments, compute_full_loss=full).numpy().tolist()
        yield {
            "function": "log_poisson_loss",
            "arguments": {**arguments, "compute_full_loss": full},
            "weights": None,
            "reduction": None,
            "value": value,
        }


def tensor(value):
    array = np.array(value)
    return tf.constant(array, tf.float32 if array.dtype.kind == "f" else tf.int64)


def metric_value(name, batched, extra, weights):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = []
        for i in range(2):
            arguments = {key: tensor(values[i]) for key, values in batched.items()}
            if weights is not None:
                arguments["weights"] = tensor(weights[i])
            made.append(arguments)
        placeholders = {key: tf.compat.v1.placeholder(v.dtype, [None, *v.shape[1:]]) for key, v in made[0].items()}
        if name == "mean_tensor":
            placeholders = {key: tf.compat.v1.placeholder(v.dtype, v.shape) for key, v in made[0].items()}
        value, update = getattr(metrics, name)(**placeholders, **extra)
        session.run([tf.compat.v1.local_variables_initializer(), tf.compat.v1.global_variables_initializer()])
        for arguments in made:
            fed = session.run(arguments)
            session.run(update, {placeholders[key]: fed[key] for key in fed})
        return session.run(value).tolist()


def metric_cases():
    for name, batched, extra, all_weights in METRICS:
        for weights in all_weights:
            yield {
                "function": name,
                "batches": batched,
                "arguments": extra,
                "weights": weights,
                "value": metric_value(name, batched, extra, weights),
            }
    for curve, method, weights in AREAS:
        metric = tf.keras.metrics.AUC(curve=curve, summation_method=method)
        for i in range(2):
            metric.update_state(BINARY[i], SCORES[i], None if weights is None else weights[i])
        yield {
            "function": "auc",
            "batches": {"labels": BINARY, "predictions": SCORES},
            "arguments": {"curve": curve, "summation_method": method},
            "weights": weights,
            "value": float(metric.result().numpy()),
        }


def schedule_cases():
    for name, arguments, extra in SCHEDULES:
        schedule = getattr(tf.keras.optimizers.schedules, name)(*arguments, **extra)
        values = [float(schedule(step).numpy()) for step in STEPS]
        yield {"schedule": name, "arguments": arguments, "extra": extra, "values": values}
    for name, before, after in FUNCTIONS:
        values = []
        for step in STEPS:
            found = getattr(tf.compat.v1.train, name)(*before, step, *after)
            values.append(float(found().numpy() if callable(found) else found.numpy()))
        yield {"function": name, "before": before, "after": after, "values": values}


V1_OPTIMIZERS = [
    ("GradientDescentOptimizer", {"learning_rate": 0.1}),
    ("MomentumOptimizer", {"learning_rate": 0.1, "momentum": 0.9}),
    ("MomentumOptimizer", {"learning_rate": 0.1, "momentum": 0.9, "use_nesterov": True}),
    ("AdagradOptimizer", {"learning_rate": 0.1}),
    ("AdamOptimizer", {"learning_rate": 0.1}),
    ("FtrlOptimizer", {"learning_rate": 0.1, "l1_regularization_strength": 0.1}),
    ("RMSPropOptimizer", {"learning_rate": 0.1}),
    ("RMSPropOptimizer", {"learning_rate": 0.1, "momentum": 0.5, "centered": True}),
]


def optimizer_cases():
    """Three steps on the rows [0, 2, 0], [1], [2] of a table of ones, of which a fourth row is never looked up."""
    for name, arguments in V1_OPTIMIZERS:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            table = tf.compat.v1.get_variable("table", [4, 2], initializer=tf.compat.v1.ones_initializer())
            bias = tf.compat.v1.get_variable("bias", [2], initializer=tf.compat.v1.ones_initializer())
            ids = tf.compat.v1.placeholder(tf.int64, [None])
            loss = tf.reduce_sum((tf.reduce_sum(tf.gather(table, ids), 0) * [1.0, 0.5] + bias) ** 2)
            train_op = getattr(tf.compat.v1.train, name)(**arguments).minimize(loss)
            session.run(tf.compat.v1.global_variables_initializer())
            for fed in ([0, 2, 0], [1], [2]):
                session.run(train_op, {ids: fed})
            values = session.run({"table": table, "bias": bias})
        yield {"optimizer": name, "arguments": arguments, **{key: v.tolist() for key, v in values.items()}}


def main():
    goldens = {
        "losses": list(loss_cases()),
        "metrics": list(metric_cases()),
        "schedules": list(schedule_cases()),
        "steps": STEPS,
        "optimizers": list(optimizer_cases()),
    }
    Path(__file__).with_name("functions.json").write_text(json.dumps(goldens))


if __name__ == "__main__":
    main()
