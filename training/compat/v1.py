"""tf.compat.v1: training's names, with TensorFlow 1's defaults where its canned estimators have others.

In TensorFlow 1 the loss of a canned estimator is the sum over the batch, and an optimizer given by name is one of
tf.train with another learning rate. Everything else is found in training.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from estimator_serving.training import canned
from estimator_serving.training.canned.common import listed
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.optimizers.v1 import BY_NAME

_DNN, _DNN_OF_COMBINED, _LINEAR, _BASELINE = 0.05, 0.001, 0.2, 0.3


def _linear_part(arguments: dict[str, Any]) -> float:
    columns = len(listed(arguments["linear_feature_columns"]))
    return min(0.005, 1.0 / math.sqrt(max(1, columns)))


_RATES: dict[str, dict[str, float | Callable[[dict[str, Any]], float]]] = {
    "BaselineClassifier": {"optimizer": _BASELINE},
    "BaselineEstimator": {"optimizer": _BASELINE},
    "BaselineRegressor": {"optimizer": _BASELINE},
    "DNNClassifier": {"optimizer": _DNN},
    "DNNEstimator": {"optimizer": _DNN},
    "DNNLinearCombinedClassifier": {"dnn_optimizer": _DNN_OF_COMBINED, "linear_optimizer": _linear_part},
    "DNNLinearCombinedEstimator": {"dnn_optimizer": _DNN_OF_COMBINED, "linear_optimizer": _linear_part},
    "DNNLinearCombinedRegressor": {"dnn_optimizer": _DNN_OF_COMBINED, "linear_optimizer": _linear_part},
    "DNNRegressor": {"optimizer": _DNN},
    "LinearClassifier": {"optimizer": _LINEAR},
    "LinearEstimator": {"optimizer": _LINEAR},
    "LinearRegressor": {"optimizer": _LINEAR},
}
"""Of each canned estimator the arguments that name an optimizer, and its learning rate then."""


def _with_defaults(name: str) -> type[Estimator]:
    """The canned estimator with TensorFlow 1's loss_reduction and optimizers."""
    parent: type[Estimator] = getattr(canned, name)
    signature = inspect.signature(parent.__init__)

    @functools.wraps(parent.__init__)
    def initialize(self: Estimator, *arguments: Any, **named: Any) -> None:
        bound = signature.bind(self, *arguments, **named)
        if "loss_reduction" in signature.parameters:
            bound.arguments.setdefault("loss_reduction", Reduction.SUM)
        bound.apply_defaults()
        for key, rate in _RATES[name].items():
            given = bound.arguments[key]
            if isinstance(given, str) and given in BY_NAME:
                bound.arguments[key] = BY_NAME[given](rate(bound.arguments) if callable(rate) else rate)
        parent.__init__(*bound.args, **bound.kwargs)

    initialize.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            p.replace(default=Reduction.SUM) if p.name == "loss_reduction" else p for p in signature.parameters.values()
        ]
    )
    doc = f"{parent.__doc__ or ''}\n\nTensorFlow 1's: the loss is the sum over the batch."
    return type(name, (parent,), {"__init__": initialize, "__doc__": doc, "__module__": __name__})


ESTIMATORS: dict[str, type[Estimator]] = {name: _with_defaults(name) for name in _RATES}


def __getattr__(name: str) -> Any:
    """What is not TensorFlow 1's own is training's."""
    from estimator_serving import training

    return getattr(training, name)
