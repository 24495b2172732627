"""The sections of the report, in their order: markup, and the figures that stand between it.

Owns what is said of a run and of an evaluation. Does not know how a page is put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from estimator_serving.cli.report import figures
from estimator_serving.cli.report.contents import Contents
from estimator_serving.cli.report.figures import Figure
from estimator_serving.cli.report.markup import (
    bullets,
    called,
    escaped,
    in_words,
    name_of,
    share_of,
    table,
    values_by_step,
)

_TABLED_CLASSES_MAX = 12
_LEADING = ("accuracy", "auc", "auc_precision_recall", "precision", "recall", "average_loss", "loss")

Part = str | Figure


def parts(contents: Contents) -> Iterator[Part]:
    yield from headline(contents)
    if contents.lacking:
        yield f'<section class="lacking"><h2>Not on this page</h2>{bullets(contents.lacking)}</section>'
    yield "<section><h2>Learning curves</h2>"
    yield from learning_curves(contents)
    yield "</section><section><h2>Metrics by step</h2>"
    yield from metrics_by_step(contents)
    yield "</section>"
    for folder, counted in contents.last.items():
        yield from last_evaluation(folder, counted, contents)
    yield "<section><h2>Hyperparameters</h2>"
    yield from hyperparameters(contents)
    yield "</section>"


def headline(contents: Contents) -> Iterator[Part]:
    """The last value of the metrics that say most."""
    for folder, by_step in contents.evaluations.items():
        step = max(by_step)
        metrics = by_step[step]
        leading = [key for key in _LEADING if key in metrics] or sorted(metrics)[:4]
        boxes = "".join(f"<div><dt>{escaped(key)}</dt><dd>{metrics[key]:.4g}</dd></div>" for key in leading[:6])
        title = f"{escaped(called(folder))} at step {step:,}"
        yield f'<section><h2>{title}</h2><dl class="numbers">{boxes}</dl></section>'


def learning_curves(contents: Contents) -> Iterator[Part]:
    losses = {"training loss": values_by_step(contents.training, "loss")}
    for folder, by_step in contents.evaluations.items():
        losses[f"{folder} loss"] = values_by_step(by_step, "loss")
    losses = {name: points for name, points in losses.items() if points}
    if not losses:
        yield "<p>No loss was recorded.</p>"
        return
    ends = "; ".join(
        f"{name} {list(points.values())[-1]:.4g} at step {max(points):,}" for name, points in losses.items()
    )
    yield figures.lines_by_step("Loss", f"Loss by step. The last values: {ends}.", losses, "loss")
    rates = values_by_step(contents.training, "global_step/sec")
    if rates:
        caption = f"Steps that the training took in a second; {sum(rates.values()) / len(rates):.4g} on average."
        yield figures.lines_by_step("Speed", caption, {"steps a second": rates}, "steps / s")


def metrics_by_step(contents: Contents) -> Iterator[Part]:
    if not contents.evaluations:
        yield "<p>No evaluation was recorded.</p>"
    for folder, by_step in contents.evaluations.items():
        keys = sorted({key for metrics in by_step.values() for key in metrics} - {"loss"})
        series = {key: values_by_step(by_step, key) for key in keys}
        shares = {
            key: points
            for key, points in series.items()
            if all(0 <= value <= 1 for value in points.values()) and not key.endswith(("/mean", "loss", "_baseline"))
        }
        prefix = "" if len(contents.evaluations) == 1 else f"{called(folder)}: "
        if len(by_step) == 1:
            ((step, metrics),) = by_step.items()
            rows = [[key, f"{value:.6g}"] for key, value in sorted(metrics.items())]
            yield table(f"{called(folder)}: there is one, at step {step:,}", ["metric", "value"], rows)
            continue
        told = f"{len(by_step)} evaluations, the last at step {max(by_step):,}."
        if shares:
            yield figures.lines_by_step(f"{prefix}Metrics between 0 and 1", told, shares, "value")
        others = {key: points for key, points in series.items() if key not in shares}
        if others:
            yield figures.lines_by_step(f"{prefix}Other metrics", told, others, "value")


def last_evaluation(folder: str, counted: Mapping[str, Any], contents: Contents) -> Iterator[Part]:
    name = f" ({escaped(name_of(folder))})" if name_of(folder) else ""
    yield f"<section><h2>What the last evaluation found{name}</h2>"
    path = Path(str(counted.get("checkpoint_path") or "initial values")).name
    written = escaped(counted["written_at"][:16].replace("T", " "))
    yield f'<p class="quiet">{counted["rows"]:,} rows, {escaped(path)}, {written} UTC. '
    yield "Every row counts once here, whatever its weight.</p>"
    if counted["note"]:
        yield f"<p>{escaped(counted['note'])}</p>"
    for target in counted["targets"]:
        yield f"<h3>Head {escaped(target['name'])}</h3>" if target["name"] else ""
        if target["kind"] == "numbers":
            yield number_facts(target)
            yield from figures.residual_figures(target)
        else:
            yield from of_classes(target)
    if counted["columns"]:
        yield "<h3>Coverage of the columns</h3>"
        yield from coverage(counted, contents.training_data)
    yield "</section>"


def number_facts(target: Mapping[str, Any]) -> str:
    names = {
        "mean_error": "mean of label − prediction",
        "mean_absolute_error": "mean absolute error",
        "root_mean_squared_error": "root mean squared error",
        "r_squared": "R²",
    }
    facts = [(text, target[key]) for key, text in names.items() if target.get(key) is not None]
    return '<dl class="numbers">' + "".join(f"<div><dt>{k}</dt><dd>{v:.4g}</dd></div>" for k, v in facts) + "</dl>"


def of_classes(target: Mapping[str, Any]) -> Iterator[Part]:
    if target["class_count"] > len(target["classes"]):
        yield f"<p>The model has {target['class_count']:,} classes. Curves and tables are kept for up to "
        yield f"{len(target['classes'])} classes.</p>"
        return
    confusion, classes = target["confusion"], target["classes"]
    if confusion is not None and len(classes) <= _TABLED_CLASSES_MAX:
        yield confusion_table(confusion, classes)
    elif confusion is not None:
        yield figures.confusion_map(confusion, classes)
    if len(target["scores"]) > 1:
        head, rows = figures.class_table(target["scores"], confusion)
        yield table("Each class against the others", head, rows)
    yield from figures.curve_figures(target["scores"], is_alone=len(target["scores"]) == 1)


def confusion_table(confusion: figures.Rows, classes: Sequence[str]) -> str:
    total = sum(map(sum, confusion)) or 1
    right = sum(row[i] for i, row in enumerate(confusion))
    rows = []
    for name, row in zip(classes, confusion, strict=True):
        cells = []
        for count in row:
            share = count / (sum(row) or 1)
            cells.append(f'<td style="--share:{share:.3f}">{count:,}<br><span class="quiet">{share:.0%}</span></td>')
        rows.append(f'<tr><th scope="row">{escaped(name)}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in classes)
    said = f"{right:,} of {total:,} rows are right ({right / total:.1%})"
    caption = f"Confusion matrix: {said}. Labels down, predictions across."
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="confusion">'
        f"<caption>{caption}</caption>"
        f'<thead><tr><td class="corner">label \\ predicted</td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def coverage(counted: Mapping[str, Any], training_data: Mapping[str, Any]) -> Iterator[str]:
    known = training_data.get("features", {})
    rows = []
    for one in counted["columns"]:
        trained = known.get(one["column"])
        rows.append(
            [
                one["column"],
                one["kind"].replace("_", " "),
                share_of(one.get("missing_rows"), one["rows"]),
                share_of(trained["missing"], trained["count"] + trained["missing"]) if trained else "–",
                strange(one),
                sharing(one),
                seen(one),
            ]
        )
    head = ["column", "kind", "missing", "missing in training", "out of vocabulary or range", "buckets", "values"]
    caption = f"What the columns found in the first {counted['covered_rows']:,} rows of the evaluation"
    yield table(caption, head, rows)
    unknown = [(one["column"], one["unknown_values"]) for one in counted["columns"] if one.get("unknown_values")]
    for column, values in unknown:
        said = ", ".join(f"{value} ({count:,})" for value, count in values)
        yield f"<p>Not in the vocabulary of <b>{escaped(column)}</b>: {escaped(said)}.</p>"


def strange(one: Mapping[str, Any]) -> str:
    for key in ("out_of_vocabulary", "out_of_range"):
        if key in one:
            return share_of(one[key], one["values"])
    return "more distinct values than are told apart" if one.get("is_cut") else "–"


def sharing(one: Mapping[str, Any]) -> str:
    if "distinct_sharing" in one:
        share = share_of(one["distinct_sharing"], one["distinct"])
        return f"{one['buckets_used']:,} of {one['buckets']:,} used; {share} of the values share one"
    if "expected_sharing" in one:
        return f"{one['buckets']:,}; by chance {one['expected_sharing']:.1%} of the combinations share one"
    if "rows_by_bucket" in one:
        empty = sum(not count for count in one["rows_by_bucket"])
        largest = share_of(max(one["rows_by_bucket"]), sum(one["rows_by_bucket"]))
        return f"{len(one['rows_by_bucket'])}, {empty} empty; the largest has {largest}"
    if "vocabulary_used" in one:
        return f"{one['vocabulary_used']:,} of {one['vocabulary']:,} words seen"
    return f"{one['buckets']:,}" if "buckets" in one else "–"


def seen(one: Mapping[str, Any]) -> str:
    if "top" in one:
        top = ", ".join(f"{value} ({share_of(count, one['values'])})" for value, count in one["top"][:3])
        return f"{one['distinct']:,} distinct: {top}"
    if "mean" in one:
        return f"{one['min']:.4g} to {one['max']:.4g}, mean {one['mean']:.4g}"
    return f"{one['distinct']:,} combinations" if "distinct" in one else "–"


def hyperparameters(contents: Contents) -> Iterator[str]:
    found = contents.hyperparameters
    if not found:
        yield "<p>They were not recorded.</p>"
        return
    rows: list[list[Any]] = [["estimator", found.get("estimator", "")]]
    for group in ("arguments", "params"):
        rows += [[key, in_words(value)] for key, value in (found.get(group) or {}).items()]
    if contents.training_data:
        rows.append(["training data", contents.training_data.get("fingerprint", "")])
    yield table("What the estimator was made with", ["name", "value"], rows)
