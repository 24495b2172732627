"""What training raises beside ValueError and TypeError.

RuntimeError
├── NanLossDuringTrainingError      the loss of a step is not a number
└── PeerLostError                   another process of the training is gone
ValueError
├── InvalidArgumentError            values that do not fit (tf.errors.InvalidArgumentError)
├── NotFoundError                   a name that is not there (tf.errors.NotFoundError)
├── FailedPreconditionError         a file that contradicts itself (tf.errors.FailedPreconditionError)
└── CheckpointError                 a checkpoint cannot be used
    ├── CheckpointMismatchError     the model and the checkpoint disagree about a variable
    │   ├── VariableMissingError    the checkpoint lacks it; a NotFoundError too
    │   └── VariableShapeError      it has another shape there; an InvalidArgumentError too
    ├── CheckpointNotFoundError     there is none where one was named; a NotFoundError too
    └── CorruptCheckpointError      the file is cut, altered, or no checkpoint at all

TensorFlow's classes derive from Exception alone; here they are ValueErrors as well.
"""

from __future__ import annotations


class NanLossDuringTrainingError(RuntimeError):
    """The loss became NaN; raised before the step's gradients touch a weight."""

    def __str__(self) -> str:
        return (
            "NaN loss during training. The weights and the last checkpoint are as they were before this step: "
            "look for NaN or very large inputs, or try a smaller learning rate."
        )


class PeerLostError(RuntimeError):
    """Another process of the training failed, ended or was stopped; `peer` says which, and why if that is known."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self.peer = peer

    def __str__(self) -> str:
        return (
            f"{self.peer}. This process cannot go on without it. The last checkpoint is kept: start the same command "
            "in every process again, and the training goes on from there."
        )


class InvalidArgumentError(ValueError):
    """A value that the operation cannot take."""


class NotFoundError(ValueError):
    """Something asked for by name is not there."""


class FailedPreconditionError(ValueError):
    """What an operation relies on does not hold."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used."""


class CheckpointMismatchError(CheckpointError):
    """The model and the checkpoint disagree about a variable."""


class VariableMissingError(CheckpointMismatchError, NotFoundError):
    """The model asks for a variable that the checkpoint lacks."""


class VariableShapeError(CheckpointMismatchError, InvalidArgumentError):
    """The model asks for another shape than the checkpoint holds."""


class CheckpointNotFoundError(CheckpointError, NotFoundError):
    """There is no checkpoint where one was named."""


class CorruptCheckpointError(CheckpointError):
    """The file's bytes are not those that were written."""
