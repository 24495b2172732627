"""Fills the command-line pages of the documentation with the `--help` of the commands, when mkdocs builds them.

A line `<!-- help: NAME -->` becomes the help of `estimator-serving NAME`, so the pages cannot fall behind the parser.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

_PLACEHOLDER = re.compile(r"^<!-- help: ?(\w*) ?-->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this for each page, before it reads the Markdown."""
    return _PLACEHOLDER.sub(lambda found: f"```text\n{_help(found[1])}```", markdown)


def _help(command: str) -> str:
    words = [command] if command else []
    run = [sys.executable, "-m", "estimator_serving.cli", *words, "--help"]
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(run, capture_output=True, text=True, check=True, env=environment, timeout=120).stdout
