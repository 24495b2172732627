"""Boosted trees: steps counted as TensorFlow counts them, splits that a hand can check, and LightGBM's own numbers."""

import lightgbm
import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes

from estimator_serving.training import (
    BoostedTreesClassifier,
    BoostedTreesEstimator,
    BoostedTreesRegressor,
    PoissonRegressionHead,
    RegressionHead,
    RunConfig,
    numpy_input_fn,
)
from estimator_serving.training import feature_column as fc
from estimator_serving.training.canned.tree_ensemble import Ensemble, Shape, float32_below
from estimator_serving.training.canned.tree_growth import pruned

X = np.float32([[1], [2], [3], [4], [5], [6], [7], [8]])
STEP = np.float32([1, 1, 1, 1, 5, 5, 5, 5])


def whole(features, labels, epochs=None):
    return numpy_input_fn(features, labels, batch_size=len(labels), num_epochs=epochs, shuffle=False)


def predictions(estimator, features, key="predictions"):
    return np.array([p[key] for p in estimator.predict(numpy_input_fn(features, shuffle=False))])


def test_a_step_function_takes_one_split():
    estimator = BoostedTreesRegressor(
        [fc.numeric_column("x")], 1, n_trees=1, max_depth=1, learning_rate=1.0, center_bias=True
    )
    estimator.train(whole({"x": X}, STEP))
    np.testing.assert_allclose(predictions(estimator, {"x": X})[:, 0], STEP, atol=1e-5)
    assert 4 <= estimator.get_variable_value("boosted_trees/split_threshold")[0, 0] < 5
    np.testing.assert_allclose(estimator.get_variable_value("boosted_trees/bias"), [3], atol=1e-5)


@pytest.mark.parametrize(("trees", "depth", "batches", "steps"), [(1, 1, 1, 1), (3, 2, 1, 6), (2, 3, 2, 12)])
def test_training_ends_by_itself(trees, depth, batches, steps):
    estimator = BoostedTreesRegressor([fc.numeric_column("x")], batches, n_trees=trees, max_depth=depth)
    estimator.train(whole({"x": X}, STEP), max_steps=1000)
    assert estimator.get_variable_value("global_step") == steps
    assert estimator.get_variable_value("boosted_trees/trees_grown") == trees


def test_it_goes_on_from_a_checkpoint(tmp_path):
    def make(directory):
        return BoostedTreesRegressor([fc.numeric_column("x")], 1, str(tmp_path / directory), n_trees=4, max_depth=2)

    make("twice").train(whole({"x": X}, STEP), steps=4)
    make("twice").train(whole({"x": X}, STEP))
    make("once").train(whole({"x": X}, STEP))
    for name in ("split_threshold", "node_value", "trees_grown"):
        values = [make(d).get_variable_value(f"boosted_trees/{name}") for d in ("once", "twice")]
        np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_full_ensemble_stays_as_it_is(depth):
    estimator = BoostedTreesRegressor([fc.numeric_column("x")], 1, n_trees=2, max_depth=depth)
    before = predictions(estimator.train(whole({"x": X}, STEP)), {"x": X})
    estimator.train(whole({"x": X}, STEP))
    assert estimator.get_variable_value("boosted_trees/trees_grown") == 2
    np.testing.assert_array_equal(predictions(estimator, {"x": X}), before)


def test_data_without_a_layer_is_warned_of(caplog):
    estimator = BoostedTreesRegressor([fc.numeric_column("x")], 2, n_trees=5, max_depth=3)
    estimator.train(whole({"x": X}, STEP, epochs=1))
    assert "before the first tree, which takes 6 batches" in caplog.text
    assert estimator.get_variable_value("boosted_trees/trees_grown") == 0


def test_any_head_that_has_derivatives():
    arguments = {"n_batches_per_layer": 1, "n_trees": 3, "max_depth": 2}
    plain = BoostedTreesRegressor([fc.numeric_column("x")], **arguments).train(whole({"x": X}, STEP))
    by_head = BoostedTreesEstimator([fc.numeric_column("x")], head=RegressionHead(), **arguments)
    by_head.train(whole({"x": X}, STEP))
    np.testing.assert_array_equal(predictions(by_head, {"x": X}), predictions(plain, {"x": X}))
    counts = BoostedTreesEstimator([fc.numeric_column("x")], 1, PoissonRegressionHead(), n_trees=40, max_depth=2)
    counts.train(whole({"x": X}, STEP))
    np.testing.assert_allclose(predictions(counts, {"x": X})[:, 0], STEP, rtol=0.3)


def test_data_that_ends_early_still_makes_a_tree():
    estimator = BoostedTreesRegressor([fc.numeric_column("x")], 1, n_trees=5, max_depth=3)
    estimator.train(whole({"x": X}, STEP, epochs=1))
    assert estimator.get_variable_value("boosted_trees/trees_grown") == 1


