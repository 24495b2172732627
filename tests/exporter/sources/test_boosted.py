"""Boosted trees of every library: no row changes its leaf, missing numbers included."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from catboost import CatBoostRegressor
from hypothesis import given
from hypothesis import strategies as st
from library_models import BINARY, EXAMPLES, GENERATOR, SPEC, X, Y, as_examples
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn, export_model
from estimator_serving.exporter.servable.running import run_all, session_of
from estimator_serving.exporter.sources.base import MATRIX
from estimator_serving.exporter.sources.boosted import EQ, LEQ, LT, Boosted, Branch, Tree, both_classes, graph_of
from estimator_serving.exporter.sources.recognize import recognize
from estimator_serving.serving import load
from estimator_serving.training import FixedLenFeature
from estimator_serving.training.canned.tree_ensemble import float32_below
from estimator_serving.training.columns.finish import finish_graph

HOLES = np.where(GENERATOR.random(X.shape) < 0.2, np.nan, X)
QUIET = {"iterations": 10, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def predictions(model, folder, rows, receiver_fn=EXAMPLES):
    loaded = load(export_model(model, folder, receiver_fn))
    return loaded.signatures["regression"](inputs=as_examples(rows))["outputs"].ravel()


def thresholds(node):
    if isinstance(node, dict) and "threshold" in node:
        yield node["threshold"]
        yield from thresholds(node["left_child"])
        yield from thresholds(node["right_child"])


def lightgbm_regressor():
    model = lightgbm.LGBMRegressor(n_estimators=30, verbose=-1).fit(X, Y)
    trees = model.booster_.dump_model()["tree_info"]
    return model, [value for tree in trees for value in thresholds(tree["tree_structure"])]


def xgboost_regressor():
    model = xgboost.XGBRegressor(n_estimators=20).fit(pd.DataFrame(X, columns=["w", "u", "v"]), Y)
    return model, model.get_booster().trees_to_dataframe()["Split"].dropna()


def catboost_regressor():
    model = CatBoostRegressor(**QUIET).fit(X, Y)
    return model, [border for borders in model.get_borders().values() for border in borders]


@pytest.mark.parametrize("make", [lightgbm_regressor, xgboost_regressor, catboost_regressor])
def test_no_row_changes_its_leaf(tmp_path, make):
    """Rows that lie on the float32 neighbours of every threshold."""
    model, values = make()
    near = np.float32(list(values))
    near = np.concatenate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))])
    rows = np.stack([GENERATOR.permutation(near) for _ in range(3)], axis=1)
    order = [list(SPEC).index(key) for key in getattr(model, "feature_names_in_", SPEC) if key in SPEC] or [0, 1, 2]
    expected = recognize(model).answer({MATRIX: rows[:, order]})["predictions"].ravel()
    # Leaves differ by far more than sums of float32 do.
    np.testing.assert_allclose(predictions(model, tmp_path, rows), expected, rtol=1e-5, atol=1e-5)


# Few values, so that thresholds are numbers of the data, none of which is a float32.
REPEATED = np.round(X, 1)


def test_rows_on_a_threshold_of_training_stay_on_their_side(tmp_path):
    """Clients send the rows as float32; the library is asked with the rows of training."""
    model = HistGradientBoostingRegressor(max_iter=5, max_bins=20).fit(REPEATED, Y)
    np.testing.assert_allclose(predictions(model, tmp_path, REPEATED), model.predict(REPEATED), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        (lightgbm.LGBMRegressor(n_estimators=10, verbose=-1), X),
        (lightgbm.LGBMRegressor(n_estimators=10, verbose=-1), HOLES),
        (xgboost.XGBRegressor(n_estimators=10, missing=0.0), HOLES),
        (CatBoostRegressor(**QUIET), HOLES),
        (HistGradientBoostingRegressor(max_iter=5), HOLES),
    ],
)
def test_missing_numbers_reach_the_librarys_leaf(tmp_path, model, seen):
    """Whether or not the model was trained with any."""
    model.fit(seen, Y)
    got = predictions(model, tmp_path, HOLES)
    np.testing.assert_allclose(got, np.ravel(model.predict(HOLES)), rtol=1e-5, atol=1e-5)


def test_a_booster_of_more_rounds_than_its_best(tmp_path):
    """Its own predict takes all of them."""
    data, other = xgboost.DMatrix(X, Y), xgboost.DMatrix(X, -Y)
    model = xgboost.train({}, data, 20, evals=[(other, "other")], early_stopping_rounds=3, verbose_eval=False)
    assert model.best_iteration + 1 < model.num_boosted_rounds()
    expected = model.predict(xgboost.DMatrix(np.float32(X)))
    np.testing.assert_allclose(predictions(model, tmp_path, X), expected, rtol=1e-5, atol=1e-5)


def with_words(*words):
    return pd.DataFrame({"u": X[:, 0], "word": pd.Categorical(np.where(X[:, 1] > 0, *words)), "w": X[:, 2]})


WORDS = with_words("a b", "c")


def own_loss(labels, predicted):
    return predicted - labels, np.ones(len(labels))


@pytest.mark.parametrize(
    "model",
    [lightgbm.LGBMRegressor(n_estimators=5, verbose=-1), xgboost.XGBRegressor(n_estimators=5, enable_categorical=True)],
)
def test_words_that_a_library_trained_as_categories(tmp_path, model):
    model.fit(WORDS, Y)
    spec = {"u": FixedLenFeature([], float), "word": FixedLenFeature([], str), "w": FixedLenFeature([], float)}
    loaded = load(export_model(model, tmp_path, build_parsing_serving_input_receiver_fn(spec)))
    strange = WORDS.assign(word=pd.Categorical([None] * len(WORDS), categories=WORDS["word"].cat.categories))
    for word, rows in ((WORDS["word"].astype(str), WORDS), (["unheard of"] * len(WORDS), strange)):
        examples = WORDS.assign(word=word).to_dict("records")
        got = loaded.signatures["regression"](inputs=examples)["outputs"].ravel()
        np.testing.assert_allclose(got, model.predict(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, linear_tree=True).fit(X, Y),
            r"linear model in each leaf \(linear_tree=True\).*train it without",
        ),
        (
            lambda: lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, objective=own_loss).fit(X, Y),
            "objective .*does not know what it does with the sum of the trees; train with one of binary",
        ),
        (
            lambda: CatBoostRegressor(**QUIET, cat_features=["word"]).fit(WORDS.astype({"word": str}), Y),
            "reads word as categorical features, of which it keeps hashes.*OneHotEncoder",
        ),
        (
            lambda: xgboost.XGBRegressor(n_estimators=1, enable_categorical=True).fit(with_words("é", "c"), Y),
            "Column 1 of the XGBoost model has categories that are not ASCII.*Rename them",
        ),
        (lambda: CatBoostRegressor(), "The CatBoostRegressor is not fitted; fit it first"),
    ],
)  # fmt: skip
def test_what_trees_cannot_say_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        recognize(make())


@given(st.floats(-3e38, 3e38))
def test_a_threshold_is_the_largest_float32_below_it(value):
    rounded = np.float32(float32_below(value))
    assert float(rounded) <= value < float(np.nextafter(rounded, np.float32(np.inf)))


def answers(tree, rows, link="identity"):
    boosted = Boosted(2, [Tree("root", tree.get)], [1.0], link, is_classifier=False)
    session = session_of(finish_graph(graph_of(boosted)))
    return run_all(session, {MATRIX: np.array(rows, np.float64)})["predictions"].ravel().tolist()


def test_a_split_by_categories_is_a_chain_with_one_true_way():
    tree = {"root": Branch(0, EQ, [2.0, 5.0], False, "in", "out"), "in": {0: 10.0}, "out": {0: 20.0}}
    assert answers(tree, [[2, 0], [3, 0], [5, 0], [np.nan, 0]]) == [11, 21, 11, 21]


@pytest.mark.parametrize(("mode", "expected"), [(LEQ, [11, 21, 11]), (LT, [21, 21, 11])])
def test_thresholds_are_float64(mode, expected):
    tree = {"root": Branch(1, mode, [0.1], True, "in", "out"), "in": {0: 10.0}, "out": {0: 20.0}}
    assert answers(tree, [[0, 0.1], [0, np.nextafter(0.1, 1)], [0, np.nan]]) == expected


def test_labels_of_a_booster_in_a_pipeline(tmp_path):
    model = make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=3)).fit(X, BINARY)
    got = load(export_model(model, tmp_path, EXAMPLES)).signatures["predict"](examples=as_examples(X))
    assert got["classes"].ravel().tolist() == [str(one) for one in model.predict(X)]


def test_one_probability_is_the_second_classs():
    np.testing.assert_allclose(both_classes([0.25, 1.0]), [[0.75, 0.25], [0.0, 1.0]])
    assert both_classes([[0.2, 0.3, 0.5]]).shape == (1, 3)
    assert both_classes(np.zeros(0)).shape == (0, 2)
