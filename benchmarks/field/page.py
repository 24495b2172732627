"""The page about a run of `compare.py`: figures, tables, and the bounds that this server shall hold.

    python benchmarks/field/page.py build/field/results.json docs/benchmarks/servers.md

Pure functions of the results. The figures are SVG inside the Markdown, so the page needs no other file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

# The names of the requests that the page looks for.
ROWS, OPEN_INFERENCE = "REST JSON, rows", "REST JSON, Open Inference"
INFER, PREDICT = "gRPC ModelInfer", "gRPC Predict"
# How many times as many answers a second as each other server, one row at a time.
BOUNDS = {"mlserver": 5.0, "kserve": 5.0, "litserve": 5.0, "bentoml": 5.0, "triton": 1.5}
MOST_CALLERS = 32
FLOORS = ("stub", "echo-predict", "echo-infer")


class Pair(NamedTuple):
    """A request of another server and the request of this one that it is compared with."""

    server: str
    theirs: str
    ours: str


class Results:
    """What `compare.py` wrote, by server, case, rows and callers."""

    def __init__(self, read: dict[str, Any]) -> None:
        self.titles = read["titles"]
        self.found = {(one["server"], one["case"], one["rows"], one["callers"]): one for one in read["measured"]}
        self.callers = sorted({one["callers"] for one in read["measured"]})
        self.servers = [name for name in self.titles if any(key[0] == name for key in self.found)]

    def cases(self, server: str) -> list[tuple[str, int]]:
        return list(dict.fromkeys(key[1:3] for key in self.found if key[0] == server))

    def ratio(self, pair: Pair, rows: int, callers: int, figure: str = "rate") -> float | None:
        ours = self.found.get(("ours", pair.ours, rows, callers))
        theirs = self.found.get((pair.server, pair.theirs, rows, callers))
        return ours[figure] / theirs[figure] if ours and theirs else None

    def pairs(self) -> Iterator[Pair]:
        """The same request to both; a JSON request of the Open Inference Protocol also against plain rows."""
        for server in self.servers:
            if server != "ours":
                for case in dict.fromkeys(name for name, _ in self.cases(server)):
                    yield Pair(server, case, case)
                    if case == OPEN_INFERENCE:
                        yield Pair(server, case, ROWS)


def bounds_table(read: dict[str, Any]) -> str:
    """How many times as many answers a second this server gives, for one row, and the bounds."""
    results = Results(read)
    head = ["server", "request", *(f"{n} caller{'s' * (n > 1)}" for n in results.callers), "by processor time", "must"]
    lines = [f"| {' | '.join(head)} |  |", "|---|---|" + "---:|" * (len(head) - 2) + "---|"]
    for pair in results.pairs():
        ratios = [results.ratio(pair, 1, callers) for callers in results.callers]
        by_processor = results.ratio(pair, 1, results.callers[-1], "processor_rate")
        if by_processor is None:
            continue
        request = pair.theirs if pair.ours == pair.theirs else f"{pair.theirs}; this server: rows"
        cells = [results.titles[pair.server], request, *("–" if one is None else f"{one:.2f}" for one in ratios)]
        bound = BOUNDS.get(pair.server)
        cells += [f"{by_processor:.2f}", f"≥ {bound:g}" if bound else ""]
        cells.append("" if bound is None else "met" if ratios[-1] >= bound else "not met")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# --- figures and tables ---

_LABEL_PX, _BAR_PX, _LINE_PX = 230, 380, 26


def bars(results: Results, caption: str, wanted: list[tuple[str, str]], rows: int, callers: int) -> str:
    """A figure with a bar for each (server, case) that was measured: answers a second, and p50 and p99 as text."""
    there = [(server, case, results.found[key]) for server, case in wanted
             if (key := (server, case, rows, callers)) in results.found]  # fmt: skip
    there.sort(key=lambda one: -one[2]["rate"])
    most = max((figures["rate"] for *_, figures in there), default=1.0)
    width, height = _LABEL_PX + _BAR_PX + 250, _LINE_PX * len(there)
    drawn = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(caption)}" '
             'style="width:100%;max-width:860px;font:13px sans-serif" fill="currentColor">']  # fmt: skip
    for index, (server, case, figures) in enumerate(there):
        top, length = index * _LINE_PX, max(2, round(_BAR_PX * figures["rate"] / most))
        color = "#2a7de1" if server == "ours" else "#9aa0a6" if server in FLOORS else "#e08a1e"
        label = results.titles[server] + (" (rows)" if case == ROWS and server == "ours" else "")
        label += " (Open Inference)" if case == OPEN_INFERENCE and server == "ours" else ""
        label += f" ({case.removeprefix('gRPC ')})" if server == "ours" and case.startswith("gRPC") else ""
        text = f"{figures['rate']:,.0f}/s, p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms"
        drawn += [
            f'<text x="{_LABEL_PX - 8}" y="{top + 17}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LABEL_PX}" y="{top + 3}" width="{length}" height="{_LINE_PX - 8}" rx="2" fill="{color}"/>',
            f'<text x="{_LABEL_PX + length + 8}" y="{top + 17}" font-size="12">{escape(text)}</text>',
        ]
    return "\n".join(
        ['<figure style="width:100%">', *drawn, "</svg>", f"<figcaption>{escape(caption)}</figcaption>", "</figure>"]
    )


def table(results: Results, wanted: list[tuple[str, str, int]], *, by_request: bool) -> list[str]:
    """A line for each (server, case, rows): answers a second, p50 and p99 for each number of callers."""
    head = ["request" if by_request else "server", "rows"]
    for callers in results.callers:
        head += [f"{callers} caller{'s' * (callers > 1)}: answers/s", "p50 ms", "p99 ms"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for server, case, rows in wanted:
        cells = [case if by_request else results.titles[server], str(rows)]
        for callers in results.callers:
            one = results.found.get((server, case, rows, callers))
            cells += [f"{one['rate']:,.0f}", f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}"] if one else ["–"] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return lines


# --- the page ---


_PAGE = """\
# Servers compared

