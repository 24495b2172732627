"""Starting a new model from what another one has learned: which variables, from which checkpoint, by which vocabulary.

Owns the settings, finding the checkpoint they name, and the first value of each variable they take. Does not know the
training loop: the variable store asks for the value when it makes a variable, so even the first loss is computed with
the warm values. Behaviour and error texts: TF 2.15 (WarmStartSettings, VocabInfo, tf.compat.v1.train.warm_start).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from estimator_serving.training.checkpoints.checkpoint import find_checkpoint, read_checkpoint
from estimator_serving.training.checkpoints.vocabulary_file import read_vocabulary
from estimator_serving.training.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    VariableMissingError,
    VariableShapeError,
)
from estimator_serving.training.nn.initializers import Initializer

logger = logging.getLogger("estimator_serving.training")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class VocabInfo:
    """Matches the rows (axis 0) or columns (axis 1) of a variable to the checkpoint's by the entries of vocabularies.

    The variable has `new_vocab_size` rows for the first entries of the file `new_vocab`, then `num_oov_buckets` rows.
    The checkpoint's has one row for each of the first `old_vocab_size` entries of the file `old_vocab`; -1 takes the
    whole file. An entry in both files keeps its row. Rows of new entries and of buckets come from `backup_initializer`
    (any of `training.initializers`), which is called for the shape of the whole variable; None gives zeros.
    Axis 1 is for the last layer of a classifier whose classes have changed; its biases have one axis and take axis 0.

    Raises:
        ValueError: an axis other than 0 and 1, a missing size or file, or a negative number.
        TypeError: a backup_initializer that is not a function.
    """

    new_vocab: str | os.PathLike[str]
    new_vocab_size: int
    num_oov_buckets: int
    old_vocab: str | os.PathLike[str]
    old_vocab_size: int = -1
    backup_initializer: Initializer | None = None
    axis: int = 0

    def __post_init__(self) -> None:
        if self.axis not in (0, 1):
            raise ValueError(
                f"The only supported values for the axis argument are 0 and 1.  Provided axis: {self.axis}. "
                "Rows follow the vocabulary with 0, columns with 1."
            )
        if not (self.new_vocab and self.new_vocab_size and self.old_vocab):
            raise ValueError(
                "Invalid args: Must provide all of [current_vocab_path, current_vocab_size, prev_ckpt, "
                f"prev_vocab_path]. Give new_vocab, new_vocab_size and old_vocab; got {self}."
            )
        if self.num_oov_buckets < 0:
            raise ValueError(
                f"num_row_oov_buckets must be >= 0, but received {self.num_oov_buckets}. Give num_oov_buckets as the "
                "column has it."
            )
        if self.new_vocab_size < 0 or self.old_vocab_size < -1 or self.old_vocab_size == 0:
            raise ValueError(
                "new_vocab_size and old_vocab_size count entries from 1 on, and old_vocab_size is -1 for the whole "
                f"file; got {self.new_vocab_size} and {self.old_vocab_size}."
            )
        if self.backup_initializer is not None and not callable(self.backup_initializer):
            raise TypeError(
                f"initializer must be callable, instead of being {self.backup_initializer} of type "
                f"{type(self.backup_initializer)}. Give one of training.initializers as backup_initializer."
            )

    @property
    def size(self) -> int:
        """How many rows or columns the variable has."""
        return self.new_vocab_size + self.num_oov_buckets

    def places(self) -> list[int]:
        """The position of each entry of the new vocabulary in the old one, -1 for an entry that the old one lacks.

        Raises NotFoundError, InvalidArgumentError and FailedPreconditionError as read_vocabulary does.
        """
        whole = None if self.old_vocab_size < 0 else self.old_vocab_size
        old = read_vocabulary(os.fspath(self.old_vocab), whole, None, is_string=True)
        new = read_vocabulary(os.fspath(self.new_vocab), self.new_vocab_size, None, is_string=True)
        place_of = {entry: place for place, entry in enumerate(old)}
        return [place_of.get(entry, -1) for entry in new]


@dataclass(frozen=True)
class WarmStartSettings:
    """What an estimator's variables start from as long as its model_dir holds no checkpoint.

    Args:
        ckpt_to_initialize_from: a checkpoint (`…/model.ckpt-10`), a model_dir, whose newest checkpoint is taken, or a
            SavedModel of TensorFlow. Checkpoints that TensorFlow wrote are read as well as ours.
        vars_to_warm_start: which variables. One regular expression takes trainable variables; a list of expressions
            takes any variable, including optimizer slots, moving averages and global_step (training then counts on
            from there); None takes only those of var_name_to_vocab_info. An expression must match from the beginning
            of the name, or of the name with `:0` behind it, which TensorFlow's variables have.
        var_name_to_vocab_info: variable name -> VocabInfo, for variables whose rows or columns follow a vocabulary.
        var_name_to_prev_var_name: variable name -> its name in the checkpoint, if that differs.

    Raises ValueError if no checkpoint is named, or if vars_to_warm_start has another type or is not a regular
    expression.
    """

    ckpt_to_initialize_from: str | os.PathLike[str]
    vars_to_warm_start: str | Sequence[str] | None = ".*"
    var_name_to_vocab_info: Mapping[str, VocabInfo] | None = None
    var_name_to_prev_var_name: Mapping[str, str] | None = None
    _patterns: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.ckpt_to_initialize_from:
            raise ValueError(
                "`ckpt_to_initialize_from` MUST be set in WarmStartSettings. Give a checkpoint, or the model_dir of "
                "the estimator to start from."
            )
        object.__setattr__(self, "_patterns", tuple(_compiled(self.vars_to_warm_start)))

    def takes(self, name: str, *, trainable: bool) -> bool:
        """Whether vars_to_warm_start takes the variable."""
        takes_all_kinds = not isinstance(self.vars_to_warm_start, str | None)
        return (trainable or takes_all_kinds) and any(p.match(name) or p.match(f"{name}:0") for p in self._patterns)

    @property
    def checkpoint_path(self) -> str:
        """The prefix of the checkpoint to start from. Raises CheckpointNotFoundError if there is none."""
        path = Path(self.ckpt_to_initialize_from)
        found = find_checkpoint(path)
        if found is None:
            there = "The directory holds no checkpoint." if path.is_dir() else "There is no such file."
            if (path / "model.onnx").is_file() or path.suffix == ".onnx":
                there = "An exported model is a graph and holds no variables by their names."
            elif any(path.glob("*.index")):
                there = (
                    "The directory has checkpoints of TensorFlow but no file `checkpoint` that names the newest: name "
                    "one."
                )
            raise CheckpointNotFoundError(
                "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for "
                f"{path}. {there} {_GIVE_A_CHECKPOINT}"
            )
        return found

    @property
    def keeps_names_and_rows(self) -> bool:
        """Whether each variable has the name and the shape that it has in the checkpoint."""
        return not self.var_name_to_vocab_info and not self.var_name_to_prev_var_name


WarmStartFrom = str | os.PathLike[str] | WarmStartSettings


def settings_of(warm_start_from: object) -> WarmStartSettings | None:
    """The settings for an estimator's `warm_start_from`: a path takes every trainable variable.

    Raises ValueError for another type, and as WarmStartSettings does.
    """
    if warm_start_from is None or isinstance(warm_start_from, WarmStartSettings):
        return warm_start_from
    if isinstance(warm_start_from, str | os.PathLike):
        return WarmStartSettings(warm_start_from)
    raise ValueError(
        f"warm_start_from must be a string or a WarmStartSettings, instead got {type(warm_start_from)}. Give the "
        "model_dir or a checkpoint of the estimator to start from."
    )


class WarmStart:
    """The first values of one new model's variables. Reads the vocabularies when it is made.

    Raises:
        CheckpointNotFoundError: there is no checkpoint.
        NotFoundError, InvalidArgumentError, FailedPreconditionError: a vocabulary file cannot be used.
    """

    def __init__(self, settings: WarmStartSettings) -> None:
        self._settings = settings
        self._infos = settings.var_name_to_vocab_info or {}
        self._names_before = settings.var_name_to_prev_var_name or {}
        self._places = {name: info.places() for name, info in self._infos.items()}
        self._path = settings.checkpoint_path
        self._viable: list[str] = []
        self._count = 0
        self._is_complete = False
        self._values: Mapping[str, Tensor] | None = None
        """The checkpoint's, read when the first variable is made."""
        logger.info("Warm-starting from: %s", self._path)

    def first_value(self, name: str, shape: Shape, *, trainable: bool, generator: torch.Generator) -> Tensor | None:
        """A new tensor with the variable's first value; None if the initializer's value holds.

        Raises VariableMissingError or VariableShapeError if the checkpoint lacks the variable or holds another shape,
        and CorruptCheckpointError if the file is damaged.
        """
        if not self._settings.takes(name, trainable=trainable):
            return None
        self._viable.append(name)
        info = self._infos.get(name)
        if info is None and not self._settings.vars_to_warm_start:
            return None
        self._count += 1
        before = self._names_before.get(name, name)
        if self._values is None:
            self._values = read_checkpoint(self._path).values
        if before not in self._values:
            shapes = {known: list(self._values[known].shape) for known in sorted(self._values)}
            raise VariableMissingError(
                f"Tensor {before} is not found in {self._path} checkpoint {shapes}. {_LEAVE_OUT} If it has "
                "another name there, give that in var_name_to_prev_var_name."
            )
        old = self._values[before]
        if info is not None:
            _check_vocabulary_shapes(name, shape, before, tuple(old.shape), info, self._places[name])
            # Each entry's row or column of `old`, at the entry's position in the new vocabulary.
            places, make = self._places[name], info.backup_initializer
            new = torch.zeros(shape, dtype=old.dtype) if make is None else make(shape, generator).to(old.dtype).clone()
            here = torch.tensor([i for i, place in enumerate(places) if place >= 0], dtype=torch.int64)
            there = torch.tensor([place for place in places if place >= 0], dtype=torch.int64)
            return new.index_copy_(info.axis, here, old.index_select(info.axis, there))
        if tuple(old.shape) != shape:
            raise VariableShapeError(
                f"Shape of variable {name}:0 ({shape}) doesn't match with shape of tensor {before} "
                f"({list(old.shape)}) from checkpoint reader. {_LEAVE_OUT} If its rows or columns follow a "
                "vocabulary, name it in var_name_to_vocab_info."
            )
        return old.clone()

    def complete(self) -> None:
        """Log how many variables were taken, once model_fn has made its variables for the first time.

        Raises CheckpointMismatchError for names in the settings that no variable has.
        """
        if self._is_complete:
            return
        self._check_used("var_name_to_prev_var_name", self._names_before)
        self._check_used("var_name_to_vocab_info", self._infos)
        self._is_complete = True
        # Training has all of its variables now. A table may be large; a second mode's variables are read again.
        self._values = None
        level = logging.INFO if self._count else logging.WARNING
        logger.log(level, "Warm-started %d variables.%s", self._count, "" if self._count else _NOTHING_TAKEN)

    def _check_used(self, argument: str, names: Iterable[str]) -> None:
        unused = sorted(set(names) - set(self._viable))
        if unused:
            raise CheckpointMismatchError(
                f"You provided the following variables in {argument} that were not used: {unused}.  Perhaps you "
                f"misspelled them?  Here is the list of viable variable names: {self._viable}. Name some of these, or "
                "let vars_to_warm_start take more."
            )


