"""What TensorFlow 2.15's heads give: predictions, loss and every metric, for each head x weights x reduction.

    python tests/training/goldens/make_head_goldens.py      in an environment with tensorflow 2.15

Writes heads.json beside this file. Metrics are updated with the same batch twice, so that they must add up.
"""

import json
import os
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

E = tf.estimator
LOGITS = [[45.0, 2.0, -1.0], [-41.0, 0.5, 0.25], [0.5, -3.0, 1.0], [0.0, 0.0, 0.0]]
ONE = [row[:1] for row in LOGITS]
TWO = [[0.5, -1.0], [1.5, 0.25], [-0.5, 2.0], [0.0, 0.75]]
WEIGHTS = {
    "none": None,
    "rows": [1.0, 0.5, 0.0, 2.0],
    "column": [[0.25], [2.0], [1.0], [0.0]],
    "each": [[1.0, 0.0], [0.5, 2.0], [0.0, 0.0], [3.0, 1.0]],
    "zero": [0.0, 0.0, 0.0, 0.0],
}
NARROW = ("none", "rows", "column", "zero")
HEADS = {
    "binary": ("BinaryClassHead", {"thresholds": [0.25, 0.7]}, ONE, [1, 1, 0, 1], NARROW),
    "binary words": (
        "BinaryClassHead",
        {"label_vocabulary": ["no", "yes"], "name": "h"},
        ONE,
        ["yes", "no", "no", "yes"],
        NARROW,
    ),
    "binary soft": ("BinaryClassHead", {}, ONE, [0.3, 1.0, 0.0, 0.75], NARROW),
    "multi_class": ("MultiClassHead", {"n_classes": 3}, LOGITS, [[2], [0], [1], [2]], NARROW),
    "multi_class words": (
        "MultiClassHead",
        {"n_classes": 3, "label_vocabulary": ["a", "b", "c"], "name": "h"},
        LOGITS,
        ["c", "a", "b", "c"],
        NARROW,
    ),
    "regression": ("RegressionHead", {}, ONE, [40.0, -41.5, 1.0, 0.0], NARROW),
    "regression 2": (
        "RegressionHead",
        {"label_dimension": 2, "name": "h"},
        TWO,
        [[1, 2], [0, 0], [-1, 3], [2, 2]],
        tuple(WEIGHTS),
    ),
    "poisson": ("PoissonRegressionHead", {}, [[1.0], [0.5], [-2.0], [3.0]], [3, 0, 1, 25], NARROW),
    "poisson 2": (
        "PoissonRegressionHead",
        {"label_dimension": 2, "compute_full_loss": False},
        TWO,
        [[1, 2], [0, 0], [1, 3], [2, 2]],
        tuple(WEIGHTS),
    ),
    "logistic": ("LogisticRegressionHead", {}, ONE, [0.9, 0.0, 0.5, 1.0], NARROW),
    "multi_label": (
        "MultiLabelHead",
        {"n_classes": 3, "thresholds": [0.3, 0.6], "classes_for_class_based_metrics": [0, 2]},
        LOGITS,
        [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]],
        NARROW,
    ),
    "multi_label words": (
        "MultiLabelHead",
        {
            "n_classes": 3,
            "label_vocabulary": ["a", "b", "c"],
            "classes_for_class_based_metrics": ["b"],
            "name": "h",
        },
        LOGITS,
        [["a", ""], ["a", "b"], ["c", ""], ["", ""]],
        NARROW,
    ),
}


def labels_of(name, labels):
    array = np.array(labels)
    if array.dtype.kind == "U" and name.startswith("multi_label"):
        rows, columns = np.nonzero(array != "")
        return tf.SparseTensor(np.stack([rows, columns], 1), array[rows, columns], array.shape)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return tf.constant(array)


def listed(tensor):
    values = tensor.numpy()
    return np.vectorize(bytes.decode, otypes=[object])(values).tolist() if values.dtype == object else values.tolist()


def flat(predictions):
    return {"/".join(k) if isinstance(k, tuple) else k: listed(v) for k, v in predictions.items()}


def run(head, labels, logits, features):
    metrics = head.metrics()
    for _ in range(2):
        head.update_metrics(metrics, features, logits, labels)
    return {
        "loss": float(head.loss(labels, logits, features)),
        "metrics": {key: float(metric.result()) for key, metric in metrics.items()},
        "predictions": flat(head.predictions(logits)),
    }


def main():
    cases = []
    for name, (kind, arguments, logits, labels, all_weights) in HEADS.items():
        for weights in all_weights:
            for reduction in ("sum_over_batch_size", "sum"):
                column = (
                    None
                    if weights == "none"
                    else tf.feature_column.numeric_column("w", (len(logits[0]) if weights == "each" else 1,))
                )
                head = getattr(E, kind)(**arguments, weight_column=column, loss_reduction=reduction)
                features = {} if column is None else {"w": tf.constant(WEIGHTS[weights])}
                found = run(head, labels_of(name, labels), tf.constant(logits), features)
                cases.append(
                    {
                        "name": name,
                        "head": kind,
                        "arguments": arguments,
                        "logits": logits,
                        "labels": labels,
                        "weights": WEIGHTS[weights],
                        "reduction": reduction,
                        **found,
                    }
                )
    both = [HEADS["multi_class"], HEADS["regression 2"]]
    heads = [
        getattr(E, kind)(**{**arguments, "name": name}, weight_column="w")
        for name, (kind, arguments, *_) in zip(("h1", "h2"), both, strict=True)
    ]
    labels = {name: labels_of("", one[3]) for name, one in zip(("h1", "h2"), both, strict=True)}
    logits = tf.concat([tf.constant(one[2]) for one in both], axis=1)
    multi = run(E.MultiHead(heads, [1.0, 0.5]), labels, logits, {"w": tf.constant(WEIGHTS["column"])})
    multi["labels"] = [one[3] for one in both]
    multi["logits"] = logits.numpy().tolist()
    multi["weights"] = WEIGHTS["column"]
    Path(__file__).with_name("heads.json").write_text(json.dumps({"heads": cases, "multi_head": multi}))


if __name__ == "__main__":
    main()
