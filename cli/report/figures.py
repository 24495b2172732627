"""The figures of the report: traces and axes for plotly.js, each with a caption and a table of the same numbers.

Owns which numbers a figure shows. Colours of text and grid are the page's, which follow the reader's theme.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COLOURS = ("#3d7fc4", "#d9742b", "#2f9e6b", "#b0539f", "#c9a227", "#d2504d", "#5aa9b8", "#8a7bd1", "#7f8c3a", "#8d6e63")
_POINTS_MAX = 200
_TABLE_ROWS_MAX = 40
_SCATTER_MAX = 1_500
_CURVES_MAX = 8
_BINS = 10

Rows = Sequence[Sequence[Any]]


@dataclass
class Figure:
    """A figure: its title, what it says in words, the traces and layout for plotly.js, and its numbers as a table."""

    title: str
    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    head: Sequence[str]
    rows: Rows
    height: int = 320


# -- by step ----------------------------------------------------------------------------------------------------------


def lines_by_step(title: str, caption: str, series: Mapping[str, Mapping[int, float]], y_title: str) -> Figure:
    """One line for each series of numbers by step."""
    traces = []
    for colour, (name, points) in zip(itertools.cycle(COLOURS), series.items(), strict=False):
        few = len(points) <= 30
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if few else "lines",
                "name": name,
                "x": list(points),
                "y": [_short(value) for value in points.values()],
                "line": {"color": colour, "width": 2, "dash": "dot" if name.startswith("train") else "solid"},
                "marker": {"size": 7},
            }
        )
    steps = sorted({step for points in series.values() for step in points})
    rows = [[step, *(_cell(points.get(step)) for points in series.values())] for step in _thinned(steps)]
    axes = {"xaxis": {"title": "step", "rangemode": "tozero"}, "yaxis": {"title": y_title}, "showlegend": True}
    return Figure(title, caption, traces, axes, ["step", *series], rows)


# -- classes ----------------------------------------------------------------------------------------------------------


def curve_figures(scores: Sequence[Mapping[str, Any]], is_alone: bool) -> list[Figure]:
    """Calibration, ROC, and precision and recall of the classes with the most rows."""
    counted = [one for one in scores if sum(one["positives"]) and sum(one["negatives"])]
    shown = sorted(counted, key=lambda one: -sum(one["positives"]))[:_CURVES_MAX]
    if not shown:
        return []
    names = [f"class {one['class']}" for one in shown]
    points = [_operating_points(one) for one in shown]
    areas = [_area(fpr, tpr) for fpr, tpr, _ in points]
    average = [average_precision(tpr, precision) for _, tpr, precision in points]
    rest = (
        f" The {len(shown)} classes with the most rows of {len(scores)} are shown." if len(scores) > len(shown) else ""
    )

    def said(values: Sequence[float]) -> str:
        if is_alone:
            return f"{values[0]:.3f}"
        return ", ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True))

    roc = _curves(
        "ROC curve",
        f"How many positives are found for how many negatives taken along. Area under the curve: {said(areas)}.{rest}",
        names,
        [(fpr, tpr) for fpr, tpr, _ in points],
        ("false positive rate", "true positive rate"),
        [([0, 1], [0, 1])],
    )
    pr = _curves(
        "Precision and recall",
        "How many of those taken are positive, for how many positives found. "
        f"Average precision: {said(average)}.{rest}",
        names,
        [(tpr, precision) for _, tpr, precision in points],
        ("recall", "precision"),
        [],
    )
    return [calibration(shown, names, rest), roc, pr]


def class_table(scores: Sequence[Mapping[str, Any]], confusion: Rows | None) -> tuple[Sequence[str], Rows]:
    """Rows, precision, recall, F1 and area of each class."""
    matrix = None if confusion is None else np.array(confusion, float)
    rows = []
    for place, one in enumerate(scores):
        at = place if matrix is None or len(matrix) == len(scores) else 1
        entry: list[Any] = [one["class"], _cell(sum(one["positives"]))]
        if matrix is not None:
            right, labelled, predicted = matrix[at, at], matrix[at].sum(), matrix[:, at].sum()
            precision = right / predicted if predicted else 0.0
            recall = right / labelled if labelled else 0.0
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
            entry += [f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}"]
        fpr, tpr, _ = _operating_points(one)
        rows.append([*entry, f"{_area(fpr, tpr):.3f}" if sum(one["positives"]) and sum(one["negatives"]) else "–"])
    measured = [] if matrix is None else ["precision", "recall", "F1"]
    return ["class", "rows", *measured, "area under ROC"], rows


def confusion_map(confusion: Rows, classes: Sequence[str]) -> Figure:
    """The confusion matrix of many classes, as shares of each label."""
    matrix = np.array(confusion, float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    wrong = [
        (int(matrix[i, j]), classes[i], classes[j])
        for i in range(len(classes))
        for j in range(len(classes))
        if i != j and matrix[i, j]
    ]
    worst = [[label, predicted, count] for count, label, predicted in sorted(wrong, reverse=True)[:_TABLE_ROWS_MAX]]
    trace = {
        "type": "heatmap",
        "z": shares.round(4).tolist(),
        "x": list(classes),
        "y": list(classes),
        "zmin": 0,
        "zmax": 1,
    }
    layout = {
        "xaxis": {"title": "predicted", "type": "category"},
        "yaxis": {"title": "label", "type": "category", "autorange": "reversed"},
    }
    caption = (
        "The share of the rows of each label that was predicted as each class. The table has the most frequent "
        "mistakes."
    )
    return Figure("Confusion matrix", caption, [trace], layout, ["label", "predicted", "rows"], worst, height=520)


def calibration(shown: Sequence[Mapping[str, Any]], names: Sequence[str], rest: str) -> Figure:
    traces: list[dict[str, Any]] = [_reference([0, 1], [0, 1])]
    rows = []
    errors = []
    for colour, name, one in zip(itertools.cycle(COLOURS), names, shown, strict=False):
        positives, negatives, sums = (np.array(one[key], float) for key in ("positives", "negatives", "score_sums"))
        counts = positives + negatives
        bins = np.minimum((sums / counts * _BINS).astype(int), _BINS - 1)
        count, positive, total = (np.bincount(bins, each, _BINS) for each in (counts, positives, sums))
        (filled,) = np.nonzero(count)
        said, seen = total[filled] / count[filled], positive[filled] / count[filled]
        errors.append(float((abs(said - seen) * count[filled]).sum() / count.sum()))
        sizes = 6 + 12 * np.sqrt(count[filled] / count.max())
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": said.round(4).tolist(),
                "y": seen.round(4).tolist(),
                "line": {"color": colour, "width": 2},
                "marker": {"size": sizes.round(1).tolist(), "color": colour},
                "text": [f"{int(rows)} rows" for rows in count[filled]],
            }
        )
        rows += [[name, f"{x:.3f}", f"{y:.3f}", int(n)] for x, y, n in zip(said, seen, count[filled], strict=True)]
    layout = {"xaxis": _unit("mean predicted probability"), "yaxis": _unit("share of positives")}
    apart = f"{errors[0]:.3f}" if len(errors) == 1 else f"{np.mean(errors):.3f} on average"
    caption = (
        "Of rows with a predicted probability, the share that is positive; on the dotted line both are equal. Larger "
        f"points stand for more rows. Expected calibration error: {apart}.{rest}"
    )
    head = ["class", "mean probability", "share of positives", "rows"]
    return Figure("Calibration", caption, traces, layout, head, rows[:_TABLE_ROWS_MAX])


def _operating_points(one: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False positive rate, true positive rate and precision from the highest threshold down."""
    tp = np.concatenate([[0], np.cumsum(np.array(one["positives"], float)[::-1])])
    fp = np.concatenate([[0], np.cumsum(np.array(one["negatives"], float)[::-1])])
    precision = tp / np.maximum(tp + fp, 1e-12)
    precision[0] = precision[1] if len(precision) > 1 else 1
    return fp / max(fp[-1], 1e-12), tp / max(tp[-1], 1e-12), precision


