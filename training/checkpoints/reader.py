"""tf.train's functions that look into a checkpoint: list_variables, load_variable, load_checkpoint.

Owns their names, arguments and texts, for our files and TensorFlow's. Of TensorFlow's files it tells the keys as they
stand there, as TensorFlow does; training reads them by variable (checkpoints.tensorflow).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.checkpoints.checkpoint import checkpoint_file, find_checkpoint, read_checkpoint
from estimator_serving.training.errors import CheckpointNotFoundError, CorruptCheckpointError, NotFoundError
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.tensor_bundle import INDEX_SUFFIX, Array, TensorBundleError, TensorDtypeError, open_bundle

PathLike = str | os.PathLike[str]
Entry = tuple[DType, tuple[int, ...]]


class CheckpointReader:
    """What one checkpoint holds, by name. `load_checkpoint` makes it; `path` is the checkpoint's prefix."""

    def __init__(self, path: str, entries: Mapping[str, Entry], read: Callable[[str], Array]) -> None:
        self.path = path
        self._entries = entries
        self._read = read

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        """Name -> shape."""
        return {name: list(shape) for name, (_, shape) in self._entries.items()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        """Name -> dtype."""
        return {name: dtype for name, (dtype, _) in self._entries.items()}

    def has_tensor(self, name: str) -> bool:
        return name in self._entries

    def get_tensor(self, name: str) -> Array:
        """The value, an array of the caller's own; strings are bytes in an object array.

        Raises NotFoundError for a name that is not there, CorruptCheckpointError for damaged files.
        """
        if name not in self._entries:
            raise NotFoundError(
                f"Key {name} not found in checkpoint {self.path}. list_variables tells the names that are there."
            )
        return self._read(name)


def load_checkpoint(ckpt_dir_or_file: PathLike) -> CheckpointReader:
    """A reader of the checkpoint `…/model.ckpt-10`, or of the newest one in a model_dir; ours or TensorFlow's.

    Raises ValueError for a directory without one, NotFoundError for another path without one (TF 2.15's texts), and
    CorruptCheckpointError for damaged files.
    """
    path = Path(ckpt_dir_or_file)
    prefix = find_checkpoint(path)
    if prefix is None and path.is_dir():
        raise ValueError(
            f"Couldn't find 'checkpoint' file or checkpoints in given directory {path}. Name a checkpoint in it, "
            "without the ending of its files."
        )
    if prefix is None:
        raise CheckpointNotFoundError(
            f"Unsuccessful TensorSliceReader constructor: Failed to find any matching files for {path}. Name a "
            "model_dir, or a checkpoint without the ending of its files (…/model.ckpt-10)."
        )
    return _reader_of_tensorflows(prefix) if _is_tensorflows(prefix) else _reader_of_ours(prefix)


def verify_checkpoint(prefix: str) -> None:
    """Read all of a checkpoint. Raises CorruptCheckpointError where a file is cut or changed, or one is missing."""
    if not _is_tensorflows(prefix):
        read_checkpoint(prefix)
        return
    try:
        open_bundle(prefix).verify()
    except TensorBundleError as error:
        raise CorruptCheckpointError(str(error)) from error


def list_variables(ckpt_dir_or_file: PathLike) -> list[tuple[str, list[int]]]:
    """(name, shape) of everything in a checkpoint, sorted by name. Raises as load_checkpoint."""
    return sorted(load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map().items())


def load_variable(ckpt_dir_or_file: PathLike, name: str) -> Array:
    """The value of one variable; a `:0` behind its name is taken off. Raises as load_checkpoint and get_tensor."""
    return load_checkpoint(ckpt_dir_or_file).get_tensor(name.removesuffix(":0"))


def _is_tensorflows(prefix: str) -> bool:
    file = checkpoint_file(prefix)
    return file is not None and file.suffix == INDEX_SUFFIX


def _reader_of_ours(prefix: str) -> CheckpointReader:
    values = read_checkpoint(prefix).values
    entries = {name: (dtypes.as_dtype(tensor.dtype), tuple(tensor.shape)) for name, tensor in values.items()}
    return CheckpointReader(prefix, entries, lambda name: _as_array(values[name]))


def _reader_of_tensorflows(prefix: str) -> CheckpointReader:
    entries: dict[str, Entry] = {}
    try:
        bundle = open_bundle(prefix)
        for key in bundle.keys():  # noqa: SIM118  not a mapping
            try:
                entry = bundle.entry(key)
            except TensorDtypeError:
                continue  # what has no arrays, as a variant
            entries[key] = (entry.dtype, entry.shape)
    except TensorBundleError as error:
        raise CorruptCheckpointError(str(error)) from error

    def read(name: str) -> Array:
        try:
            return np.array(bundle.read(name))
        except TensorBundleError as error:
            raise CorruptCheckpointError(str(error)) from error

    return CheckpointReader(prefix, entries, read)


def _as_array(tensor: Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:  # which torch does not hand to numpy
        return tensor.view(torch.int16).numpy().view(dtypes.bfloat16.numpy)
    array: Array = tensor.numpy()
    return array
