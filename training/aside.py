"""Files that a reader sees whole or not at all.

Owns how a file is called while it is written. Does not know what is in it, nor who removes what a killed process left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFT_OVER = re.compile(r"\..+\.[0-9]+\.tmp")
"""The name of a file that is being written: .<name>.<process>.tmp."""


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """The path to write to in the block, beside `file`; what is there at the end of the block takes the file's place.

    After an exception the file is what it was, and nothing lies beside it.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        yield aside
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