`make bench` writes this page: one model, one machine, one run. The model multiplies rows of 13 floats by a matrix, with
ONNX Runtime on one thread, so nearly all time that is measured is the server's. Each server runs by itself on one core,
with all processes that it starts; the load runs on another core. Each caller sends a request, waits for the answer, and
sends the next one. Each measurement lasts at least {seconds:g} s, and the best of {rounds} rounds counts.

Measured on {day} on {cores} cores of {processor}, {system}, Python {python}. The load average was {load_average:.1f}
before the run. What else a machine does lowers all rates and raises p99 most; ratios by processor time depend less on
it.

The programs of the other servers are in `benchmarks/field/servers`, each with the versions that it pins; each has an
environment of its own. No server logs requests. Where its documentation names settings that are faster on one core, it
has those. Triton's wheel has no ONNX backend, so its C++ server passes each request to a Python process that runs ONNX
Runtime.

## One row, {callers} callers

{one_row}

{one_row_grpc}

This server is blue. The floors are grey: a bare ASGI application with orjson and an inline `session.run`, and a gRPC
service in Python that returns what it received.

## Many rows

{rows_64}

{rows_1024}

## How many times as fast

Answers a second of this server divided by those of the other one, for one row. What must hold is compared with the
ratio at {callers} callers.

{bounds}

## Requests of this server

A row of Classify is an Example of the Titanic example's classifier; all other requests go to the model of 13 floats.

{ours}

## Requests of the others
{others}
{left_out}"""


def write(read: dict[str, Any]) -> str:
    """The page in Markdown."""
    results = Results(read)
    callers = results.callers[-1]
    others = [name for name in results.servers if name != "ours" and name not in FLOORS]
    rest = [("ours", ROWS), ("ours", OPEN_INFERENCE), ("stub", ROWS)]
    rest += [(name, case) for name in others for case in (ROWS, OPEN_INFERENCE)]
    grpc = [("ours", INFER), ("ours", PREDICT), ("echo-infer", INFER), *((name, INFER) for name in others)]
    every = [(name, *case) for name in results.servers if name != "ours" for case in results.cases(name)]
    sections = []
    for case in dict.fromkeys(case for _, case, _ in every):
        sections += ["", f"### {case}", "", *table(results, [one for one in every if one[1] == case], by_request=False)]
    left_out = [f"- {results.titles.get(name, name)}: {reason}" for name, reason in read["left_out"].items()]

    def figure(kind: str, wanted: list[tuple[str, str]], rows: int) -> str:
        count = "one row" if rows == 1 else f"{rows} rows"
        return bars(results, f"{kind}: answers a second, {count} each, {callers} callers", wanted, rows, callers)

    return _PAGE.format(
        **read["machine"], rounds=read["rounds"], seconds=read["seconds"], load_average=read["load_average"],
        day=read["began"].partition("T")[0], callers=callers, one_row=figure("REST with JSON", rest, 1),
        one_row_grpc=figure("gRPC", grpc, 1), rows_64=figure("REST with JSON", rest, 64),
        rows_1024=figure("REST with JSON", rest, 1024), bounds=bounds_table(read),
        ours="\n".join(table(results, [("ours", *case) for case in results.cases("ours")], by_request=True)),
        others="\n".join(sections), left_out="\n".join(["", "## Left out", "", *left_out, ""]) if left_out else "",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    given = parser.parse_args()
    read = json.loads(given.results.read_text())
    given.page.write_text(write(read))
    print(bounds_table(read))


if __name__ == "__main__":
    main()