def test_logits_are_lightgbms():
    data = load_diabetes()
    x, y = np.float32(data.data), np.float32(data.target / 100)
    estimator = BoostedTreesRegressor(
        [fc.numeric_column("x", shape=(x.shape[1],))], 1, n_trees=20, max_depth=4, quantile_sketch_epsilon=1 / 255
    )
    estimator.train(whole({"x": x}, y))
    parameters = {
        "objective": "none", "learning_rate": 0.1, "num_leaves": 16, "max_depth": 4, "min_data_in_leaf": 1,
        "verbosity": -1, "min_data_in_bin": 1, "min_sum_hessian_in_leaf": 0, "boost_from_average": False,
        "deterministic": True,
    }  # fmt: skip
    booster = lightgbm.Booster(parameters, lightgbm.Dataset(x, y, params=parameters))
    for _ in range(20):
        booster.update(fobj=lambda scores, _: (2 * (scores - y) / len(y), np.full(len(y), 2 / len(y))))
    np.testing.assert_allclose(predictions(estimator, {"x": x})[:, 0], booster.predict(x), rtol=2e-3, atol=2e-3)


@pytest.fixture(scope="module")
def cancer():
    data = load_breast_cancer()
    return {f"f{i}": np.float32(data.data[:, i]) for i in range(6)}, np.int64(data.target)


@pytest.fixture(scope="module")
def classifier(cancer, tmp_path_factory):
    features, labels = cancer
    columns = [fc.numeric_column(name) for name in list(features)[:5]]
    columns.append(fc.bucketized_column(fc.numeric_column("f5"), [0.05, 0.1, 0.2]))
    estimator = BoostedTreesClassifier(
        columns, 1, str(tmp_path_factory.mktemp("trees")), n_trees=30, max_depth=3, center_bias=True,
        config=RunConfig(tf_random_seed=1),
    )  # fmt: skip
    return estimator.train(whole(features, labels))


def test_a_classifier_learns(classifier, cancer):
    result = classifier.evaluate(whole(*cancer, epochs=1))
    assert result["accuracy"] > 0.95
    assert result["auc"] > 0.98


def test_importances(classifier):
    importances = classifier.experimental_feature_importances(normalize=True)
    assert sum(importances.values()) == pytest.approx(1)
    assert list(importances.values()) == sorted(importances.values(), reverse=True)
    assert set(importances) == {"f0", "f1", "f2", "f3", "f4", "f5_bucketized"}
    assert classifier.experimental_feature_importances()["f3"] > 1


def test_contributions_add_up_to_the_probability(classifier, cancer):
    features, _ = cancer
    first = {name: column[:20] for name, column in features.items()}
    explained = list(classifier.experimental_predict_with_explanations(numpy_input_fn(first, shuffle=False)))
    sums = [p["bias"] + sum(p["dfc"].values()) for p in explained]
    np.testing.assert_allclose(sums, [p["logistic"][0] for p in explained], atol=1e-5)
    assert all(list(map(abs, p["dfc"].values())) == sorted(map(abs, p["dfc"].values()))[::-1] for p in explained)
    np.testing.assert_allclose([p["bias"] for p in explained], 0.627, atol=0.01)


def test_explanations_keep_the_keys_asked_for(classifier, cancer):
    features, _ = cancer
    inputs = numpy_input_fn(features, batch_size=2, shuffle=False)
    assert set(next(classifier.experimental_predict_with_explanations(inputs, ["logits"]))) == {"logits", "bias", "dfc"}


def test_more_classes_and_indicators():
    words = np.array(["a", "b", "c", "a", "b", "c"] * 5, object)
    labels = np.int64([0, 1, 2] * 10)
    column = fc.indicator_column(fc.categorical_column_with_vocabulary_list("w", ["a", "b", "c"]))
    estimator = BoostedTreesClassifier([column], 1, n_classes=3, n_trees=20, max_depth=2, learning_rate=0.5)
    estimator.train(whole({"w": words}, labels))
    assert predictions(estimator, {"w": words}, "class_ids")[:, 0].tolist() == labels.tolist()
    assert set(estimator.experimental_feature_importances()) == {"w_indicator:a", "w_indicator:b", "w_indicator:c"}


def test_nan_goes_to_the_right():
    x = np.float32([[1], [2], [np.nan], [np.nan]])
    estimator = BoostedTreesRegressor([fc.numeric_column("x")], 1, n_trees=1, max_depth=1, learning_rate=1.0)
    estimator.train(whole({"x": x}, np.float32([0, 0, 4, 4])))
    np.testing.assert_allclose(predictions(estimator, {"x": x})[:, 0], [0, 0, 4, 4], atol=1e-5)


