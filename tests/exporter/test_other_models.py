"""Models of other libraries: the same kind of servable, the same numbers, and sentences for what has no ONNX form."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from catboost import CatBoostClassifier
from library_models import BINARY, EXAMPLES, SPEC, WORDS, X, Y, add_one, as_examples
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from estimator_serving.exporter import (
    ExportMismatch,
    build_parsing_serving_input_receiver_fn,
    export_model,
)
from estimator_serving.serving import load
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.training import FixedLenFeature


def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, WORDS)


CLASSIFIERS = {
    "pipeline": pipeline,
    "forest": lambda: RandomForestClassifier(5, random_state=0).fit(X, BINARY),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, WORDS),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=5).fit(X, BINARY),
    "early end": lambda: xgboost.XGBClassifier(n_estimators=20, early_stopping_rounds=2).fit(
        X, BINARY, eval_set=[(X, BINARY), (-X, BINARY)], verbose=False
    ),
    "neighbours": lambda: KNeighborsClassifier(3).fit(X, BINARY),
    "catboost": lambda: CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False).fit(
        X, WORDS.astype(str)
    ),
    "calibrated": lambda: CalibratedClassifierCV(LinearSVC(), cv=2).fit(X, BINARY),
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier(tmp_path, kind):
    model = CLASSIFIERS[kind]()
    loaded = load(export_model(model, tmp_path, EXAMPLES))
    expected = model.predict_proba(np.float32(X))
    answer = loaded.signatures["serving_default"](inputs=as_examples(X))
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-5)
    assert answer["classes"][0].tolist() == [str(one) for one in model.classes_]
    predicted = loaded.signatures["predict"](examples=as_examples(X))
    assert predicted["classes"].ravel().tolist() == [str(one) for one in np.ravel(model.predict(np.float32(X)))]
    methods = {key: one.signature.method_name.rpartition("/")[2] for key, one in loaded.signatures.items()}
    regression = {"regression": "regress"} if expected.shape[1] == 2 else {}
    assert methods == {"serving_default": "classify", "classification": "classify", "predict": "predict"} | regression
    assert [len(value) for value in loaded.signatures["predict"](examples=[]).values()] == [0] * len(predicted)
    assert len(loaded.signatures["predict"](examples=as_examples(np.resize(X, (1000, 3))))["classes"]) == 1000


def test_a_graph_that_cannot_run_on_no_row_answers_none_with_a_sentence(tmp_path):
    """As a servable, and as a server finds it: written by the exporter into the model."""
    model = GaussianProcessRegressor().fit(X[:20], Y[:20])
    predict = load(export_model(model, tmp_path, EXAMPLES)).signatures["predict"]
    expected = model.predict(np.float32(X[:5]))
    np.testing.assert_allclose(predict(examples=as_examples(X[:5]))["predictions"].ravel(), expected, atol=1e-5)
    with pytest.raises(InvalidArgumentError, match=r"shape \[0\], and ONNX Runtime cannot run this model on nothing"):
        predict(examples=[])


def without(model, attribute):
    """A model as it is loaded where another version, which did not have the attribute, saved it."""
    delattr(model, attribute)
    return model


class AnyArguments(nn.Module):
    def forward(self, *given):
        return given[0]


class Scaler(StandardScaler):
    """No converter knows it."""


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: "no such file.onnx", FileNotFoundError, "no such file.onnx"),
        (lambda: b"no model", ValueError, "is not an ONNX model"),
        (lambda: add_one(first=4), ValueError, "input x of the ONNX model takes only batches of 4 rows"),
        (
            lambda: object(),
            TypeError,
            "takes a scikit-learn, XGBoost, LightGBM, CatBoost, torch, Keras or ONNX model; got object",
        ),
        (lambda: LinearSVC().fit(X, BINARY), ValueError, "LinearSVC has no predict_proba.*CalibratedClassifierCV"),
        (
            lambda: make_pipeline(Scaler(), LogisticRegression()).fit(X, BINARY),
            ValueError,
            "no converter for .*Scaler, the step 'scaler' of the model.*update_registered_converter",
        ),
        (
            lambda: make_pipeline(FunctionTransformer(np.tanh), LogisticRegression()).fit(X, BINARY),
            ValueError,
            "The step 'functiontransformer' .* calls the Python function 'tanh', of which no graph can be made;",
        ),
        (
            lambda: make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression()).fit(X, BINARY),
            ValueError,
            "calls the Python function '<lambda>'",
        ),
        (
            lambda: make_pipeline(SplineTransformer(), LogisticRegression()).fit(X, BINARY),
            ValueError,
            "no converter for .*SplineTransformer, the step 'splinetransformer' of the model",
        ),
        (
            lambda: KNeighborsClassifier(4).fit(np.round(X), BINARY),
            ValueError,
            "has neighbours at equal distances: in .* of 300 rows of its training data",
        ),
        (lambda: AnyArguments(), ValueError, "AnyArguments names no argument of its forward"),
        (lambda: StandardScaler().fit(X), ValueError, "StandardScaler has no predict; put it in front of"),
        (
            lambda: make_pipeline(without(StandardScaler(), "with_std"), LogisticRegression()),
            ValueError,
            r"The step 'standardscaler' \(StandardScaler\) was saved by another version of scikit-learn than [\d.]+ .*"
            "'with_std'.*export it with the version that saved it",
        ),
        (
            lambda: without(HistGradientBoostingClassifier(max_iter=2).fit(X, BINARY), "_bin_mapper"),
            ValueError,
            "lacks what its library looks for .*'_bin_mapper'.*another version of scikit-learn saved. Fit it again",
        ),
        (
            lambda: RandomForestClassifier(2).fit(X, np.stack([BINARY, 1 - BINARY], axis=1)),
            ValueError,
            "RandomForestClassifier gives several labels a row.*MultiLabelHead",
        ),
        (
            lambda: make_pipeline(CountVectorizer(), LogisticRegression()).fit(["one two", "three"] * 150, BINARY),
            ValueError,
            "The step 'countvectorizer'.*splits text into words",
        ),
        (
            lambda: LogisticRegression().fit(pd.DataFrame(X, columns=["u", "v", "z"]), BINARY),
            ValueError,
            "trained with the features u, v, z, and the receiver does not give z",
        ),
    ],
)
def test_what_is_refused(tmp_path, make, error, text):
    with pytest.raises(error, match=text):
        export_model(make(), tmp_path / "base", EXAMPLES)
    assert not (tmp_path / "base").exists()


def test_words_of_callers_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="method is 'cluster'; give one of classify, regress, predict"):
        export_model(add_one(), tmp_path, EXAMPLES, method="cluster")
    with pytest.raises(ValueError, match="label_vocabulary names 2 classes, and the model gives 3 scores"):
        export_model(pipeline(), tmp_path, EXAMPLES, label_vocabulary=["a", "b"])
    text = build_parsing_serving_input_receiver_fn({**SPEC, "v": FixedLenFeature([], str)})
    with pytest.raises(ValueError, match="takes numbers, and the receiver gives text for v"):
        export_model(nn.Linear(3, 1), tmp_path, text)


def test_a_conversion_that_differs_writes_nothing(tmp_path):
    class Remembers(nn.Module):
        """Another answer every time it is asked."""

        calls = 0

        def forward(self, x):
            Remembers.calls += 1
            return x + Remembers.calls

    with pytest.raises(ExportMismatch, match="output 'output'.*Nothing was written"):
        export_model(Remembers(), tmp_path / "base", EXAMPLES)
    assert not (tmp_path / "base").exists()
