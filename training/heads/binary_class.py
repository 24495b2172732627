"""The head of two classes and one logit (TF 2.15).

Owns sigmoid cross-entropy and what is predicted and measured with it. Does not know networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from estimator_serving.training.heads.base import (
    LossFn,
    OneTargetHead,
    WeightColumn,
    all_class_ids,
    check_label_range,
    class_names,
    classification_output,
    column_labels,
    wanted_keys,
)
from estimator_serving.training.heads.thresholds import threshold_metrics
from estimator_serving.training.model_fn import (
    DEFAULT_SERVING_KEY,
    ExportOutput,
    Prediction,
    PredictOutput,
    RegressionOutput,
    StringPrediction,
)
from estimator_serving.training.nn import metrics
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.metrics import Metric

_KEYS = ("logits", "logistic", "probabilities", "class_ids", "classes", "all_class_ids", "all_classes")


class BinaryClassHead(OneTargetHead):
    """Sigmoid cross-entropy on logits f32 [B, 1]. Labels 0/1 (soft ones in [0, 1] too) or words of `label_vocabulary`.

    `thresholds` in (0, 1) add accuracy, precision and recall at each. The other arguments: see OneTargetHead.
    Raises ValueError for thresholds out of range, an unknown reduction, or a loss_fn with wrong arguments.
    """

    logits_dimension = 1

    def __init__(
        self,
        weight_column: WeightColumn = None,
        thresholds: Sequence[float] | None = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        loss_fn: LossFn | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight_column, label_vocabulary, loss_reduction, loss_fn, name)
        self._thresholds = tuple(thresholds or ())
        for threshold in self._thresholds:
            if not 0.0 < threshold < 1.0:
                raise ValueError(f"thresholds not in (0, 1): {(self._thresholds,)}.")
        self._names = class_names(2, label_vocabulary)

    def predictions(self, logits: Tensor, keys: Sequence[str] | None = None) -> dict[str, Prediction]:
        """logits f32 [B,1], logistic f32 [B,1], probabilities f32 [B,2], class_ids int64 [B,1], classes str [B,1],
        all_class_ids int32 [B,2], all_classes str [B,2]. A logit of 0 is class 0."""
        wanted = wanted_keys(keys, _KEYS)
        class_ids = (logits > 0).long()
        made: dict[str, Prediction] = {
            "logits": logits,
            "logistic": torch.sigmoid(logits),
            "probabilities": torch.softmax(torch.cat([torch.zeros_like(logits), logits], dim=-1), dim=-1),
            "class_ids": class_ids,
            "classes": StringPrediction(class_ids, self._names),
            "all_class_ids": all_class_ids(logits, 2),
            "all_classes": StringPrediction(all_class_ids(logits, 2, torch.int64), self._names),
        }
        return {key: made[key] for key in wanted}

    def export_outputs(self, predictions: Mapping[str, Prediction]) -> dict[str, ExportOutput]:
        """serving_default and classification (classify), regression (the probability of class 1), predict."""
        classify = classification_output(predictions)
        logistic = predictions["logistic"]
        assert isinstance(logistic, Tensor)
        return {
            DEFAULT_SERVING_KEY: classify,
            "classification": classify,
            "regression": RegressionOutput(logistic),
            "predict": PredictOutput(predictions),
        }

    def _checked_labels(self, labels: Any, logits: Tensor) -> Tensor:
        ids: Tensor = self._lookup(column_labels(labels, logits)).to(torch.float32)
        check_label_range(ids, 2)
        return ids

    def _losses(self, labels: Tensor, logits: Tensor, reduction: str = "none") -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction=reduction)

    def _metrics(self, labels: Tensor, logits: Tensor, weights: Tensor | None) -> dict[str, Metric]:
        logistic = torch.sigmoid(logits)
        class_ids = logits > 0
        return {
            "accuracy": metrics.accuracy(labels, class_ids, weights),
            "precision": metrics.precision(labels, class_ids, weights),
            "recall": metrics.recall(labels, class_ids, weights),
            "prediction/mean": metrics.mean(logistic, weights),
            "label/mean": metrics.mean(labels, weights),
            "accuracy_baseline": metrics.larger_class_share(labels, weights),
            "auc": metrics.auc(labels, logistic, weights),
            "auc_precision_recall": metrics.auc(labels, logistic, weights, curve="PR"),
            **threshold_metrics(self._thresholds, labels, logistic, weights),
        }