_LEAVE_OUT = "Leave it out with an expression in WarmStartSettings(vars_to_warm_start=…) that does not match its name."
_NOTHING_TAKEN = " No variable has a name that vars_to_warm_start matches, so all of them start as initialised."


def _check_vocabulary_shapes(
    name: str, shape: Shape, before: str, old: Shape, info: VocabInfo, places: Sequence[int]
) -> None:
    axis = info.axis
    if len(shape) <= axis or len(old) != len(shape):
        raise VariableShapeError(
            f"Expected {axis + 1}-dim shape, but received: {list(shape)} for the variable {name} and {list(old)} for "
            f"the checkpoint's {before}. Give the VocabInfo of {name} axis=0 where it has one axis."
        )
    if shape[axis] != info.size:
        sizes = f"({info.new_vocab_size}) + num_{{}}_oov_buckets ({info.num_oov_buckets}) = {info.size}"
        if axis == 1:
            fault = f"Expected 2nd dim of shape to be new_col_vocab_size {sizes.format('col')}, but received shape: "
            fault += f"{list(shape)}"
        else:
            # TF takes fewer rows than the settings count, and gives buckets the values of entries then.
            exceeds = "would exceed" if shape[0] > info.size else "are fewer than the"
            fault = f"Trying to initialize {shape[0]} additional rows after 0 rows have already been initialized, "
            fault += f"which {exceeds} expected total row count of new_row_vocab_size {sizes.format('row')}"
        raise VariableShapeError(
            f"{fault}. Give the VocabInfo of {name} the vocabulary size and the buckets that its column has."
        )
    others = [(i, is_, was) for i, (is_, was) in enumerate(zip(shape, old, strict=True)) if i != axis and is_ != was]
    for i, is_, was in others:
        raise VariableShapeError(
            f"Tensor {before} has shape {list(old)}, where the size of its {_ORDINALS[i]} dimension is {was} instead "
            f"of being equal to {is_}, as {name} has it. Only axis {axis} follows the vocabulary; keep the other as "
            "it was trained."
        )
    if max(places, default=-1) >= old[axis]:
        raise VariableShapeError(
            f"{info.old_vocab} has entries at place {max(places)} that the model takes, and the checkpoint's {before} "
            f"ends at {old[axis] - 1}: its shape is {list(old)}. Give the vocabulary it was trained with, and as "
            "old_vocab_size how many entries of it."
        )


