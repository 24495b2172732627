"""Models of other libraries: the same kind of servable, the same numbers, and sentences for what has no ONNX form."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from library_models import BINARY, EXAMPLES, SPEC, WORDS, X, Y, add_one, as_examples
from onnx import TensorProto, helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from estimator_serving.exporter import (
    ExportMismatch,
    build_parsing_serving_input_receiver_fn,
    export_model,
)
from estimator_serving.serving import load
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
    assert predicted["classes"].ravel().tolist() == [str(one) for one in model.predict(np.float32(X))]
    methods = {key: one.signature.method_name.rpartition("/")[2] for key, one in loaded.signatures.items()}
    regression = {"regression": "regress"} if expected.shape[1] == 2 else {}
    assert methods == {"serving_default": "classify", "classification": "classify", "predict": "predict"} | regression
    assert [len(value) for value in loaded.signatures["predict"](examples=[]).values()] == [0] * len(predicted)
    assert len(loaded.signatures["predict"](examples=as_examples(np.resize(X, (1000, 3))))["classes"]) == 1000


def first_row():
    """A graph that fails where there is no row."""
    model = add_one()
    model.graph.initializer.append(helper.make_tensor("zero", TensorProto.INT64, [], [0]))
    model.graph.node.append(helper.make_node("Gather", ["y", "zero"], ["first"]))
    model.graph.output.append(helper.make_tensor_value_info("first", TensorProto.FLOAT, [3]))
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
            "takes a scikit-learn, XGBoost, LightGBM, torch, Keras or ONNX model; got object",
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
            r"cannot convert FunctionTransformer, the step 'functiontransformer' of the model \(RuntimeError: ",
        ),
        (
            first_row,
            ValueError,
            r"cannot run the exported graph on a batch of 0 rows \(Gather: .*; nothing was written",
        ),
        (lambda: AnyArguments(), ValueError, "AnyArguments names no argument of its forward"),
        (lambda: StandardScaler().fit(X), ValueError, "StandardScaler has no predict; put it in front of"),
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
            lambda: lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, objective="l1").fit(X, Y),
            ValueError,
            r"onnxmltools cannot convert the model \(NotImplementedError: Unsupported LightGbm objective: 'l1'",
        ),
        (
            lambda: xgboost.XGBRegressor(n_estimators=2, booster="dart").fit(X, Y),
            ValueError,
            "onnxmltools cannot convert the model .*use a booster of trees",
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
