"""Small estimators of every kind, and the rows they are trained on."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch

from estimator_serving.training import (
    DNNClassifier,
    Estimator,
    EstimatorSpec,
    LinearClassifier,
    ModeKeys,
    RunConfig,
    feature_column,
    layers,
    losses,
    numpy_input_fn,
    optimizers,
)

ROWS = {
    "age": np.float32([22, 38, 26, 35, 4, 60]),
    "fare": np.float32([7.25, 71.28, 7.92, 53.1, 16.7, 26.0]),
    "class": np.array(["3rd", "1st", "3rd", "1st", "2nd", ""], object),
    "port": np.array(["S", "C", "S", "Q", "S", "C"], object),
    "age_group": np.int64([1, 2, 1, 2, 0, 3]),
    "deck": np.int64([3, 0, -1, 7, 2, 3]),
    # one for each deck, none for -1
    "deck_weight": np.float32([0.5, 2.0, 0.0, -1.0, 1.5, 1.0]),
}
LABELS = np.int64([0, 1, 1, 1, 0, 2])


def make_columns():
    age = feature_column.numeric_column("age")
    passenger_class = feature_column.categorical_column_with_vocabulary_list("class", ["1st", "2nd", "3rd"])
    port = feature_column.categorical_column_with_hash_bucket("port", 10)
    return [
        feature_column.numeric_column("age", normalizer_fn=lambda x: (x - 30.0) / 12.0),
        feature_column.numeric_column("fare", default_value=7.0, normalizer_fn=lambda x: torch.log1p(torch.relu(x))),
        feature_column.bucketized_column(age, [6, 18, 40]),
        feature_column.indicator_column(passenger_class),
        feature_column.embedding_column(port, 3),
    ]


def linear_columns():
    return [feature_column.numeric_column("age"), *(c for c in make_columns() if c.name == "age_bucketized")]


@functools.cache
def vocabulary_path():
    path = Path(tempfile.mkdtemp()) / "ports.txt"
    path.write_text("S\nC\n")
    return str(path)


def every_column():
    """A column of every kind."""
    fc = feature_column
    age = fc.bucketized_column(fc.numeric_column("age"), [6, 18, 40])
    deck = fc.categorical_column_with_identity("deck", 8)
    weighted = fc.weighted_categorical_column(deck, "deck_weight")
    port = fc.categorical_column_with_vocabulary_file("port", vocabulary_path(), num_oov_buckets=2)
    cross = fc.crossed_column(["class", port, age, "port"], 50)
    pair = [
        fc.categorical_column_with_identity("deck", 4, default_value=2),
        fc.categorical_column_with_identity("age_group", 4),
    ]
    return [
        *make_columns(),
        fc.indicator_column(port),
        fc.indicator_column(weighted),
        fc.embedding_column(cross, 4, combiner="sqrtn", max_norm=0.5),
        fc.embedding_column(weighted, 2),
        *fc.shared_embeddings(pair, 2, combiner="sum"),
    ]


def every_linear_column():
    """What a linear model reads otherwise than a network does: categorical columns as they are."""
    fc = feature_column
    deck = fc.categorical_column_with_identity("deck", 8)
    cross = fc.crossed_column(["class", deck, "port"], 50, hash_key=7)
    return [
        fc.numeric_column("age"),
        deck,
        cross,
        fc.weighted_categorical_column(deck, "deck_weight"),
        fc.categorical_column_with_vocabulary_file("port", vocabulary_path(), default_value=1),
        fc.bucketized_column(fc.numeric_column("fare", default_value=7.0), [10, 20]),
    ]


def model_fn(features, labels, mode):
    """Reads one feature itself and one through a column; softmax over three classes."""
    port = feature_column.categorical_column_with_vocabulary_list("class", ["1st", "2nd", "3rd"])
    embedded = feature_column.input_layer(features, [feature_column.embedding_column(port, 2)])
    logits = layers.dense(torch.cat([features["age"].reshape(-1, 1) / 50.0, embedded], dim=1), units=3)
    if mode == ModeKeys.PREDICT:
        return EstimatorSpec(mode, predictions={"probabilities": torch.softmax(logits, 1), "best": logits.argmax(-1)})
    loss = losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == ModeKeys.EVAL:
        return EstimatorSpec(mode, loss=loss)
    return EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.01).minimize(loss))


def make_estimator(kind, model_dir):
    config = RunConfig(tf_random_seed=5, model_dir=str(model_dir))
    adam = optimizers.Adam(0.01)
    match kind:
        case "dnn binary":
            return DNNClassifier([8, 4], make_columns(), optimizer=adam, config=config)
        case "dnn multiclass":
            words = ["no", "yes", "é"]
            return DNNClassifier(
                [8], make_columns(), n_classes=3, label_vocabulary=words, optimizer=adam, config=config
            )
        case "dnn batch_norm":
            return DNNClassifier([8], make_columns(), batch_norm=True, dropout=0.5, optimizer=adam, config=config)
        case "dnn every column":
            return DNNClassifier([8], every_column(), optimizer=adam, config=config)
        case "linear every column":
            return LinearClassifier(every_linear_column(), config=config, sparse_combiner="mean")
        case "linear binary":
            return LinearClassifier([*linear_columns(), make_columns()[3]], config=config)
        case "linear multiclass":
            return LinearClassifier([*linear_columns(), make_columns()[4]], n_classes=3, config=config)
        case _:
            return Estimator(model_fn, config=config)


KINDS = (
    "dnn binary",
    "dnn multiclass",
    "dnn batch_norm",
    "dnn every column",
    "linear binary",
    "linear multiclass",
    "linear every column",
    "custom",
)


def labels_for(kind):
    if kind == "dnn multiclass":
        return np.array(["no", "yes", "é"], object)[LABELS]
    return LABELS if kind in ("linear multiclass", "custom") else np.minimum(LABELS, 1)


def train_steps(kind, model_dir, steps=3):
    inputs = numpy_input_fn(ROWS, labels_for(kind), batch_size=6, num_epochs=None, shuffle=False)
    return make_estimator(kind, model_dir).train(inputs, steps=steps)
