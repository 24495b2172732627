"""What training raises beside ValueError and TypeError.

RuntimeError
└── NanLossDuringTrainingError      the loss of a step is not a number
ValueError
└── CheckpointError                 a checkpoint cannot be used
    ├── CheckpointMismatchError     the model's variable is missing or has another shape
    └── CorruptCheckpointError      the file is cut, altered, or no checkpoint at all
"""

from __future__ import annotations


class NanLossDuringTrainingError(RuntimeError):
    """The loss became NaN; raised before the step's gradients touch a weight."""

    def __str__(self) -> str:
        return (
            "NaN loss during training. The weights and the last checkpoint are as they were before this step: "
            "look for NaN or very large inputs, or try a smaller learning rate."
        )


class CheckpointError(ValueError):
    """A checkpoint cannot be used."""


class CheckpointMismatchError(CheckpointError):
    """The model and the checkpoint disagree about a variable."""


class CorruptCheckpointError(CheckpointError):
    """The file's bytes are not those that were written."""
