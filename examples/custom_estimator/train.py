"""A classifier written as a model_fn, as in TensorFlow's tutorial on custom estimators: iris species from four lengths.

python examples/custom_estimator/train.py [--model_dir DIR] [--export_dir DIR] [--steps N]
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.training import (
    ClassificationOutput,
    Dataset,
    Estimator,
    EstimatorSpec,
    ModeKeys,
    PredictOutput,
    RunConfig,
    StringPrediction,
    feature_column,
    get_global_step,
    layers,
    losses,
    metrics,
    numpy_input_fn,
    summaries,
    train,
)

FLOWERS = Path(__file__).with_name("iris.csv")
SPECIES = ("setosa", "versicolor", "virginica")
HELD_OUT_ROWS = 30
UNKNOWN_FLOWERS = {
    "SepalLength": np.float32([5.1, 5.9, 6.9]),
    "SepalWidth": np.float32([3.3, 3.0, 3.1]),
    "PetalLength": np.float32([1.7, 4.2, 5.4]),
    "PetalWidth": np.float32([0.5, 1.5, 2.1]),
}


def model_fn(features: Mapping[str, Any], labels: torch.Tensor | None, mode: str, params: Any) -> EstimatorSpec:
    """Dense layers of `hidden_units` on `feature_columns`, then one logit for each of `n_classes`."""
    net = feature_column.input_layer(features, params["feature_columns"])
    for units in params["hidden_units"]:
        net = layers.dense(net, units=units, activation=torch.relu)
    logits = layers.dense(net, units=params["n_classes"], activation=None)
    predicted_classes = logits.argmax(1)
    probabilities = torch.softmax(logits, 1)
    predictions = {
        "class_ids": predicted_classes[:, None],
        "probabilities": probabilities,
        "logits": logits,
    }

    if mode == ModeKeys.PREDICT:
        # What classify requests are answered with: every species and its score.
        names = StringPrediction(torch.arange(len(SPECIES)).expand(probabilities.shape), SPECIES)
        outputs = {
            "serving_default": ClassificationOutput(scores=probabilities, classes=names),
            "predict": PredictOutput(predictions),
        }
        return EstimatorSpec(mode, predictions=predictions, export_outputs=outputs)

    assert labels is not None
    loss = losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    accuracy = metrics.accuracy(labels=labels, predictions=predicted_classes)
    summaries.scalar("accuracy", float(accuracy.result()))

    if mode == ModeKeys.EVAL:
        # `estimator-serving report` shows the predictions beside the labels; the metrics do not need them.
        return EstimatorSpec(mode, predictions, loss=loss, eval_metric_ops={"accuracy": accuracy})

    optimizer = train.AdamOptimizer(learning_rate=0.01)
    train_op = optimizer.minimize(loss, global_step=get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def read_flowers() -> Dataset:
    """All rows in one fixed random order: the lengths by name, the species as the label."""
    return Dataset.from_csv(FLOWERS, label_name="Species").shuffle(seed=2, reshuffle_each_iteration=False)


def train_input_fn() -> Dataset:
    return read_flowers().skip(HELD_OUT_ROWS).shuffle(1000).repeat().batch(32)


def evaluation_input_fn() -> Dataset:
    return read_flowers().take(HELD_OUT_ROWS).batch(HELD_OUT_ROWS)


def make_classifier(model_dir: str | Path) -> Estimator:
    columns = [feature_column.numeric_column(key) for key in UNKNOWN_FLOWERS]
    return Estimator(
        model_fn=model_fn,
        config=RunConfig(model_dir=str(model_dir), tf_random_seed=1),
        params={"feature_columns": columns, "hidden_units": [10, 10], "n_classes": len(SPECIES)},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model_dir", default="build/iris/model", help="checkpoints and events (default: %(default)s)")
    parser.add_argument("--export_dir", default="build/iris/servable", help="servables (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="global_step to train to (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)

    classifier = make_classifier(options.model_dir)
    classifier.train(train_input_fn, max_steps=options.steps)
    print(f"accuracy on held-out rows: {classifier.evaluate(evaluation_input_fn)['accuracy']:.3f}")

    for prediction in classifier.predict(numpy_input_fn(UNKNOWN_FLOWERS, shuffle=False)):
        (class_id,) = prediction["class_ids"]
        print(f"{SPECIES[class_id]} ({prediction['probabilities'][class_id]:.1%})")

    spec = feature_column.make_parse_example_spec(classifier.params["feature_columns"])
    exported = classifier.export_saved_model(options.export_dir, build_parsing_serving_input_receiver_fn(spec))
    print(f"exported to {exported}")


if __name__ == "__main__":
    main()
