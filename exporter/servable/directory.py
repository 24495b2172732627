"""A version directory, written aside and renamed: no reader ever sees a part of it.

Owns the files of a servable and their names. Knows nothing of what they hold.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from estimator_serving.exporter.servable.draft import FinishedModel
from estimator_serving.exporter.servable.weights import DATA_SUFFIX
from estimator_serving.wire.records import write_records

RENAME_ATTEMPTS_MAX = 10
ASSETS = "assets"
ASSETS_EXTRA = "assets.extra"


def write_servable(
    base: Path, models: Mapping[str, FinishedModel], assets_extra: Mapping[str, str | os.PathLike[str]]
) -> Path:
    """Writes models as one version and returns its directory.

    Args:
        base: the directory whose numbered children are versions.
        models: by file name; `model.onnx` is what servers load.
        assets_extra: files for `assets.extra/`: path there -> path here.

    Raises OSError where the directory cannot be written, ValueError for an asset that would lie outside it; no version
    appears then.
    """

    def fill(directory: Path) -> None:
        for name, model in models.items():
            (directory / name).write_bytes(model.content)
            if model.data:
                with open(directory / (name + DATA_SUFFIX), "wb") as file:
                    file.writelines(model.data)
            copy_files(model.assets, directory / ASSETS)
            for proof_file, records in model.proof.items():
                (directory / ASSETS_EXTRA).mkdir(exist_ok=True)
                write_records(directory / ASSETS_EXTRA / proof_file, records)
        # Last: a user's own warmup file replaces ours.
        copy_files(assets_extra, directory / ASSETS_EXTRA)

    return write_version(base, fill)


def write_version(base: Path, fill: Callable[[Path], None]) -> Path:
    """Calls `fill` with a new directory aside and renames that to its version number. Returns its path.

    Where a step fails, nothing is left under `base`. Raises what `fill` raises, and OSError naming a path that cannot
    be written.
    """
    version = int(time.time())
    # No server takes a name that is not an integer for a version. Two exports in one second need two names.
    aside = base / f"temp-{version}-{uuid.uuid4().hex[:8]}"
    try:
        aside.mkdir(parents=True)
        fill(aside)
        # A power cut after the rename would otherwise leave a whole-looking version of empty files.
        for path in (*(one for one in aside.rglob("*") if one.is_file()), aside):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        # Two exports within one second want one number: the later one takes the next second's, as TensorFlow does.
        for attempt in range(RENAME_ATTEMPTS_MAX):
            target = base / str(version + attempt)
            try:
                return aside.rename(target)
            except OSError:
                if not target.exists():
                    raise
        raise FileExistsError(
            f"{base} already has versions {version} to {version + RENAME_ATTEMPTS_MAX - 1}; "
            "export to another directory, or later."
        )
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(aside)
        raise


def copy_files(files: Mapping[str, str | os.PathLike[str]], directory: Path) -> None:
    """Copies files into a directory: path there -> path here. Raises ValueError for one that would lie outside."""
    for destination, source in files.items():
        target = directory / destination
        if not target.resolve().is_relative_to(directory.resolve()):
            raise ValueError(f"The asset {destination!r} would lie outside {directory.name}/; give a path inside.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
