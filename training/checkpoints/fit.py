"""What of a checkpoint a model takes: asked of the model itself, by letting it make its variables.

Owns the store that notes what is asked for. Does not know estimators, or how model_fn is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from estimator_serving.training.nn.variables import GLOBAL_STEP, VariableStore

Shape = tuple[int, ...]


@dataclass(frozen=True)
class CheckpointFit:
    """How a model and a checkpoint go together.

    Attributes:
        taken: the names in the checkpoint that the model takes -> shape.
        renamed: of those that have another name in the model, that name.
        lacking: variables and slots of the model that the checkpoint has not -> shape.
        misshapen: those that it has in another shape -> the model's shape, the checkpoint's.
        left: what the checkpoint has beside that -> shape.
        has_slots: whether the model was asked for its optimizers' slots, too.
    """

    taken: Mapping[str, Shape]
    renamed: Mapping[str, str]
    lacking: Mapping[str, Shape]
    misshapen: Mapping[str, tuple[Shape, Shape]]
    left: Mapping[str, Shape]
    has_slots: bool

    @property
    def fits(self) -> bool:
        """Whether the model finds all it asks for."""
        return not self.lacking and not self.misshapen


class TryingStore(VariableStore):
    """A store over a checkpoint's values that notes what does not fit, where VariableStore refuses it."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__(values=values)
        self._shapes = {name: tuple(value.shape) for name, value in values.items()}
        self._asked: dict[str, Shape] = {}
        self._old_names: dict[str, str] = {}

    def rename_restored(self, old: str, new: str, change: Callable[[Tensor], Tensor]) -> None:
        if new not in self._shapes and old in self._shapes:
            self._old_names[new] = old

    def _first_value(self, name: str, shape: Shape, make: Callable[[], Tensor], *, trainable: bool = False) -> Tensor:
        self._asked[name] = shape
        return make()

    def fit(self, *, has_slots: bool) -> CheckpointFit:
        """What came out of model_fn's call with this store."""
        # A checkpoint without a step is one of step 0.
        asked = {**({GLOBAL_STEP: ()} if GLOBAL_STEP in self._shapes else {}), **self._asked}
        found = {name: self._old_names.get(name, name) for name in asked}
        there = {name: old for name, old in found.items() if old in self._shapes}
        taken = {old: asked[name] for name, old in there.items() if self._shapes[old] == asked[name]}
        return CheckpointFit(
            taken=taken,
            renamed={old: name for name, old in there.items() if name != old and old in taken},
            lacking={name: shape for name, shape in asked.items() if name not in there},
            misshapen={name: (asked[name], self._shapes[old]) for name, old in there.items() if old not in taken},
            left={name: shape for name, shape in self._shapes.items() if name not in there.values()},
            has_slots=has_slots,
        )
