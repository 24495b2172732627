"""Categories that are numbers: ids that float32 would take for their neighbours."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn, export_model
from estimator_serving.serving import load
from estimator_serving.training import FixedLenFeature

IDS = [20_000_000, 20_000_001, 30_000_000]
# Neighbours have other labels.
FRAME = pd.DataFrame({"id": np.resize(IDS, 300), "n": np.random.default_rng(0).normal(size=300).astype(np.float32)})
LABELS = (FRAME["id"] == IDS[1]).to_numpy(int)
ASKED = [*IDS, 20_000_002, 19_999_999, 30_000_001, 5, 0, -1]
ROWS = pd.DataFrame({"id": ASKED, "n": np.float32(0.5)})


def scores(model, directory):
    spec = {"id": FixedLenFeature([], "int64"), "n": FixedLenFeature([], "float32")}
    loaded = load(export_model(model, directory, build_parsing_serving_input_receiver_fn(spec)))
    rows = [{"id": one, "n": 0.5} for one in ASKED]
    return loaded.signatures["serving_default"](inputs=rows)["scores"]


ENCODERS = [
    OneHotEncoder(handle_unknown="ignore"),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    TargetEncoder(),
]


@pytest.mark.parametrize("last", [LogisticRegression(), RandomForestClassifier(5, random_state=0)], ids=str)
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("as_frame", [True, False])
def test_encoders_tell_large_neighbours_apart(encoder, last, as_frame, tmp_path):
    columns = make_column_transformer((encoder, ["id"] if as_frame else [0]), remainder="passthrough")
    rows, asked = (FRAME, ROWS) if as_frame else (FRAME.to_numpy(), ROWS.to_numpy())
    model = make_pipeline(columns, last).fit(rows, LABELS)
    np.testing.assert_allclose(scores(model, tmp_path), model.predict_proba(asked), atol=2e-5)


def test_histograms_tell_large_neighbours_apart(tmp_path):
    model = HistGradientBoostingClassifier(categorical_features=["id"], max_iter=10).fit(FRAME, LABELS)
    np.testing.assert_allclose(scores(model, tmp_path), model.predict_proba(ROWS), atol=2e-5)


@pytest.mark.parametrize(
    "model",
    [
        lightgbm.LGBMClassifier(n_estimators=10, verbose=-1, min_data_per_group=1),
        xgboost.XGBClassifier(n_estimators=10, enable_categorical=True),
    ],
    ids=lambda one: type(one).__name__,
)
def test_pandas_categories_tell_large_neighbours_apart(model, tmp_path):
    frame = FRAME.assign(id=FRAME["id"].astype("category"))
    model.fit(frame, LABELS)
    asked = ROWS.assign(id=pd.Categorical([one if one in IDS else None for one in ASKED], IDS))
    np.testing.assert_allclose(scores(model, tmp_path), model.predict_proba(asked), atol=2e-5)
