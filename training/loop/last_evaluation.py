"""last_evaluation.json: what an evaluation leaves beside its event file, for `estimator-serving report`.

The theory. Curves and tables of an evaluation follow from counts. Scores of a class are counted in buckets that are
equally wide in the logit, so that rare and certain answers are told apart as well as others; every class has positives,
negatives and the sum of the scores in each bucket, from which ROC, precision and recall, and calibration follow. The
labels and predictions of a regression are kept as they are for a sample of rows. Columns are counted over the first
10,000 rows (columns/coverage.py). So memory is bounded, whatever the number of rows.

A batch is only put aside; several thousand rows are counted at once. Every row counts once, whatever its weight.

Owns the file, and what labels and predictions of a model mean by their names. Does not know heads or metrics.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from estimator_serving.training.arrays import Array
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
COVERED_ROWS = 10_000
_WAITING_ROWS = 4_096
_BUCKETS_MAX, _BUCKETS_MIN = 1_000, 100
_LOGIT_MAX = 14.0

Predictions = Mapping[Any, Any]


class LastEvaluation:
    """Counts the batches of one evaluation, and writes them."""

    def __init__(self, session: Run) -> None:
        self._session = session
        self._targets: list[_Target] | None = None
        self._note = ""
        self._coverage: Coverage | None = None
        self._covered = self._rows = self._waiting = 0

    def add(self, features: Any, labels: Any, predictions: Any) -> None:
        """One batch, as model_fn got it and answered it."""
        if self._targets is None:
            self._targets, self._note = _targets_of(labels, predictions)
            transform = self._session.recorder.transform
            self._coverage = Coverage([] if transform is None else transform.definitions.values())
        rows = _row_count(predictions)
        if self._covered < COVERED_ROWS and self._coverage is not None:
            raw = features.raw if isinstance(features, Features) else features
            if isinstance(raw, Mapping):
                self._coverage.add(raw)
            self._covered += rows
        for target in self._targets:
            target.put_aside(labels, predictions)
        self._rows += rows
        self._waiting += rows
        if self._waiting >= _WAITING_ROWS:
            self._count()

    def write(self, directory: str | os.PathLike[str], results: Mapping[str, Any], checkpoint_path: str | None) -> None:
        """Write the file, aside first. A disk that is full costs the file and is said, not the evaluation."""
        self._count()
        described = {
            "format": FORMAT,
            "written_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "checkpoint_path": checkpoint_path,
            "rows": self._rows,
            "metrics": {
                key: float(value) for key, value in results.items() if np.ndim(value) == 0 and _is_number(value)
            },
            "targets": [target.describe() for target in self._targets or ()],
            "note": self._note if self._targets is not None else "The evaluation saw no batch.",
            "covered_rows": self._covered,
            "columns": [] if self._coverage is None else self._coverage.describe(),
        }
        folder = Path(directory)
        aside = folder / f".{FILE}.{os.getpid()}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(described) + "\n")
            aside.replace(folder / FILE)
        except OSError as error:
            logger.warning("%s could not be written into %s (%s), so a report lacks it.", FILE, directory, error)
            aside.unlink(missing_ok=True)

    def _count(self) -> None:
        for target in self._targets or ():
            target.count()
        self._waiting = 0


class _Target:
    """One target of a model, with the batches that are not counted yet."""

    def __init__(self, name: str, find: Callable[[Any, Predictions], tuple[Array, Array, Array | None]]) -> None:
        self.name = name
        self._find = find
        self._waiting: list[tuple[Array, Array, Array | None]] = []

    def put_aside(self, labels: Any, predictions: Predictions) -> None:
        self._waiting.append(self._find(labels, predictions))

    def count(self) -> None:
        """Count what was put aside."""
        if self._waiting:
            labels, scores, ids = zip(*self._waiting, strict=True)
            self._waiting = []
            found = None if ids[0] is None else np.concatenate(ids)
            self.count_rows(np.concatenate(labels), np.concatenate(scores), found)

    def count_rows(self, labels: Array, scores: Array, class_ids: Array | None) -> None:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        raise NotImplementedError


class _Classes(_Target):
    """One class out of several for each row (labels int64 [B], -1 for none), or several (labels 0/1 [B, classes])."""

    def __init__(self, name: str, find: Any, classes: tuple[str, ...], is_multi_label: bool) -> None:
        super().__init__(name, find)
        self._classes = classes
        self._is_multi_label = is_multi_label
        size = len(classes)
        # Two classes are one score.
        self._scored = [1] if size == 2 and not is_multi_label else list(range(size)) if size <= CLASSES_MAX else []
        self._buckets = max(_BUCKETS_MIN, _BUCKETS_MAX // max(len(self._scored), 1))
        self._counts = np.zeros((len(self._scored), 3, self._buckets))
        self._confusion = np.zeros((size, size), np.int64) if size <= CLASSES_MAX and not is_multi_label else None

    def count_rows(self, labels: Array, scores: Array, class_ids: Array | None) -> None:
        if self._confusion is not None and class_ids is not None:
            known = (labels >= 0) & (labels < len(self._classes)) & (labels == np.floor(labels))
            cells = labels[known].astype(np.int64) * len(self._classes) + class_ids[known]
            self._confusion += np.bincount(cells, minlength=self._confusion.size).reshape(self._confusion.shape)
        for place, number in enumerate(self._scored):
            if self._is_multi_label:
                positive = labels[:, number].astype(np.float64)
            elif len(self._classes) == 2:
                positive = labels.astype(np.float64)
            else:
                positive = (labels == number).astype(np.float64)
            score = scores[:, number].astype(np.float64)
            with np.errstate(divide="ignore"):
                logit = np.clip(np.log(score) - np.log1p(-score), -_LOGIT_MAX, _LOGIT_MAX)
            at = np.minimum((logit + _LOGIT_MAX) / (2 * _LOGIT_MAX) * self._buckets, self._buckets - 1)
            at = np.where(np.isnan(at), 0, at).astype(np.int64)
            for row, weight in enumerate((positive, 1.0 - positive, score)):
                self._counts[place, row] += np.bincount(at, weight, self._buckets)

    def describe(self) -> dict[str, Any]:
        scores = []
        for place, number in enumerate(self._scored):
            positives, negatives, sums = self._counts[place]
            (filled,) = np.nonzero(positives + negatives)
            scores.append(
                {
                    "class": self._classes[number],
                    "positives": [_short(value) for value in positives[filled]],
                    "negatives": [_short(value) for value in negatives[filled]],
                    "score_sums": [_short(value) for value in sums[filled]],
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
        self._rows = 0
        self._sums = np.zeros(6)
        self._sample = np.zeros((0, 3))

    def count_rows(self, labels: Array, scores: Array, class_ids: Array | None) -> None:
        pairs = np.stack([labels, scores], axis=1).astype(np.float64)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        label, predicted = pairs.T
        error = label - predicted
        self._sums += [len(pairs), error.sum(), (error**2).sum(), abs(error).sum(), label.sum(), (label**2).sum()]
        # The rows with the smallest random numbers are a sample of all rows, however they are divided into batches.
        drawn = np.concatenate([self._random.random((len(pairs), 1)), pairs], axis=1)
        every = np.concatenate([self._sample, drawn])
        self._sample = every[np.argsort(every[:, 0], kind="stable")[:SAMPLE_ROWS]]

    def describe(self) -> dict[str, Any]:
        rows, error, square, absolute, label, label_square = self._sums
        found: dict[str, Any] = {"name": self.name, "kind": "numbers", "rows": int(rows)}
        if rows:
            spread = label_square - label**2 / rows
            found |= {
                "mean_error": _short(error / rows),
                "mean_absolute_error": _short(absolute / rows),
                "root_mean_squared_error": _short((square / rows) ** 0.5),
                "r_squared": _short(1 - square / spread) if spread > 0 else None,
            }
        return found | {"sample": [[_short(value) for value in row] for row in self._sample[:, 1:]]}


# -- what a model predicts --------------------------------------------------------------------------------------------

_UNKNOWN = (
    "The model's predictions do not tell what to compare with the labels: they are {}. Name them `probabilities` "
    "[batch, classes] (with `class_ids`) in a classifier, `predictions` in a regressor."
)


def _targets_of(labels: Any, predictions: Any) -> tuple[list[_Target], str]:
    """The targets of a model by what a batch looks like, and what to say if there are none."""
    if labels is None:
        return [], "The input has no labels."
    if isinstance(predictions, Tensor):
        predictions = {"predictions": predictions}
    if not isinstance(predictions, Mapping):
        return [], _UNKNOWN.format(type(predictions).__name__)
    names = sorted({key[0] for key in predictions if isinstance(key, tuple)})  # those of a MultiHead
    if names and isinstance(labels, Mapping):
        found = [_target_of(name, labels.get(name), _of_head(predictions, name)) for name in names]
    else:
        found = [_target_of("", labels, predictions)]
    targets = [target for target in found if target is not None]
    return targets, "" if targets else _UNKNOWN.format(sorted(map(str, predictions)))


def _of_head(predictions: Predictions, name: str) -> dict[Any, Any]:
    return {key[1]: value for key, value in predictions.items() if isinstance(key, tuple) and key[0] == name}


def _part(name: str, labels: Any, predictions: Any) -> tuple[Any, Predictions]:
    """The labels and predictions of one head."""
    if isinstance(predictions, Tensor):
        return labels, {"predictions": predictions}
    return (labels[name], _of_head(predictions, name)) if name else (labels, predictions)


def _target_of(name: str, labels: Any, predictions: Predictions) -> _Target | None:
    """The target of one head; None if its predictions do not tell."""
    probabilities = predictions.get("probabilities")
    shape = np.shape(labels)
    if isinstance(probabilities, Tensor) and probabilities.ndim in (1, 2):
        words = predictions.get("classes")
        size = 2 if probabilities.ndim == 1 or probabilities.shape[1] == 1 else probabilities.shape[1]
        classes = words.vocabulary if isinstance(words, StringPrediction) else tuple(map(str, range(size)))
        is_multi_label = "class_ids" not in predictions and isinstance(words, StringPrediction) and size > 1
        is_multi_label |= len(shape) == 2 and shape[1] == size > 2
        if is_multi_label and (not isinstance(labels, Tensor) or shape != tuple(probabilities.shape)):
            return None  # words, or ids of different numbers in each row
        if len(classes) != size or (not is_multi_label and np.prod(shape) != len(probabilities)):
            return None
        return _Classes(name, _class_finder(name, classes, is_multi_label), classes, is_multi_label)
    numbers = [key for key, value in predictions.items() if isinstance(value, Tensor) and value.is_floating_point()]
    key = next(
        (key for key in ("predictions", "logistic") if key in numbers), numbers[0] if len(numbers) == 1 else None
    )
    if key is None or not isinstance(labels, Tensor) or labels.numel() != predictions[key].numel():
        return None

    def find(labels: Any, predictions: Any) -> tuple[Array, Array, None]:
        own_labels, own = _part(name, labels, predictions)
        return own_labels.detach().numpy().ravel(), own[key].detach().numpy().ravel(), None

    return _Numbers(name, find)


def _class_finder(name: str, classes: tuple[str, ...], is_multi_label: bool) -> Callable[..., Any]:
    ids = {word: number for number, word in enumerate(classes)}

    def find(labels: Any, predictions: Any) -> tuple[Array, Array, Array | None]:
        own_labels, own = _part(name, labels, predictions)
        if isinstance(own_labels, Tensor):
            found = own_labels.detach().numpy()
        else:
            words = [
                word.decode(errors="surrogateescape") if isinstance(word, bytes) else str(word)
                for word in np.ravel(own_labels)
            ]
            found = np.array([ids.get(word, -1) for word in words])
        scores = own["probabilities"].detach().numpy()
        if scores.ndim == 1 or scores.shape[1] == 1:
            scores = np.stack([1 - scores.ravel(), scores.ravel()], axis=1)
        if is_multi_label:
            return found, scores, None
        given = own.get("class_ids")
        best = scores.argmax(axis=1) if not isinstance(given, Tensor) else given.detach().numpy().ravel()
        return found.ravel(), scores, best

    return find


def _row_count(predictions: Any) -> int:
    values = predictions.values() if isinstance(predictions, Mapping) else [predictions]
    return max((len(value) for value in values if isinstance(value, Tensor) and value.ndim), default=0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or getattr(value, "dtype", np.dtype(object)).kind in "fiub"


def _short(value: Any) -> float | int:
    """Seven digits, and whole numbers without a point."""
    number = float(f"{float(value):.7g}")
    return int(number) if number.is_integer() else number
