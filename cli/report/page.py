"""The report as one HTML page: headings, sentences, tables and figures, with plotly.js inside.

Owns the order of the page and how it looks. Every figure has its numbers in a table as well, which a reader without a
screen or without JavaScript uses. Nothing is loaded from anywhere.
"""

from __future__ import annotations

import datetime as dt
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from estimator_serving.cli.report import figures
from estimator_serving.cli.report.contents import Contents
from estimator_serving.cli.report.figures import Figure

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")
_TABLED_CLASSES_MAX = 12
_LEADING = ("accuracy", "auc", "auc_precision_recall", "precision", "recall", "average_loss", "loss")

Part = str | Figure


def render(contents: Contents, plotly_js: str) -> str:
    """The page as text."""
    name = contents.directory.resolve().name
    body: list[str] = []
    drawn: list[Figure] = []
    for part in _parts(contents):
        if isinstance(part, Figure):
            body.append(_figure(part, len(drawn)))
            drawn.append(part)
        else:
            body.append(part)
    data = [{"data": one.traces, "layout": one.layout, "height": one.height} for one in drawn]
    embedded = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    now = dt.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{_text(name)}: report of a model</title>
<style>{_STYLE.read_text()}</style>
</head>
<body>
<header><h1>{_text(name)}</h1>
<p class="quiet">{_text(str(contents.directory.resolve()))} · written {now} by estimator-serving report</p></header>
<main>
{"".join(body)}
</main>
<noscript><p>The figures need JavaScript. Their numbers are in the tables below each of them.</p></noscript>
<script>{plotly_js}</script>
<script>const FIGURES = {embedded};
{_SCRIPT.read_text()}</script>
</body>
</html>
"""


def _parts(contents: Contents) -> Iterator[Part]:
    yield from _headline(contents)
    if contents.lacking:
        yield f'<section class="lacking"><h2>Not on this page</h2>{_list(contents.lacking)}</section>'
    yield "<section><h2>Learning curves</h2>"
    yield from _learning_curves(contents)
    yield "</section><section><h2>Metrics by step</h2>"
    yield from _metrics_by_step(contents)
    yield "</section>"
    for folder, counted in contents.last.items():
        yield from _last_evaluation(folder, counted, contents)
    yield "<section><h2>Hyperparameters</h2>"
    yield from _hyperparameters(contents)
    yield "</section>"


def _headline(contents: Contents) -> Iterator[Part]:
    """The last value of the metrics that say most."""
    for folder, by_step in contents.evaluations.items():
        step = max(by_step)
        metrics = by_step[step]
        leading = [key for key in _LEADING if key in metrics] or sorted(metrics)[:4]
        boxes = "".join(f"<div><dt>{_text(key)}</dt><dd>{metrics[key]:.4g}</dd></div>" for key in leading[:6])
        title = f"{_text(_called(folder))} at step {step:,}"
        yield f'<section><h2>{title}</h2><dl class="numbers">{boxes}</dl></section>'


def _learning_curves(contents: Contents) -> Iterator[Part]:
    losses = {"training loss": _values(contents.training, "loss")}
    for folder, by_step in contents.evaluations.items():
        losses[f"{folder} loss"] = _values(by_step, "loss")
    losses = {name: points for name, points in losses.items() if points}
    if not losses:
        yield "<p>No loss was recorded.</p>"
        return
    ends = "; ".join(
        f"{name} {list(points.values())[-1]:.4g} at step {max(points):,}" for name, points in losses.items()
    )
    yield figures.lines_by_step("Loss", f"Loss by step. The last values: {ends}.", losses, "loss")
    rates = _values(contents.training, "global_step/sec")
    if rates:
        caption = f"Steps that the training took in a second; {sum(rates.values()) / len(rates):.4g} on average."
        yield figures.lines_by_step("Speed", caption, {"steps a second": rates}, "steps / s")


def _metrics_by_step(contents: Contents) -> Iterator[Part]:
    if not contents.evaluations:
        yield "<p>No evaluation was recorded.</p>"
    for folder, by_step in contents.evaluations.items():
        keys = sorted({key for metrics in by_step.values() for key in metrics} - {"loss"})
        series = {key: _values(by_step, key) for key in keys}
        shares = {
            key: points
            for key, points in series.items()
            if all(0 <= value <= 1 for value in points.values()) and not key.endswith(("/mean", "loss", "_baseline"))
        }
        prefix = "" if len(contents.evaluations) == 1 else f"{_called(folder)}: "
        if len(by_step) == 1:
            ((step, metrics),) = by_step.items()
            rows = [[key, f"{value:.6g}"] for key, value in sorted(metrics.items())]
            yield _table(f"{_called(folder)}: there is one, at step {step:,}", ["metric", "value"], rows)
            continue
        told = f"{len(by_step)} evaluations, the last at step {max(by_step):,}."
        if shares:
            yield figures.lines_by_step(f"{prefix}Metrics between 0 and 1", told, shares, "value")
        others = {key: points for key, points in series.items() if key not in shares}
        if others:
            yield figures.lines_by_step(f"{prefix}Other metrics", told, others, "value")


def _last_evaluation(folder: str, counted: Mapping[str, Any], contents: Contents) -> Iterator[Part]:
    yield f"<section><h2>What the last evaluation found{_of(folder)}</h2>"
    path = Path(str(counted.get("checkpoint_path") or "initial values")).name
    written = _text(counted["written_at"][:16].replace("T", " "))
    yield f'<p class="quiet">{counted["rows"]:,} rows, {_text(path)}, {written} UTC. '
    yield "Every row counts once here, whatever its weight.</p>"
    if counted["note"]:
        yield f"<p>{_text(counted['note'])}</p>"
    for target in counted["targets"]:
        yield f"<h3>Head {_text(target['name'])}</h3>" if target["name"] else ""
        if target["kind"] == "numbers":
            yield _number_facts(target)
            yield from figures.residual_figures(target)
        else:
            yield from _classes(target)
    if counted["columns"]:
        yield "<h3>Coverage of the columns</h3>"
        yield from _coverage(counted, contents.training_data)
    yield "</section>"


def _number_facts(target: Mapping[str, Any]) -> str:
    names = {
        "mean_error": "mean of label − prediction",
        "mean_absolute_error": "mean absolute error",
        "root_mean_squared_error": "root mean squared error",
        "r_squared": "R²",
    }
    facts = [(text, target[key]) for key, text in names.items() if target.get(key) is not None]
    return '<dl class="numbers">' + "".join(f"<div><dt>{k}</dt><dd>{v:.4g}</dd></div>" for k, v in facts) + "</dl>"


def _classes(target: Mapping[str, Any]) -> Iterator[Part]:
    if target["class_count"] > len(target["classes"]):
        yield f"<p>The model has {target['class_count']:,} classes. Curves and tables are kept for up to "
        yield f"{len(target['classes'])} classes.</p>"
        return
    confusion, classes = target["confusion"], target["classes"]
    if confusion is not None and len(classes) <= _TABLED_CLASSES_MAX:
        yield _confusion_table(confusion, classes)
    elif confusion is not None:
        yield figures.confusion_map(confusion, classes)
    if len(target["scores"]) > 1:
        head, rows = figures.class_table(target["scores"], confusion)
        yield _table("Each class against the others", head, rows)
    yield from figures.curve_figures(target["scores"], is_alone=len(target["scores"]) == 1)


def _confusion_table(confusion: figures.Rows, classes: Sequence[str]) -> str:
    total = sum(map(sum, confusion)) or 1
    right = sum(row[i] for i, row in enumerate(confusion))
    rows = []
    for name, row in zip(classes, confusion, strict=True):
        cells = []
        for count in row:
            share = count / (sum(row) or 1)
            cells.append(f'<td style="--share:{share:.3f}">{count:,}<br><span class="quiet">{share:.0%}</span></td>')
        rows.append(f'<tr><th scope="row">{_text(name)}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in classes)
    said = f"{right:,} of {total:,} rows are right ({right / total:.1%})"
    caption = f"Confusion matrix: {said}. Labels down, predictions across."
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="confusion">'
        f"<caption>{caption}</caption>"
        f'<thead><tr><td class="corner">label \\ predicted</td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _coverage(counted: Mapping[str, Any], training_data: Mapping[str, Any]) -> Iterator[str]:
    known = training_data.get("features", {})
    rows = []
    for one in counted["columns"]:
        trained = known.get(one["column"])
        rows.append(
            [
                one["column"],
                one["kind"].replace("_", " "),
                _share(one.get("missing_rows"), one["rows"]),
                _share(trained["missing"], trained["count"] + trained["missing"]) if trained else "–",
                _strange(one),
                _sharing(one),
                _seen(one),
            ]
        )
    head = ["column", "kind", "missing", "missing in training", "out of vocabulary or range", "buckets", "values"]
    caption = f"What the columns found in the first {counted['covered_rows']:,} rows of the evaluation"
    yield _table(caption, head, rows)
    unknown = [(one["column"], one["unknown_values"]) for one in counted["columns"] if one.get("unknown_values")]
    for column, values in unknown:
        said = ", ".join(f"{value} ({count:,})" for value, count in values)
        yield f"<p>Not in the vocabulary of <b>{_text(column)}</b>: {_text(said)}.</p>"


def _strange(one: Mapping[str, Any]) -> str:
    for key in ("out_of_vocabulary", "out_of_range"):
        if key in one:
            return _share(one[key], one["values"])
    return "more distinct values than are told apart" if one.get("is_cut") else "–"


def _sharing(one: Mapping[str, Any]) -> str:
    if "distinct_sharing" in one:
        share = _share(one["distinct_sharing"], one["distinct"])
        return f"{one['buckets_used']:,} of {one['buckets']:,} used; {share} of the values share one"
    if "expected_sharing" in one:
        return f"{one['buckets']:,}; by chance {one['expected_sharing']:.1%} of the combinations share one"
    if "rows_by_bucket" in one:
        empty = sum(not count for count in one["rows_by_bucket"])
        largest = _share(max(one["rows_by_bucket"]), sum(one["rows_by_bucket"]))
        return f"{len(one['rows_by_bucket'])}, {empty} empty; the largest has {largest}"
    if "vocabulary_used" in one:
        return f"{one['vocabulary_used']:,} of {one['vocabulary']:,} words seen"
    return f"{one['buckets']:,}" if "buckets" in one else "–"


def _seen(one: Mapping[str, Any]) -> str:
    if "top" in one:
        top = ", ".join(f"{value} ({_share(count, one['values'])})" for value, count in one["top"][:3])
        return f"{one['distinct']:,} distinct: {top}"
    if "mean" in one:
        return f"{one['min']:.4g} to {one['max']:.4g}, mean {one['mean']:.4g}"
    return f"{one['distinct']:,} combinations" if "distinct" in one else "–"


def _hyperparameters(contents: Contents) -> Iterator[str]:
    found = contents.hyperparameters
    if not found:
        yield "<p>They were not recorded.</p>"
        return
    rows: list[list[Any]] = [["estimator", found.get("estimator", "")]]
    for group in ("arguments", "params"):
        rows += [[key, _said(value)] for key, value in (found.get(group) or {}).items()]
    if contents.training_data:
        rows.append(["training data", contents.training_data.get("fingerprint", "")])
    yield _table("What the estimator was made with", ["name", "value"], rows)


# -- pieces of HTML ---------------------------------------------------------------------------------------------------


def _figure(one: Figure, number: int) -> str:
    table = _table(f"{one.title}: the numbers", one.head, one.rows, is_quiet=True)
    said = f"{_text(one.title)}. {_text(one.caption)}"
    return f"""<figure aria-labelledby="f{number}t" aria-describedby="f{number}c">
