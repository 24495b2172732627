"""torch -> ONNX: the one call of torch's exporter, which keeps its messages and warnings quiet.

Owns the options every export shares. What is exported, and how the graph is finished, is the caller's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import ExitStack

import onnx
import torch

OPSET = 21
"""ONNX opset of every graph built here."""


# They report every operator of torchvision that is missing, and every pass that changes nothing.
_TALKERS = ("torch.onnx", "onnxscript", "onnx_ir")


def to_onnx(
    program: torch.export.ExportedProgram,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The program as an ONNX model, not yet finished."""
    with warnings.catch_warnings(), ExitStack() as restored:
        warnings.simplefilter("ignore")
        for logger in map(logging.getLogger, _TALKERS):
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=input_names,
            output_names=output_names,
        )
    assert exported is not None  # torch gives None where it wrote a file
    return exported.model_proto
