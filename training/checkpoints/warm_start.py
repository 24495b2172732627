"""Starting a new model from what another one has learned: which variables, from which checkpoint, by which vocabulary.

Owns the settings, finding the checkpoint they mean, and the first value of each variable they take. Does not know the
training loop: the variable store asks when a variable is made, so that the first loss is that of the warm model
already. Behaviour and error texts: TF 2.15 (WarmStartSettings, VocabInfo, tf.compat.v1.train.warm_start).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from estimator_serving.training.checkpoints.checkpoint import SUFFIX, latest_checkpoint, read_checkpoint
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
    """Whose rows (axis 0) or columns (axis 1) of a variable are whose in the checkpoint: those of the same entry.

    The variable has `new_vocab_size` rows for the first entries of the file `new_vocab` and `num_oov_buckets` behind
    them, the checkpoint's one row for each entry of the file `old_vocab` (for the first `old_vocab_size` of them; -1
    takes the whole file). Rows of entries that the old vocabulary lacks and rows of buckets come from
    `backup_initializer` (any of `training.initializers`), which is asked for the whole variable; None gives zeros.
    Axis 1 is for the last layer of a classifier whose classes have changed; its biases, of one axis, take axis 0.

    Raises:
        ValueError: an axis other than 0 and 1, a size or a file that is not given, a negative number.
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
        """For each entry of the new vocabulary its place in the old one, -1 where it has none.

        Raises NotFoundError, InvalidArgumentError and FailedPreconditionError as read_vocabulary.
        """
        whole = None if self.old_vocab_size < 0 else self.old_vocab_size
        old = read_vocabulary(os.fspath(self.old_vocab), whole, None, is_string=True)
        new = read_vocabulary(os.fspath(self.new_vocab), self.new_vocab_size, None, is_string=True)
        place_of = {entry: place for place, entry in enumerate(old)}
        return [place_of.get(entry, -1) for entry in new]


@dataclass(frozen=True)
class WarmStartSettings:
    """What an estimator's variables start from where its model_dir holds no checkpoint yet.

    Args:
        ckpt_to_initialize_from: a checkpoint (`…/model.ckpt-10`), or a model_dir, whose newest is taken.
        vars_to_warm_start: which variables. A regular expression takes trainable ones; a list of them takes any
            variable, optimizer slots, moving averages and global_step (from where training then counts on) included;
            None takes those of var_name_to_vocab_info alone. An expression must match from the beginning of the
            name, or of the name with `:0` behind it, which TensorFlow's variables have.
        var_name_to_vocab_info: variable name -> VocabInfo, for variables whose rows or columns follow a vocabulary.
        var_name_to_prev_var_name: variable name -> its name in the checkpoint, where that is another one.

    Raises ValueError: no checkpoint named, vars_to_warm_start of another type, or one that is no regular expression.
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
        object.__setattr__(self, "_patterns", tuple(map(_compiled, _listed(self.vars_to_warm_start))))

    def takes(self, name: str, *, trainable: bool) -> bool:
        """Whether vars_to_warm_start takes the variable."""
        takes_all_kinds = not isinstance(self.vars_to_warm_start, str | None)
        return (trainable or takes_all_kinds) and any(p.match(name) or p.match(f"{name}:0") for p in self._patterns)

    @property
    def checkpoint_path(self) -> str:
        """The prefix of the checkpoint it starts from. Raises CheckpointNotFoundError if there is none."""
        return _find_checkpoint(Path(self.ckpt_to_initialize_from))

    @property
    def keeps_names_and_rows(self) -> bool:
        """Whether the checkpoint's variables are the model's, one by one."""
        return not self.var_name_to_vocab_info and not self.var_name_to_prev_var_name


WarmStartFrom = str | os.PathLike[str] | WarmStartSettings


def settings_of(warm_start_from: object) -> WarmStartSettings | None:
    """The settings that an estimator's argument means: a path takes every trainable variable.

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
        NotFoundError, InvalidArgumentError, FailedPreconditionError: a vocabulary file that cannot be used.
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
        logger.info("Warm-starting from: %s", self._path)

    @cached_property
    def _values(self) -> Mapping[str, Tensor]:
        return read_checkpoint(self._path).values

    def first_value(self, name: str, shape: Shape, *, trainable: bool, generator: torch.Generator) -> Tensor | None:
        """What the variable starts with, a tensor of its own; None for its initializer's value.

        Raises VariableMissingError and VariableShapeError where the checkpoint does not have it as the model does, and
        CorruptCheckpointError where it is not what was written.
        """
        if not self._settings.takes(name, trainable=trainable):
            return None
        self._viable.append(name)
        info = self._infos.get(name)
        if info is None and not self._settings.vars_to_warm_start:
            return None
        self._count += 1
        before = self._names_before.get(name, name)
        old = self._value_before(before)
        if info is not None:
            _check_vocabulary_shapes(name, shape, before, tuple(old.shape), info, self._places[name])
            return _follow_entries(shape, old, info, self._places[name], generator)
        if tuple(old.shape) != shape:
            raise VariableShapeError(
                f"Shape of variable {name}:0 ({shape}) doesn't match with shape of tensor {before} "
                f"({list(old.shape)}) from checkpoint reader. {_LEAVE_OUT} Where its rows or columns follow a "
                "vocabulary, say which in var_name_to_vocab_info."
            )
        return old.clone()

    def complete(self) -> None:
        """Tell what was taken, once model_fn has made its variables for the first time.

        Raises CheckpointMismatchError for names in the settings that no variable had.
        """
        if self._is_complete:
            return
        self._check_used("var_name_to_prev_var_name", self._names_before)
        self._check_used("var_name_to_vocab_info", self._infos)
        self._is_complete = True
        # Training has all of its variables now. A table may be large; a second mode's variables are read again.
        vars(self).pop("_values", None)
        level = logging.INFO if self._count else logging.WARNING
        logger.log(level, "Warm-started %d variables.%s", self._count, "" if self._count else _NOTHING_TAKEN)

    def _value_before(self, name: str) -> Tensor:
        values = self._values
        if name not in values:
            shapes = {known: list(values[known].shape) for known in sorted(values)}
            raise VariableMissingError(
                f"Tensor {name} is not found in {self._path} checkpoint {shapes}. {_LEAVE_OUT} Where it has "
                "another name there, say which in var_name_to_prev_var_name."
            )
        return values[name]

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


