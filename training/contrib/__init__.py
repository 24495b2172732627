"""tf.contrib, as far as Estimator programs use it: TensorFlow 1's names for what stands elsewhere in training.

Only `layers` has functions of its own. The rest is the table below.
"""

from __future__ import annotations

from typing import Any

from estimator_serving.training import distribute as _distribute
from estimator_serving.training import experimental as _experimental
from estimator_serving.training import feature_column as _columns
from estimator_serving.training import lookup as _lookup
from estimator_serving.training.canned import (
    DNNEstimator,
    DNNLinearCombinedEstimator,
    KMeansClustering,
    LinearEstimator,
    RNNClassifier,
    RNNEstimator,
)
from estimator_serving.training.checkpoints.reader import list_variables, load_checkpoint, load_variable
from estimator_serving.training.contrib import layers as layers
from estimator_serving.training.data import experimental as _data
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.extenders import add_metrics
from estimator_serving.training.forward_features import forward_features
from estimator_serving.training.heads import contrib as _heads
from estimator_serving.training.hooks import ProfilerHook
from estimator_serving.training.hparams import HParams
from estimator_serving.training.namespaces import announce, namespace
from estimator_serving.training.nn import rnn as _rnn
from estimator_serving.training.nn.variables import get_global_step
from estimator_serving.training.predictor import Predictor


def _from_estimator(estimator: Estimator, serving_input_receiver_fn: Any = None) -> Predictor:  # noqa: ARG001
    """A function from features to predictions. It takes the features themselves, so the receiver is not needed."""
    return estimator.predictor()


def _public(module: Any, prefix: str = "") -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name.startswith(prefix) and name[0] != "_"}


CELLS = {
    cell.__name__: cell
    for cell in (
        _rnn.BasicLSTMCell,
        _rnn.BasicRNNCell,
        _rnn.DropoutWrapper,
        _rnn.GRUCell,
        _rnn.LSTMCell,
        _rnn.LSTMStateTuple,
        _rnn.MultiRNNCell,
        _rnn.RNNCell,
    )
}

_NAMES: dict[str, dict[str, Any]] = {
    "cluster_resolver": {},
    "crf": {},
    "data": {name: value for name, value in _public(_data).items() if name != "AUTOTUNE"},
    "distribute": {name: getattr(_distribute, name) for name in _distribute.__all__},
    "estimator": {
        **{name: value for name, value in _public(_heads).items() if name.endswith("_head")},
        **{name: value for name, value in _public(_experimental).items() if name.endswith("_hook")},
        "DNNEstimator": DNNEstimator,
        "DNNLinearCombinedEstimator": DNNLinearCombinedEstimator,
        "InMemoryEvaluatorHook": _experimental.InMemoryEvaluatorHook,
        "LinearEstimator": LinearEstimator,
        "RNNClassifier": RNNClassifier,
        "RNNEstimator": RNNEstimator,
        "add_metrics": add_metrics,
        "forward_features": forward_features,
    },
    "factorization": {"KMeans": KMeansClustering, "KMeansClustering": KMeansClustering},
    "feature_column": {
        **_public(_columns, "sequence_"),
        "shared_embedding_columns": _columns.shared_embedding_columns,
    },
    "framework": {
        "get_global_step": get_global_step,
        "get_or_create_global_step": get_global_step,
        "list_variables": list_variables,
        "load_checkpoint": load_checkpoint,
        "load_variable": load_variable,
    },
    "hooks": {"ProfilerHook": ProfilerHook},
    "learn": {},
    "lookup": {name: getattr(_lookup, name) for name in _lookup.__all__ if name.startswith("index_")},
    "metrics": {},
    "opt": {},
    "predictor": {"from_estimator": _from_estimator},
    "rnn": CELLS,
    "seq2seq": {},
    "slim": {},
    "summary": {},
    "tpu": {},
    "training": {"HParams": HParams},
}

globals().update({name: namespace(f"contrib.{name}", names) for name, names in _NAMES.items()})
announce(layers, "contrib.layers")
