"""scikit-learn models: which columns become which inputs."""

import numpy as np
import pandas as pd
import pytest
from library_models import BINARY, WORDS, X
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from estimator_serving.exporter import (
    build_raw_serving_input_receiver_fn,
    export_model,
)
from estimator_serving.exporter.sources.base import MATRIX
from estimator_serving.exporter.sources.sklearn import SklearnSource
from estimator_serving.serving import load
from estimator_serving.wire import dtypes

FRAME = pd.DataFrame({"u": X[:, 0], "word": np.where(X[:, 1] > 0, "p", "q"), "w": X[:, 2]})


def test_columns_of_a_frame_find_their_features(tmp_path):
    columns = make_column_transformer(
        (StandardScaler(), ["u", "w"]), (OneHotEncoder(handle_unknown="ignore"), ["word"])
    )
    model = make_pipeline(columns, LogisticRegression()).fit(FRAME, BINARY)
    raw = {"w": np.float32([0]), "word": np.array(["p"]), "u": np.float32([0])}
    loaded = load(
        export_model(model, tmp_path, build_raw_serving_input_receiver_fn(raw), label_vocabulary=["no", "yes"])
    )
    got = loaded.signatures["serving_default"](w=FRAME["w"], word=FRAME["word"], u=FRAME["u"])
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(FRAME), atol=1e-5)
    assert set(got["classes"].ravel()) == {"no", "yes"}


def test_a_model_without_names_takes_the_receivers_order():
    source = SklearnSource(LogisticRegression().fit(X, BINARY))
    (matrix,) = source.inputs({"w": dtypes.float32, "a": dtypes.int64, "b": dtypes.float32})
    assert (matrix.name, matrix.keys) == (MATRIX, ("w", "a", "b"))
    assert (source.method, source.labels) == ("classify", ["0", "1"])


def test_columns_that_the_receiver_lacks_are_refused():
    columns = make_column_transformer((StandardScaler(), ["u", "w"]))
    source = SklearnSource(make_pipeline(columns, LogisticRegression()).fit(FRAME, BINARY))
    with pytest.raises(ValueError, match="trained with the columns u, word, w, and the receiver does not give word"):
        source.inputs({"u": dtypes.float32, "w": dtypes.float32})


def test_answers_are_the_models_own():
    source = SklearnSource(LogisticRegression().fit(X, WORDS))
    answered = source.answer({MATRIX: np.float32(X[:3])})
    np.testing.assert_allclose(answered["probabilities"].sum(axis=1), 1, rtol=1e-6)
    assert [source.labels[one] for one in answered["class_ids"][:, 0]] == list(WORDS[:3])
