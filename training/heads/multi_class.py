"""The head of more than two classes, one logit each (TF 2.15).

Owns softmax cross-entropy and what is predicted and measured with it. Does not know networks.
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
from estimator_serving.training.model_fn import (
    DEFAULT_SERVING_KEY,
    ExportOutput,
    Prediction,
    PredictOutput,
    StringPrediction,
)
from estimator_serving.training.nn import metrics
from estimator_serving.training.nn.losses import Reduction, class_losses
from estimator_serving.training.nn.metrics import Metric

_KEYS = ("logits", "probabilities", "class_ids", "classes", "all_class_ids", "all_classes")


class MultiClassHead(OneTargetHead):
    """Softmax cross-entropy on logits f32 [B, n_classes]. Labels are integers below `n_classes` or words of
    `label_vocabulary`.

    The other arguments: see OneTargetHead. Raises ValueError for n_classes <= 2 and for a vocabulary of another length.
    """

    def __init__(
        self,
        n_classes: int,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        loss_fn: LossFn | None = None,
        name: str | None = None,
    ) -> None:
        if n_classes is None or n_classes <= 2:
            raise ValueError(f"n_classes must be > 2: {n_classes}.")
        super().__init__(weight_column, label_vocabulary, loss_reduction, loss_fn, name)
        if label_vocabulary is not None and len(label_vocabulary) != n_classes:
            raise ValueError(
                f'"label_vocabulary" does not have "n_classes" items. len(label_vocabulary)={len(label_vocabulary)}, '
                f"n_classes={n_classes}, label_vocabulary={label_vocabulary}"
            )
        self.logits_dimension = n_classes
        self._names = class_names(n_classes, label_vocabulary)

    def predictions(self, logits: Tensor, keys: Sequence[str] | None = None) -> dict[str, Prediction]:
        """logits f32 [B,n], probabilities f32 [B,n], class_ids int64 [B,1], classes str [B,1], all_class_ids
        int32 [B,n], all_classes str [B,n]."""
        wanted = wanted_keys(keys, _KEYS)
        class_ids = logits.argmax(dim=-1, keepdim=True)
        made: dict[str, Prediction] = {
            "logits": logits,
            "probabilities": torch.softmax(logits, dim=-1),
            "class_ids": class_ids,
            "classes": StringPrediction(class_ids, self._names),
            "all_class_ids": all_class_ids(logits, self.logits_dimension),
            "all_classes": StringPrediction(all_class_ids(logits, self.logits_dimension, torch.int64), self._names),
        }
        return {key: made[key] for key in wanted}

    def export_outputs(self, predictions: Mapping[str, Prediction]) -> dict[str, ExportOutput]:
        """serving_default and classification (classify), predict."""
        classify = classification_output(predictions)
        return {
            DEFAULT_SERVING_KEY: classify,
            "classification": classify,
            "predict": PredictOutput(predictions),
        }

    def _checked_labels(self, labels: Any, logits: Tensor) -> Tensor:
        ids: Tensor = self._lookup(column_labels(labels, logits))
        if ids.is_floating_point() or ids.dtype == torch.bool:
            raise ValueError(f"Labels dtype should be integer. Instead got {ids.dtype}: cast them to int64.")
        check_label_range(ids, self.logits_dimension)
        return ids.long()

    def _losses(self, labels: Tensor, logits: Tensor, reduction: str = "none") -> Tensor:
        if reduction == "mean" and not torch.compiler.is_exporting():
            return functional.cross_entropy(logits, labels.squeeze(-1))
        losses = class_losses(labels.squeeze(-1), logits).unsqueeze(-1)
        return losses.mean() if reduction == "mean" else losses

    def _metrics(self, labels: Tensor, logits: Tensor, weights: Tensor | None) -> dict[str, Metric]:
        return {"accuracy": metrics.accuracy(labels, logits.argmax(dim=-1, keepdim=True), weights)}
