"""torch -> ONNX: the one call of torch's exporter, with what it prints and warns of by itself kept quiet.

Owns the options every export shares. What is exported, and how the graph is finished, is the caller's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch

OPSET = 21
"""ONNX opset of every graph built here."""


# They report every operator of torchvision that is missing, and every pass that changed nothing.
_TALKERS = ("torch.onnx", "onnxscript", "onnx_ir")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's own loggers at errors for as long as it works."""
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def to_onnx(
    program: torch.export.ExportedProgram,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The program as an ONNX model, not yet finished."""
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=input_names,
            output_names=output_names,
        )
    return exported.model_proto
