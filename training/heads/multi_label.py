"""The head of several classes, each of which may hold or not (TF 2.15).

Owns the forms of multi-label labels, and what is predicted and measured for each class. Does not know networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from estimator_serving.training.arrays import Array
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.heads.base import (
    NO_LABELS,
    ExportedWords,
    LossFn,
    OneTargetHead,
    WeightColumn,
    all_class_ids,
    class_names,
    classification_output,
    column_labels,
    is_ragged,
    wanted_keys,
)
from estimator_serving.training.heads.thresholds import threshold_metrics
from estimator_serving.training.model_fn import (
    DEFAULT_SERVING_KEY,
    ExportOutput,
    Prediction,
    PredictOutput,
    StringPrediction,
)
from estimator_serving.training.nn import metrics
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.metrics import Metric

_KEYS = ("logits", "probabilities", "classes")


class MultiLabelHead(OneTargetHead):
    """Sigmoid cross-entropy on logits f32 [B, n_classes], the mean over the classes of an example.

    Labels are multi-hot integers [B, n_classes] of 0 and 1. Where TensorFlow takes a SparseTensor, they may be words of
    `label_vocabulary` [B, k] in rows padded with ''. An input_fn makes class ids padded with -1 multi-hot:
    `dataset.map(lambda features, ids: (features, multi_hot(ids, n_classes)))`. A program that calls the head itself may
    also pass an object array [B] of sequences of ids or words. `thresholds` in (0, 1) add accuracy, precision and
    recall at each; `classes_for_class_based_metrics` (ids, or words of the vocabulary) adds the mean probability and
    both AUCs of each class. The other arguments: see OneTargetHead. Raises ValueError as TF 2.15 does.
    """

    def __init__(
        self,
        n_classes: int,
        weight_column: WeightColumn = None,
        thresholds: Sequence[float] | None = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        loss_fn: LossFn | None = None,
        classes_for_class_based_metrics: Sequence[int] | Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        if n_classes is None or n_classes < 2:
            raise ValueError(f"n_classes must be > 1 for multi-label classification. Given: {n_classes}")
        self._thresholds = tuple(thresholds or ())
        for threshold in self._thresholds:
            if not 0.0 < threshold < 1.0:
                raise ValueError(f"thresholds must be in (0, 1) range. Given: {threshold}")
        if label_vocabulary is not None and not isinstance(label_vocabulary, list | tuple):
            raise ValueError(f"label_vocabulary must be a list or tuple. Given type: {type(label_vocabulary)}")
        if label_vocabulary is not None and len(label_vocabulary) != n_classes:
            raise ValueError(
                f"Length of label_vocabulary must be n_classes ({n_classes}). Given: {len(label_vocabulary)}"
            )
        super().__init__(weight_column, label_vocabulary, loss_reduction, loss_fn, name)
        self.logits_dimension = n_classes
        self._names = class_names(n_classes, label_vocabulary)
        measured = [_measured_id(one, n_classes, label_vocabulary) for one in classes_for_class_based_metrics or ()]
        # (id, the name in the keys of its metrics): `class2`, or its word with a vocabulary.
        self._measured = [(i, f"class{i}" if label_vocabulary is None else str(label_vocabulary[i])) for i in measured]

    def predictions(self, logits: Tensor, keys: Sequence[str] | None = None) -> dict[str, Prediction]:
        """logits f32 [B,n], probabilities f32 [B,n], classes str [B,n]: the names of all classes, whatever their
        probabilities."""
        made: dict[str, Prediction] = {
            "logits": logits,
            "probabilities": torch.sigmoid(logits),
            "classes": StringPrediction(all_class_ids(logits, self.logits_dimension, torch.int64), self._names),
        }
        return {key: made[key] for key in wanted_keys(keys, _KEYS)}

    def export_outputs(self, predictions: Mapping[str, Prediction]) -> dict[str, ExportOutput]:
        """serving_default and classification (classify), predict."""
        classify = classification_output(predictions, "classes")
        return {
            DEFAULT_SERVING_KEY: classify,
            "classification": classify,
            "predict": PredictOutput(predictions),
        }

    def _checked_labels(self, labels: Any, logits: Tensor) -> Tensor:
        if labels is None:
            raise ValueError(NO_LABELS)
        if isinstance(labels, ExportedWords):
            raise ValueError(
                "The labels are words, which a graph cannot make multi-hot; let clients of the export send 0 and 1 for "
                f"each of the {self.logits_dimension} classes, by a head without label_vocabulary."
            )
        if is_ragged(labels) or self._label_ids is not None:
            labels = torch.from_numpy(multi_hot(self._class_ids(labels), self.logits_dimension))
        labels = column_labels(labels, logits, self.logits_dimension)
        if isinstance(labels, np.ndarray):
            labels = self._lookup(labels)
        is_known = not torch.compiler.is_exporting() and labels.numel() > 0
        if is_known and not bool(((labels >= 0) & (labels <= 1)).all()):
            raise InvalidArgumentError(
                "labels must be an integer indicator Tensor with values in [0, 1]. If they are class ids, let input_fn "
                "return heads.multi_hot(ids, n_classes)."
            )
        indicators: Tensor = labels.to(torch.float32)
        return indicators

    def _class_ids(self, labels: Any) -> list[list[int]]:
        """The class ids in each row. Words are looked up in the vocabulary, integers are checked to be some."""
        rows: Any = labels
        if isinstance(labels, Tensor) and labels.is_sparse:
            rows = [[] for _ in range(labels.shape[0])]
            given = labels.coalesce()
            for row, value in zip(given.indices()[0].tolist(), given.values().tolist(), strict=True):
                rows[row].append(value)
        elif isinstance(labels, Tensor):
            self._lookup(labels)  # refuses tensors, since there is a vocabulary
        if not (isinstance(rows, list) or is_ragged(rows)):
            rows = np.atleast_2d(rows.T).T
        if self._label_ids is None:
            return [[_class_id(value) for value in row] for row in rows]
        found: list[list[int]] = []
        for row in rows:
            words = [
                word.decode(errors="surrogateescape") if isinstance(word, bytes) else str(word)
                for word in row
                if word not in ("", b"")
            ]
            lacking = [word for word in words if word not in self._label_ids]
            if lacking:
                raise InvalidArgumentError(
                    f"Labels must be >= 0: label_vocabulary lacks {lacking[0]!r}. It holds {list(self._label_ids)}."
                )
            found.append([self._label_ids[word] for word in words])
        return found

    def _losses(self, labels: Tensor, logits: Tensor, reduction: str = "none") -> Tensor:
        losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction=reduction)
        return losses if reduction == "mean" else losses.mean(dim=-1, keepdim=True)

    def _metrics(self, labels: Tensor, logits: Tensor, weights: Tensor | None) -> dict[str, Metric]:
        probabilities = torch.sigmoid(logits)
        found = {
            "auc": metrics.auc(labels, probabilities, weights),
            "auc_precision_recall": metrics.auc(labels, probabilities, weights, curve="PR"),
            **threshold_metrics(self._thresholds, labels, probabilities, weights),
        }
        for index, key in self._measured:
            of_class = labels[..., index : index + 1], probabilities[..., index : index + 1], weights
            found[f"probability_mean/{key}"] = metrics.mean(of_class[1], weights)
            found[f"auc/{key}"] = metrics.auc(*of_class)
            found[f"auc_precision_recall/{key}"] = metrics.auc(*of_class, curve="PR")
        return found


def multi_hot(class_ids: Any, n_classes: int) -> Array:
    """Class ids as int64 [B, n_classes] of 0 and 1.

    `class_ids` is an array [B, k] of integers whose rows are padded with -1, or rows of different lengths. Raises
    InvalidArgumentError for an id that is not in [0, n_classes).
    """
    hot = np.zeros((len(class_ids), n_classes), np.int64)
    for row, ids in zip(hot, class_ids, strict=True):
        found = np.asarray(ids, np.int64)
        found = found[found != -1]
        if found.size and (found.min() < 0 or found.max() >= n_classes):
            raise InvalidArgumentError(
                f"labels must be an integer SparseTensor with values in [0, {n_classes}); a row holds {found.tolist()}."
            )
        row[found] = 1
    return hot


def _class_id(value: Any) -> int:
    if isinstance(value, str | bytes):
        raise ValueError(
            f"Labels are strings ({value!r} for one) and the head has no label_vocabulary: pass label_vocabulary."
        )
    if not isinstance(value, int | np.integer):
        raise ValueError(f"Labels dtype should be integer. Instead got {type(value).__name__}: {value!r}.")
    return int(value)


def _measured_id(one: int | str, n_classes: int, vocabulary: Sequence[str] | None) -> int:
    if isinstance(one, str):
        if not vocabulary:
            raise ValueError("label_vocabulary must be provided when classes_for_class_based_metrics are strings.")
        if one not in vocabulary:
            raise ValueError(f"{one!r} in classes_for_class_based_metrics is not in label_vocabulary {vocabulary}.")
        return vocabulary.index(one)
    if not 0 <= one < n_classes:
        raise ValueError(f"All classes_for_class_based_metrics must be in range [0, {n_classes - 1}]. Given: {one}")
    return one
