"""What a head measures at thresholds of its own choice."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from estimator_serving.training.nn import metrics
from estimator_serving.training.nn.metrics import Metric


def threshold_metrics(
    thresholds: Sequence[float], labels: Tensor, probabilities: Tensor, weights: Tensor | None
) -> dict[str, Metric]:
    """Accuracy, precision and recall of `probabilities` above each threshold, under TF 2.15's keys."""
    found: dict[str, Metric] = {}
    for threshold in thresholds:
        suffix = f"positive_threshold_{threshold:g}"
        found[f"accuracy/{suffix}"] = metrics.accuracy(labels, probabilities > threshold, weights)
        found[f"precision/{suffix}"] = metrics.precision(labels, probabilities, weights, threshold)
        found[f"recall/{suffix}"] = metrics.recall(labels, probabilities, weights, threshold)
    return found
