"""First values of a model's variables and slots: from its checkpoint, from a start, or from their initializers.

Owns the order of the three, the errors of a checkpoint that does not fit the model, and the seeds of initial values.
Does not know files: a checkpoint is a mapping from names to tensors, and a start is asked for one variable at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from estimator_serving.training.errors import VariableMissingError, VariableShapeError

if TYPE_CHECKING:
    from estimator_serving.training.checkpoints.warm_start import WarmStart

SLOTS = "training/"
"""Optimizer slots are named `training/<Optimizer>/<variable>/<slot>`."""

_RESTORING_FAILED = "Restoring from checkpoint failed. This is most likely due to a "
_NOT_ALTERED = "Please ensure that you have not altered the graph expected based on the checkpoint."
_NEW_MODEL_DIR = "Give the changed model a new model_dir, or change it back to the one that was trained."


class FirstValues:
    """Gives each variable its first value once.

    `checkpoint` holds the values to restore: a model with a checkpoint never initialises a variable. `source` names
    the checkpoint in messages. Without a checkpoint the `start` decides, where it has a value, and the initializer
    otherwise.
    """

    def __init__(
        self, seed: int, checkpoint: Mapping[str, Tensor] | None, source: str, start: WarmStart | None
    ) -> None:
        self._seed = seed
        self._checkpoint = None if checkpoint is None else dict(checkpoint)
        self._source = source or "the checkpoint"
        self._start = start
        self._known_names = sorted(name for name in checkpoint or () if not name.startswith(SLOTS))

    def take(self, name: str, shape: tuple[int, ...], make: Callable[[], Tensor], *, trainable: bool = False) -> Tensor:
        """The first value of `name`; `make` gives the initializer's.

        Raises VariableMissingError or VariableShapeError if the checkpoint lacks the variable or holds another shape.
        """
        if self._checkpoint is None:
            value = None
            if self._start is not None:
                value = self._start.first_value(name, shape, trainable=trainable, generator=self.generator(name))
            return make() if value is None else value
        if name not in self._checkpoint:
            raise VariableMissingError(
                f"{_RESTORING_FAILED}Variable name or other graph key that is missing from the checkpoint. "
                f"{_NOT_ALTERED} The model asks for {name} with shape {shape}, and {self._source} holds "
                f"{self._known_names}. {_NEW_MODEL_DIR}"
            )
        value = self._checkpoint.pop(name)
        if tuple(value.shape) != shape:
            raise VariableShapeError(
                f"{_RESTORING_FAILED}mismatch between the current graph and the graph from the checkpoint. "
                f"{_NOT_ALTERED} The variable {name} has shape {shape} in the model and {tuple(value.shape)} in "
                f"{self._source}. {_NEW_MODEL_DIR}"
            )
        # In memory that torch aligns. In the file's, values begin anywhere, and a product of matrices may be added up
        # in another order there: the resumed training would differ from the undisturbed one in the last bit.
        return value.clone()

    def rename(self, old: str, new: str, change: Callable[[Tensor], Tensor]) -> None:
        """Use the checkpoint's value of `old`, changed, for `new`, if the checkpoint has `old` and lacks `new`."""
        if self._checkpoint is not None and new not in self._checkpoint and old in self._checkpoint:
            self._checkpoint[new] = change(self._checkpoint.pop(old))

    def complete(self) -> None:
        """Say that model_fn has made its variables.

        Raises CheckpointMismatchError if the start names a variable that it did not make.
        """
        if self._start is not None:
            self._start.complete()

    def generator(self, name: str) -> torch.Generator:
        """A fresh generator for the initial value of `name`. It depends on the seed and the name only."""
        return torch.Generator().manual_seed(mixed_seed(self._seed, zlib.crc32(name.encode())))


def mixed_seed(seed: int, number: int) -> int:
    """A seed that follows from both numbers (splitmix64). It has 32 bits, because torch's generator ignores others."""
    mixed = (seed << 32) ^ number
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) & 0xFFFFFFFF
