"""tf.train's functions that look into checkpoints: list_variables, load_variable, load_checkpoint.

Owns their names, arguments and texts, for our files and TensorFlow's. What stands in TensorFlow's is given under the keys of
the file, as TensorFlow does; training reads it by variable (checkpoints.tensorflow).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from estimator_serving.training.checkpoints.checkpoint import checkpoint_file, find_checkpoint, read_checkpoint
from estimator_serving.training.errors import CheckpointNotFoundError, CorruptCheckpointError, NotFoundError
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.tensor_bundle import (
    INDEX_SUFFIX,
    Array,
    TensorBundle,
    TensorBundleError,
    open_bundle,
)

PathLike = str | os.PathLike[str]


class CheckpointReader:
    """What one checkpoint holds, by name. Made by load_checkpoint."""

    def __init__(self, tensors: Mapping[str, Array] | TensorBundle, source: str) -> None:
        self._tensors = tensors
        self._source = source

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        """Name -> shape."""
        return {name: list(shape) for name, (_, shape) in self._entries().items()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        """Name -> dtype."""
        return {name: dtype for name, (dtype, _) in self._entries().items()}

    def has_tensor(self, name: str) -> bool:
        return name in self._tensors

    def get_tensor(self, name: str) -> Array:
        """The value. Raises NotFoundError for a name that is not there, CorruptCheckpointError for damaged files."""
        if name not in self._tensors:
            raise NotFoundError(f"Key {name} not found in checkpoint {self._source}. list_variables says what it holds.")
        if isinstance(self._tensors, TensorBundle):
            return np.array(_whole(self._tensors, name))
        return self._tensors[name]

    def _entries(self) -> dict[str, tuple[DType, tuple[int, ...]]]:
        if not isinstance(self._tensors, TensorBundle):
            return {name: (dtypes.from_numpy(one.dtype), one.shape) for name, one in self._tensors.items()}
        entries = {}
        ...


def _whole(bundle: TensorBundle, name: str) -> Array:
    try:
        return bundle.read(name)
    except TensorBundleError as error:
        raise CorruptCheckpointError(str(error)) from error
