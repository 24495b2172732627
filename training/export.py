"""tf.estimator.export's names: what a model_fn exports, and receivers.

Receivers belong to the exporter, which stands above training: it is imported when one of them is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimator_serving.training.model_fn import ClassificationOutput, ExportOutput, PredictOutput, RegressionOutput

if TYPE_CHECKING:
    from estimator_serving.exporter import (
        ServingInputReceiver,
        SupervisedInputReceiver,
        TensorServingInputReceiver,
        build_parsing_serving_input_receiver_fn,
        build_raw_serving_input_receiver_fn,
        build_raw_supervised_input_receiver_fn,
    )

__all__ = [
    "ClassificationOutput",
    "ExportOutput",
    "PredictOutput",
    "RegressionOutput",
    "ServingInputReceiver",
    "SupervisedInputReceiver",
    "TensorServingInputReceiver",
    "build_parsing_serving_input_receiver_fn",
    "build_raw_serving_input_receiver_fn",
    "build_raw_supervised_input_receiver_fn",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from estimator_serving import exporter

    return getattr(exporter, name)


def __dir__() -> list[str]:
    return __all__
