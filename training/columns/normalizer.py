"""A normalizer_fn as a graph: traced once, checked against the function, turned into ONNX.

Owns what a function must be to become part of the exported model (torch functions of its one argument, rows
independent, no randomness, no Python branch on values) and the sentence that refuses others. Of a column it reads only
the key, the shape and the function.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from estimator_serving import ops
from estimator_serving.training.columns.onnx_export import to_onnx

if TYPE_CHECKING:
    from estimator_serving.training.columns.numeric import NumericColumn
    from estimator_serving.training.columns.sequence import SequenceNumericColumn

_SAMPLE_ROWS = 6
_CONSTANT_VALUES_MAX = 16
_TRACES_MAX = 512


Normalizer = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Trace:
    """A traced normalizer_fn.

    Attributes:
        subject: the function and its column, as messages begin.
        program: the function as torch traced it, any number of rows.
        sample: float32 [rows, *shape] to try it on.
        definition: what it computes, JSON-able and the same in every process.
    """

    subject: str
    program: torch.export.ExportedProgram
    sample: torch.Tensor
    definition: dict[str, Any]

    @functools.cached_property
    def model(self) -> onnx.ModelProto:
        """Float32 [batch, *shape] -> a tensor of the same number of elements a row.

        Raises:
            ValueError: a function that ONNX has no operator for, or that it computes differently.
        """
        try:
            model = to_onnx(self.program)
            session = ops.session(model.SerializeToString())
            (value,) = session.run(None, {session.get_inputs()[0].name: self.sample.numpy()})
            if not _same(torch.from_numpy(value), self.program.module()(self.sample)):
                raise _RefusedError("ONNX Runtime computes other numbers than torch does")
        except Exception as error:
            raise ValueError(_refusal(self.subject, error)) from error
        return model


class _Row(torch.nn.Module):
    def __init__(self, function: Normalizer) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def trace(column: NumericColumn | SequenceNumericColumn) -> Trace:
    """The column's normalizer_fn as a graph. The same function is traced once in a process.

    Raises:
        ValueError: the function cannot become part of the model; the sentence names it, its file and line, why, and
            what to write instead.
    """
    function = column.normalizer_fn
    assert function is not None
    # model_fn may make its lambda anew at every step, and tracing takes seconds: equal lambdas share one key.
    identity: Any = function
    if isinstance(function, types.FunctionType):
        cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
        values = (*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        if all(isinstance(value, int | float | str | None) for value in values):
            identity = (function.__code__, id(function.__globals__), tuple((type(value), value) for value in values))
    key = (identity, column.shape)
    if key not in _TRACES:
        if len(_TRACES) >= _TRACES_MAX:
            _TRACES.clear()
        _TRACES[key] = _trace(function, column.key, column.shape)
    return _TRACES[key]


_TRACES: dict[Any, Trace] = {}


def _trace(function: Normalizer, key: str, shape: tuple[int, ...]) -> Trace:
    sample = torch.rand(_SAMPLE_ROWS, *shape, generator=torch.Generator().manual_seed(0)) * 50 + 0.5
    sample[0] = 0.0
    sample[1] = -sample[1]
    inner: Any = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = getattr(inner, "__code__", None) or getattr(getattr(inner, "forward", None), "__code__", None)
    name = getattr(inner, "__name__", type(inner).__name__)
    where = f"{name} ({Path(code.co_filename)}:{code.co_firstlineno})" if code else name
    subject = f"The normalizer_fn {where} of numeric_column {key!r}"
    try:
        _check_behaviour(function, sample, shape)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            batch = torch.export.Dim("batch")
            program = torch.export.export(_Row(function), (sample,), dynamic_shapes=({0: batch},), strict=False)
        if not _same(program.module()(sample), function(sample.clone())):
            raise _RefusedError("its traced graph computes other numbers than the function does")
        # The definition: the graph's nodes as text, one a line, and its constants: their values, or a hash of many.
        calls = [node for node in program.graph.nodes if node.op == "call_function"]
        lines = [f"{node.name} = {node.target}{tuple(node.args)}{dict(node.kwargs) or ''}" for node in calls]
        constants: dict[str, Any] = {}
        for constant, value in sorted({**program.constants, **program.state_dict}.items()):
            array = value.detach().numpy()
            if array.size <= _CONSTANT_VALUES_MAX:
                content: dict[str, Any] = {"values": array.ravel().tolist()}
            else:
                content = {"sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}
            constants[constant] = {"dtype": str(array.dtype), "shape": list(array.shape), **content}
        return Trace(subject, program, sample, {"graph": lines, "constants": constants})
    except Exception as error:
        raise ValueError(_refusal(subject, error)) from error


class _RefusedError(Exception):
    """Why a normalizer_fn cannot be taken, as the middle part of the sentence."""


class _NoValues(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types it so
    """Refuses to take a value out of a tensor. torch.export does too, but prints pages about it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise _RefusedError(_TAKES_VALUES)
        return func(*args, **(kwargs or {}))


_TAKES_VALUES = "it takes a value out of a tensor with .item(), float() or int(), or branches in Python on one"


def _check_behaviour(function: Normalizer, sample: torch.Tensor, shape: tuple[int, ...]) -> None:
    with torch.no_grad(), warnings.catch_warnings(), _NoValues():  # type: ignore[no-untyped-call]
        warnings.simplefilter("ignore")
        value = function(sample.clone())
        if not isinstance(value, torch.Tensor):
            raise _RefusedError(f"it returns a {type(value).__name__}, not a torch tensor")
        if value.ndim == 0 or value.shape[0] != len(sample) or value.numel() != sample.numel():
            raise _RefusedError(
                f"it turns the shape {[len(sample), *shape]} into {list(value.shape)}; "
                f"each row must keep its {math.prod(shape)} values"
            )
        if not _same(function(sample.clone()), value):
            raise _RefusedError("it gives different values for the same input (it is random, or it remembers)")
        # Serving sees other batches than training.
        if not _same(torch.cat([function(rows.clone()) for rows in torch.split(sample, 2)]), value):
            raise _RefusedError(
                "a row's result depends on the other rows of the batch, or on how many there are (a mean over it, say)"
            )


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.shape == right.shape and torch.allclose(left.float(), right.float(), 1e-5, 1e-5, equal_nan=True)


# What torch says -> what the writer of the function needs to know; the first row that fits wins.
_REASONS = (
    ("data-dependent", _TAKES_VALUES),
    ("numpy", "it leaves torch for numpy"),
)


def _refusal(subject: str, error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, _RefusedError):
        why = str(error)
    else:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        unknown = f"torch could not trace or export it ({type(error).__name__}: {first_line[:200]})"
        why = next((reason for word, reason in _REASONS if word in text.lower()), unknown)
    return (
        f"{subject} cannot become part of the model: {why}. Write it with torch functions of its argument and of "
        "constants, for example lambda x: (torch.log1p(x) - 2.9) / 0.8, with means and deviations computed beforehand, "
        "torch.where(...) for a condition, and no numpy call or .item()."
    )
