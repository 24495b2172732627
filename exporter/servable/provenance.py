"""Where an export comes from: versions, the git revision, the transform, the data it was trained on.

Owns the JSON object in the property `provenance`. It says nothing about the time or the machine, so that the same model
gives the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from estimator_serving.training.data.statistics import read_statistics
from estimator_serving.training.estimator import TrainedModel

_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "spox", "torch")
_OWN_PACKAGE = "estimator-serving"
_GIT_TIMEOUT_S = 10


def describe_versions(more: Iterable[str] = ()) -> dict[str, Any]:
    """Versions of Python and of every package that makes an export, and the git revision of the working directory."""
    found = {name: _version(name) for name in sorted({_OWN_PACKAGE, *_PACKAGES, *more})}
    versions = {name: version for name, version in found.items() if version is not None}
    described: dict[str, Any] = {"versions": {**versions, "python": platform.python_version()}}
    revision = _git_revision(Path.cwd())
    return described if revision is None else {**described, "git_revision": revision}


def describe_estimator(model: TrainedModel) -> dict[str, Any]:
    """The provenance of a trained estimator: versions, step, the transform's sha256, training data."""
    described = {**describe_versions(), "global_step": model.global_step}
    if model.transform is not None:
        described["transform_sha256"] = hashlib.sha256(model.transform.model_bytes).hexdigest()
    if model.checkpoint_path is not None and (statistics := read_statistics(model.checkpoint_path)) is not None:
        described["training_data"] = statistics
    return described


@functools.cache
def _version(package: str) -> str | None:
    """Looked up once a process, found or not: that takes longer than writing a small graph."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


@functools.cache
def _git_revision(directory: Path) -> str | None:
    """The commit of a directory's repository, with `-dirty` behind it where tracked files differ from it.

    It is read once a process: the code that runs is the code that was loaded, and two exports of one model must not
    differ because git on a busy machine did not answer in time.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, check=False, timeout=_GIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
