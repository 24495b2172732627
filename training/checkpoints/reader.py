"""Functions of tf.train that inspect a checkpoint: list_variables, load_variable, load_checkpoint; and load_into.

Owns their names, arguments and error texts, for this project's checkpoints and TensorFlow's. For the latter, the names
are the keys in the files, as in TensorFlow. Training finds variables in them with checkpoints.tensorflow instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from estimator_serving.training.checkpoints.checkpoint import checkpoint_file, find_checkpoint, read_checkpoint
from estimator_serving.training.errors import CheckpointNotFoundError, CorruptCheckpointError, NotFoundError
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.tensor_bundle import INDEX_SUFFIX, Array, TensorBundleError, TensorDtypeError, open_bundle

PathLike = str | os.PathLike[str]
Entry = tuple[DType, tuple[int, ...]]


class CheckpointReader:
    """The contents of one checkpoint by name. `load_checkpoint` makes it; `path` is the prefix of the checkpoint."""

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
        """The value as a new array. Strings are bytes in an object array.

        Raises NotFoundError for an unknown name, CorruptCheckpointError if the files are damaged.
        """
        if name not in self._entries:
            raise NotFoundError(
                f"Key {name} not found in checkpoint {self.path}. Use one of the names that list_variables returns."
            )
        return self._read(name)


def load_checkpoint(ckpt_dir_or_file: PathLike) -> CheckpointReader:
    """Opens a checkpoint `…/model.ckpt-10`, or the newest one in a model_dir, of this project or of TensorFlow.

    Raises ValueError for a directory without a checkpoint and NotFoundError for any other path without one (with the
    texts of TF 2.15), CorruptCheckpointError if the files are damaged.
    """
    path = Path(ckpt_dir_or_file)
    prefix = find_checkpoint(path)
    if prefix is None and path.is_dir():
        raise ValueError(
            f"Couldn't find 'checkpoint' file or checkpoints in given directory {path}. Give the path of a "
            "checkpoint, without the ending of its files."
        )
    if prefix is None:
        raise CheckpointNotFoundError(
            f"Unsuccessful TensorSliceReader constructor: Failed to find any matching files for {path}. Give a "
            "model_dir, or the path of a checkpoint without the ending of its files (…/model.ckpt-10)."
        )
    if _is_tensorflows(prefix):
        return _reader_of_tensorflows(prefix)
    values = read_checkpoint(prefix).values
    entries = {name: (dtypes.as_dtype(tensor.dtype), tuple(tensor.shape)) for name, tensor in values.items()}
    # torch cannot convert bfloat16 to numpy.
    arrays = {
        name: tensor.view(torch.int16).numpy().view(dtypes.bfloat16.numpy)
        if tensor.dtype == torch.bfloat16
        else tensor.numpy()
        for name, tensor in values.items()
    }
    return CheckpointReader(prefix, entries, arrays.__getitem__)


def verify_checkpoint(prefix: str) -> None:
    """Reads a whole checkpoint. Raises CorruptCheckpointError if a file is truncated, changed or missing."""
    if not _is_tensorflows(prefix):
        read_checkpoint(prefix)
        return
    try:
        open_bundle(prefix).verify()
    except TensorBundleError as error:
        raise CorruptCheckpointError(str(error)) from error


def list_variables(ckpt_dir_or_file: PathLike) -> list[tuple[str, list[int]]]:
    """Name and shape of everything in a checkpoint, sorted by name. Raises the errors of load_checkpoint."""
    return sorted(load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map().items())


def load_variable(ckpt_dir_or_file: PathLike, name: str) -> Array:
    """The value of one variable; its name may end in `:0`. Raises the errors of load_checkpoint and get_tensor."""
    return load_checkpoint(ckpt_dir_or_file).get_tensor(name.removesuffix(":0"))


def load_into(
    module: nn.Module, ckpt_dir_or_file: PathLike, names: Mapping[str, str] | str, *, strict: bool = True
) -> list[str]:
    """Load a checkpoint's variables into a plain torch module, and return the names in the module that were set.

    For example a network that training has found as `module("net", Net)`, and one whose layers have TensorFlow's names:

        load_into(Net(), "model_dir", "net")
        load_into(net, "model_dir", {"0.weight": "dnn/hiddenlayer_0/kernel", "0.bias": "dnn/hiddenlayer_0/bias"})

    Args:
        module: its parameters and buffers are set in place.
        ckpt_dir_or_file: what load_checkpoint takes.
        names: the variable for each name in the module's state_dict; or the name that `training.module` was given,
            whose variables are `<name>/<path with slashes>`. A kernel [inputs, units] is transposed for a weight
            [units, inputs].
        strict: raise where the module has a parameter or buffer that is not set.

    Raises:
        ValueError: another shape, or with `strict` a parameter or buffer that `names` leaves out.
        NotFoundError: a variable that the checkpoint does not have. What load_checkpoint raises.
    """
    reader = load_checkpoint(ckpt_dir_or_file)
    state = module.state_dict(keep_vars=True)
    if isinstance(names, str):
        prefixed = {inner: f"{names}/{inner.replace('.', '/')}" for inner in state}
        # A tied parameter is saved under its first name only.
        seen = {id(tensor) for inner, tensor in state.items() if reader.has_tensor(prefixed[inner])}
        names = {i: v for i, v in prefixed.items() if reader.has_tensor(v) or (id(state[i]) not in seen and strict)}
        left_out: set[str] = set()
    else:
        unknown = sorted(names.keys() - state.keys())
        if unknown:
            raise ValueError(f"The module has no {unknown[0]!r}. It has {sorted(state)}.")
        set_ones = {id(state[inner]) for inner in names}
        left_out = {inner for inner, tensor in state.items() if id(tensor) not in set_ones}
    if strict and left_out:
        raise ValueError(f"names leaves out {sorted(left_out)} of the module. Name them, or pass strict=False.")
    with torch.no_grad():
        for inner, variable in names.items():
            value, target = torch.from_numpy(np.array(reader.get_tensor(variable))), state[inner]
            if value.shape != target.shape and value.ndim == 2 and value.T.shape == target.shape:
                value = value.T
            elif (
                value.ndim == 2 and variable.endswith("/kernel") and inner.rpartition(".")[2] == "weight"
            ):  # a square one: torch's Linear keeps [units, inputs]
                value = value.T
            if value.shape != target.shape:
                raise ValueError(
                    f"{inner} of the module has shape {tuple(target.shape)}, and {variable} in {reader.path} has "
                    f"{tuple(value.shape)}. Give the module the shapes of the checkpoint."
                )
            target.copy_(value)
    return sorted(names)


def _is_tensorflows(prefix: str) -> bool:
    file = checkpoint_file(prefix)
    return file is not None and file.suffix == INDEX_SUFFIX


def _reader_of_tensorflows(prefix: str) -> CheckpointReader:
    entries: dict[str, Entry] = {}
    try:
        bundle = open_bundle(prefix)
        for key in bundle.keys():  # noqa: SIM118  not a mapping
            try:
                entry = bundle.entry(key)
            except TensorDtypeError:
                continue  # numpy has no arrays for it, for example for a variant
            entries[key] = (entry.dtype, entry.shape)
    except TensorBundleError as error:
        raise CorruptCheckpointError(str(error)) from error

    def read(name: str) -> Array:
        try:
            return np.array(bundle.read(name))
        except TensorBundleError as error:
            raise CorruptCheckpointError(str(error)) from error

    return CheckpointReader(prefix, entries, read)
