"""Canned estimators with TensorFlow's arguments and defaults. Each is a model_fn over a head."""

from estimator_serving.training.canned.baseline import BaselineClassifier, BaselineEstimator, BaselineRegressor
from estimator_serving.training.canned.boosted_trees import (
    BoostedTreesClassifier,
    BoostedTreesEstimator,
    BoostedTreesRegressor,
)
from estimator_serving.training.canned.dnn import DNNClassifier, DNNEstimator, DNNRegressor
from estimator_serving.training.canned.dnn_linear_combined import (
    DNNLinearCombinedClassifier,
    DNNLinearCombinedEstimator,
    DNNLinearCombinedRegressor,
)
from estimator_serving.training.canned.kmeans import KMeansClustering
from estimator_serving.training.canned.linear import LinearClassifier, LinearEstimator, LinearRegressor
from estimator_serving.training.canned.rnn import RNNClassifier, RNNEstimator

__all__ = [
    "BaselineClassifier",
    "BaselineEstimator",
    "BaselineRegressor",
    "BoostedTreesClassifier",
    "BoostedTreesEstimator",
    "BoostedTreesRegressor",
    "DNNClassifier",
    "DNNEstimator",
    "DNNLinearCombinedClassifier",
    "DNNLinearCombinedEstimator",
    "DNNLinearCombinedRegressor",
    "DNNRegressor",
    "KMeansClustering",
    "LinearClassifier",
    "LinearEstimator",
    "LinearRegressor",
    "RNNClassifier",
    "RNNEstimator",
]
