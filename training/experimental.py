"""tf.estimator.experimental's names."""

from typing import Any

from estimator_serving.training import export
from estimator_serving.training.canned.kmeans import KMeansClustering
from estimator_serving.training.canned.rnn import RNNClassifier, RNNEstimator
from estimator_serving.training.early_stopping import (
    ReduceRateOnPlateauHook,
    make_early_stopping_hook,
    stop_if_higher_hook,
    stop_if_lower_hook,
    stop_if_no_decrease_hook,
    stop_if_no_increase_hook,
)
from estimator_serving.training.hooks import make_stop_at_checkpoint_step_hook
from estimator_serving.training.in_memory_evaluator_hook import InMemoryEvaluatorHook

KMeans = KMeansClustering

__all__ = [
    "InMemoryEvaluatorHook",
    "KMeans",
    "RNNClassifier",
    "RNNEstimator",
    "ReduceRateOnPlateauHook",
    "make_early_stopping_hook",
    "make_stop_at_checkpoint_step_hook",
    "stop_if_higher_hook",
    "stop_if_lower_hook",
    "stop_if_no_decrease_hook",
    "stop_if_no_increase_hook",
]


def __getattr__(name: str) -> Any:
    """The receiver of exports for training and evaluation, which is the exporter's."""
    if name == "build_raw_supervised_input_receiver_fn":
        return export.build_raw_supervised_input_receiver_fn
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
