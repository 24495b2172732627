"""What `tune` shows and writes: the table, the figure, the sentences, and the files for `serve`.

Owns text and files. What was measured comes from the search as it is.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from estimator_serving.cli.tune.requests import Requests
from estimator_serving.cli.tune.search import SPREAD_ASSUMED, Entry, Found, Load, Objective
from estimator_serving.cli.tune.settings import Setting

FLAGS_FILE = "flags.txt"
ENVIRONMENT_FILE = "serve.env"
BATCHING_FILE = "batching_parameters.txt"
MEASUREMENTS_FILE = "measurements.json"

_BAR_WIDTH = 40
# Eighths of a character; the second form is for terminals that have only ASCII.
_BLOCKS = "▏▎▍▌▋▊▉█"
# Runs that differ by more than this say little.
_RESTLESS = 0.3
# From here on the clients may be what limits the rate.
_BUSY = 0.85


def quantile_name(objective: Objective) -> str:
    return f"p{objective.quantile * 100:g}"


def load_text(load: Load, objective: Objective) -> str:
    """One load in words."""
    refused = f", {load.refused:,.0f} refused" if load.refused else ""
    return (
        f"{_rate(load.rate)} requests/s at {load.clients} client{'s' * (load.clients > 1)}, "
        f"{quantile_name(objective)} {_ms(load.quantile_s)} ms{refused}"
    )


def announcement(directory: Path, requests: Requests, objective: Objective, protocol: str, limit_s: float) -> str:
    """What is going to be measured, and for how long."""
    rows = requests.rows
    return (
        f"Tuning {directory} for {quantile_name(objective)} within {objective.latency_s * 1000:g} ms. Requests: {rows} "
        f"row{'s' * (rows > 1)} for {requests.signature} over {protocol}, from {requests.origin}. This takes at most "
        f"{limit_s:g} s. The server and its clients share this machine, so leave it alone meanwhile."
    )


def lines(found: Found, requests: Requests, *, is_unicode: bool = True) -> Iterator[str]:
    """The table, the figure and what follows from them. Nothing if nothing was measured."""
    if not found.entries:
        return
    objective = found.objective
    ranked = found.ranked()
    yield from table(found, ranked)
    yield ""
    yield from figure(found, ranked, is_unicode)
    yield ""
    if not found.is_met and found.chosen is not None:
        load = found.entry(found.chosen).typical(objective)
        yield (
            f"No setting answers {objective.quantile:.0%} of the requests within {objective.latency_s * 1000:g} ms. "
            f"The nearest is: {found.chosen}, {load_text(load, objective)}. Give a larger --objective_ms, send fewer "
            "rows in a request, or make the model smaller."
        )
    yield from sentences(found, requests)


def sentences(found: Found, requests: Requests) -> Iterator[str]:
    """What a reader of the figures has to know."""
    objective = found.objective
    if found.spread is None:
        yield (
            f"No setting was measured twice, so differences below {SPREAD_ASSUMED:.0%} count as noise; more time "
            "(--time_limit_s) would say more."
        )
    else:
        yield (
            f"Runs of the same setting differed by up to {found.spread:.0%}. A setting with more flags is preferred "
            "only if it is better by more than its runs and those of the simpler one differ."
        )
        if found.spread > _RESTLESS:
            yield "That is much: other programs were at work. Measure again when the machine is quiet."
    for entry in found.faster_but_close()[:1]:
        yield (
            f"{_capital(entry.setting)} has a better figure than {found.chosen}, but not by more than runs of one "
            "setting differ, so the setting with fewer flags is kept."
        )
    if found.chosen is not None and found.entry(found.chosen).typical(objective).clients == found.space.clients_max:
        yield "The best load was the one with the most clients; a larger --clients_max may show more."
    if requests.unbatched_because:
        yield f"Batching was left out: {requests.unbatched_because}."
    if over := found.overload:
        kept = "so the shorter queue is recommended" if over.is_better else "so the queue stays as it is"
        yield (
            f"With {over.usual.clients} clients, {_rate(over.usual.goodput)} requests/s are answered within the "
            f"objective, and {_rate(over.bounded.goodput)} with a queue that refuses what would be too late "
            f"({over.bounded_setting}); {kept}."
        )
    if found.untried:
        yield f"There was no time for: {'; '.join(map(str, found.untried))}. Give a larger --time_limit_s."
    for setting, why in found.failed.items():
        yield f"{_capital(setting)} could not be measured. {why}"
    busy = max((entry.typical(objective).generator_busy for entry in found.entries), default=0.0)
    if busy >= _BUSY:
        yield (
            f"The clients used {busy:.0%} of a core, so they may be what limits the rates; --rows with more rows gives "
            "the server more to do for each request."
        )
    yield (
        "Server and clients shared this machine, so the figures are for comparing settings, not for planning capacity."
    )


def table(found: Found, ranked: Sequence[Entry]) -> Iterator[str]:
    """A line for each setting, the best first; the chosen one has a mark. Rates are of answers within the objective."""
    objective = found.objective
    head = ("setting", "runs", "clients", "in time/s", "p50 ms", f"{quantile_name(objective)} ms", "meets objective")
    rows = [head]
    for entry in ranked:
        load = entry.typical(objective)
        mark = "* " if entry.setting == found.chosen else "  "
        rows.append(
            (
                f"{mark}{entry.setting}",
                str(len(entry.runs)),
                str(load.clients),
                _rate(load.goodput),
                _ms(load.median_s),
                _ms(load.quantile_s),
                "yes" if load.meets(objective) else "no",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        first, *others, last = row
        middle = (cell.rjust(width) for cell, width in zip(others, widths[1:-1], strict=True))
        yield "  ".join((first.ljust(widths[0]), *middle, last)).rstrip()


def figure(found: Found, ranked: Sequence[Entry], is_unicode: bool) -> Iterator[str]:
    """Bars: answers within the objective by setting, and how the chosen setting and the defaults behave by clients.

    Each setting is shown by its run in the middle, of which the table has the best load.
    """
    objective = found.objective
    width = max(len(str(entry.setting)) for entry in ranked)
    yield f"Requests/s answered within {objective.latency_s * 1000:g} ms"
    loads = [entry.typical(objective) for entry in ranked]
    most = max(load.goodput for load in loads)
    for entry, load in zip(ranked, loads, strict=True):
        yield f"  {str(entry.setting).ljust(width)}  {_bar(load.goodput, most, is_unicode)} {_rate(load.goodput)}"
    shown = dict.fromkeys([found.chosen, Setting()])
    for entry in (one for one in found.entries if one.setting in shown):
        run = sorted(entry.middle_run(objective), key=lambda load: load.clients)
        yield ""
        within = f"requests/s within {objective.latency_s * 1000:g} ms"
        yield f"{quantile_name(objective)} and {within} by clients, {entry.setting}"
        slowest_s = max((load.quantile_s for load in run if math.isfinite(load.quantile_s)), default=0.0)
        for load in run:
            bar = _bar(min(load.quantile_s, slowest_s), slowest_s, is_unicode)
            yield f"  {load.clients:>4}  {bar} {_ms(load.quantile_s)} ms, {_rate(load.goodput)}/s"


def _bar(value: float, most: float, is_unicode: bool) -> str:
    eighths = round(8 * _BAR_WIDTH * value / most) if most > 0 else 0
    if not is_unicode:
        return "#" * (eighths // 8)
    return _BLOCKS[-1] * (eighths // 8) + (_BLOCKS[eighths % 8 - 1] if eighths % 8 else "")


# -- files ------------------------------------------------------------------------------------------------------------


def command(setting: Setting, version: Path, batching_file: Path, device: str) -> str:
    """The command line that serves with a setting. version: the directory that was measured."""
    base_path = version.absolute().parent
    if version.name.isdigit():
        flags = {"model_name": base_path.name or "model", "model_base_path": str(base_path)}
    else:
        flags = {"model_name": "model", "model_base_path": "BASE_PATH"}
    flags |= {"device": device} if device != "cpu" else {}
    flags |= setting.flags(batching_file)
    return shlex.join(["estimator-serving", "serve", *(f"--{name}={value}" for name, value in flags.items())])


def write_files(directory: Path, setting: Setting, described: Mapping[str, Any]) -> list[Path]:
    """Writes the flags, the environment, the parameters of batching and all that was measured; returns the paths.

    Files of an earlier search are replaced, and its parameters of batching removed if there are none now.
    """
    directory.mkdir(parents=True, exist_ok=True)
    batching_file = directory.absolute() / BATCHING_FILE
    flags = setting.flags(batching_file)
    texts = {
        FLAGS_FILE: "".join(f"--{name}={value}\n" for name, value in flags.items()),
        ENVIRONMENT_FILE: "".join(f"{name.upper()}={value}\n" for name, value in flags.items()),
        MEASUREMENTS_FILE: json.dumps(described, indent=2) + "\n",
    }
    if setting.batching is not None:
        texts[BATCHING_FILE] = setting.batching.as_text()
    else:
        batching_file.unlink(missing_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text)
    return [directory / name for name in sorted(texts)]


def describe(found: Found, requests: Requests, serve: str) -> dict[str, Any]:
    """All of it as JSON objects; latencies in seconds, null for none."""
    return {
        "objective": asdict(found.objective),
        "is_met": found.is_met,
        "recommended": None if found.recommended is None else asdict(found.recommended),
        "command": serve,
        "requests": {"signature": requests.signature, "rows": requests.rows, "origin": requests.origin},
        "spread": found.spread,
        "notes": list(sentences(found, requests)),
        "settings": [
            {
                "name": str(entry.setting),
                "setting": asdict(entry.setting),
                "runs": [
                    [
                        {key: value if math.isfinite(value) else None for key, value in asdict(load).items()}
                        for load in run
                    ]
                    for run in entry.runs
                ],
            }
            for entry in found.entries
        ],
    }


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _ms(seconds: float) -> str:
    return "-" if not math.isfinite(seconds) else f"{seconds * 1000:.3g}" if seconds < 1 else f"{seconds * 1000:,.0f}"


def _capital(setting: Setting) -> str:
    text = str(setting)
    return text[:1].upper() + text[1:]