def _area(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    return float(np.sum(np.diff(recall) * precision[1:]))


def _curves(
    title: str,
    caption: str,
    names: Sequence[str],
    points: Sequence[tuple[np.ndarray, np.ndarray]],
    axis_titles: tuple[str, str],
    references: Sequence[tuple[list[float], list[float]]],
) -> Figure:
    traces = [_reference(*each) for each in references]
    rows = []
    for colour, name, (x, y) in zip(itertools.cycle(COLOURS), names, points, strict=False):
        at = _thinned(range(len(x)), _POINTS_MAX)
        line = {"color": colour, "width": 2}
        pairs = {"x": x[at].round(4).tolist(), "y": y[at].round(4).tolist()}
        traces.append({"type": "scatter", "mode": "lines", "name": name, "line": line, **pairs})
        few = _thinned(range(len(x)), max(_TABLE_ROWS_MAX // len(names), 5))
        rows += [[name, f"{x[i]:.3f}", f"{y[i]:.3f}"] for i in few]
    layout = {"xaxis": _unit(axis_titles[0]), "yaxis": _unit(axis_titles[1])}
    return Figure(title, caption, traces, layout, ["class", *axis_titles], rows)


# -- numbers ----------------------------------------------------------------------------------------------------------


def residual_figures(target: Mapping[str, Any]) -> list[Figure]:
    """Predictions against labels, and how far they are apart."""
    pairs = np.array(target["sample"], float).reshape(-1, 2)
    if not len(pairs):
        return []
    label, predicted = pairs.T
    error = label - predicted
    low, high = float(min(label.min(), predicted.min())), float(max(label.max(), predicted.max()))
    drawn = slice(0, _SCATTER_MAX)
    scatter = {
        "type": "scatter",
        "mode": "markers",
        "name": "row",
        "x": [_short(value) for value in predicted[drawn]],
        "y": [_short(value) for value in label[drawn]],
        "marker": {"color": COLOURS[0], "size": 6, "opacity": 0.45},
    }
    sampled = (
        f" {len(pairs[drawn]):,} of {target['rows']:,} rows are drawn." if target["rows"] > len(pairs[drawn]) else ""
    )
    at = [0, 5, 25, 50, 75, 95, 100]
    quantiles = [[f"{p} %", _cell(np.percentile(label, p)), _cell(np.percentile(predicted, p))] for p in at]
    first = Figure(
        "Predictions and labels",
        f"Each point is a row; on the dotted line the prediction is right.{sampled} The table compares quantiles.",
        [_reference([low, high], [low, high]), scatter],
        {"xaxis": {"title": "predicted"}, "yaxis": {"title": "label"}, "showlegend": False},
        ["quantile", "label", "predicted"],
        quantiles,
    )
    counts, edges = np.histogram(error, bins=min(40, max(10, len(error) // 20)))
    bars = {
        "type": "bar",
        "name": "rows",
        "x": [_short(value) for value in (edges[:-1] + edges[1:]) / 2],
        "y": counts.tolist(),
        "width": [_short(value) for value in np.diff(edges)],
        "marker": {"color": COLOURS[0]},
    }
    share = float((abs(error) <= abs(error).mean()).mean())
    second = Figure(
        "Residuals",
        f"Label minus prediction. {share:.0%} of the rows are nearer than the mean absolute error.",
        [bars],
        {"xaxis": {"title": "label − prediction"}, "yaxis": {"title": "rows"}, "bargap": 0.02, "showlegend": False},
        ["from", "to", "rows"],
        [[_cell(a), _cell(b), int(n)] for a, b, n in zip(edges, edges[1:], counts, strict=False)],
    )
    return [first, second]


# -- parts ------------------------------------------------------------------------------------------------------------


def _reference(x: list[float], y: list[float]) -> dict[str, Any]:
    line = {"color": "#8a8f98", "width": 1.5, "dash": "dot"}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip", "showlegend": False}


def _unit(title: str) -> dict[str, Any]:
    return {"title": title, "range": [-0.02, 1.02]}


def _thinned(items: Sequence[Any], most: int = _TABLE_ROWS_MAX) -> list[Any]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")


def _cell(value: Any) -> str:
    return "–" if value is None else f"{float(value):,.0f}" if float(value).is_integer() else f"{float(value):.5g}"
