"""Which source a model belongs to."""

import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from sklearn.linear_model import LinearRegression
from torch import nn

from estimator_serving.exporter.sources.lightgbm import LightGbmSource
from estimator_serving.exporter.sources.onnx import OnnxSource
from estimator_serving.exporter.sources.recognize import recognize
from estimator_serving.exporter.sources.sklearn import SklearnSource
from estimator_serving.exporter.sources.torch import TorchSource
from estimator_serving.exporter.sources.xgboost import XgBoostSource

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20.0)


class OwnRegression(LinearRegression):
    """A user's class."""


class OwnModule(nn.Linear):
    """A user's module."""


@pytest.mark.parametrize(
    ("make", "source", "method"),
    [
        (lambda: LinearRegression().fit(X, Y), SklearnSource, "regress"),
        (lambda: OwnRegression().fit(X, Y), SklearnSource, "regress"),
        (lambda: nn.Linear(2, 1), TorchSource, "predict"),
        (lambda: OwnModule(2, 1), TorchSource, "predict"),
        # Boosters derive from scikit-learn's classes.
        (lambda: lightgbm.LGBMRegressor(n_estimators=1, verbose=-1).fit(X, Y), LightGbmSource, "regress"),
        (lambda: lightgbm.train({"verbose": -1}, lightgbm.Dataset(X, Y), 1), LightGbmSource, "regress"),
        (lambda: xgboost.XGBClassifier(n_estimators=1).fit(X, Y > 9), XgBoostSource, "classify"),
        (lambda: xgboost.train({}, xgboost.DMatrix(X, Y), 1), XgBoostSource, "regress"),
        (lambda: onnx.ModelProto(), OnnxSource, "predict"),
    ],
)
def test_the_source_of_a_model(make, source, method):
    recognized = recognize(make())
    assert type(recognized) is source
    assert recognized.method == method


@pytest.mark.parametrize("model", [object(), None, 3, [nn.Linear(1, 1)]])
def test_what_belongs_to_no_library(model):
    with pytest.raises(TypeError, match=f"Keras or ONNX model; got {type(model).__name__}. Convert it to ONNX"):
        recognize(model)
