"""A version directory: written aside, checked, renamed; nothing of it is seen before it is whole.

Owns the files of a servable and their names. What they hold is the caller's.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from estimator_serving.exporter.receivers.samples import graph_feeds
from estimator_serving.exporter.servable.draft import Checked, Draft, finish, run_all
from estimator_serving.exporter.servable.options import ExportOptions
from estimator_serving.exporter.servable.proof import sample_logs
from estimator_serving.wire.records import write_records

RENAME_ATTEMPTS_MAX = 10
MODEL_FILE = "model.onnx"
# Behind a graph's own file name: graphs of one version may have different weights.
DATA_SUFFIX = ".data"
ASSETS = "assets"
ASSETS_EXTRA = "assets.extra"


def write_servable(
    base: Path, drafts: Mapping[str, Draft], assets_extra: Mapping[str, str | os.PathLike[str]], options: ExportOptions
) -> Path:
    """Checks drafts and writes them as one version.

    Args:
        base: the directory whose numbered children are versions.
        drafts: by file name; `model.onnx` is what servers load, and gets the proof.
        assets_extra: files for `assets.extra/`: path there -> path here.
        options: how the graphs are finished and checked.

    Raises ExportMismatch or ValueError as `finish` does, OSError where the directory cannot be written; no version
    appears then.
    """
    checked = {name: finish(draft, options, name + DATA_SUFFIX) for name, draft in drafts.items()}

    def fill(directory: Path) -> None:
        for name, draft in drafts.items():
            _write_graph(directory, name, checked[name])
            copy_files(draft.assets, directory / ASSETS)
        if MODEL_FILE in drafts:
            _write_proof(directory / ASSETS_EXTRA, drafts[MODEL_FILE], checked[MODEL_FILE], options)
        # Last: a user's own warmup file replaces ours.
        copy_files(assets_extra, directory / ASSETS_EXTRA)

    return write_version(base, fill)


def _write_graph(directory: Path, name: str, checked: Checked) -> None:
    (directory / name).write_bytes(checked.content)
    if checked.data:
        with open(directory / (name + DATA_SUFFIX), "wb") as file:
            file.writelines(checked.data)


def _write_proof(directory: Path, draft: Draft, checked: Checked, options: ExportOptions) -> None:
    logs = sample_logs(
        checked.metadata.signatures,
        draft.inputs,
        lambda rows: run_all(checked.session, graph_feeds(draft.receiver, rows)),
        options.warmup_requests,
    )
    for name, records in logs.items():
        directory.mkdir(exist_ok=True)
        write_records(directory / name, records)


def copy_files(files: Mapping[str, str | os.PathLike[str]], directory: Path) -> None:
    """Copies files into a directory: path there -> path here. Raises ValueError for one that would lie outside."""
    for destination, source in files.items():
        target = directory / destination
        if not target.resolve().is_relative_to(directory.resolve()):
            raise ValueError(f"The asset {destination!r} would lie outside {directory.name}/; give a path inside.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def write_version(base: Path, fill: Callable[[Path], None]) -> Path:
    """Has a new directory filled aside and renames it to its number; nothing is left under `base` where that fails.

    Raises OSError naming the path where it cannot be written, and what `fill` raises.
    """
    version = int(time.time())
    # Not an integer, so no server takes it for a version; not the time alone, since two may export in one second.
    aside = base / f"temp-{version}-{uuid.uuid4().hex[:8]}"
    try:
        aside.mkdir(parents=True)
        fill(aside)
        _flush(aside)
        return _rename(aside, base, version)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(aside)
        raise


def _flush(directory: Path) -> None:
    """A power cut after the rename would otherwise leave a whole-looking version of empty files."""
    for path in (*(one for one in directory.rglob("*") if one.is_file()), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rename(aside: Path, base: Path, version: int) -> Path:
    """Two exports within one second want one number: the later one takes the next second's, as TensorFlow does."""
    for attempt in range(RENAME_ATTEMPTS_MAX):
        target = base / str(version + attempt)
        try:
            aside.rename(target)
        except OSError:
            if not target.exists():
                raise
            continue
        return target
    raise FileExistsError(
        f"{base} already has versions {version} to {version + RENAME_ATTEMPTS_MAX - 1}; "
        "export to another directory, or later."
    )
