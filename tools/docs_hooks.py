"""Fills pages of the documentation from the sources, when mkdocs builds them, so that they cannot fall behind.

A line `<!-- help: NAME -->` becomes the help of `estimator-serving NAME`, and `<!-- replacements -->` the table of
TensorFlow's names that are not here, from training/replacements.py.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

_REPLACEMENTS = "<!-- replacements -->"
_PLACEHOLDER = re.compile(r"^<!-- help: ?(\w*) ?-->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this for each page, before it reads the Markdown."""
    if _REPLACEMENTS in markdown:
        # The file alone: importing the package would import torch.
        path = Path(__file__).parent.parent / "training/replacements.py"
        markdown = markdown.replace(_REPLACEMENTS, runpy.run_path(str(path))["as_markdown"]())
    return _PLACEHOLDER.sub(lambda found: f"```text\n{_help(found[1])}```", markdown)


def _help(command: str) -> str:
    words = [command] if command else []
    run = [sys.executable, "-m", "estimator_serving.cli", *words, "--help"]
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(run, capture_output=True, text=True, check=True, env=environment, timeout=120).stdout
