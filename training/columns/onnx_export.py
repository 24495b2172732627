"""torch -> ONNX: the one call of torch's exporter, which keeps its messages and warnings quiet.

Owns the options every export shares. What is exported, and how the graph is finished, is the caller's.
"""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import onnx
import torch

OPSET = 21
"""ONNX opset of every graph built here."""


# They report every operator of torchvision that is missing, and every pass that changes nothing.
_TALKERS = ("torch.onnx", "onnxscript", "onnx_ir")
# Torch fails when two threads export at once, and each would put back what the other one had changed.
_ONE_AT_A_TIME = threading.Lock()


def to_onnx(
    program: torch.export.ExportedProgram,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The program as an ONNX model, not yet finished. Other threads wait for the end of an export."""
    with _ONE_AT_A_TIME, warnings.catch_warnings(), ExitStack() as restored:
        warnings.simplefilter("ignore")
        for logger in map(logging.getLogger, _TALKERS):
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        restored.enter_context(_operators_read_once())
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


@contextmanager
def _operators_read_once() -> Iterator[None]:
    """Gives torch the table of operators that an earlier export read.

    For every export torch reads the source of each operator that it can translate: 0.85 s of the 1.2 s that a small
    graph takes. The table is not public: a torch that keeps it elsewhere reads it each time, for the same graphs.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry as Registry

        own, operators = vars(Registry)["from_torchlib"], _operators(Registry)
    except (ImportError, KeyError):
        yield
        return
    Registry.from_torchlib = staticmethod(lambda *_, **__: operators)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Registry.from_torchlib = own  # type: ignore[method-assign]


@functools.cache
def _operators(registry: Any) -> Any:
    return registry.from_torchlib(opset_version=OPSET)