def _follow_entries(
    shape: Shape, old: Tensor, info: VocabInfo, places: Sequence[int], generator: torch.Generator
) -> Tensor:
    """`old` with the rows or columns of each entry where the new vocabulary has it."""
    make = info.backup_initializer
    new = torch.zeros(shape, dtype=old.dtype) if make is None else make(shape, generator).to(old.dtype).clone()
    here = torch.tensor([i for i, place in enumerate(places) if place >= 0], dtype=torch.int64)
    there = torch.tensor([place for place in places if place >= 0], dtype=torch.int64)
    return new.index_copy_(info.axis, here, old.index_select(info.axis, there))


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
        raise VariableShapeError(_size_text(name, shape, info))
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


def _size_text(name: str, shape: Shape, info: VocabInfo) -> str:
    sizes = f"({info.new_vocab_size}) + num_{{}}_oov_buckets ({info.num_oov_buckets}) = {info.size}"
    if info.axis == 1:
        started = f"Expected 2nd dim of shape to be new_col_vocab_size {sizes.format('col')}, but received shape: "
        started += f"{list(shape)}"
    else:
        # TF takes fewer rows than the settings count, and gives buckets the values of entries then.
        exceeds = "would exceed" if shape[0] > info.size else "are fewer than the"
        started = f"Trying to initialize {shape[0]} additional rows after 0 rows have already been initialized, which "
        started += f"{exceeds} expected total row count of new_row_vocab_size {sizes.format('row')}"
    return f"{started}. Give the VocabInfo of {name} the vocabulary size and the buckets that its column has."


def _listed(wanted: object) -> list[str]:
    """The expressions of vars_to_warm_start; what matches everything for None."""
    if wanted is None:
        return [""]
    if isinstance(wanted, str):
        return [wanted]
    if not isinstance(wanted, list | tuple):
        raise ValueError(
            f"`vars_to_warm_start must be a `list` or `str`.  Given type is {type(wanted)}. A string takes trainable "
            "variables, a list of strings any."
        )
    if not all(isinstance(each, str) for each in wanted):
        raise ValueError(
            "If `vars_to_warm_start` is a list, it must be all `Variable` or all `str`.  Given types are "
            f"{[type(each) for each in wanted]}. Variables are made when model_fn is called: give their names."
        )
    return list(wanted)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"vars_to_warm_start holds {pattern!r}, which is no regular expression ({error}). Put a backslash in front "
            "of each sign that stands for itself."
        ) from None


# -- where the checkpoint is ------------------------------------------------------------------------------------------


def _find_checkpoint(path: Path) -> str:
    prefix = str(path).removesuffix(SUFFIX)
    if Path(prefix + SUFFIX).is_file():
        return prefix
    newest = latest_checkpoint(path) if path.is_dir() else None
    if newest is None:
        raise CheckpointNotFoundError(
            "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for "
            f"{path}. {_what_is_there(path)} {_GIVE_A_CHECKPOINT}"
        )
    return newest


_GIVE_A_CHECKPOINT = (
    "Start from the model_dir of a trained estimator, or from what its latest_checkpoint() returns (…/model.ckpt-10)."
)


def _what_is_there(path: Path) -> str:
    if (path / "model.onnx").is_file() or path.suffix == ".onnx":
        return "An exported model is a graph and holds no variables by their names."
    if (path / "saved_model.pb").is_file() or Path(f"{path}.index").is_file() or any(path.glob("*.index")):
        return "TensorFlow wrote what is there: write its variables anew with checkpoint.write_checkpoint."
    return "The directory holds no checkpoint." if path.is_dir() else "There is no such file."
