"""LightGBM models: zeros that are missing values."""

import lightgbm
import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline

from estimator_serving.exporter import ExportMismatch, build_parsing_serving_input_receiver_fn, export_model
from estimator_serving.exporter.sources import boosted
from estimator_serving.exporter.sources.lightgbm import LightGbmSource
from estimator_serving.serving import load
from estimator_serving.training import FixedLenFeature
from estimator_serving.wire import dtypes

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(600, 2)).astype(np.float32)
X[::3, 0] = 0
X[1::4, 1] = 0
X[2::7, 1] = np.nan
Y = (X[:, 0] == 0) * 1.0 + (X[:, 1] > 0.3) + (X[:, 0] > 0.5) * 0.5 + (X[:, 1] == 0) * 2
VALUES = [0.0, -0.0, np.nan, 1e-35, -1e-35, 1e-36, 2e-35, -2e-35, 1e-3, -1e-3, 1.0, -1.0, 0.4]
ROWS = np.array([[first, second] for first in VALUES for second in VALUES], np.float32)
SPEC = {name: FixedLenFeature([], "float32") for name in "ab"}


def trained(**options):
    return lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, **options).fit(X, Y)


def served(model, directory, rows=(), spec=SPEC):
    loaded = load(export_model(model, directory, build_parsing_serving_input_receiver_fn(spec)))
    return loaded.signatures["serving_default"](
        inputs=[dict(zip(spec, row, strict=True)) for row in rows or ROWS.tolist()]
    )["outputs"].ravel()  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"zero_as_missing": True}, {"use_missing": False}], ids=str)
def test_zeros_and_nan_go_where_lightgbm_sends_them(options, tmp_path):
    model = trained(**options)
    np.testing.assert_allclose(served(model, tmp_path), model.predict(ROWS), rtol=1e-5, atol=1e-6)


def test_missing_zeros_behind_a_pipeline(tmp_path):
    model = make_pipeline(make_column_transformer(("passthrough", [0, 1])).fit(X), trained(zero_as_missing=True))
    np.testing.assert_allclose(served(model, tmp_path), model.predict(ROWS), rtol=1e-5, atol=1e-6)


def test_categories_have_no_missing_zero(tmp_path):
    rows = np.stack([RANDOM.integers(0, 5, 600), X[:, 0]], axis=1)
    model = lightgbm.LGBMRegressor(n_estimators=10, verbose=-1, zero_as_missing=True, min_data_per_group=1).fit(
        rows, (rows[:, 0] == 0) + (rows[:, 1] > 0), categorical_feature=[0]
    )
    asked = np.array([[first, second] for first in (0, 1, 4, 9) for second in VALUES], np.float32)
    spec = {"a": FixedLenFeature([], "int64"), "b": FixedLenFeature([], "float32")}
    got = served(model, tmp_path, [(int(first), second) for first, second in asked.tolist()], spec)
    np.testing.assert_allclose(got, model.predict(asked), rtol=1e-5, atol=1e-6)


def test_the_check_asks_for_missing_zeros(tmp_path, monkeypatch):
    source = LightGbmSource(trained(zero_as_missing=True))
    source.inputs({"a": dtypes.float32, "b": dtypes.int64})
    known = source.known_values()
    assert known["a"].count(0) > 1
    assert min(known["a"]) < 0 < max(known["a"])
    assert known["b"].count(0) > 1
    assert all(isinstance(one, int) for one in known["b"])
    # A graph that takes 0 for a number is not written.
    monkeypatch.setattr(boosted, "NEAR_ZERO", -1.0)
    with pytest.raises(ExportMismatch):
        served(trained(zero_as_missing=True), tmp_path)


def test_trees_that_do_not_agree_on_zeros_are_refused():
    first = trained(zero_as_missing=True)
    both = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(X, Y, init_model=first.booster_)
    with pytest.raises(ValueError, match="In some trees of the LightGBM model 0 is missing in column 0"):
        LightGbmSource(both)
