"""`estimator-serving report`: one HTML page about the runs in a model_dir, which needs no network and no server.

Owns the flags and writing the file. What a run left is read in contents.py, drawn in figures.py and put together in
page.py. Only plotly.js is taken from Plotly, whose package has it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from estimator_serving.cli.report.contents import read_contents
from estimator_serving.cli.report.page import render
from estimator_serving.training.aside import replacing


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `report`."""
    parser.add_argument("model_dir", help="the model_dir of an estimator, with its event files and evaluations")
    parser.add_argument("--output", metavar="FILE", help="where the page is written; by default MODEL_DIR/report.html")


def main(chosen: argparse.Namespace) -> int:
    """Writes the page and prints its path. Raises ValueError or OSError, and writes nothing, if there is no run."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "The figures are drawn with Plotly, which is not installed: pip install 'estimator-serving[report]'."
        ) from None
    contents = read_contents(Path(chosen.model_dir))
    output = Path(chosen.output) if chosen.output else contents.directory / "report.html"
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a directory. Give --output the path of a file, for example report.html.")
    text = render(contents, get_plotlyjs())
    try:
        with replacing(output) as aside:
            aside.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise OSError(
            f"The report could not be written to {output} ({error}). Give another place with --output."
        ) from error
    print(output)
    notes = [f"{folder}: {counted['note']}" for folder, counted in contents.last.items() if counted.get("note")]
    for sentence in [*contents.lacking, *notes]:
        print(f"  {sentence}")
    return 0
