"""torch -> ONNX: the one call of torch's exporter, with what it prints and warns of by itself kept quiet.

Owns the options every export shares. What is exported, and how the graph is finished, is the caller's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import onnx
import torch

OPSET = 21
"""ONNX opset of every graph built here."""


def to_onnx(
    program: torch.export.ExportedProgram,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The program as an ONNX model, not yet finished."""
    # torch reports every operator of torchvision that it misses, and its own deprecations.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
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
