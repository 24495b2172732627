"""Small estimators of every kind, and the rows they are trained on."""

import functools
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from estimator_serving.training import (
    BaselineClassifier,
    BinaryClassHead,
    BoostedTreesClassifier,
    BoostedTreesRegressor,
    DNNClassifier,
    DNNEstimator,
    DNNLinearCombinedClassifier,
    DNNRegressor,
    Estimator,
    EstimatorSpec,
    LinearClassifier,
    LinearEstimator,
    ModeKeys,
    MultiHead,
    MultiLabelHead,
    PoissonRegressionHead,
    RegressionHead,
    RunConfig,
    feature_column,
    layers,
    losses,
    metrics,
    numpy_input_fn,
    optimizers,
)

ROWS = {
    "age": np.float32([22, 38, 26, 35, 4, 60]),
    "fare": np.float32([7.25, 71.28, 7.92, 53.1, 16.7, 26.0]),
    "class": np.array(["3rd", "1st", "3rd", "1st", "2nd", ""], object),
    "port": np.array(["S", "C", "S", "Q", "S", "C"], object),
    "stops": np.array([["a", "b"], ["c", "a"], ["d", "e"], ["a", "a"], ["b", "c"], ["é", "a"]], object),
    "trips": np.float32([[1, 2], [0.5, 3], [4, 1], [2, 2], [-1, 5], [0.25, 7]]),
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


def sequence_columns():
    stops = feature_column.sequence_categorical_column_with_hash_bucket("stops", 5)
    return [feature_column.sequence_numeric_column("trips"), feature_column.embedding_column(stops, 2)]


def model_fn(features, labels, mode):
    """Reads one feature itself, one through a column and two as sequences; softmax over three classes."""
    port = feature_column.categorical_column_with_vocabulary_list("class", ["1st", "2nd", "3rd"])
    embedded = feature_column.input_layer(features, [feature_column.embedding_column(port, 2)])
    steps, counts = feature_column.sequence_input_layer(features, sequence_columns())
    trips = steps.sum(dim=1) / counts.clamp(min=1).unsqueeze(1)
    logits = layers.dense(torch.cat([features["age"].reshape(-1, 1) / 50.0, embedded, trips], dim=1), units=3)
    predictions = {"probabilities": torch.softmax(logits, 1), "best": logits.argmax(-1)}
    if mode == ModeKeys.PREDICT:
        return EstimatorSpec(mode, predictions=predictions)
    loss = losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == ModeKeys.EVAL:
        measured = {
            "accuracy": metrics.accuracy(labels, predictions["best"]),
            "recalls": metrics.recall_per_class(labels, predictions["best"], 3),
            "mean_iou": metrics.mean_iou(labels, predictions["best"], 3),
        }
        return EstimatorSpec(mode, predictions, loss=loss, eval_metric_ops=measured)
    return EstimatorSpec(mode, predictions, loss=loss, train_op=optimizers.Adam(0.01).minimize(loss))


def _custom(**common):
    return Estimator(model_fn, **common)


def _combined(**common):
    return DNNLinearCombinedClassifier(
        linear_feature_columns=linear_columns()[1:],
        dnn_feature_columns=make_columns(),
        dnn_hidden_units=[4],
        n_classes=3,
        **common,
    )


WORDS = ["no", "yes", "é"]
ADAM = optimizers.Adam(0.01)

MAKERS = {
    "dnn binary": partial(DNNClassifier, [8, 4], make_columns(), optimizer=ADAM),
    "dnn multiclass": partial(DNNClassifier, [8], make_columns(), n_classes=3, label_vocabulary=WORDS, optimizer=ADAM),
    "dnn batch_norm": partial(DNNRegressor, [8], make_columns(), batch_norm=True, dropout=0.5, optimizer=ADAM),
    "dnn regressor": partial(DNNRegressor, [4], make_columns(), label_dimension=2, optimizer=ADAM),
    "dnn every column": lambda **common: DNNClassifier([8], every_column(), optimizer=ADAM, **common),
    "linear every column": lambda **common: LinearClassifier(every_linear_column(), sparse_combiner="mean", **common),
    "linear binary": partial(LinearClassifier, [*linear_columns(), make_columns()[3]]),
    "linear multiclass": partial(LinearClassifier, [*linear_columns(), make_columns()[4]], n_classes=3),
    "linear poisson": partial(LinearEstimator, PoissonRegressionHead(), linear_columns()[1:], optimizer=ADAM),
    "combined multiclass": _combined,
    "baseline": partial(BaselineClassifier, n_classes=3),
    "multi_label": partial(
        DNNEstimator, MultiLabelHead(3, label_vocabulary=WORDS), [4], make_columns(), optimizer=ADAM
    ),
    "multi_head": partial(
        DNNEstimator,
        MultiHead([BinaryClassHead(name="survived"), RegressionHead(2, name="prices")]),
        [4],
        make_columns(),
        optimizer=ADAM,
    ),
    "trees multiclass": partial(BoostedTreesClassifier, make_columns()[:4], 1, n_classes=3, n_trees=3, max_depth=1),
    "trees regressor": partial(BoostedTreesRegressor, make_columns()[:4], 1, n_trees=2, max_depth=1, center_bias=True),
    "custom": _custom,
}
KINDS = tuple(MAKERS)


def make_estimator(kind, model_dir):
    return MAKERS[kind](config=RunConfig(tf_random_seed=5, model_dir=str(model_dir)))


def labels_for(kind):
    pairs = np.float32(np.outer(LABELS, [1, 10]))
    match kind:
        case "dnn multiclass":
            return np.array(WORDS, object)[LABELS]
        case "dnn regressor":
            return pairs
        case "multi_label":
            return np.array([["no", "é"], ["yes", ""], ["", ""], ["no", ""], ["no", "yes"], ["é", ""]], object)
        case "multi_head":
            return {"survived": np.minimum(LABELS, 1), "prices": pairs}
        case (
            "linear multiclass" | "combined multiclass" | "baseline" | "linear poisson" | "custom" | "trees multiclass"
        ):
            return LABELS
        case _:
            return np.minimum(LABELS, 1)


def train_steps(kind, model_dir, steps=3):
    inputs = numpy_input_fn(ROWS, labels_for(kind), batch_size=6, num_epochs=None, shuffle=False)
    return make_estimator(kind, model_dir).train(inputs, steps=steps)
