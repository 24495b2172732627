"""Tracing a torch function for export, and the sentence for one that cannot be traced: which line, why, what instead.

Owns the reading of torch's errors, and the check that a graph is right for more sizes than it was traced with. Knows
nothing of estimators or of the graph that is made.
"""

from __future__ import annotations

import inspect
import io
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from estimator_serving.exporter.servable.running import run_all, session_of
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.finish import finish_graph

# The folders whose lines are not the user's.
_OWN_FOLDERS = ("/torch/", "/onnxscript/", "/onnx_ir/", "/keras/", "/estimator_serving/")
# In a checkout the parts lie at its top level, beside tests and examples, which are users.
_PACKAGE = Path(__file__).resolve().parents[1]

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
        ("constraint", "specializ", "not all values of", "dynamic_shapes", "invalid for input of size"),
        "it needs a batch of one certain size",
        "Take the batch size from the tensor (x.shape[0]), and reshape with -1 in place of a number of rows",
    ),
    (
        ("no onnx", "dispatch", "decomp", "unsupported", "missing"),
        "ONNX has no operator for one of its calls",
        "Write that call with others: sums, products, comparisons, torch.where, gathers",
    ),
)
_OTHERWISE = "Compute with torch functions of the arguments only: no numpy, no .item(), nothing random"


def trace_program(module: nn.Module, sample: tuple[torch.Tensor, ...], shapes: Any) -> torch.export.ExportedProgram:
    """The module as torch traced it, without gradients and without the pages torch prints where it fails."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            torch.no_grad(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            return torch.export.export(module, sample, dynamic_shapes=shapes, strict=False)
    finally:
        logger.setLevel(level)


def explain(what: str, function: Any, error: Exception, program: torch.export.ExportedProgram | None = None) -> str:
    """One sentence on why `function` (a model_fn or a module) cannot become a graph, where, and what to write.

    `program` is what torch traced, where it came that far: it knows which line a missing operator is from.
    """
    text = f"{type(error).__name__}: {error}".lower()
    found = next(((why, instead) for words, why, instead in _REASONS if any(word in text for word in words)), None)
    lines = str(error).strip().splitlines() or ["no message"]
    why, instead = found or (f"torch cannot trace it ({type(error).__name__}: {lines[0][:300]})", _OTHERWISE)
    called = re.search(r"\b(?:aten|prims|torchvision)[.:]+[\w.]+", str(error))
    operator = called.group().replace("::", ".") if called else ""
    return (
        f"{what} {describe(function)} cannot become a graph: {why}{operator and f' ({operator})'}"
        f"{_place(error, operator, program)}. {instead}; what is computed must depend on the inputs only."
    )


class FixedAxisError(ValueError):
    """The sentence is whole; `explain` has nothing to add."""


def check_open(
    what: str,
    open_axes: Mapping[str, Sequence[int]],
    converted: onnx.ModelProto,
    sample: Mapping[str, Array],
    answer: Callable[[Mapping[str, Array]], Mapping[str, Array]],
) -> None:
    """Refuse a graph that is right only for the size that an open axis had in the sample.

    `answer` is what the model itself gives for inputs. Raises FixedAxisError.
    """
    if not any(open_axes.values()):
        return
    longer = dict(sample)
    for name, axes in open_axes.items():
        for axis in axes:
            longer[name] = np.concatenate([longer[name]] * 2, axis)
    try:
        got, wanted = run_all(session_of(finish_graph(converted)), longer), answer(longer)
        is_right = all(np.allclose(got[name], one, rtol=1e-3, atol=1e-3) for name, one in wanted.items())
    except Exception:
        is_right = False
    if not is_right:
        raise FixedAxisError(
            f"{what} can only become a graph for one size of the axes that clients may send in any size "
            f"({', '.join(f'axes {list(axes)} of {name}' for name, axes in open_axes.items() if axes)}): it goes "
            "through them step by step. Give the receiver one size, and pad what is shorter."
        )


def describe(function: Any) -> str:
    """A function's or module's name and where it is written."""
    inner = inspect.unwrap(getattr(function, "func", function))
    code = getattr(inner, "__code__", None) or getattr(getattr(inner, "forward", None), "__code__", None)
    name = getattr(inner, "__name__", type(inner).__name__)
    return f"{name} ({Path(code.co_filename)}:{code.co_firstlineno})" if code else str(name)


def _place(error: Exception, operator: str, program: torch.export.ExportedProgram | None) -> str:
    """The innermost line outside the libraries: from the stack, from what torch writes of it in the errors' texts, or
    from the stacks that torch keeps with the nodes of the operator."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    frames = [frame for one in chain for frame in traceback.extract_tb(one.__traceback__)]
    places = [(frame.filename, frame.lineno, frame.line or "") for frame in frames]
    texts = [str(one) for one in chain]
    if operator and program is not None:
        name = operator.rpartition(".")[2].strip("_")
        nodes = [node for node in program.graph.nodes if name in str(node.target)]
        texts += [str(node.meta.get("stack_trace", "")) for node in nodes]
    for text in texts:
        written = re.findall(r'File "([^"]+)", line (\d+), in [^\n]+\n\s+([^\n]*)', text)
        places += [(file, int(line), code) for file, line, code in written]
    own = [
        place
        for place in places
        if not place[0].startswith("<")
        and _PACKAGE not in Path(place[0]).resolve().parents
        and not any(folder in place[0] for folder in _OWN_FOLDERS)
    ]
    return f', at {own[-1][0]}:{own[-1][1]} "{own[-1][2].strip()}"' if own else ""
