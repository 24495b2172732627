"""Every canned family against TensorFlow 2.15's after three steps (goldens/make_canned_goldens.py)."""

import inspect

import goldens
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import optimizers
from estimator_serving.training.heads import multi_hot

GOLDENS = goldens.read("canned.json")
RUNS = GOLDENS["runs"]


class SetWeights(training.SessionRunHook):
    def __init__(self, values):
        self.values = values

    def after_create_session(self, session, coord):
        with torch.no_grad():
            for name, value in self.values.items():
                session.store.get(name).copy_(torch.tensor(value))


def columns(family):
    numeric = fc.numeric_column("x")
    category = fc.categorical_column_with_vocabulary_list("c", GOLDENS["words"])
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
        settings["learning_rate"] = getattr(optimizers.schedules, name)(*values)
    return getattr(optimizers, kind)(**settings)


def build(run, model_dir):
    arguments = dict(run["arguments"])
    if isinstance(arguments.get("optimizer"), list):
        described = arguments["optimizer"]
        arguments["optimizer"] = lambda: optimizer_of(*described)
    if "head" in arguments:
        arguments["head"] = getattr(training, arguments["head"])(
            *([3] if arguments["head"] == "MultiLabelHead" else [])
        )
    if "activation_fn" in arguments:
        arguments["activation_fn"] = getattr(torch, arguments["activation_fn"])
    config = training.RunConfig(model_dir=str(model_dir), save_checkpoints_secs=None, save_checkpoints_steps=100)
    return getattr(training, run["estimator"])(**arguments, **columns(run["family"]), config=config)


def input_fn(run):
    rows = GOLDENS["rows"]
    features = {name: np.array(rows[name], object if name == "c" else np.float32) for name in rows}
    labels = np.array(GOLDENS["labels"][run["labels"]])
    labels = labels.astype(object) if labels.dtype.kind == "U" else labels
    if run["estimator"].startswith("Baseline"):  # trained on one batch again and again
        first = slice(GOLDENS["batch"])
        features, labels = {name: value[first] for name, value in features.items()}, labels[first]
    return lambda: training.Dataset.from_tensor_slices((features, labels)).batch(GOLDENS["batch"]).repeat()


@pytest.mark.parametrize("key", RUNS)
def test_three_steps_give_tensorflows_weights_metrics_and_names(key, tmp_path):
    run = RUNS[key]
    estimator = build(run, tmp_path)
    estimator.train(input_fn(run), hooks=[SetWeights(run["initial"])], steps=GOLDENS["steps"])
    names = estimator.get_variable_names()
    assert set(names) == set(run["variable_names"])
    for name, value in (run["final"] | run["rates"]).items():
        np.testing.assert_allclose(estimator.get_variable_value(name), value, rtol=1e-5, atol=1e-6, err_msg=name)
    found = estimator.evaluate(input_fn(run), steps=GOLDENS["steps"])
    assert set(found) == set(run["evaluation"])
    for name, value in run["evaluation"].items():
        goldens.assert_near(found[name], value, name)
    assert tags(tmp_path) == run["tags"]


def tags(model_dir):
    (path,) = model_dir.glob("events.out.tfevents.*")
    found = {value.tag for event in EventFileLoader(str(path)).Load() for value in event.summary.value}
    return sorted(found - {"global_step/sec"})


def test_the_linear_part_counts_its_own_steps(tmp_path):
    estimator = build(RUNS["combined"], tmp_path).train(input_fn(RUNS["combined"]), steps=2)
    estimator.train(input_fn(RUNS["combined"]), steps=3)
    assert estimator.get_variable_value("training/Ftrl/iter") == 5 == estimator.get_variable_value("global_step")


