"""The export outputs of training and evaluation: loss, predictions and metrics of one batch.

Owns their names. A graph keeps no state, so a metric's `value` and `update_op` are both the value over the batch that
was sent.
Source: TF 2.15 estimator, export_output.TrainOutput and EvalOutput.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

from estimator_serving.training.model_fn import EstimatorSpec, ExportOutput, ModeKeys, Prediction, PredictOutput
from estimator_serving.training.nn.metrics import Metric

logger = logging.getLogger(__name__)


class TrainOutput(PredictOutput):
    """The outputs of the `train` signature."""


class EvalOutput(PredictOutput):
    """The outputs of the `eval` signature."""


def supervised_outputs(spec: EstimatorSpec, mode: str) -> Mapping[str, ExportOutput]:
    """`loss`, `predictions/<key>` and `metrics/<name>/value` of a TRAIN or EVAL spec, under its signature's key.

    A metric whose last step takes numpy arrays alone is left out, with a warning.
    """
    assert spec.loss is not None, "a spec of these modes always has one"
    predictions = spec.predictions if isinstance(spec.predictions, Mapping) else {"output": spec.predictions}
    outputs: dict[str, Prediction] = {"loss": spec.loss.reshape(())}
    for key, value in predictions.items():
        if value is not None:
            outputs[f"predictions/{'/'.join(key) if isinstance(key, tuple) else key}"] = value
    for name, metric in (spec.eval_metric_ops or {}).items():
        if (value := _value(name, metric)) is not None:
            outputs |= {f"metrics/{name}/value": value, f"metrics/{name}/update_op": value}
    return {"train": TrainOutput(outputs)} if mode == ModeKeys.TRAIN else {"eval": EvalOutput(outputs)}


def _value(name: str, metric: Metric) -> Tensor | None:
    """The value of a metric over this batch, f32; None where its `finish` takes no tensor."""
    try:
        value = metric.finish(metric.state.detach())
    except (TypeError, RuntimeError) as error:
        value = error
    if isinstance(value, Tensor):
        return value.float()
    logger.warning(
        "The metric %s is left out of the graph: its finish gives %r for a tensor. Write it with tensor methods and "
        "without branches to have it computed there.",
        name,
        value,
    )
    return None
