"""Checkpoints: one safetensors file a step, written aside and renamed, and the `checkpoint` file that lists them.

TensorFlow's checkpoints are read as well; they are never written or removed.

Owns file names, formats and which checkpoints are kept. Does not know models: a checkpoint is named tensors, a
transform's bytes, a step, and how large the steps of its training are. A file carries a checksum of its contents, and a
file that was cut or altered is refused.

    <model_dir>/checkpoint                          model_checkpoint_path: "model.ckpt-10" … (TF's text form)
    <model_dir>/model.ckpt-10.safetensors           variables, slots, global_step, `transform` (uint8)
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from estimator_serving.training.aside import replacing
from estimator_serving.training.checkpoints.tensorflow import read_tensorflow_checkpoint
from estimator_serving.training.errors import CheckpointError, CorruptCheckpointError
from estimator_serving.wire.tensor_bundle import INDEX_SUFFIX

logger = logging.getLogger("estimator_serving.training")

BASENAME = "model.ckpt"
SUFFIX = ".safetensors"
STATE_FILE = "checkpoint"
TRANSFORM = "transform"

_RETRAIN = "Restore the file from a copy, name an older one with checkpoint_path, or train again in a new model_dir."


@dataclass(frozen=True)
class Checkpoint:
    """What one file holds. `path` is the prefix `<model_dir>/model.ckpt-<step>`.

    A checkpoint of TensorFlow has no transform and does not say which variables are trainable. `forward_flops` is None
    where the file does not say it (see Run).
    """

    path: str
    values: Mapping[str, Tensor]
    transform: bytes | None
    trainable: tuple[str, ...]
    forward_flops: int | None = None


class Checkpoints:
    """The checkpoints of one directory: writes new ones and removes the oldest beyond `keep_max` (None or 0: none).

    Every `keep_every_n_hours` one of those that would be removed stays for good.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        basename: str = BASENAME,
        keep_max: int | None = 5,
        keep_every_n_hours: float = 10000,
    ) -> None:
        self.directory = Path(directory)
        self.basename = basename
        self.keep_max = keep_max
        self._keep_period_s = keep_every_n_hours * 3600
        self._next_kept_at_s = time.time() + self._keep_period_s
        # Those of an earlier run in the directory count towards keep_max, so a resumed run tidies up after it.
        self._recent = [p for p in _listed(self.directory) if _file(p).exists()]

    def save(
        self,
        values: Mapping[str, Tensor],
        step: int,
        transform: bytes | None,
        trainable: Iterable[str],
        forward_flops: int | None = None,
    ) -> str:
        """Write the checkpoint of `step` and return its prefix. A crash at any point leaves the one before usable."""
        self.directory.mkdir(parents=True, exist_ok=True)
        prefix = str(self.directory / f"{self.basename}-{step}")
        write_checkpoint(prefix, values, transform, trainable, forward_flops)
        self._recent = [*(p for p in self._recent if p != prefix), prefix]
        dropped: list[str] = []
        if self.keep_max:
            dropped, self._recent = self._recent[: -self.keep_max], self._recent[-self.keep_max :]

        names = [Path(path).name for path in self._recent]
        lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
        with replacing(self.directory / STATE_FILE) as aside:
            aside.write_text("\n".join(lines) + "\n")
            _flush_to_disk(aside)

        # The list no longer names the dropped files, so a crash here leaves a spare file and never a missing one.
        for file in map(_file, dropped):
            if not file.exists():
                continue
            if file.stat().st_mtime >= self._next_kept_at_s:
                self._next_kept_at_s += self._keep_period_s
            else:
                file.unlink()
        return prefix


