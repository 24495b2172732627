"""`estimator-serving tune`: measures which flags of the server suit a model on this machine, for a latency objective.

Owns the command's flags and the order of its steps: requests, search, table, files. It has nothing to do with
`training.tune`, which searches the hyperparameters of an estimator.

    settings      what the server can be started with
    search        which settings are measured, in which order, and which one is best; pure
    requests      what is sent
    clients       who sends it; knows no server
    measure       a server process, and clients that ask it
    report        table, figure and files
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from estimator_serving.cli.tune import report
from estimator_serving.cli.tune.measure import ServerMeasurer
from estimator_serving.cli.tune.requests import PROTOCOLS, Requests, make_requests
from estimator_serving.cli.tune.search import Budget, Found, Load, Objective, Search, SettingError
from estimator_serving.cli.tune.settings import Setting, Space
from estimator_serving.serving.config import DEVICES, cpus
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.in_process import find_version

# What a shell reports for a program that SIGINT ended.
INTERRUPTED_CODE = 130
# Above so much load for each core a machine counts as busy before the search begins.
BUSY_SHARE = 0.5


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `tune`."""
    parser.add_argument("path", help="a version directory, or the base path above it")
    parser.add_argument(
        "--objective_ms", type=float, default=20.0, metavar="MS", help="the latency that is accepted (default: 20)"
    )
    parser.add_argument(
        "--quantile",
        type=float,
        default=0.99,
        help="the share of the requests that have to be answered within it (default: %(default)s)",
    )
    parser.add_argument("--signature", metavar="KEY", help="the signature to ask (default: serving_default)")
    parser.add_argument(
        "--request",
        metavar="FILE",
        help="what to send: the JSON body of a REST request, or records of PredictionLog (default: the version's "
        "warm-up records; without them, a row that is made up)",
    )
    parser.add_argument("--rows", type=int, metavar="N", help="rows of a request (default: as many as it has)")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="rest",
        help="how the server is asked (default: rest, whose clients take less processor time from the server)",
    )
    parser.add_argument(
        "--clients_max", type=int, default=64, metavar="N", help="most clients at the same time (default: %(default)s)"
    )
    parser.add_argument(
        "--duration_s", type=float, default=0.6, metavar="S", help="how long each load is measured (default: 0.6)"
    )
    parser.add_argument(
        "--time_limit_s", type=float, default=120.0, metavar="S", help="how long all of it may take (default: 120)"
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="what models run on (default: %(default)s)")
    parser.add_argument(
        "--output",
        metavar="DIR",
        default="estimator-serving-tune",
        help="where the flags, the batching parameters and the measurements are written (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")


def main(chosen: argparse.Namespace) -> int:
    """Measures, prints and writes. Returns 1 if no setting meets the objective, 130 if interrupted, otherwise 0.

    Raises ValueError or OSError for a model, a request or flags that cannot be used, and for a server that does not
    start with its defaults.
    """
    _check(chosen)
    with _termination_interrupts():
        try:
            return _tune(chosen)
        except KeyboardInterrupt:
            _say("Interrupted before anything was measured.")
            return INTERRUPTED_CODE


def _tune(chosen: argparse.Namespace) -> int:
    try:
        directory = find_version(Path(chosen.path))
    except ServingError as error:
        raise ValueError(str(error)) from error
    file = Path(chosen.request) if chosen.request else None
    requests = make_requests(
        directory, protocol=chosen.protocol, signature=chosen.signature, file=file, rows=chosen.rows
    )
    output = Path(chosen.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{output} cannot be made ({error.strerror}); give another directory with --output.") from error
    is_batched = not requests.unbatched_because
    space = Space(cpus(), sys.platform == "linux", is_batched, requests.rows, chosen.clients_max)
    found = Found(Objective(chosen.objective_ms / 1000, chosen.quantile), space)
    _say(report.announcement(directory, requests, found.objective, chosen.protocol, chosen.time_limit_s))
    busy, *_ = os.getloadavg()
    if busy > found.space.cores * BUSY_SHARE:
        _say(f"Other programs are at work (load average {busy:.1f}); the figures will differ from one run to the next.")
    try:
        is_whole = _measure(chosen, directory, requests, found)
    finally:
        # It was made to see whether it can be; a search that fails leaves nothing.
        with suppress(OSError):
            output.rmdir()
    serve = ""
    if is_whole and found.recommended is not None:
        serve = report.command(found.recommended, directory, output.absolute() / report.BATCHING_FILE, chosen.device)
    described = report.describe(found, requests, serve)
    if chosen.json:
        print(json.dumps(described, indent=2))
    else:
        is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        print("\n".join(report.lines(found, requests, is_unicode=is_unicode)))
    if not is_whole or found.recommended is None:
        so_far = "this is what was measured so far" if found.entries else "nothing was measured yet"
        _say(f"Interrupted: {so_far}, and no files were written. Start again for the rest.")
        return INTERRUPTED_CODE
    files = report.write_files(output, found.recommended, described)
    if not chosen.json:
        print(f"\nRecommended: {found.recommended}\n  {serve}\n\nWritten: {', '.join(map(str, files))}")
    return 0 if found.is_met else 1


def _measure(chosen: argparse.Namespace, directory: Path, requests: Requests, found: Found) -> bool:
    """Fills `found`; returns False if it was interrupted. Raises ValueError if the server does not run."""
    objective, budget = found.objective, Budget(chosen.time_limit_s)

    def watch(setting: Setting, load: Load) -> None:
        _say(f"  {budget.spent_s():4.0f} s  {setting}: {report.load_text(load, objective)}")

    with tempfile.TemporaryDirectory(prefix="estimator-serving-tune-") as scratch:
        measure = ServerMeasurer(
            directory, requests, objective, chosen.duration_s, budget, chosen.device, Path(scratch), watch
        )
        try:
            Search(measure, budget, found).run()
        except SettingError as error:
            raise ValueError(str(error)) from error
        except KeyboardInterrupt:
            return False
    return True


def _check(chosen: argparse.Namespace) -> None:
    """Raises ValueError for numbers that cannot be used."""
    for name in ("objective_ms", "duration_s", "time_limit_s", "clients_max", "rows"):
        value = getattr(chosen, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"--{name}={value} cannot be used; give a number above 0.")
    if not 0 < chosen.quantile < 1:
        raise ValueError(f"--quantile={chosen.quantile} cannot be used; give a share below 1, for example 0.99.")


def _say(text: str) -> None:
    """Progress, which does not mix with the result on standard output."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is measured as Ctrl-C does, so that no server is left behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
