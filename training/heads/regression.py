"""The heads of numbers: plain, Poisson and logistic regression (TF 2.15).

Owns their losses and links, and what is predicted and measured. Does not know networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.heads.base import (
    ExportedWords,
    LossFn,
    OneTargetHead,
    WeightColumn,
    column_labels,
    wanted_keys,
)
from estimator_serving.training.model_fn import (
    DEFAULT_SERVING_KEY,
    ExportOutput,
    Prediction,
    PredictOutput,
    RegressionOutput,
)
from estimator_serving.training.nn import metrics
from estimator_serving.training.nn.losses import Reduction, log_poisson_loss
from estimator_serving.training.nn.metrics import Metric


class RegressionHead(OneTargetHead):
    """Squared error of logits f32 [B, label_dimension]. Labels are numbers of that shape, or [B] for one dimension.

    `inverse_link_fn` turns logits into predictions (exp for a Poisson model, for example); the loss still takes the
    logits. Weights may be [B], [B, 1] or [B, label_dimension]. The other arguments: see OneTargetHead.
    Raises ValueError for label_dimension < 1.
    """

    def __init__(
        self,
        label_dimension: int = 1,
        weight_column: WeightColumn = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        loss_fn: LossFn | None = None,
        inverse_link_fn: Callable[[Tensor], Tensor] | None = None,
        name: str | None = None,
    ) -> None:
        if label_dimension < 1:
            raise ValueError(f"Invalid label_dimension {label_dimension}. It must be at least 1.")
        super().__init__(weight_column, None, loss_reduction, loss_fn, name)
        self.losses_dimension = self.logits_dimension = label_dimension
        self._inverse_link_fn = inverse_link_fn

    def predictions(self, logits: Tensor, keys: Sequence[str] | None = None) -> dict[str, Prediction]:
        """predictions f32 [B, d]; with an inverse_link_fn also the logits f32 [B, d] they are made of."""
        made: dict[str, Prediction] = {"predictions": self._predicted(logits)}
        if self._inverse_link_fn is not None:
            made["logits"] = logits
        return {key: made[key] for key in wanted_keys(keys, tuple(made))}

    def export_outputs(self, predictions: Mapping[str, Prediction]) -> dict[str, ExportOutput]:
        """serving_default and regression (regress), predict."""
        predicted = predictions["predictions"]
        assert isinstance(predicted, Tensor)
        regress = RegressionOutput(predicted)
        return {DEFAULT_SERVING_KEY: regress, "regression": regress, "predict": PredictOutput(predictions)}

    def _predicted(self, logits: Tensor) -> Tensor:
        return logits if self._inverse_link_fn is None else self._inverse_link_fn(logits)

    def _checked_labels(self, labels: Any, logits: Tensor) -> Tensor:
        labels = column_labels(labels, logits, self.losses_dimension)
        if isinstance(labels, ExportedWords):
            raise ValueError("Labels must be numbers, the receiver gives words: declare the label as float.")
        if isinstance(labels, np.ndarray):
            raise ValueError(f"Labels must be numbers, the batch holds {labels.ravel()[0]!r}: parse them in input_fn.")
        numbers: Tensor = labels.float()
        return numbers

    def _losses(self, labels: Tensor, logits: Tensor, reduction: str = "none") -> Tensor:
        return functional.mse_loss(logits, labels, reduction=reduction)

    def _metrics(self, labels: Tensor, logits: Tensor, weights: Tensor | None) -> dict[str, Metric]:
        return {
            "prediction/mean": metrics.mean(self._predicted(logits), weights),
            "label/mean": metrics.mean(labels, weights),
        }


class PoissonRegressionHead(RegressionHead):
    """Counts: eˣ − z·x of logits x and labels z, both f32 [B, label_dimension]; predictions are eˣ.

    `compute_full_loss` adds Stirling's approximation of ln z! to the loss. The other arguments: see RegressionHead.
    """

    def __init__(
        self,
        label_dimension: int = 1,
        weight_column: WeightColumn = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        compute_full_loss: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(label_dimension, weight_column, loss_reduction, inverse_link_fn=torch.exp, name=name)
        self._compute_full_loss = compute_full_loss

    def _losses(self, labels: Tensor, logits: Tensor, reduction: str = "none") -> Tensor:
        losses = log_poisson_loss(labels, logits, self._compute_full_loss)
        return losses.mean() if reduction == "mean" else losses


class LogisticRegressionHead(RegressionHead):
    """Sigmoid cross-entropy on logits f32 [B, 1] with labels in [0, 1]; predictions are probabilities.

    The other arguments: see OneTargetHead. A batch with a label outside [0, 1] raises ValueError.
    """

    def __init__(
        self,
        weight_column: WeightColumn = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        name: str | None = None,
    ) -> None:
        super().__init__(1, weight_column, loss_reduction, inverse_link_fn=torch.sigmoid, name=name)

    def _checked_labels(self, labels: Any, logits: Tensor) -> Tensor:
        numbers = super()._checked_labels(labels, logits)
        if torch.compiler.is_exporting():
            return numbers
        if numbers.numel() and not bool(((numbers >= 0) & (numbers <= 1)).all()):
            low, high = (bound.item() for bound in torch.aminmax(numbers))
            raise InvalidArgumentError(f"Labels must be in range [0, 1]; the batch holds {low:g} to {high:g}.")
        return numbers

    def _losses(self, labels: Tensor, logits: Tensor, reduction: str = "none") -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction=reduction)
