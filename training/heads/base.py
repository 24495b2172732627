"""What all heads share: the EstimatorSpec of each mode, and the checks of logits, labels and weights (TF 2.15).

Owns those and the names of classes. A head is pure: tensors in, tensors out. It makes no variable, reads features only
for the weight column, and knows neither networks nor estimators. A head of your own derives from OneTargetHead and says
what its kind of label means; for example absolute errors of one number:

    class AbsoluteErrorHead(OneTargetHead):
        logits_dimension = 1

        def predictions(self, logits, keys=None):
            return {"predictions": logits}

        def export_outputs(self, predictions):
            return {"serving_default": RegressionOutput(predictions["predictions"])}

        def _checked_labels(self, labels, logits):
            return column_labels(labels, logits).float()

        def _losses(self, labels, logits, reduction="none"):
            return functional.l1_loss(logits, labels, reduction=reduction)

        def _metrics(self, labels, logits, weights):
            return {"prediction/mean": metrics.mean(logits, weights)}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.columns.numeric import NumericColumn
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.model_fn import (
    ClassificationOutput,
    EstimatorSpec,
    ExportOutput,
    ModeKeys,
    Prediction,
    StringPrediction,
    argument_names,
)
from estimator_serving.training.nn import summaries
from estimator_serving.training.nn.losses import Reduction, compute_weighted_loss
from estimator_serving.training.nn.metrics import Metric, mean
from estimator_serving.training.optimizers.base import Optimizer, TrainOp

LossFn = Callable[..., Tensor]
WeightColumn = str | NumericColumn | None

NO_LABELS = (
    "You must provide a labels Tensor. Given: None. Suggested troubleshooting steps: Check that your data contains "
    "your label feature. Check that your input_fn properly parses and returns labels."
)


class Head(ABC):
    """Turns logits f32 [B, logits_dimension] into a loss, predictions, metrics and export outputs.

    Attributes:
        name: the suffix that tells this head's metrics from another's: it is appended to every key as `/name`.
        loss_reduction: how the losses of a batch become one.
        logits_dimension: how many logits an example has.
    """

    name: str | None
    loss_reduction: str
    logits_dimension: int

    @abstractmethod
    def predictions(self, logits: Any, keys: Sequence[str] | None = None) -> dict[Any, Prediction]:
        """The predictions of `keys`, all if None. Raises ValueError for an unknown key or logits that do not fit."""

    @abstractmethod
    def export_outputs(self, predictions: Mapping[Any, Prediction]) -> dict[str, ExportOutput]:
        """Signatures by name (TF 2.15)."""

    @abstractmethod
    def _training_loss(self, labels: Any, logits: Any, features: Mapping[str, Any] | None) -> Tensor:
        """The reduced loss, f32 scalar, without regularization."""

    @abstractmethod
    def _batch_metrics(self, labels: Any, logits: Any, features: Mapping[str, Any] | None) -> dict[str, Metric]:
        """The metrics of one batch by their full keys, without regularization."""

    def loss(
        self,
        labels: Any,
        logits: Any,
        features: Mapping[str, Any] | None = None,
        mode: str | None = None,
        regularization_losses: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The training loss, f32 scalar: reduced losses plus the regularization losses.

        Raises ValueError or TypeError for labels and weights that do not fit (TF 2.15).
        """
        loss = self._training_loss(labels, logits, features)
        return loss if not regularization_losses else loss + _total(regularization_losses)

    def metrics(
        self,
        labels: Any,
        logits: Any,
        features: Mapping[str, Any] | None = None,
        regularization_losses: Sequence[Tensor] | None = None,
    ) -> dict[str, Metric]:
        """The metrics of one batch by key (TF 2.15); add them up over batches. Errors as in `loss`."""
        found = self._batch_metrics(labels, logits, features)
        if regularization_losses:
            found[self._key("regularization_loss")] = mean(_total(regularization_losses))
        return found

    def create_estimator_spec(
        self,
        features: Mapping[str, Any],
        mode: str,
        logits: Any,
        labels: Any = None,
        optimizer: Optimizer | None = None,
        trainable_variables: Sequence[Tensor] | None = None,
        train_op_fn: Callable[[Tensor], TrainOp] | None = None,
        update_ops: Any = None,
        regularization_losses: Sequence[Tensor] | None = None,
    ) -> EstimatorSpec:
        """The EstimatorSpec of `mode`.

        In TRAIN either `optimizer` (over `trainable_variables`, all if None) or `train_op_fn(loss)` makes the train op.
        A spec of TRAIN has predictions only while the training graph is exported, because nothing else reads them.
        `update_ops` is there for compatibility and not needed: moving averages follow each step by themselves.

        Raises ValueError in TRAIN if `optimizer` and `train_op_fn` are both given or both None. Other errors as in
        `loss`.
        """
        del update_ops
        if mode == ModeKeys.PREDICT:
            predictions = self.predictions(logits)
            return EstimatorSpec(mode, predictions, export_outputs=self.export_outputs(predictions))
        loss = self.loss(labels, logits, features, mode, regularization_losses)
        if mode == ModeKeys.EVAL:
            metrics = self.metrics(labels, logits, features, regularization_losses)
            return EstimatorSpec(mode, self.predictions(logits), loss=loss, eval_metric_ops=metrics)
        if regularization_losses:
            summaries.scalar(self._key("regularization_loss"), _total(regularization_losses))
        if optimizer is not None and train_op_fn is not None:
            raise ValueError("train_op_fn and optimizer cannot both be set.")
        if optimizer is not None:
            train_op = optimizer.minimize(loss, var_list=trainable_variables)
        elif train_op_fn is not None:
            train_op = train_op_fn(loss)
        else:
            raise ValueError("train_op_fn and optimizer cannot both be None.")
        if self.loss_reduction == Reduction.SUM:
            train_op = train_op.adding_up()
        exported = self.predictions(logits) if train_op.is_inert else None
        return EstimatorSpec(mode, exported, loss=loss, train_op=train_op)

    def _key(self, key: str) -> str:
        return f"{key}/{self.name}" if self.name else key


