"""Tracing a torch function for export, and the sentence for one that cannot be traced: which line, why, what instead.

Owns the reading of torch's errors. Knows nothing of estimators or of the graph that is made.
"""

from __future__ import annotations

import inspect
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

# The folders whose lines are not the user's.
_OWN_FOLDERS = ("/torch/", "/onnxscript/", "/onnx_ir/", "/keras/", "/estimator_serving/")

# What torch says -> what went wrong and what to write instead; the first row that fits wins.
_REASONS = (
    (
        ("data-dependent", "guardondatadependent", "_local_scalar_dense", ".item()"),
        "it takes a value out of a tensor, or branches in Python on one",
        "Write torch.where(condition, a, b) instead of an if, and no .item(), float() or int() of a tensor",
    ),
    (
        ("numpy", "__array__", "faketensor"),
        "it leaves torch for numpy",
        "Write the torch function of the same name (np.log -> torch.log) and make constants with torch.tensor",
    ),
    (
        ("constraint", "specializ", "not all values of", "dynamic_shapes"),
        "it needs a batch of one certain size",
        "Take the batch size from the tensor (x.shape[0]), and reshape with -1 in place of a number of rows",
    ),
    (
        ("no onnx", "dispatch", "decomp", "unsupported", "missing"),
        "ONNX has no operator for one of its calls",
        "Write that call with others: sums, products, comparisons, torch.where, gathers",
    ),
)
_OTHERWISE = "Compute with torch functions of the arguments alone: no numpy, no .item(), nothing random"


def trace_program(module: nn.Module, sample: tuple[torch.Tensor, ...], shapes: Any) -> torch.export.ExportedProgram:
    """The module as torch traced it, without gradients and without the pages torch prints where it fails."""
    with warnings.catch_warnings(), torch.no_grad(), _quiet():
        warnings.simplefilter("ignore")
        return torch.export.export(module, sample, dynamic_shapes=shapes, strict=False)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def explain(what: str, function: Any, error: Exception, program: torch.export.ExportedProgram | None = None) -> str:
    """One sentence on why `function` (a model_fn or a module) cannot become a graph, where, and what to write.

    `program` is what torch traced, where it came that far: it knows which line a missing operator is from.
    """
    text = f"{type(error).__name__}: {error}".lower()
    found = next(((why, instead) for words, why, instead in _REASONS if any(word in text for word in words)), None)
    why, instead = found or (f"torch cannot trace it ({type(error).__name__}: {_first_line(error)})", _OTHERWISE)
    operator = _operator(str(error))
    place = _place(error, operator, program)
    return (
        f"{what} {describe(function)} cannot become a graph: {why}{operator}{place}. {instead}; "
        "what is computed must depend on the inputs alone."
    )


def describe(function: Any) -> str:
    """A function's or module's name and where it is written."""
    inner = inspect.unwrap(getattr(function, "func", function))
    code = getattr(inner, "__code__", None) or getattr(getattr(inner, "forward", None), "__code__", None)
    name = getattr(inner, "__name__", type(inner).__name__)
    return f"{name} ({Path(code.co_filename)}:{code.co_firstlineno})" if code else str(name)


def _operator(text: str) -> str:
    found = re.search(r"\b(?:aten|prims|torchvision)[.:]+[\w.]+", text)
    return f" ({found.group().replace('::', '.')})" if found else ""


def _place(error: Exception, operator: str, program: torch.export.ExportedProgram | None) -> str:
    """The innermost line outside the libraries, from the stack or from what torch writes of it."""
    frames = [frame for one in _chain(error) for frame in traceback.extract_tb(one.__traceback__)]
    places: list[tuple[str, int | None, str]] = [(frame.filename, frame.lineno, frame.line or "") for frame in frames]
    for one in _chain(error):
        places += _written_lines(str(one))
    if operator and program is not None:
        places += _lines_of(operator.strip(" ()").rpartition(".")[2].strip("_"), program)
    own = [place for place in places if _is_users(place[0])]
    return f', at {own[-1][0]}:{own[-1][1]} "{own[-1][2].strip()}"' if own else ""


def _lines_of(operator: str, program: torch.export.ExportedProgram) -> list[tuple[str, int | None, str]]:
    """Where the calls of an operator stand, from the stacks that torch keeps with its nodes."""
    nodes = [node for node in program.graph.nodes if operator in str(node.target)]
    return [place for node in nodes for place in _written_lines(str(node.meta.get("stack_trace", "")))]


def _written_lines(text: str) -> list[tuple[str, int | None, str]]:
    """The frames of a stack that is part of a text."""
    written = re.findall(r'File "([^"]+)", line (\d+), in [^\n]+\n\s+([^\n]*)', text)
    return [(file, int(line), code.strip()) for file, line, code in written]


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _is_users(file: str) -> bool:
    resolved = str(Path(file).resolve())
    if _PACKAGE in Path(resolved).parents:
        return False
    return not file.startswith("<") and not any(folder in file for folder in _OWN_FOLDERS)


# In a checkout the parts lie at its top level, beside tests and examples, which are users.
_PACKAGE = Path(__file__).resolve().parents[1]


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else "no message"