SIGNATURES = {
    "LinearClassifier": "feature_columns model_dir=None n_classes=2 weight_column=None label_vocabulary=None "
    "optimizer='Ftrl' config=None warm_start_from=None loss_reduction='sum_over_batch_size' sparse_combiner='sum'",
    "LinearRegressor": "feature_columns model_dir=None label_dimension=1 weight_column=None optimizer='Ftrl' "
    "config=None warm_start_from=None loss_reduction='sum_over_batch_size' sparse_combiner='sum'",
    "LinearEstimator": "head feature_columns model_dir=None optimizer='Ftrl' config=None sparse_combiner='sum' "
    "warm_start_from=None",
    "DNNClassifier": "hidden_units feature_columns model_dir=None n_classes=2 weight_column=None "
    "label_vocabulary=None optimizer='Adagrad' activation_fn=relu dropout=None config=None warm_start_from=None "
    "loss_reduction='sum_over_batch_size' batch_norm=False",
    "DNNRegressor": "hidden_units feature_columns model_dir=None label_dimension=1 weight_column=None "
    "optimizer='Adagrad' activation_fn=relu dropout=None config=None warm_start_from=None "
    "loss_reduction='sum_over_batch_size' batch_norm=False",
    "DNNEstimator": "head hidden_units feature_columns model_dir=None optimizer='Adagrad' activation_fn=relu "
    "dropout=None config=None warm_start_from=None batch_norm=False",
    "DNNLinearCombinedClassifier": "model_dir=None linear_feature_columns=None linear_optimizer='Ftrl' "
    "dnn_feature_columns=None dnn_optimizer='Adagrad' dnn_hidden_units=None dnn_activation_fn=relu dnn_dropout=None "
    "n_classes=2 weight_column=None label_vocabulary=None config=None warm_start_from=None "
    "loss_reduction='sum_over_batch_size' batch_norm=False linear_sparse_combiner='sum'",
    "DNNLinearCombinedRegressor": "model_dir=None linear_feature_columns=None linear_optimizer='Ftrl' "
    "dnn_feature_columns=None dnn_optimizer='Adagrad' dnn_hidden_units=None dnn_activation_fn=relu dnn_dropout=None "
    "label_dimension=1 weight_column=None config=None warm_start_from=None "
    "loss_reduction='sum_over_batch_size' batch_norm=False linear_sparse_combiner='sum'",
    "DNNLinearCombinedEstimator": "head model_dir=None linear_feature_columns=None linear_optimizer='Ftrl' "
    "dnn_feature_columns=None dnn_optimizer='Adagrad' dnn_hidden_units=None dnn_activation_fn=relu dnn_dropout=None "
    "config=None batch_norm=False linear_sparse_combiner='sum'",
    "BaselineClassifier": "model_dir=None n_classes=2 weight_column=None label_vocabulary=None optimizer='Ftrl' "
    "config=None loss_reduction='sum_over_batch_size'",
    "BaselineRegressor": "model_dir=None label_dimension=1 weight_column=None optimizer='Ftrl' config=None "
    "loss_reduction='sum_over_batch_size'",
    "BaselineEstimator": "head model_dir=None optimizer='Ftrl' config=None",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_constructors_take_tensorflows_arguments_in_its_order(name):
    parameters = inspect.signature(getattr(training, name)).parameters.values()
    shown = {torch.relu: "relu", inspect.Parameter.empty: None}
    texts = [
        p.name if p.default is p.empty else f"{p.name}={shown.get(p.default) or repr(p.default)}" for p in parameters
    ]
    assert " ".join(texts) == SIGNATURES[name]


def make(kind, model_dir, **arguments):
    return getattr(training, kind)(**arguments, model_dir=str(model_dir))


X = [fc.numeric_column("x")]
CATEGORY = [fc.categorical_column_with_vocabulary_list("c", ["a"])]


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        ("LinearClassifier", {"feature_columns": []}, "feature_columns must not be empty"),
        ("LinearRegressor", {"feature_columns": []}, "feature_columns must not be empty"),
        ("DNNLinearCombinedClassifier", {}, "Either linear_feature_columns or dnn_feature_columns must be defined"),
        (
            "DNNLinearCombinedRegressor",
            {"dnn_feature_columns": X},
            "dnn_hidden_units must be defined when dnn_feature_columns is specified",
        ),
        ("BaselineClassifier", {"n_classes": 1}, "n_classes must be > 2: 1"),
        (
            "DNNRegressor",
            {"hidden_units": [1], "feature_columns": X, "label_dimension": 0},
            "Invalid label_dimension 0",
        ),
        (
            "DNNRegressor",
            {"hidden_units": [1], "feature_columns": X, "loss_reduction": "none"},
            "Invalid loss_reduction: none",
        ),
    ],
)
def test_misuse_is_refused_by_the_constructor(kind, arguments, text, tmp_path):
    with pytest.raises(ValueError, match=f"^{text}"):
        make(kind, tmp_path, **arguments)


ROW = {"x": np.float32([1, 2]), "c": np.array(["a", "b"], object), "w": np.array(["1", "2"], object)}


