"""Pictures of an evaluation for TensorBoard: confusion matrix, ROC and precision-recall curves.

A figure is a metric whose value is an array and that knows how to draw it; `evaluate` returns the array and writes the
picture beside the numbers. Owns what is drawn. matplotlib (the extra `figures`) is imported when something is drawn.

    classifier = add_metrics(classifier, figures.classifier_figures)
    classifier.evaluate(input_fn)                # 'confusion_matrix', 'roc_curve', 'precision_recall_curve'
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.model_fn import Prediction, StringPrediction
from estimator_serving.training.nn import metrics
from estimator_serving.training.nn.metrics import Metric, Weights


def classifier_figures(labels: Any, predictions: Mapping[str, Prediction]) -> dict[str, Metric]:
    """The metric_fn of all three figures, for a canned classifier or another model with its predictions.

    `predictions` needs `class_ids`, `probabilities` and `classes`, whose vocabulary names the classes and turns labels
    that are words into ids. Examples count alike, whatever the weight column says. Raises ValueError where a prediction
    is missing or a label unknown.
    """
    for key in ("class_ids", "probabilities", "classes"):
        if key not in predictions:
            raise ValueError(
                f"classifier_figures needs the prediction {key!r} and found {sorted(map(str, predictions))}. For "
                "another model call figures.confusion_matrix and figures.curve in a metric_fn of your own."
            )
    class_ids, probabilities, classes = (predictions[key] for key in ("class_ids", "probabilities", "classes"))
    assert isinstance(class_ids, Tensor)
    assert isinstance(probabilities, Tensor)
    assert isinstance(classes, StringPrediction)
    names = classes.vocabulary
    ids = _class_ids(labels, names)
    is_binary = len(names) == 2
    one_hot = torch.nn.functional.one_hot(ids.reshape(-1), len(names))
    shown = slice(1, 2) if is_binary else slice(None)
    curves = partial(curve, one_hot[:, shown], probabilities[:, shown], names[shown])
    return {
        "confusion_matrix": confusion_matrix(ids, class_ids, names),
        "roc_curve": curves("ROC"),
        "precision_recall_curve": curves("PR"),
    }


def confusion_matrix(
    labels: Tensor, predictions: Tensor, class_names: Sequence[str], weights: Weights = None
) -> Metric:
    """metrics.confusion_matrix of class ids, drawn with the names of the classes: an array [classes, classes]."""
    _check_installed()
    counted = metrics.confusion_matrix(labels, predictions, len(class_names), weights)
    return dataclasses.replace(counted, draw=partial(draw_confusion_matrix, class_names=class_names))


def curve(
    labels: Tensor, probabilities: Tensor, class_names: Sequence[str], kind: str = "ROC", weights: Weights = None
) -> Metric:
    """A 'ROC' or 'PR' curve a class, at 200 thresholds: an array [classes, 2, 200] of x and y.

    `labels` 0/1 and `probabilities` are [B, classes]; a class is held against all others. Raises ValueError for another
    kind or shape and for probabilities outside [0, 1].
    """
    if kind not in _AXES:
        raise ValueError(f"kind must be 'ROC' or 'PR', got {kind!r}.")
    _check_installed()
    columns = range(len(class_names))
    states = [metrics.bucket_weights(labels[:, i], probabilities[:, i], weights) for i in columns]
    draw = partial(draw_curves, class_names=class_names, kind=kind)
    return Metric(torch.stack(states), lambda state: np.stack([metrics.curve_points(s, kind) for s in state]), draw)


def pictures(totals: Mapping[str, Metric], results: Mapping[str, Any]) -> dict[str, bytes]:
    """`<metric>/figure` -> serialized Summary with an image, for those of `totals` that draw themselves."""
    drawn = {key: metric.draw(results[key]) for key, metric in totals.items() if metric.draw is not None}
    return {f"{key}/figure": _to_summary(figure) for key, figure in drawn.items()}


# -- drawing ----------------------------------------------------------------------------------------------------------

_AXES = {"ROC": ("false positive rate", "true positive rate"), "PR": ("recall", "precision")}
_LABELLED_CELLS_MAX = 30


def draw_confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Any:
    """A matplotlib figure: labels down, predictions across, shares of each label as colour."""
    figure, axes = _new_figure()
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    axes.imshow(matrix / totals, vmin=0, vmax=1, cmap="Blues")
    places = range(len(class_names))
    axes.set_xticks(places, class_names, rotation=45, ha="right")
    axes.set_yticks(places, class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    if len(class_names) <= _LABELLED_CELLS_MAX:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if count / totals[row, 0] > 0.5 else "black"
            axes.text(column, row, f"{count:g}", ha="center", va="center", color=colour)
    return figure


def draw_curves(points: np.ndarray, class_names: Sequence[str], kind: str) -> Any:
    """A matplotlib figure with one line a class."""
    figure, axes = _new_figure()
    for (x, y), name in zip(points, class_names, strict=True):
        axes.plot(x, y, label=name)
    if kind == "ROC":
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set_xlabel(_AXES[kind][0])
    axes.set_ylabel(_AXES[kind][1])
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(title="class")
    return figure


def _to_summary(figure: Any) -> bytes:
    from tensorboard.compat.proto.summary_pb2 import Summary

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    width, height = (int(size) for size in figure.get_size_inches() * figure.dpi)
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=buffer.getvalue())
    serialized: bytes = Summary(value=[Summary.Value(image=image)]).SerializeToString()
    return serialized


def _check_installed() -> None:
    """Found missing at the first batch rather than after the last."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "Figures are drawn with matplotlib, which is not installed: pip install 'estimator-serving[figures]'."
        )


def _new_figure() -> tuple[Any, Any]:
    # Not pyplot: it keeps every figure, and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    return figure, figure.subplots()


def _class_ids(labels: Any, names: Sequence[str]) -> Tensor:
    if isinstance(labels, Tensor):
        return labels.long()
    known = {name: i for i, name in enumerate(names)}
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in np.ravel(labels)]
    unknown = sorted(set(words) - set(known))
    if unknown:
        raise ValueError(f"The labels {unknown} are none of the classes {list(names)}.")
    return torch.tensor([known[word] for word in words])