def write_checkpoint(
    prefix: str,
    values: Mapping[str, Tensor],
    transform: bytes | None,
    trainable: Iterable[str],
    forward_flops: int | None = None,
) -> None:
    """Write `<prefix>.safetensors` aside and rename it into place."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in values.items():
        # Safetensors refuses a view of a larger tensor, which small parameters and their slots are (see Optimizer).
        is_whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        value = tensor.detach()
        if not (is_whole and value.is_contiguous()):
            value = value.clone(memory_format=torch.contiguous_format)
        tensors[name] = value
    if transform is not None:
        tensors[TRANSFORM] = torch.from_numpy(np.frombuffer(transform, np.uint8).copy())
    names = json.dumps(list(trainable))
    flops = "" if forward_flops is None else str(forward_flops)
    metadata = {"checksum": _checksum(tensors, names + flops), "trainable": names}
    if flops:
        metadata["forward_flops"] = flops
    file = _file(prefix)
    try:
        with replacing(file) as aside:
            aside.touch()
            mode = aside.stat().st_mode
            save_file(tensors, aside, metadata=metadata)
            aside.chmod(mode)  # safetensors lets only the owner read it, whatever the umask says
            _flush_to_disk(aside)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The checkpoint {file} could not be written ({error}). Make room or mend the directory, and start the "
            "same command again: the checkpoint before this one is kept, and the training goes on from there."
        ) from error


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read `<prefix>` or `<prefix>.safetensors`, or TensorFlow's `<prefix>.index`.

    Raises CheckpointError (a ValueError) if there is no such file, and CorruptCheckpointError if its contents are not
    what was written.
    """
    prefix = prefix_of(path)
    file = _file(prefix)
    if not file.is_file() and checkpoint_file(prefix) is not None:
        return Checkpoint(prefix, read_tensorflow_checkpoint(prefix), None, ())
    if not file.is_file():
        raise CheckpointError(
            f"The passed save_path is not a valid checkpoint: {prefix}. There is no file {file}: pass what "
            "latest_checkpoint() returned, or leave checkpoint_path out to use the newest."
        )
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptCheckpointError(f"Checkpoint {file} is cut or damaged ({error}). {_RETRAIN}") from error
    names, flops = metadata.get("trainable", ""), metadata.get("forward_flops", "")
    if metadata.get("checksum") != _checksum(tensors, names + flops):
        raise CorruptCheckpointError(f"Checkpoint {file} does not hold what was written to it. {_RETRAIN}")
    transform = tensors.pop(TRANSFORM, None)
    transform_bytes = None if transform is None else transform.numpy().tobytes()
    return Checkpoint(prefix, tensors, transform_bytes, tuple(json.loads(names)), int(flops) if flops else None)


def latest_checkpoint(directory: str | os.PathLike[str]) -> str | None:
    """The prefix `<directory>/model.ckpt-<step>` of the newest checkpoint, None if there is none.

    Raises CorruptCheckpointError if the list cannot be read or names a file that is gone.
    """
    listed = _listed(Path(directory))
    if not listed:
        return None
    newest = listed[-1]
    if checkpoint_file(newest) is None:
        state = Path(directory) / STATE_FILE
        raise CorruptCheckpointError(
            f"{state} names {newest}, and {_file(newest)} does not exist. Put the file back, or remove {state} to "
            "start from nothing."
        )
    return newest


def find_checkpoint(path: str | os.PathLike[str]) -> str | None:
    """The prefix of a checkpoint, of the newest one in a model_dir, or of a SavedModel's variables; None if none."""
    prefix = prefix_of(path)
    if checkpoint_file(prefix) is not None:
        return prefix
    if not Path(path).is_dir():
        return None
    variables = str(Path(path) / "variables" / "variables")
    return latest_checkpoint(path) or (variables if checkpoint_file(variables) is not None else None)


def checkpoint_file(prefix: str) -> Path | None:
    """The file of a prefix: this project's, else TensorFlow's index, else None."""
    files = (_file(prefix), Path(prefix + INDEX_SUFFIX))
    return next((file for file in files if file.is_file()), None)


def prefix_of(path: str | os.PathLike[str]) -> str:
    """The path of a checkpoint without the ending of its file."""
    return os.fspath(path).removesuffix(SUFFIX).removesuffix(INDEX_SUFFIX)


def step_of(prefix: str) -> int:
    """The step in a checkpoint's name."""
    return int(prefix.rpartition("-")[2])


def _listed(directory: Path) -> list[str]:
    """Prefixes in the state file, oldest first; the one it calls the newest is last."""
    state = directory / STATE_FILE
    if not state.is_file():
        return []
    text = state.read_text(errors="replace")
    newest = re.findall(r'^model_checkpoint_path:\s*"(.+)"\s*$', text, re.MULTILINE)
    if len(newest) != 1:
        raise CorruptCheckpointError(
            f"{state} is not a list of checkpoints (no single model_checkpoint_path line). Write the line "
            'model_checkpoint_path: "model.ckpt-<step>" for the checkpoint to go on from, or remove the file to start '
            "from nothing."
        )
    others = re.findall(r'^all_model_checkpoint_paths:\s*"(.+)"\s*$', text, re.MULTILINE)
    prefixes = []
    for name in (*(other for other in others if other != newest[0]), newest[0]):
        # TensorFlow may list an absolute path, which is wrong once the files move.
        named, beside = str(directory / name), str(directory / Path(name).name)
        is_beside = checkpoint_file(named) is None and checkpoint_file(beside) is not None
        prefixes.append(beside if is_beside else named)
    return prefixes


def _file(prefix: str) -> Path:
    return Path(prefix + SUFFIX)


def _flush_to_disk(path: Path) -> None:
    """Without this a power cut after the rename may leave an empty file under the new name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(tensors: Mapping[str, Tensor], described: str) -> str:
    total = zlib.crc32(described.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"crc32:{total:08x}"