_ORDINALS = ("1st", "2nd", "3rd", "4th", "5th")


def _compiled(wanted: object) -> list[re.Pattern[str]]:
    """The expressions of vars_to_warm_start; for None one that matches every name."""
    patterns = [wanted or ""] if isinstance(wanted, str | None) else wanted
    if not isinstance(patterns, list | tuple):
        raise ValueError(
            f"`vars_to_warm_start must be a `list` or `str`.  Given type is {type(wanted)}. A string takes trainable "
            "variables, a list of strings any."
        )
    if not all(isinstance(each, str) for each in patterns):
        raise ValueError(
            "If `vars_to_warm_start` is a list, it must be all `Variable` or all `str`.  Given types are "
            f"{[type(each) for each in patterns]}. Variables are made when model_fn is called: give their names."
        )
    compiled: list[re.Pattern[str]] = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise ValueError(
                f"vars_to_warm_start holds {pattern!r}, which is not a regular expression ({error}). Put a backslash "
                "in front of each sign that stands for itself."
            ) from None
    return compiled


# -- where the checkpoint is ------------------------------------------------------------------------------------------


_GIVE_A_CHECKPOINT = (
    "Start from the model_dir of a trained estimator, or from what its latest_checkpoint() returns (…/model.ckpt-10)."
)
