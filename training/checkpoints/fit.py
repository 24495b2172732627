"""Compares a checkpoint with a model, by letting the model create its variables.

Owns the store that records what a model asks for. Does not know estimators or how model_fn is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from estimator_serving.training.nn.first_values import FirstValues
from estimator_serving.training.nn.variables import GLOBAL_STEP, VariableStore

Shape = tuple[int, ...]


@dataclass(frozen=True)
class CheckpointFit:
    """How a checkpoint fits a model.

    Attributes:
        taken: shape by name of the tensors in the checkpoint that the model takes.
        renamed: the name in the model for each of them that has a different name there.
        lacking: shape by name of the model's variables and slots that the checkpoint does not have.
        misshapen: for those that the checkpoint has with another shape, the shapes in the model and in the checkpoint.
        left: shape by name of the other tensors in the checkpoint.
        has_slots: whether the model's optimizer slots are known.
    """

    taken: Mapping[str, Shape]
    renamed: Mapping[str, str]
    lacking: Mapping[str, Shape]
    misshapen: Mapping[str, tuple[Shape, Shape]]
    left: Mapping[str, Shape]
    has_slots: bool

    @property
    def fits(self) -> bool:
        """Whether the checkpoint has everything that the model asks for."""
        return not self.lacking and not self.misshapen


class TryingStore(VariableStore):
    """A store that records what a model asks for and what does not fit, instead of raising an error."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__(values=values)
        self._tried = _TriedValues(values)
        self.first_values = self._tried

    def fit(self, *, has_slots: bool) -> CheckpointFit:
        """The result, after model_fn has been called with this store."""
        # Without a global_step, training starts at step 0.
        asked = {**({GLOBAL_STEP: ()} if GLOBAL_STEP in self._tried.shapes else {}), **self._tried.asked}
        found = {name: self._tried.old_names.get(name, name) for name in asked}
        there = {name: old for name, old in found.items() if old in self._tried.shapes}
        taken = {old: asked[name] for name, old in there.items() if self._tried.shapes[old] == asked[name]}
        return CheckpointFit(
            taken=taken,
            renamed={old: name for name, old in there.items() if name != old and old in taken},
            lacking={name: shape for name, shape in asked.items() if name not in there},
            misshapen={name: (asked[name], self._tried.shapes[old]) for name, old in there.items() if old not in taken},
            left={name: shape for name, shape in self._tried.shapes.items() if name not in there.values()},
            has_slots=has_slots,
        )


class _TriedValues(FirstValues):
    """First values from the initializers, with a note of each name and shape that is asked for."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__(0, values, "", None)
        self.shapes = {name: tuple(value.shape) for name, value in values.items()}
        self.asked: dict[str, Shape] = {}
        self.old_names: dict[str, str] = {}

    def rename(self, old: str, new: str, change: Callable[[Tensor], Tensor]) -> None:
        if new not in self.shapes and old in self.shapes:
            self.old_names[new] = old

    def take(self, name: str, shape: Shape, make: Callable[[], Tensor], *, trainable: bool = False) -> Tensor:
        self.asked[name] = shape
        return make()
