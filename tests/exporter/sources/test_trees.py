"""XGBoost and LightGBM models: no row changes its leaf, missing numbers included."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from library_models import EXAMPLES, GENERATOR, SPEC, X, Y, as_examples
from onnx import helper
from sklearn.ensemble import HistGradientBoostingRegressor

from estimator_serving.exporter import (
    export_model,
)
from estimator_serving.exporter.sources.base import MATRIX
from estimator_serving.exporter.sources.recognize import recognize
from estimator_serving.exporter.sources.trees import Split, write_splits
from estimator_serving.serving import load
from estimator_serving.training.canned.tree_ensemble import float32_below


def thresholds(node):
    if isinstance(node, dict) and "threshold" in node:
        yield node["threshold"]
        yield from thresholds(node["left_child"])
        yield from thresholds(node["right_child"])


def lightgbm_regressor():
    model = lightgbm.LGBMRegressor(n_estimators=30, verbose=-1).fit(X, Y)
    trees = model.booster_.dump_model()["tree_info"]
    return model, [value for tree in trees for value in thresholds(tree["tree_structure"])]


def histogram_regressor():
    model = HistGradientBoostingRegressor(max_iter=30).fit(X, Y)
    values = np.concatenate([trees[0].nodes["num_threshold"] for trees in model._predictors])
    return model, values[np.isfinite(values)]


def xgboost_regressor():
    model = xgboost.XGBRegressor(n_estimators=20).fit(pd.DataFrame(X, columns=["w", "u", "v"]), Y)
    return model, model.get_booster().trees_to_dataframe()["Split"].dropna()


@pytest.mark.parametrize("make", [lightgbm_regressor, histogram_regressor, xgboost_regressor])
def test_no_row_changes_its_leaf(tmp_path, make):
    """Rows that lie on the float32 neighbours of every threshold."""
    model, values = make()
    near = np.float32(list(values))
    near = np.concatenate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))])
    rows = np.stack([GENERATOR.permutation(near) for _ in range(3)], axis=1)
    loaded = load(export_model(model, tmp_path, EXAMPLES))
    order = [list(SPEC).index(key) for key in getattr(model, "feature_names_in_", SPEC) if key in SPEC] or [0, 1, 2]
    frame = rows[:, order]
    expected = recognize(model).answer({MATRIX: frame})["predictions"]
    got = loaded.signatures["regression"](inputs=as_examples(rows))["outputs"]
    # Leaves differ by far more than sums of float32 do.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_booster_of_more_rounds_than_its_best(tmp_path):
    """Its own predict takes all of them."""
    data, other = xgboost.DMatrix(X, Y), xgboost.DMatrix(X, -Y)
    model = xgboost.train({}, data, 20, evals=[(other, "other")], early_stopping_rounds=3, verbose_eval=False)
    assert model.best_iteration + 1 < model.num_boosted_rounds()
    got = load(export_model(model, tmp_path, EXAMPLES)).signatures["regression"](inputs=as_examples(X))["outputs"]
    np.testing.assert_allclose(got.ravel(), model.predict(xgboost.DMatrix(np.float32(X))), rtol=1e-5, atol=1e-5)


HOLES = np.where(GENERATOR.random(X.shape) < 0.2, np.nan, X)


@pytest.mark.parametrize("seen", [X, HOLES])
@pytest.mark.parametrize("kind", [lightgbm.LGBMRegressor, xgboost.XGBRegressor])
def test_missing_numbers_reach_the_librarys_leaf(tmp_path, kind, seen):
    """Whether or not the model was trained with any."""
    quiet = {"verbose": -1} if kind is lightgbm.LGBMRegressor else {}
    model = kind(n_estimators=10, **quiet).fit(seen, Y)
    loaded = load(export_model(model, tmp_path, EXAMPLES))
    got = loaded.signatures["regression"](inputs=as_examples(HOLES))["outputs"]
    np.testing.assert_allclose(got.ravel(), model.predict(np.float32(HOLES)), rtol=1e-5, atol=1e-5)


def test_another_missing_value_than_nan_is_refused(tmp_path):
    model = xgboost.XGBRegressor(n_estimators=2, missing=0.0).fit(X, Y)
    with pytest.raises(ValueError, match=r"takes 0\.0 for a missing value.*missing=np\.nan"):
        export_model(model, tmp_path, EXAMPLES)


def test_thresholds_are_rounded_down():
    for value in (0.1, -0.1, 1 / 3, 16777217.0, 0.5, 0.0):
        rounded = float32_below(value)
        assert rounded <= value < float(np.nextafter(np.float32(rounded), np.float32(np.inf)))


@given(st.floats(-3e38, 3e38))
def test_a_threshold_is_the_largest_float32_below_it(value):
    rounded = np.float32(float32_below(value))
    assert float(rounded) <= value < float(np.nextafter(rounded, np.float32(np.inf)))


def ensemble(tree_ids, node_ids, true_ids, false_ids):
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_treeids=tree_ids,
        nodes_nodeids=node_ids,
        nodes_truenodeids=true_ids,
        nodes_falsenodeids=false_ids,
        nodes_values=[0.0] * len(node_ids),
    )
    return helper.make_model(helper.make_graph([node], "g", [], []))


def test_thresholds_and_missing_values_are_written_into_the_ensemble():
    model = ensemble([0, 0, 0, 1], [0, 1, 2, 0], [1, 0, 0, 0], [2, 0, 0, 0])
    write_splits(model, [Split(0.1, 0, True, None, None), None])
    written = {one.name: helper.get_attribute_value(one) for one in model.graph.node[0].attribute}
    assert written["nodes_values"] == [float32_below(0.1), 0, 0, 0]
    assert written["nodes_missing_value_tracks_true"] == [1, 0, 0, 0]


def test_a_split_by_categories_is_a_chain_that_keeps_its_values():
    """Two categories go left: two nodes, of which the second one's false branch leads to the right."""
    model = ensemble([0] * 5, [0, 1, 2, 3, 4], [2, 2, 0, 0, 0], [1, 3, 0, 0, 0])
    write_splits(model, [Split(None, 2, False, None, Split(7.5, 0, False, None, None))])
    written = {one.name: helper.get_attribute_value(one) for one in model.graph.node[0].attribute}
    assert written["nodes_values"] == [0, 0, 0, 7.5, 0]


def test_an_ensemble_of_another_form_is_refused():
    with pytest.raises(ValueError, match="The converter gave no ensemble of 3 trees, so their thresholds cannot"):
        write_splits(ensemble([0], [0], [0], [0]), [None] * 3)