@pytest.mark.parametrize(
    ("kind", "arguments", "features", "labels", "error", "text"),
    [
        (
            "LinearClassifier",
            {"feature_columns": X, "optimizer": "Foo"},
            ROW,
            [0, 1],
            ValueError,
            "Unsupported optimizer name: Foo",
        ),
        ("BaselineRegressor", {"optimizer": 3}, ROW, [0, 1], ValueError, "The given object is not an Optimizer"),
        ("LinearRegressor", {"feature_columns": X}, ROW["x"], [0, 1], ValueError, "features should be a dictionary of"),
        (
            "DNNClassifier",
            {"hidden_units": [2], "feature_columns": CATEGORY},
            ROW,
            [0, 1],
            ValueError,
            "Items of feature_columns must be a",
        ),
        (
            "LinearClassifier",
            {"feature_columns": X},
            ROW,
            [0, 2],
            training.InvalidArgumentError,
            "Labels must be <= n_classes - 1",
        ),
        (
            "LinearClassifier",
            {"feature_columns": X, "n_classes": 3},
            ROW,
            [0.0, 1.0],
            ValueError,
            "Labels dtype should be integer",
        ),
        ("BaselineClassifier", {"n_classes": 3}, ROW, [-1, 2], training.InvalidArgumentError, "Labels must be >= 0"),
        ("BaselineRegressor", {}, ROW, ["a", "b"], ValueError, "Labels must be numbers"),
        (
            "BaselineRegressor",
            {"weight_column": "w"},
            ROW,
            [1, 2],
            ValueError,
            "Weight column should be castable to float",
        ),
        (
            "BaselineRegressor",
            {"weight_column": 3},
            ROW,
            [1, 2],
            TypeError,
            "Weight column must be either a string or NumericColumn",
        ),
        (
            "LinearRegressor",
            {"feature_columns": X, "weight_column": "v"},
            ROW,
            [1, 2],
            ValueError,
            "Feature v is not in features",
        ),
    ],
)
def test_a_bad_batch_or_optimizer_writes_no_checkpoint(kind, arguments, features, labels, error, text, tmp_path):
    estimator = make(kind, tmp_path, **arguments)
    batch = features, np.array(labels, object if isinstance(labels[0], str) else None)
    with pytest.raises(error, match=f"^{text}"):
        estimator.train(lambda: training.Dataset.from_tensor_slices(batch).batch(2), steps=1)
    assert estimator.latest_checkpoint() is None


def test_one_column_and_a_generator_of_columns(tmp_path):
    data = {"x": ROW["x"]}, np.float32([1, 2])
    for columns_given in (X[0], iter(X)):
        estimator = training.LinearRegressor(columns_given, model_dir=tmp_path)
        estimator.train(lambda: training.Dataset.from_tensor_slices(data).batch(2), steps=1)
    assert estimator.get_variable_value("global_step") == 2


def test_dropout_is_of_training_alone(tmp_path):
    data = {"x": ROW["x"]}, np.float32([1, 2])
    estimator = training.DNNRegressor([32], X, dropout=0.5, model_dir=tmp_path)
    losses = []
    hook = training.LoggingTensorHook({"loss": "loss"}, every_n_iter=1, formatter=lambda v: losses.append(v["loss"]))
    inputs = lambda: training.Dataset.from_tensor_slices(data).batch(2).repeat()  # noqa: E731
    estimator.train(inputs, hooks=[hook], steps=3)
    assert len(set(map(float, losses))) == 3
    first, second = (estimator.evaluate(inputs, steps=1)["loss"] for _ in range(2))
    assert first == second


PADDED_IDS = np.int64([[0, 2], [1, -1], [-1, -1], [2, -1]])
PADDED_WORDS = np.array([["a", "c"], ["b", ""], ["", ""], ["", "c"]], object)


@pytest.mark.parametrize(
    ("labels", "vocabulary", "change"),
    [(PADDED_IDS, None, lambda x, ids: (x, multi_hot(ids, 3))), (PADDED_WORDS, ["a", "b", "c"], lambda x, y: (x, y))],
)
def test_several_labels_an_example_come_padded(labels, vocabulary, change, tmp_path):
    data = {"x": np.float32([1, 2, 3, 4])}, labels
    inputs = lambda: training.Dataset.from_tensor_slices(data).map(change).batch(3)  # noqa: E731
    estimator = training.LinearEstimator(training.MultiLabelHead(3, label_vocabulary=vocabulary), X, model_dir=tmp_path)
    estimator.train(inputs)
    weights = estimator.get_variable_value("linear/linear_model/x/weights")
    assert weights.shape == (1, 3)
    assert len(set(weights[0])) == 3
    loss = estimator.evaluate(inputs)["average_loss"]
    same = training.LinearEstimator(training.MultiLabelHead(3), X, model_dir=tmp_path)
    hot = {"x": data[0]["x"]}, np.int64([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert same.evaluate(lambda: training.Dataset.from_tensor_slices(hot).batch(3))["average_loss"] == loss