def test_weights_move_the_leaves():
    features = {"x": X, "w": np.float32([1, 1, 1, 3, 1, 1, 1, 1])}
    labels = np.float32([0, 0, 0, 4, 5, 5, 5, 5])
    estimator = BoostedTreesRegressor(
        [fc.bucketized_column(fc.numeric_column("x"), [4.5])], 1, weight_column="w", n_trees=1, max_depth=1,
        learning_rate=1.0,
    )  # fmt: skip
    estimator.train(whole(features, labels))
    np.testing.assert_allclose(predictions(estimator, {"x": X})[[0, 7], 0], [2, 5], atol=1e-5)


def test_pruning_takes_splits_that_gain_little():
    def thresholds(mode):
        estimator = BoostedTreesRegressor(
            [fc.numeric_column("x")], 1, n_trees=1, max_depth=2, pruning_mode=mode, tree_complexity=0.5,
            learning_rate=1.0,
        )  # fmt: skip
        labels = np.float32([0, 0, 0, 0.1, 5, 5, 5, 5])
        estimator.train(whole({"x": X}, labels))
        return np.count_nonzero(estimator.get_variable_value("boosted_trees/split_gain"))

    assert (thresholds("none"), thresholds("pre"), thresholds("post")) == (2, 1, 1)


def test_pruning_starts_at_the_leaves():
    weak = {
        "split_feature": 0,
        "split_gain": 1,
        "internal_value": 7,
        "left_child": {"leaf_value": 1},
        "right_child": {},
    }
    strong = {**weak, "split_gain": 9, "left_child": weak}
    assert pruned(strong, 2) == {**strong, "left_child": {"leaf_value": 7}}


@pytest.mark.parametrize("threshold", [0.1, 1 / 3, 1e-40, -0.1, 5.0, 16777217.0])
def test_a_rounded_threshold_parts_float32_as_the_double_does(threshold):
    near = np.float32(threshold)
    values = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    rounded = np.float32(float32_below(threshold))
    assert [value <= rounded for value in values] == [float(value) <= threshold for value in values]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_trees": 0}, "Expected n_trees > 0; got 0"),
        ({"max_depth": 0}, "Expected max_depth > 0; got 0"),
        ({"max_depth": 15}, "max_depth must be at most 14; got 15"),
        ({"n_batches_per_layer": 0}, "Expected n_batches_per_layer > 0; got 0"),
        ({"pruning_mode": "pre"}, "For pruning, tree_complexity must be positive."),
        ({"pruning_mode": "x"}, "pruning_mode must be one of none, pre, post; got 'x'"),
        ({"center_bias": True, "n_classes": 3}, "center_bias not yet support with n_classes > 2."),
        ({"feature_columns": []}, "feature_columns must not be empty"),
        (
            {"feature_columns": [fc.categorical_column_with_hash_bucket("w", 3)]},
            "For now, only bucketized_column, indicator_column and numeric_column are supported",
        ),
    ],
)
def test_refusals(arguments, text):
    with pytest.raises(ValueError, match=text):
        BoostedTreesClassifier(**{"feature_columns": [fc.numeric_column("x")], "n_batches_per_layer": 1} | arguments)


def test_explanations_need_a_bias():
    estimator = BoostedTreesRegressor([fc.numeric_column("x")], 1)
    with pytest.raises(ValueError, match="center_bias must be enabled during estimator instantiation"):
        next(estimator.experimental_predict_with_explanations(whole({"x": X}, STEP)))


def test_a_walk_of_hand_made_trees():
    leaf, nodes = {"leaf_value": 3.0}, Shape(trees=1, outputs=1, depth=2)
    tree = {
        "split_feature": 1, "threshold": 0.5, "split_gain": 2.0, "internal_value": 0.0, "left_child": leaf,
        "right_child": {
            "split_feature": 0, "threshold": -1.0, "split_gain": 1.0, "internal_value": 0.0,
            "left_child": {"leaf_value": 10.0}, "right_child": {"leaf_value": 20.0},
        },
    }  # fmt: skip
    zeros = [torch.zeros(1, nodes.nodes, dtype=dtype) for dtype in (torch.int64, *[torch.float32] * 3)]
    ensemble = Ensemble(nodes, *zeros, torch.zeros(1), torch.zeros((), dtype=torch.int64), torch.zeros(()))
    ensemble.add([tree])
    rows = torch.tensor([[9.0, 0.5], [-1.0, 0.6], [0.0, 0.6], [0.0, float("nan")]])
    assert ensemble.logits(rows)[:, 0].tolist() == [3, 10, 20, 20]
    assert ensemble.is_full
