"""last_evaluation.json: what an evaluation leaves beside its event file, for `estimator-serving report`.

The theory. Curves and tables of an evaluation follow from counts. Scores of a class are counted in buckets that are
equally wide in the logit, so that rare and certain answers are told apart as well as others; every class has positives,
negatives and the sum of the scores in each bucket, from which ROC, precision and recall, and calibration follow. The
labels and predictions of a regression are kept as they are for a sample of rows. Columns are counted over the first
5,000 rows (columns/coverage.py). So memory is bounded, whatever the number of rows.

A batch is only put aside; several thousand rows are counted at once. Every row counts once, whatever its weight.

Owns the file, and what labels and predictions of a model mean by their names. Does not know heads or metrics.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from torch import Tensor

from estimator_serving.training.arrays import Array
from estimator_serving.training.aside import replacing
from estimator_serving.training.columns.coverage import Coverage
from estimator_serving.training.columns.features import Features
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.model_fn import StringPrediction

logger = logging.getLogger("estimator_serving.training")

FILE = "last_evaluation.json"
FORMAT = 1
CLASSES_MAX = 100
"""Up to so many classes have a confusion matrix and curves."""
SAMPLE_ROWS = 5_000
COVERED_ROWS = 5_000
_WAITING_ROWS = 4_096
_BUCKETS_MAX, _BUCKETS_MIN = 1_000, 100
_LOGIT_MAX = 14.0

Predictions = Mapping[Any, Any]


class LastEvaluation:
    """Counts the batches of one evaluation, and writes them.

    A batch that cannot be counted is said once, and costs the file and not the evaluation.
    """

    def __init__(self, session: Run) -> None:
        self._session = session
        self._targets: list[_Target] | None = None
        self._note = ""
        self._coverage: Coverage | None = None
        self._covered = self._rows = 0
        self._waiting: list[tuple[Any, Any]] = []
        self._waiting_features: list[Mapping[str, Any]] = []
        self._counted = 0
        self._has_failed = False

    def add(self, features: Any, labels: Any, predictions: Any) -> None:
        """One batch, as model_fn got it and answered it."""
        if not self._has_failed:
            try:
                self._add(features, labels, predictions)
            except Exception as error:
                self._give_up(error)

    def _add(self, features: Any, labels: Any, predictions: Any) -> None:
        if self._targets is None:
            self._targets, self._note = targets_of(labels, predictions)
            transform = self._session.recorder.transform
            self._coverage = Coverage([] if transform is None else transform.definitions.values())
        raw = features.raw if isinstance(features, Features) else features
        rows = _rows_of(predictions, labels, raw)
        if self._covered < COVERED_ROWS:
            if isinstance(raw, Mapping):
                self._waiting_features.append(raw)
            self._covered += rows
        self._waiting.append((labels, predictions))
        self._rows += rows
        if self._rows - self._counted >= _WAITING_ROWS:
            self._count()

    def write(self, directory: str | os.PathLike[str], results: Mapping[str, Any], checkpoint_path: str | None) -> None:
        """Write the file."""
        if self._has_failed:
            return
        try:
            self._count()
            described = self._described(results, checkpoint_path)
            try:
                text = orjson.dumps(described, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
            except TypeError:  # a class whose name is not UTF-8
                text = json.dumps(described, default=np.ndarray.tolist).encode() + b"\n"
            folder = Path(directory)
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / FILE) as aside:
                aside.write_bytes(text)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._has_failed = True
        logger.warning("%s is not written (%s: %s). A report lacks it.", FILE, type(error).__name__, error)

    def _described(self, results: Mapping[str, Any], checkpoint_path: str | None) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "written_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "checkpoint_path": checkpoint_path,
            "rows": self._rows,
            "metrics": {
                key: float(value)
                for key, value in results.items()
                if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "fiub"
            },
            "targets": [target.describe() for target in self._targets or ()],
            "note": self._note if self._targets is not None else "The evaluation saw no batch.",
            "covered_rows": self._covered,
            "columns": [] if self._coverage is None else self._coverage.describe(),
        }

    def _count(self) -> None:
        if self._coverage is not None and self._waiting_features:
            self._coverage.add(self._waiting_features)
        if self._waiting:
            for target in self._targets or ():
                target.count(self._waiting)
        self._waiting, self._waiting_features, self._counted = [], [], self._rows


class _Target:
    """One target of a model.

    `find` gives its labels, its scores and, of classes, the ids that were predicted, each with a row for each row of a
    batch.
    """

    def __init__(self, name: str, find: Callable[[Any, Predictions], Sequence[Any]]) -> None:
        self.name = name
        self._find = find

    def count(self, batches: Iterable[tuple[Any, Any]]) -> None:
        """Count the labels and predictions of batches."""
        columns = []
        for parts in zip(*(self._find(labels, predictions) for labels, predictions in batches), strict=True):
            is_tensor = isinstance(parts[0], Tensor)
            columns.append(torch.cat([one.detach() for one in parts]).numpy() if is_tensor else np.concatenate(parts))
        self.count_rows(*columns)

    def count_rows(self, labels: Array, scores: Array, class_ids: Array | None = None) -> None:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        raise NotImplementedError


class _Classes(_Target):
    """One class out of several for each row (labels int64 [B], -1 for none), or several (labels 0/1 [B, classes])."""

    def __init__(self, name: str, find: Any, classes: tuple[str, ...], is_multi_label: bool) -> None:
        super().__init__(name, find)
        self._classes = classes
        self._is_multi_label = is_multi_label
        self._ids = {word: number for number, word in enumerate(classes)}
        size = len(classes)
        # Two classes are one score.
        self._scored = [1] if size == 2 and not is_multi_label else list(range(size)) if size <= CLASSES_MAX else []
        self._buckets = max(_BUCKETS_MIN, _BUCKETS_MAX // max(len(self._scored), 1))
        self._counts = np.zeros((len(self._scored), 3, self._buckets))
        self._confusion = np.zeros((size, size), np.int64) if size <= CLASSES_MAX and not is_multi_label else None

    def count_rows(self, labels: Array, scores: Array, class_ids: Array | None = None) -> None:
        if labels.dtype == object:
            shape = labels.shape
            words = (
                word.decode(errors="surrogateescape") if isinstance(word, bytes) else word for word in labels.ravel()
            )
            labels = np.array([self._ids.get(word, -1) for word in words], np.int64)
            if self._is_multi_label:  # rows of words, padded
                labels = (labels.reshape(shape)[:, :, None] == np.arange(len(self._classes))).any(axis=1)
        if scores.ndim == 1 or scores.shape[1] == 1:
            scores = np.stack([1 - scores.ravel(), scores.ravel()], axis=1)
        if not self._is_multi_label:
            labels = labels.ravel()
        if self._confusion is not None:
            class_ids = scores.argmax(axis=1) if class_ids is None else class_ids.ravel()
            whole = labels.astype(np.int64)
            known = (whole >= 0) & (whole < len(self._classes)) & (labels == whole)
            cells = whole[known] * len(self._classes) + class_ids[known]
            self._confusion += np.bincount(cells, minlength=self._confusion.size).reshape(self._confusion.shape)
        for place, number in enumerate(self._scored):
            if self._is_multi_label:
                positive = labels[:, number].astype(np.float64)
            elif len(self._classes) == 2:
                positive = labels.astype(np.float64)
            else:
                positive = (labels == number).astype(np.float64)
            score = scores[:, number]
            with np.errstate(divide="ignore", invalid="ignore"):
                logit = np.nan_to_num(np.log(score / (1 - score)), nan=-_LOGIT_MAX)
            at = ((np.clip(logit, -_LOGIT_MAX, _LOGIT_MAX) / (2 * _LOGIT_MAX) + 0.5) * (self._buckets - 1)).astype(int)
            positives = np.bincount(at, positive, self._buckets)
            self._counts[place, 0] += positives
            self._counts[place, 1] += np.bincount(at, minlength=self._buckets) - positives
            self._counts[place, 2] += np.bincount(at, score, self._buckets)

    def describe(self) -> dict[str, Any]:
        scores = []
        for place, number in enumerate(self._scored):
            positives, negatives, sums = self._counts[place]
            (filled,) = np.nonzero(positives + negatives)
            scores.append(
                {
                    "class": self._classes[number],
                    "positives": _short(positives[filled]),
                    "negatives": _short(negatives[filled]),
                    "score_sums": _short(sums[filled]),
                }
            )
        return {
            "name": self.name,
            "kind": "multi_label" if self._is_multi_label else "classes",
            "classes": list(self._classes[:CLASSES_MAX]),
            "class_count": len(self._classes),
            "scores": scores,
            "confusion": None if self._confusion is None else self._confusion.tolist(),
        }


class _Numbers(_Target):
    """Labels and predictions that are numbers, float32 [B]: sums of all rows, and a sample."""

    def __init__(self, name: str, find: Any) -> None:
        super().__init__(name, find)
        self._random = np.random.default_rng(0)
        self._sums = np.zeros(6)
        self._sample = np.zeros((0, 3))

    def count_rows(self, labels: Array, scores: Array, class_ids: Array | None = None) -> None:
        pairs = np.stack([labels.ravel(), scores.ravel()], axis=1).astype(np.float64)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        label, predicted = pairs.T
        error = label - predicted
        self._sums += [len(pairs), error.sum(), (error**2).sum(), abs(error).sum(), label.sum(), (label**2).sum()]
        # The rows with the smallest random numbers are a sample of all rows, however they are divided into batches.
        numbers = self._random.random(len(pairs))
        if len(self._sample) == SAMPLE_ROWS:
            is_drawn = numbers < self._sample[-1, 0]
            numbers, pairs = numbers[is_drawn], pairs[is_drawn]
        every = np.concatenate([self._sample, np.column_stack([numbers, pairs])])
        self._sample = every[np.argsort(every[:, 0], kind="stable")[:SAMPLE_ROWS]]

    def describe(self) -> dict[str, Any]:
        rows, error, square, absolute, label, label_square = self._sums
        found: dict[str, Any] = {"name": self.name, "kind": "numbers", "rows": int(rows)}
        if rows:
            spread = label_square - label**2 / rows
            means = _short(np.array([error / rows, absolute / rows, (square / rows) ** 0.5]))
            found |= zip(("mean_error", "mean_absolute_error", "root_mean_squared_error"), means, strict=True)
            found["r_squared"] = _short(np.array([1 - square / spread]))[0] if spread > 0 else None
        return found | {"sample": np.ascontiguousarray(self._sample[:, 1:], np.float32)}


# -- what a model predicts --------------------------------------------------------------------------------------------

_NAMES = "`probabilities` [batch, classes] (with `class_ids`) in a classifier, `predictions` in a regressor."
_UNKNOWN = "The model's predictions do not tell what to compare with the labels: they are {}. Name them " + _NAMES
_NONE = (
    "The model_fn returns no predictions for EVAL, so there is nothing to compare with the labels. Give its "
    "EstimatorSpec `predictions` for EVAL too: "
) + _NAMES


def targets_of(labels: Any, predictions: Any) -> tuple[list[_Target], str]:
    """The targets of a model by what a batch looks like, and what to say if there are none."""
    if labels is None:
        return [], "The input has no labels."
    if isinstance(predictions, Tensor):
        predictions = {"predictions": predictions}
    if predictions is None or predictions == {}:
        return [], _NONE
    if not isinstance(predictions, Mapping):
        return [], _UNKNOWN.format(type(predictions).__name__)
    names = sorted({key[0] for key in predictions if isinstance(key, tuple)})  # those of a MultiHead
    if names and isinstance(labels, Mapping):
        found = []
        for name in names:
            own = {key[1]: value for key, value in predictions.items() if isinstance(key, tuple) and key[0] == name}
            found.append(target_of(name, labels.get(name), own))
    else:
        found = [target_of("", labels, predictions)]
    targets = [target for target in found if target is not None]
    return targets, "" if targets else _UNKNOWN.format(sorted(map(str, predictions)))


def target_of(name: str, labels: Any, predictions: Predictions) -> _Target | None:
    """The target of one head; None if its predictions do not tell."""
    probabilities = predictions.get("probabilities")
    shape = np.shape(labels)
    if isinstance(probabilities, Tensor) and probabilities.ndim in (1, 2):
        words = predictions.get("classes")
        size = 2 if probabilities.ndim == 1 or probabilities.shape[1] == 1 else probabilities.shape[1]
        classes = words.vocabulary if isinstance(words, StringPrediction) else tuple(map(str, range(size)))
        is_multi_label = "class_ids" not in predictions and isinstance(words, StringPrediction) and size > 1
        is_multi_label |= len(shape) == 2 and shape[1] == size > 2
        if is_multi_label and isinstance(labels, Tensor) and shape != tuple(probabilities.shape):
            return None  # ids of different numbers in each row
        if len(classes) != size or (not is_multi_label and np.prod(shape) != len(probabilities)):
            return None
        keys = ["probabilities", *(["class_ids"] if "class_ids" in predictions and not is_multi_label else [])]
        return _Classes(name, _finder(name, keys), classes, is_multi_label)
    numbers = [key for key, value in predictions.items() if isinstance(value, Tensor) and value.is_floating_point()]
    key = next(
        (key for key in ("predictions", "logistic") if key in numbers), numbers[0] if len(numbers) == 1 else None
    )
    if key is None or not isinstance(labels, Tensor) or labels.numel() != predictions[key].numel():
        return None

    return _Numbers(name, _finder(name, [key]))


def _finder(name: str, keys: Sequence[str]) -> Callable[[Any, Any], Sequence[Any]]:
    """A function that finds the labels and these predictions of one head."""

    def find(labels: Any, predictions: Any) -> Sequence[Any]:
        if isinstance(predictions, Tensor):
            return labels, predictions
        if name:
            return labels[name], *(predictions[name, key] for key in keys)
        return labels, *(predictions[key] for key in keys)

    return find


def _rows_of(*parts: Any) -> int:
    """The rows of a batch by the first array of its predictions, labels or features; 0 if there is none."""
    values = (value for part in parts for value in (part.values() if isinstance(part, Mapping) else [part]))
    return next((len(value) for value in values if isinstance(value, Tensor | np.ndarray) and value.ndim), 0)


def _short(values: Array) -> list[float | int]:
    """Seven digits of each, and whole numbers without a point. All at once: one by one costs a cheap evaluation 5 %."""
    text = " ".join(["%.7g"] * len(values)) % tuple(values.tolist())
    return [int(number) if number.is_integer() else number for number in map(float, text.split())]
