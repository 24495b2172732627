"""A copy of a version that several processes open and whose weights they share.

Owns what belongs into such a copy, and in which form: large weights lie in a file as ONNX Runtime's kernels read them,
which each process maps, so that they are in memory once. The copy lies in a directory that nobody else writes to, and
so may be mapped whatever happens to the version's own files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from estimator_serving.serving.errors import ResourceExhaustedError
from estimator_serving.serving.models.model_files import MODEL_FILE, ModelFiles
from estimator_serving.serving.models.warmup import EXPECTED_FILE, WARMUP_FILE
from estimator_serving.serving.running.batch_parameters import VERSION_FILE

# Below this, each process reads its own weights.
SHARED_BYTES = 4 << 20
# Files beside the model that a load reads.
_BESIDE = (WARMUP_FILE, EXPECTED_FILE, Path(VERSION_FILE))


def begin(directory: Path, files: ModelFiles, target: Path, *, is_packed: bool) -> Path | None:
    """Make the directory of a copy, with what a load reads beside the model.

    is_packed: whether weights may be written as kernels read them.
    Returns where the session has to save the graph; None where `copy` is to be called instead.

    Raises ResourceExhaustedError where the disk has no room; OSError for another fault of it.
    """
    size = len(files.content) + sum(len(content) for content in (files.external or {}).values())
    target.mkdir(parents=True)
    # Weights are written once as they came and once as kernels read them.
    wanted, free = 2 * size, shutil.disk_usage(target).free
    if wanted > free:
        raise ResourceExhaustedError(
            f"Insufficient resources to load servable {files.path}: its copy for the worker processes takes up to "
            f"{wanted >> 20} MiB, and {free >> 20} MiB are free in {target.parent}; set TMPDIR to a larger directory."
        )
    for name in _BESIDE:
        if (directory / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(directory / name, target / name)
    if is_packed and size >= SHARED_BYTES:
        return target / MODEL_FILE
    copy(files, target)
    return None


def copy(files: ModelFiles, target: Path) -> None:
    """Write the model and its weights as they came."""
    for location, content in {MODEL_FILE: files.content, **(files.external or {})}.items():
        (target / location).parent.mkdir(parents=True, exist_ok=True)
        (target / location).write_bytes(content)
