"""The pieces of HTML that the report is made of: figures with their tables, tables, lists, and how values are written.

Owns the markup and its accessibility. Does not know what is reported.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from estimator_serving.cli.report.figures import Figure, Rows


def figure_markup(one: Figure, number: int) -> str:
    numbers = table(f"{one.title}: the numbers", one.head, one.rows, is_quiet=True)
    said = f"{escaped(one.title)}. {escaped(one.caption)}"
    return f"""<figure aria-labelledby="f{number}t" aria-describedby="f{number}c">
<h3 id="f{number}t">{escaped(one.title)}</h3>
<div class="plot" id="f{number}" role="img" aria-label="{said}" style="height:{one.height}px"></div>
<figcaption id="f{number}c">{escaped(one.caption)}</figcaption>
<details><summary>The numbers as a table</summary>{numbers}</details>
</figure>
"""


def table(caption: str, head: Sequence[str], rows: Rows, is_quiet: bool = False) -> str:
    top = "".join(f'<th scope="col">{escaped(one)}</th>' for one in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{escaped(one)}</td>" for one in others)
        lines.append(f'<tr><th scope="row">{escaped(first)}</th>{cells}</tr>')
    hidden = ' class="hidden"' if is_quiet else ""
    said = escaped(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{said}"><table><caption{hidden}>{said}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def bullets(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escaped(one)}</li>" for one in sentences) + "</ul>"


def name_of(folder: str) -> str:
    """What evaluate's `name` was, by the directory of the evaluation; empty for none."""
    return folder.removeprefix("eval").lstrip("_")


def called(folder: str) -> str:
    return f"Evaluation {name_of(folder)!r}" if name_of(folder) else "Evaluation"


def values_by_step(by_step: Mapping[int, Mapping[str, float]], key: str) -> dict[int, float]:
    return {step: numbers[key] for step, numbers in by_step.items() if key in numbers and numbers[key] == numbers[key]}


def share_of(count: Any, total: Any) -> str:
    return "–" if count is None or not total else "0 %" if not count else f"{count / total:.1%}".replace("%", " %")


def in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def escaped(value: Any) -> str:
    return html.escape(str(value))
