"""The report as one HTML page: headings, sentences, tables and figures, with plotly.js inside.

Owns how the page looks. Every figure has its numbers in a table as well, which a reader without a
screen or without JavaScript uses. Nothing is loaded from anywhere.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from estimator_serving.cli.report.contents import Contents
from estimator_serving.cli.report.figures import Figure
from estimator_serving.cli.report.markup import escaped, figure_markup
from estimator_serving.cli.report.sections import parts

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")


def render(contents: Contents, plotly_js: str) -> str:
    """The page as text."""
    name = contents.directory.resolve().name
    body: list[str] = []
    drawn: list[Figure] = []
    for part in parts(contents):
        if isinstance(part, Figure):
            body.append(figure_markup(part, len(drawn)))
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
<title>{escaped(name)}: report of a model</title>
<style>{_STYLE.read_text()}</style>
</head>
<body>
<header><h1>{escaped(name)}</h1>
<p class="quiet">{escaped(str(contents.directory.resolve()))} · written {now} by estimator-serving report</p></header>
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
