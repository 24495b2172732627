"""A few rows of the table that `make oracle-models` prints: real data, every row asked, equal or refused."""

import importlib.util
import sys
from pathlib import Path

import pytest
from sklearn.ensemble import RandomForestClassifier
from threadpoolctl import threadpool_limits

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn, export_model

FOLDER = Path(__file__).resolve().parent.parent / "oracles/models"


@pytest.fixture(scope="module")
def oracle():
    spec = importlib.util.spec_from_file_location("check_library_models", FOLDER / "check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with threadpool_limits(1):
        spec.loader.exec_module(module)
        yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("HistGradientBoostingRegressor, scaled", "equal"),
        ("QuantileTransformer", "equal"),
        ("SimpleImputer on text", "equal"),
        ("KNeighborsClassifier, ties", "refused"),
        ("VotingClassifier of LGBM and XGB", "equal"),
        ("Pipeline, CatBoostRegressor", "equal"),
        ("CatBoostClassifier, text features", "refused"),
    ],
)
def test_a_row_of_the_table(tmp_path, oracle, name, word):
    (case,) = [one for one in oracle.cases() if one.name == name]
    outcome = oracle.check(case, tmp_path / "servable")
    assert outcome.word == word, outcome.detail
    assert (tmp_path / "servable").exists() == (word == "equal")


@pytest.mark.parametrize("seed", range(3))
def test_a_forest_whose_trees_tie(tmp_path, oracle, seed):
    rows, labels = oracle.data("iris")
    model = RandomForestClassifier(20, max_depth=2, random_state=seed).fit(rows, labels)
    spec = oracle.spec_of(oracle.as_frame(rows))
    assert export_model(model, tmp_path, build_parsing_serving_input_receiver_fn(spec))
