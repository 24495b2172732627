"""The export outputs of training and evaluation: loss, predictions and metrics of one batch.

Owns their names. A graph keeps no state, so a metric's `value` and `update_op` are both the value over the batch that
was sent.
Source: TF 2.15 estimator, export_output.TrainOutput and EvalOutput.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.metrics import Metric
from estimator_serving.training.model_fn import EstimatorSpec, ExportOutput, ModeKeys, Prediction, PredictOutput


class TrainOutput(PredictOutput):
    """The outputs of the `train` signature."""


class EvalOutput(PredictOutput):
    """The outputs of the `eval` signature."""


def supervised_outputs(spec: EstimatorSpec, mode: str) -> Mapping[str, ExportOutput]:
    """`loss`, `predictions/<key>` and `metrics/<name>/value` of a TRAIN or EVAL spec, under its signature's key.

    A metric that is no quotient of two sums (auc) is left out.
    """
    assert spec.loss is not None, "a spec of these modes always has one"
    predictions = spec.predictions if isinstance(spec.predictions, Mapping) else {"output": spec.predictions}
    outputs: dict[str, Prediction] = {"loss": spec.loss.reshape(())}
    for key, value in predictions.items():
        if value is not None:
            outputs[f"predictions/{'/'.join(key) if isinstance(key, tuple) else key}"] = value
    for name, metric in (spec.eval_metric_ops or {}).items():
        if (value := _value(metric)) is not None:
            outputs |= {f"metrics/{name}/value": value, f"metrics/{name}/update_op": value}
    return {"train": TrainOutput(outputs)} if mode == ModeKeys.TRAIN else {"eval": EvalOutput(outputs)}


def _value(metric: Metric) -> Tensor | None:
    """The value of a metric in the graph; None for one that is neither a quotient of two sums nor its larger share.

    A metric's last step is a function of numpy arrays: what it gives for two states tells which one it is.
    """
    if metric.state.shape != (2,):
        return None
    total, weight = metric.state.float()
    share = torch.where(weight == 0, torch.zeros_like(total), total / torch.where(weight == 0, 1.0, weight))
    match [float(metric.finish(np.array([part, 4.0]))) for part in (1.0, 3.0)]:
        case [0.25, 0.75]:
            return share
        case [0.75, 0.75]:
            return torch.where(weight == 0, share, torch.maximum(share, 1.0 - share))
    return None
