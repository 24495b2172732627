"""Estimators that are another estimator plus something (TF 2.15, estimator/extenders)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from estimator_serving.training.estimator import Estimator
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, argument_names
from estimator_serving.training.nn.metrics import Metric
from estimator_serving.training.run_config import RunConfig

MetricFn = Callable[..., Mapping[str, Metric]]

_ARGUMENTS = frozenset({"features", "labels", "predictions", "config"})


def add_metrics(estimator: Estimator, metric_fn: MetricFn) -> Estimator:
    """A new Estimator that also reports what `metric_fn` returns: name -> metric of one batch.

    `metric_fn` takes any of `features`, `labels`, `predictions` and `config` by name; `predictions` is what the
    model_fn of `estimator` predicts for the batch. A metric of a name that the estimator has already takes its place.
    Both share model_dir, config and params, so either may be trained; what the class of `estimator` adds is there too.
    Raises ValueError for other arguments of metric_fn.
    """
    names = argument_names(metric_fn)
    unexpected = sorted(names - _ARGUMENTS)
    if unexpected:
        raise ValueError(
            f"metric_fn ({metric_fn}) has following not expected args: {unexpected}. It may take features, labels, "
            "predictions and config."
        )

    def model_fn(features: Any, labels: Any, mode: str, params: Any, config: RunConfig) -> EstimatorSpec:
        del params  # the estimator's model_fn has them already
        spec = estimator.model_fn(features, labels, mode, config)
        if mode != ModeKeys.EVAL:
            return spec
        available = {"features": features, "labels": labels, "predictions": spec.predictions, "config": config}
        found = metric_fn(**{name: available[name] for name in names})
        return dataclasses.replace(spec, eval_metric_ops={**(spec.eval_metric_ops or {}), **found})

    return estimator.with_model_fn(model_fn)