class OneTargetHead(Head):
    """A head with one array of labels. A subclass adds what its kind of label means.

    `weight_column` is the name (or the numeric_column) of the feature with example weights, [B] or [B, 1], which only
    TRAIN and EVAL need. `loss_reduction` is 'sum_over_batch_size' (weighted sum over the number of losses), 'auto' (the
    same) or 'sum'. `loss_fn(labels, logits[, features, loss_reduction])` gives unreduced losses [B, losses_dimension]
    in place of the head's own.
    """

    losses_dimension: int = 1
    """How many losses an example has. With more than one, weights may also be [B, losses_dimension]."""

    def __init__(
        self,
        weight_column: WeightColumn,
        label_vocabulary: Sequence[str] | None,
        loss_reduction: str,
        loss_fn: LossFn | None,
        name: str | None,
    ) -> None:
        if loss_reduction not in (Reduction.AUTO, Reduction.SUM, Reduction.SUM_OVER_BATCH_SIZE):
            raise ValueError(
                f"Invalid loss_reduction: {loss_reduction}. See `tf.losses.Reduction` for valid options: "
                "'sum_over_batch_size', 'sum' or 'auto'."
            )
        if label_vocabulary is not None and not isinstance(label_vocabulary, list | tuple):
            raise ValueError(f"label_vocabulary should be a list or a tuple. Given type: {type(label_vocabulary)}")
        names = frozenset[str]() if loss_fn is None else argument_names(loss_fn)
        for required in ("labels", "logits"):
            if loss_fn is not None and required not in names:
                raise ValueError(f"loss_fn must contain argument: {required}. Given arguments: {tuple(sorted(names))}")
        unexpected = sorted(names - {"labels", "logits", "features", "loss_reduction"})
        if unexpected:
            raise ValueError(f"loss_fn has unexpected args: {unexpected}")
        self._weight_column = weight_column
        self._label_ids = None
        if label_vocabulary is not None:
            self._label_ids = {_text(word): i for i, word in enumerate(label_vocabulary)}
        self._loss_fn = loss_fn
        self._loss_fn_names = names
        self.loss_reduction = loss_reduction
        self.name = name

    # -- what a head says about its own kind of target ----------------------------------------------------------------

    @abstractmethod
    def _checked_labels(self, labels: Any, logits: Tensor) -> Tensor:
        """Labels in the form that the losses and metrics take. Raises ValueError for labels that do not fit."""

    @abstractmethod
    def _losses(self, labels: Tensor, logits: Tensor, reduction: str = "none") -> Tensor:
        """The losses of each example, [B, losses_dimension], or their mean with reduction 'mean'."""

    @abstractmethod
    def _metrics(self, labels: Tensor, logits: Tensor, weights: Tensor | None) -> dict[str, Metric]:
        """This head's metrics of one batch, without `average_loss`."""

    # -- what follows for every head ----------------------------------------------------------------------------------

    def _training_loss(self, labels: Any, logits: Tensor, features: Mapping[str, Any] | None) -> Tensor:
        _check_logits(logits, self.logits_dimension)
        labels = self._checked_labels(labels, logits)
        is_mean = self._weight_column is None and self._loss_fn is None and self.loss_reduction != Reduction.SUM
        # The loss of a batch without rows is 0, as it is with weights. PyTorch's mean would be NaN.
        if is_mean and (torch.compiler.is_exporting() or len(logits)):
            return self._losses(labels, logits, "mean")
        losses, weights = self._unreduced(labels, logits, features)
        return compute_weighted_loss(losses, weights, self.loss_reduction)

    def _batch_metrics(self, labels: Any, logits: Tensor, features: Mapping[str, Any] | None) -> dict[str, Metric]:
        _check_logits(logits, self.logits_dimension)
        labels = self._checked_labels(labels, logits)
        losses, weights = self._unreduced(labels, logits, features)
        found = {"average_loss": mean(losses, weights), **self._metrics(labels, logits, weights)}
        return {self._key(key): value for key, value in found.items()}

    def _unreduced(
        self, labels: Tensor, logits: Tensor, features: Mapping[str, Any] | None
    ) -> tuple[Tensor, Tensor | None]:
        """The losses of each example and their weights."""
        if self._loss_fn is None:
            losses = self._losses(labels, logits)
        else:
            extra = {"features": features, "loss_reduction": self.loss_reduction}
            taken = {key: value for key, value in extra.items() if key in self._loss_fn_names}
            losses = self._loss_fn(labels=labels, logits=logits, **taken)
            if losses.shape != (*logits.shape[:-1], self.losses_dimension):
                raise ValueError(
                    f"loss_fn must return Tensor of shape [D0, D1, ... DN, {self.losses_dimension}]. logits_shape: "
                    f"{tuple(logits.shape)}, loss_shape: {tuple(losses.shape)}. Leave the reduction to the head."
                )
        return losses, read_weights(features, self._weight_column, logits, self.losses_dimension)

    def _lookup(self, labels: Any) -> Any:
        """Class ids of words by the vocabulary, -1 for a word that it lacks. Without a vocabulary the given labels."""
        if self._label_ids is None:
            if isinstance(labels, np.ndarray | ExportedWords):
                raise ValueError(
                    "Labels are strings and the head has no label_vocabulary: pass label_vocabulary, or encode the "
                    "labels as integers from 0."
                )
            return labels
        if isinstance(labels, ExportedWords):
            labels.name_vocabulary(tuple(self._label_ids))
            return labels.ids
        if isinstance(labels, Tensor):
            raise ValueError(
                f"Labels must be strings when label_vocabulary is given. Instead got {labels.dtype}: pass the words, "
                "or leave label_vocabulary out."
            )
        ids = [self._label_ids.get(_text(word), -1) for word in labels.ravel()]
        return torch.tensor(ids, dtype=torch.int64).reshape(labels.shape)


