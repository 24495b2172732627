"""Canned estimators: a model_fn over a head each, with TensorFlow's arguments and defaults."""

from estimator_serving.training.canned.dnn import DNNClassifier
from estimator_serving.training.canned.linear import LinearClassifier

__all__ = ["DNNClassifier", "LinearClassifier"]