<h3 id="f{number}t">{_text(one.title)}</h3>
<div class="plot" id="f{number}" role="img" aria-label="{said}" style="height:{one.height}px"></div>
<figcaption id="f{number}c">{_text(one.caption)}</figcaption>
<details><summary>The numbers as a table</summary>{table}</details>
</figure>
"""


def _table(caption: str, head: Sequence[str], rows: figures.Rows, is_quiet: bool = False) -> str:
    top = "".join(f'<th scope="col">{_text(one)}</th>' for one in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{_text(one)}</td>" for one in others)
        lines.append(f'<tr><th scope="row">{_text(first)}</th>{cells}</tr>')
    hidden = ' class="hidden"' if is_quiet else ""
    said = _text(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{said}"><table><caption{hidden}>{said}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(one)}</li>" for one in sentences) + "</ul>"


def _called(folder: str) -> str:
    named = folder.removeprefix("eval").lstrip("_")
    return f"Evaluation {named!r}" if named else "Evaluation"


def _of(folder: str) -> str:
    named = folder.removeprefix("eval").lstrip("_")
    return f" ({_text(named)})" if named else ""


def _values(by_step: Mapping[int, Mapping[str, float]], key: str) -> dict[int, float]:
    return {step: numbers[key] for step, numbers in by_step.items() if key in numbers and numbers[key] == numbers[key]}


def _share(count: Any, total: Any) -> str:
    return "–" if count is None or not total else "0 %" if not count else f"{count / total:.1%}".replace("%", " %")


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))