def _total(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


# -- checks -----------------------------------------------------------------------------------------------------------


def _text(word: Any) -> str:
    return word.decode(errors="surrogateescape") if isinstance(word, bytes) else str(word)


def _check_logits(logits: Tensor, dimension: int) -> None:
    if logits.ndim < 2 or logits.shape[-1] != dimension:
        raise ValueError(
            f"logits shape must be [D0, D1, ... DN, logits_dimension], got {tuple(logits.shape)}. "
            f"This head takes {dimension} as the last one."
        )


def column_labels(labels: Any, logits: Tensor, dimension: int = 1) -> Any:
    """Labels as [B, dimension]. Raises ValueError for None, for another last dimension and for another batch size."""
    if labels is None:
        raise ValueError(NO_LABELS)
    if isinstance(labels, Mapping):
        raise ValueError(
            f"Labels must be one array, given a dict of {sorted(map(str, labels))}. Return one from input_fn."
        )
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biuf":
        labels = torch.from_numpy(labels)
    if is_ragged(labels):
        raise ValueError(_RAGGED_LABELS.format(dimension=dimension))
    if labels.ndim == logits.ndim - 1:
        labels = labels[..., None]
    if labels.shape[-1:] != (dimension,):
        raise ValueError(
            f"Mismatched label shape. Expected labels dimension={dimension}.  "
            f"Received {labels.shape[-1] if labels.ndim else 0}. "
            "Suggested Fix: If your classifier expects one-hot encoding label, check your n_classes argument to the "
            "estimator and/or the shape of your label. Otherwise, check the shape of your label."
        )
    if labels.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"labels shape must be [D0, D1, ... DN, {dimension}], expected_labels_shape: "
            f"{(*logits.shape[:-1], dimension)}. labels_shape: {tuple(labels.shape)}."
        )
    return labels


@dataclass(frozen=True)
class ExportedWords:
    """Labels that are words in a graph that is being exported. The graph looks them up, so a head is given their ids.

    Attributes:
        ids: the class ids int64, of any value until the vocabulary is known.
        name_vocabulary: the head calls it with its vocabulary, where it would look the words up itself.
    """

    ids: Tensor
    name_vocabulary: Callable[[tuple[str, ...]], None]

    @property
    def ndim(self) -> int:
        return self.ids.ndim

    @property
    def shape(self) -> torch.Size:
        return self.ids.shape

    def __getitem__(self, index: Any) -> ExportedWords:
        return replace(self, ids=self.ids[index])


