"""Paths of servables on the command line.

Owns what is said of a path that holds TensorFlow's format. Finding and opening a version is the server's.
"""

from __future__ import annotations

import os
from pathlib import Path

from estimator_serving.serving.models.model_files import MODEL_FILE, SAVED_MODEL_FILE, import_command


def refuse_saved_model(path: str | os.PathLike[str]) -> None:
    """Raises ValueError, with the command that converts it, for a SavedModel or a base path whose newest one is."""
    numbered = [child for child in Path(path).glob("*") if child.name.isdecimal()]
    for directory in (Path(path), *sorted(numbered, key=lambda child: int(child.name))[-1:]):
        if (directory / MODEL_FILE).is_file():
            return
        if (directory / SAVED_MODEL_FILE).is_file():
            base = directory.parent if directory.name.isdecimal() else directory
            raise ValueError(
                f"{directory} holds a SavedModel of TensorFlow and no {MODEL_FILE}. Make a servable of it, and give "
                f"its path instead: {import_command(directory, base)}"
            )