def is_ragged(labels: Any) -> bool:
    """Whether labels are rows of different lengths: an object array [B] of sequences, or a sparse tensor."""
    if isinstance(labels, Tensor):
        return labels.is_sparse
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or not labels.size:
        return False
    return isinstance(labels[0], list | tuple | np.ndarray)


_RAGGED_LABELS = (
    "SparseTensor labels are not supported. Labels must be a Tensor of shape [D0, D1, ..., DN, {dimension}], e.g. "
    "[batch_size, {dimension}].Suggested Fix (1): Check the label feature in your data. Each example must contain "
    "{dimension} value(s). Only a MultiLabelHead takes rows of different lengths."
)


def check_label_range(labels: Tensor, n_classes: int) -> None:
    """Raise InvalidArgumentError unless all labels are in [0, n_classes − 1]. During export there are no values yet."""
    # One yes or no: a replayed step asks it again, and could not go on with numbers.
    if torch.compiler.is_exporting() or labels.clamp(0, n_classes - 1).equal(labels):
        return
    low, high = (bound.item() for bound in torch.aminmax(labels))
    if not high <= n_classes - 1:
        raise InvalidArgumentError(
            f"Labels must be <= n_classes - 1, that is <= {n_classes - 1}; the batch holds {high}."
        )
    if not low >= 0:
        raise InvalidArgumentError(
            f"Labels must be >= 0; the batch holds {low}. With label_vocabulary -1 is a word that it lacks."
        )


def read_weights(
    features: Mapping[str, Any] | None, column: WeightColumn, logits: Tensor, dimension: int = 1
) -> Tensor | None:
    """Example weights as f32 [B, 1], or [B, dimension] as given; None without a weight column. Errors: TF 2.15."""
    if column is None:
        return None
    if not isinstance(column, str | NumericColumn):
        raise TypeError(f"Weight column must be either a string or NumericColumn. Given type: {type(column)}.")
    key = column if isinstance(column, str) else column.key
    if features is None or key not in features:
        raise ValueError(f"Feature {key} is not in features dictionary. The weight column needs it in every batch.")
    weights = features[key]
    if not isinstance(weights, Tensor):
        raise ValueError(f"Weight column should be castable to float. Given dtype: string, in feature {key}.")
    if isinstance(column, NumericColumn) and column.normalizer_fn is not None:
        weights = column.normalizer_fn(weights)
    weights = weights.float()
    if weights.ndim == logits.ndim - 1:
        weights = weights.unsqueeze(-1)
    if weights.shape not in ((*logits.shape[:-1], 1), (*logits.shape[:-1], dimension)):
        wanted = "[D0, D1, ... DN] or [D0, D1, ... DN, 1]"
        if dimension > 1:
            wanted = "[D0, D1, ... DN], [D0, D1, ... DN, 1] or [D0, D1, ... DN, logits_dimension]"
        raise ValueError(
            f"weights shape must be {wanted}, logits_shape: "
            f"{tuple(logits.shape)}. weights_shape: {tuple(weights.shape)}."
        )
    return weights


# -- classes ----------------------------------------------------------------------------------------------------------


def class_names(n_classes: int, vocabulary: Sequence[str] | None) -> tuple[str, ...]:
    """The words of the vocabulary, or '0', '1', …"""
    return tuple(map(str, range(n_classes))) if vocabulary is None else tuple(map(_text, vocabulary))


def all_class_ids(logits: Tensor, n_classes: int, dtype: torch.dtype = torch.int32) -> Tensor:
    """0, 1, … n−1 in every row: [B, n]."""
    return torch.arange(n_classes, dtype=dtype).unsqueeze(0).expand(logits.shape[0], n_classes)


def classification_output(predictions: Mapping[str, Prediction], names: str = "all_classes") -> ClassificationOutput:
    """`probabilities` f32 [B, n] and the prediction `names` str [B, n]: every class in every row, as in TF Serving."""
    scores, classes = predictions["probabilities"], predictions[names]
    assert isinstance(scores, Tensor)
    assert isinstance(classes, StringPrediction)
    return ClassificationOutput(scores, classes)


def wanted_keys(keys: Sequence[str] | None, valid: Sequence[str]) -> Sequence[str]:
    """`keys`, or all valid ones. Raises ValueError for a key that is not valid."""
    for key in keys or ():
        if key not in valid:
            raise ValueError(
                f"Prediction key must be in PredictionKeys, given: {key}. Valid prediction keys include {list(valid)}."
            )
    return keys or valid
