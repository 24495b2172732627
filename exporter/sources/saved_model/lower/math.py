"""Arithmetic, comparisons, activations and matrix products.

Owns where ONNX's numbers differ from TensorFlow's: division and remainder of negative numbers, casts that saturate,
log1p of tiny numbers, extremes and signs of large integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from estimator_serving.exporter.sources.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.arrays import transposed
from estimator_serving.exporter.sources.saved_model.lower.elementwise import (
    Emit,
    Fold,
    apply,
    broadcast,
    cast,
    elementwise,
    grid_of,
    map_values,
    wider,
)
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import (
    Coordinates,
    Dim,
    Flat,
    Handle,
    Positions,
    StackedList,
    Tensor,
    TensorList,
    Value,
    divide,
    multiply,
)

# What writes an op: (context, node, the type it computes in, the ONNX names of its operands) -> that of the result.
_Write: TypeAlias = Callable[..., str]


def _dtype_of(inputs: list[Value], node: Node) -> np.dtype[Any]:
    for one in inputs:
        if isinstance(one, Handle | TensorList | StackedList):
            raise node.refuse("it reads a resource or a list as a tensor")
    return np.dtype(inputs[0].dtype)  # type: ignore[union-attr]


def _in_wider(
    context: Lowering, node: Node, dtype: np.dtype[Any], write: _Write, result: np.dtype[Any] | None = None
) -> Emit:
    """The op in the type that ONNX Runtime computes in for `dtype`; `result` is its own type if it has one."""
    wide = wider(dtype)
    made, target = (wide, dtype) if result is None else (result, result)
    return lambda *names: cast(
        context, write(context, node, wide, *(cast(context, name, dtype, wide) for name in names)), made, target
    )


def _node(op_type: str, **values: Any) -> _Write:
    return lambda context, node, dtype, *names: context.builder.one(op_type, *names, **values)


def _larger(context: Lowering, _: Node, dtype: np.dtype[Any], x: str, y: str) -> str:
    """The larger of two numbers. ONNX Runtime's Max misreads int64 from 2**31 to 2**32 - 1; its comparisons do not."""
    one = context.builder.one
    return one("Where", one("Greater", x, y), x, y) if dtype == INT64 else one("Max", x, y)


def _smaller(context: Lowering, _: Node, dtype: np.dtype[Any], x: str, y: str) -> str:
    """The smaller of two numbers, as `_larger`."""
    one = context.builder.one
    return one("Where", one("Less", x, y), x, y) if dtype == INT64 else one("Min", x, y)


def _clipped(context: Lowering, node: Node, dtype: np.dtype[Any], x: str, low: str, high: str) -> str:
    return _larger(context, node, dtype, _smaller(context, node, dtype, x, high), low)


# ---- one operand ----------------------------------------------------------------------------------------------------


def _log1p(context: Lowering, _: Node, dtype: np.dtype[Any], x: str) -> str:
    """log(1 + x) that keeps tiny x: where u = 1 + x is rounded, log(u) · x / (u - 1) takes the error out again."""
    one, unit = context.builder.one, context.scalar(1, dtype)
    u = one("Add", x, unit)
    rest = one("Sub", u, unit)
    log = one("Log", u)
    corrected = one("Mul", log, one("Div", x, rest))
    # As x where 1 + x is 1; and where x is infinite the quotient is no number.
    plain = one("Where", one("IsInf", x), log, corrected)
    return one("Where", one("Equal", rest, context.scalar(0, dtype)), x, plain)


def _expm1(context: Lowering, _: Node, dtype: np.dtype[Any], x: str) -> str:
    """exp(x) - 1 that keeps tiny x: 2 · tanh(x / 2) · (exp(x) + 1) / 2."""
    one = context.builder.one
    half = one("Tanh", one("Mul", x, context.scalar(0.5, dtype)))
    small = one("Mul", half, one("Add", one("Exp", x), context.scalar(1, dtype)))
    large = one("Sub", one("Exp", x), context.scalar(1, dtype))
    is_small = one("Less", one("Abs", x), context.scalar(0.5, dtype))
    return one("Where", is_small, small, large)


def _sign(context: Lowering, _: Node, dtype: np.dtype[Any], x: str) -> str:
    one = context.builder.one
    if dtype != INT64:
        return one("Sign", x)
    # ONNX Runtime misreads the same numbers here as in Max.
    zero = context.scalar(0, dtype)
    above, below = (one("Cast", one(op_type, x, zero), to=onnx_type(dtype)) for op_type in ("Greater", "Less"))
    return one("Sub", above, below)


# By op: what writes it, and numpy's form of it for constants.
_UNARY: dict[str, tuple[_Write, Fold | None]] = {
    "Neg": (_node("Neg"), np.negative),
    "Abs": (_node("Abs"), np.abs),
    "Exp": (_node("Exp"), np.exp),
    "Expm1": (_expm1, np.expm1),
    "Log": (_node("Log"), np.log),
    "Log1p": (_log1p, np.log1p),
    "Sqrt": (_node("Sqrt"), np.sqrt),
    "Rsqrt": (lambda c, n, t, x: c.builder.one("Reciprocal", c.builder.one("Sqrt", x)), None),
    "Square": (lambda c, n, t, x: c.builder.one("Mul", x, x), np.square),
    "Floor": (_node("Floor"), np.floor),
    "Ceil": (_node("Ceil"), np.ceil),
    "Round": (lambda c, n, t, x: c.builder.one("Round", x) if t.kind == "f" else x, np.round),
    "Rint": (_node("Round"), np.round),
    "Sign": (_sign, np.sign),
    "Reciprocal": (_node("Reciprocal"), None),
    "Inv": (_node("Reciprocal"), None),
    "Relu": (
        # ONNX Runtime has no Relu of every integer type.
        lambda c, n, t, x: c.builder.one("Relu", x) if t.kind == "f" else _larger(c, n, t, x, c.scalar(0, t)),
        None,
    ),
    "Relu6": (
        lambda c, n, t, x: (
            _clipped(c, n, t, x, c.scalar(0, t), c.scalar(6, t))
            if t == INT64
            else c.builder.one("Clip", x, c.scalar(0, t), c.scalar(6, t))
        ),
        None,
    ),
    "LeakyRelu": (lambda c, n, t, x: c.builder.one("LeakyRelu", x, alpha=n.number("alpha", 0.2)), None),
    "Elu": (_node("Elu", alpha=1.0), None),
    "Selu": (_node("Selu", alpha=1.6732632423543772, gamma=1.0507009873554805), None),
    "Sigmoid": (_node("Sigmoid"), None),
    "Softplus": (_node("Softplus"), None),
    "Softsign": (_node("Softsign"), None),
    "Erf": (_node("Erf"), None),
    "Sin": (_node("Sin"), None),
    "Cos": (_node("Cos"), None),
    "Tan": (_node("Tan"), None),
    "Asin": (_node("Asin"), None),
    "Acos": (_node("Acos"), None),
    "Atan": (_node("Atan"), None),
    "Sinh": (_node("Sinh"), None),
    "Cosh": (_node("Cosh"), None),
    "Tanh": (_node("Tanh"), None),
    "Asinh": (_node("Asinh"), None),
    "Acosh": (_node("Acosh"), None),
    "Atanh": (_node("Atanh"), None),
    "LogicalNot": (_node("Not"), np.logical_not),
}
# What ONNX Runtime computes in float32 only.
_NOT_OF_DOUBLES = frozenset(
    {
        "Softplus", "Softsign", "Erf", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
        "Elu", "Selu", "LeakyRelu",
    }
)  # fmt: skip


@lowers(*_UNARY)
def _unary(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = _dtype_of(inputs, node)
    write, fold = _UNARY[node.op]
    if dtype == np.float64 and node.op in _NOT_OF_DOUBLES:
        raise node.refuse("it computes with float64")
    return elementwise(context, node, inputs[:1], dtype, _in_wider(context, node, dtype, write), fold)


_KINDS: dict[str, _Write] = {
    "IsNan": _node("IsNaN"),
    "IsInf": _node("IsInf"),
    "IsFinite": lambda c, n, t, x: c.builder.one(
        "Not", c.builder.one("Or", c.builder.one("IsNaN", x), c.builder.one("IsInf", x))
    ),
}


@lowers(*_KINDS)
def _is_kind(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    emit = _in_wider(context, node, _dtype_of(inputs, node), _KINDS[node.op], BOOL)
    return elementwise(context, node, inputs, BOOL, emit)


# ---- two operands ---------------------------------------------------------------------------------------------------


def _of_sizes(context: Lowering, inputs: list[Value], combine: Callable[[Dim, Dim], Dim | None]) -> Tensor | None:
    """Arithmetic of sizes stays symbolic where it can."""
    left, right = inputs
    if not (isinstance(left, Tensor) and isinstance(right, Tensor)) or left.sizes is None or right.sizes is None:
        return None
    if left.constant is not None and right.constant is not None:
        return None
    if (
        not left.sizes
        or not right.sizes
        or (1 not in (len(left.sizes), len(right.sizes)) and len(left.sizes) != len(right.sizes))
    ):
        return None
    count = max(len(left.sizes), len(right.sizes))
    pairs = zip(left.sizes * (count // len(left.sizes)), right.sizes * (count // len(right.sizes)), strict=True)
    made = [combine(*pair) for pair in pairs]
    if any(one is None for one in made):
        return None
    return context.sizes([one for one in made if one is not None], left.dtype, max(left.rank, right.rank))


def _add_sizes(left: Dim, right: Dim) -> Dim | None:
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return left if right == 0 else right if left == 0 else None


def _subtract_sizes(left: Dim, right: Dim) -> Dim | None:
    if isinstance(left, int) and isinstance(right, int):
        return left - right if left >= right else None
    return 0 if left == right else left if right == 0 else None


def _bound(name: str, inputs: list[Value], made: Value) -> None:
    """Keeps track of the range of ids, so that lookups in tables need no check."""
    left, right, target = grid_of(inputs[0]), grid_of(inputs[1]), grid_of(made)
    if left is None or right is None or target is None or target.dtype.kind not in "iu":
        return
    bounds = (left.low, left.high, right.low, right.high)
    if None in bounds:
        return
    a, b, c, d = (int(one) for one in bounds if one is not None)
    limit = np.iinfo(target.dtype)
    if name in ("Add", "AddV2"):
        low, high = a + c, b + d
    elif name == "Mul" and min(a, c) >= 0:
        low, high = a * c, b * d
    elif name == "FloorMod" and c > 0:
        low, high = 0, d - 1
    else:
        return
    if limit.min <= low and high <= limit.max:
        target.low, target.high = low, high


def _guarded(context: Lowering, node: Node, dtype: np.dtype[Any], x: str, y: str) -> str:
    """0 wherever the guard, the divisor or the first factor, is 0."""
    one, zero = context.builder.one, context.scalar(0, dtype)
    guard = y if node.op in ("DivNoNan", "MulNoNan") else x
    factor = one("Log", y) if node.op == "Xlogy" else y
    value = one("Mul" if node.op in ("MulNoNan", "Xlogy") else "Div", x, factor)
    return one("Where", one("Equal", guard, zero), zero, value)


# By op: what writes it, numpy's form of it for constants, and that for sizes.
_ARITHMETIC: dict[str, tuple[_Write, Fold | None, Callable[[Dim, Dim], Dim | None] | None]] = {
    "Add": (_node("Add"), np.add, _add_sizes),
    "AddV2": (_node("Add"), np.add, _add_sizes),
    "Sub": (_node("Sub"), np.subtract, _subtract_sizes),
    "Mul": (_node("Mul"), np.multiply, lambda left, right: multiply([left, right])),
    "RealDiv": (_node("Div"), np.true_divide, None),
    "Pow": (_node("Pow"), None, None),
    "SquaredDifference": (lambda c, n, t, x, y: c.builder.one("Mul", *[c.builder.one("Sub", x, y)] * 2), None, None),
    "DivNoNan": (_guarded, None, None),
    "MulNoNan": (_guarded, None, None),
    "Xdivy": (_guarded, None, None),
    "Xlogy": (_guarded, None, None),
    "ClipByValue": (_clipped, None, None),
}


@lowers(*_ARITHMETIC)
def _arithmetic(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = _dtype_of(inputs, node)
    write, fold, of_sizes = _ARITHMETIC[node.op]
    if of_sizes is not None and (symbolic := _of_sizes(context, inputs, of_sizes)) is not None:
        return symbolic
    if node.op == "Mul" and dtype.kind in "iu":
        factor = inputs[1]
        if isinstance(factor, Tensor) and factor.rank == 0 and factor.constant is not None and factor.constant == 1:
            return inputs[0]
    made = elementwise(context, node, inputs, dtype, _in_wider(context, node, dtype, write), fold)
    _bound(node.op, inputs, made)
    return made


@lowers("Maximum", "Minimum")
def _extreme(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Bounds of whole numbers are kept: sizes that are limited from both sides become constants by them."""
    dtype, is_max = _dtype_of(inputs, node), node.op == "Maximum"
    limit = _settled(inputs, is_max) or _absorbed(inputs, is_max)
    if limit is not None:
        return limit
    write, fold = (_larger, np.maximum) if is_max else (_smaller, np.minimum)
    made = elementwise(context, node, inputs, dtype, _in_wider(context, node, dtype, write), fold)
    target, grids = grid_of(made), [grid_of(one) for one in inputs]
    if isinstance(made, Tensor) and all(isinstance(one, Tensor) and not one.rank for one in inputs):
        made.limits = (node.op, tuple(inputs))
    if target is not None and dtype.kind in "iu" and target.constant is None:
        lows = [one.low for one in grids if one is not None and one.low is not None]
        highs = [one.high for one in grids if one is not None and one.high is not None]
        # One bound is enough on the side that the op pushes to.
        if lows and (is_max or len(lows) == len(grids)):
            target.low = max(lows) if is_max else min(lows)
        if highs and (not is_max or len(highs) == len(grids)):
            target.high = max(highs) if is_max else min(highs)
    return made


def _settled(inputs: list[Value], is_max: bool) -> Tensor | None:
    """The constant operand, where the bounds of the other one say that it is the result."""
    for limit, other in (inputs, inputs[::-1]):
        if not (isinstance(limit, Tensor) and isinstance(other, Tensor)) or limit.constant is None:
            continue
        if limit.rank or other.rank or limit.dtype.kind not in "iu":
            continue
        number = int(limit.constant)
        bound = other.high if is_max else other.low
        if bound is not None and (bound <= number if is_max else bound >= number):
            return limit
    return None


def _absorbed(inputs: list[Value], is_max: bool) -> Tensor | None:
    """The operand x of min(x, max(x, y)), and of max(x, min(x, y))."""
    for one, other in (inputs, inputs[::-1]):
        if isinstance(one, Tensor) and isinstance(other, Tensor) and other.limits is not None:
            op, operands = other.limits
            if op == ("Minimum" if is_max else "Maximum") and any(_are_equal(one, each) for each in operands):
                return one
    return None


def _are_equal(left: Tensor, right: Value) -> bool:
    if left is right:
        return True
    if not isinstance(right, Tensor) or left.rank or right.rank or left.dtype != right.dtype:
        return False
    if left.constant is not None and right.constant is not None:
        return bool(left.constant == right.constant)
    return left.sizes is not None and left.sizes == right.sizes


def _floor_div(context: Lowering, _: Node, dtype: np.dtype[Any], x: str, y: str) -> str:
    one = context.builder.one
    if dtype.kind == "f":
        return one("Floor", one("Div", x, y))
    quotient = one("Div", x, y)
    rest = one("Sub", x, one("Mul", quotient, y))
    zero = context.scalar(0, dtype)
    opposed = one("Xor", one("Less", rest, zero), one("Less", y, zero))
    is_below = one("And", one("Not", one("Equal", rest, zero)), opposed)
    return one("Sub", quotient, one("Cast", is_below, to=onnx_type(dtype)))


def _floor_mod(context: Lowering, _: Node, dtype: np.dtype[Any], x: str, y: str) -> str:
    one = context.builder.one
    if dtype.kind != "f":
        return one("Mod", x, y)
    rest, zero = one("Mod", x, y, fmod=1), context.scalar(0, dtype)
    opposed = one("Xor", one("Less", rest, zero), one("Less", y, zero))
    is_opposed = one("And", one("Not", one("Equal", rest, zero)), opposed)
    return one("Where", is_opposed, one("Add", rest, y), rest)


def _truncate_mod(context: Lowering, _: Node, dtype: np.dtype[Any], x: str, y: str) -> str:
    one = context.builder.one
    # ONNX Runtime computes this remainder as float64, which rounds.
    return one("Sub", x, one("Mul", one("Div", x, y), y)) if dtype == INT64 else one("Mod", x, y, fmod=1)


def _by_plus_one(context: Lowering, divisor: npt.NDArray[Any], write: _Write, is_remainder: bool) -> _Write:
    """A division by `divisor` that divides the negative by 1 wherever it would divide by -1."""

    def emit(_: Lowering, node: Node, dtype: np.dtype[Any], x: str, y: str) -> str:
        is_one = divisor == -1
        if not is_remainder:
            x = context.builder.one("Mul", x, context.constant(np.where(is_one, -1, 1), dtype).name)
        return write(context, node, dtype, x, context.constant(np.where(is_one, 1, divisor), dtype).name)

    return emit


# By op: what writes it, and numpy's form of it for integers. That of floats may differ: numpy has 1 // 0.1 as 9.
_DIVISIONS: dict[str, tuple[_Write, Fold | None]] = {
    "FloorDiv": (_floor_div, np.floor_divide),
    "FloorMod": (_floor_mod, np.mod),
    "Div": (_node("Div"), None),
    "TruncateDiv": (_node("Div"), None),
    "Mod": (_truncate_mod, np.fmod),
    "TruncateMod": (_truncate_mod, np.fmod),
}


@lowers(*_DIVISIONS)
def _division(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Of integers only by constants: by 0 TensorFlow gives an error, and the process that runs the graph would end."""
    dtype = _dtype_of(inputs, node)
    write, fold = _DIVISIONS[node.op]
    dividend, divisor = grid_of(inputs[0]), inputs[1]
    if node.op == "FloorDiv" and (symbolic := _of_sizes(context, inputs, divide)) is not None:
        return symbolic
    if dtype.kind not in "iu":
        fold = None
    elif not isinstance(divisor, Tensor) or divisor.constant is None or not divisor.constant.all():
        raise node.refuse("it divides integers by what the graph computes, which may be 0")
    elif (divisor.constant == -1).any():
        # The smallest integer by -1 would end the process: divide the negative, which wraps around, by 1 instead.
        write = _by_plus_one(context, divisor.constant, write, node.op in ("FloorMod", "Mod", "TruncateMod"))
    elif node.op == "FloorDiv" and dividend is not None and dividend.low is not None and dividend.low >= 0:
        write = _node("Div") if divisor.constant.min() > 0 else write
    made = elementwise(context, node, inputs, dtype, _in_wider(context, node, dtype, write), fold)
    _bound(node.op, inputs, made)
    return made


_COMPARISONS: dict[str, tuple[_Write, Fold]] = {
    "Equal": (_node("Equal"), np.equal),
    "NotEqual": (lambda c, n, t, x, y: c.builder.one("Not", c.builder.one("Equal", x, y)), np.not_equal),
    "Less": (_node("Less"), np.less),
    "LessEqual": (_node("LessOrEqual"), np.less_equal),
    "Greater": (_node("Greater"), np.greater),
    "GreaterEqual": (_node("GreaterOrEqual"), np.greater_equal),
}


@lowers(*_COMPARISONS)
def _comparison(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = _dtype_of(inputs, node)
    write, fold = _COMPARISONS[node.op]
    left, right = inputs
    # The one integer that the left side is compared with, and what this side has at least where that holds.
    limit = lowest = None
    if isinstance(right, Tensor) and right.constant is not None and right.constant.size == 1 and dtype.kind in "iu":
        limit = int(right.constant.ravel()[0])
        lowest = {"GreaterEqual": limit, "Greater": limit + 1}.get(node.op)
    if lowest is not None and isinstance(left, Flat) and not left.tail and left.cells.empty is None:
        low = left.cells.bounds.get(left.grid, left.grid.low)
        if low is not None and low >= lowest:
            # True throughout by the range of the ids: those of hash buckets are not below 0.
            return Flat(left.cells, context.constant(np.ones((1, 1), np.bool_)))
    made = elementwise(context, node, inputs, BOOL, _in_wider(context, node, dtype, write, BOOL), fold)
    tested, target = grid_of(left), grid_of(made)
    if tested is None or target is None:
        return made
    # What follows for the left side where the comparison holds, and where it does not.
    if lowest is not None:
        target.implies = ((tested, lowest),)
    if limit is not None and node.op == "Less":
        target.otherwise = ((tested, limit, None),)
    elif limit is not None and node.op == "GreaterEqual":
        target.otherwise = ((tested, None, limit - 1),)
    return made


@lowers("LogicalAnd", "LogicalOr")
def _logical(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    op_type, fold = ("And", np.logical_and) if node.op == "LogicalAnd" else ("Or", np.logical_or)
    made = elementwise(context, node, inputs, BOOL, lambda x, y: context.builder.one(op_type, x, y), fold)
    target, grids = grid_of(made), [grid for one in inputs if (grid := grid_of(one)) is not None]
    if target is not None and node.op == "LogicalAnd":
        target.implies = tuple(fact for one in grids for fact in one.implies)
    elif target is not None:
        target.otherwise = tuple(fact for one in grids for fact in one.otherwise)
    return made


@lowers("AddN", "AccumulateNV2")
def _add_n(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = _dtype_of(inputs, node)
    if dtype.kind != "f" or wider(dtype) != dtype:
        total = inputs[0]
        for one in inputs[1:]:
            total = elementwise(
                context, node, [total, one], dtype, _in_wider(context, node, dtype, _node("Add")), np.add
            )
        return total
    return elementwise(context, node, inputs, dtype, lambda *names: context.builder.one("Sum", *names))


# ---- casts ----------------------------------------------------------------------------------------------------------


@lowers("Cast")
def _cast(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    source, target = node.dtype("SrcT", _dtype_of(inputs, node)), node.dtype("DstT")
    value = inputs[0]
    if isinstance(value, Positions):
        return (
            Positions(value.cells, value.among, value.is_column, target)
            if target.kind in "iu"
            else _dense_cast(context, context.dense(value, node), source, target)
        )
    if isinstance(value, Coordinates) and target.kind in "iu":
        columns = [_cast_flat(context, node, one, source, target) for one in value.columns]
        return Coordinates(tuple(columns), value.is_transposed)
    if isinstance(value, Flat):
        return _cast_flat(context, node, value, source, target)
    if isinstance(value, Tensor) and value.sizes is not None and value.constant is None and target.kind in "iu":
        return context.sizes(value.sizes, target, value.rank)
    return _dense_cast(context, context.dense(value, node), source, target)


def _cast_flat(context: Lowering, node: Node, value: Flat, source: np.dtype[Any], target: np.dtype[Any]) -> Flat:
    made = map_values(context, node, value, lambda one: _dense_cast(context, one, source, target))
    assert isinstance(made, Flat)
    made.place = value.place
    return made


def _dense_cast(context: Lowering, value: Tensor, source: np.dtype[Any], target: np.dtype[Any]) -> Tensor:
    one = context.builder.one

    def emit(x: str) -> str:
        if source == target:
            return x
        if source.kind == "f" and target.name in ("uint8", "int8", "int16", "uint16"):
            # TensorFlow saturates or wraps what does not fit, by its place in the tensor; here it saturates, and NaN
            # becomes 0, or the smallest number of a signed type.
            limits = np.iinfo(target)
            wide = np.dtype(np.float32) if source.itemsize < 4 else source
            x = cast(context, x, source, wide)
            clipped = one("Clip", x, context.scalar(limits.min, wide), context.scalar(limits.max, wide))
            blank = context.scalar(0 if target.kind == "u" else limits.min, wide)
            clipped = one("Where", one("IsNaN", x), blank, clipped)
            return one("Cast", one("Cast", clipped, to=onnx_type(np.dtype(np.int32))), to=onnx_type(target))
        return one("Cast", x, to=onnx_type(target))

    # Floats to integers go through the graph: what does not fit is ONNX Runtime's business at one place.
    is_folded = source.kind not in "fV" or target.kind not in "iu"
    made = apply(context, [value], target, emit, (lambda array: array.astype(target)) if is_folded else None)
    if source.kind in "iu" and target.kind in "iu":
        made.row_numbers = value.row_numbers
        if np.iinfo(target).bits >= np.iinfo(source).bits or None not in (value.low, value.high):
            made.low, made.high = value.low, value.high
    return made


# ---- matrices -------------------------------------------------------------------------------------------------------


@lowers("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def _mat_mul(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = _dtype_of(inputs, node)
    left, right = (context.dense(one, node) for one in inputs[:2])
    flags = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
    left, right = (
        transposed(context, one, [*range(one.rank - 2), one.rank - 1, one.rank - 2]) if node.flag(flag, False) else one
        for one, flag in zip((left, right), flags, strict=True)
    )
    outer = broadcast(context, [left.shape[:-2], right.shape[:-2]])
    shape = [*outer, left.shape[-2], right.shape[-1]]
    emit = _in_wider(context, node, dtype, _node("MatMul"))
    return context.tensor(dtype, shape, lambda: emit(left.name, right.name))


@lowers("BiasAdd", "BiasAddV1")
def _bias_add(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, bias = (context.dense(one, node) for one in inputs)
    if node.op == "BiasAdd" and node.text("data_format", "NHWC").startswith("NC"):
        shape = (-1, *([1] * (value.rank - 2)))
        bias = context.op(
            "Reshape", [bias, context.constant(np.array(shape, np.int64))], bias.dtype, [*bias.shape, *shape[1:]]
        )
    return apply(context, [value, bias], value.dtype, _in_wider(context, node, value.dtype, _node("Add")))


@lowers("Einsum")
def _einsum(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """As a product of matrices: ONNX Runtime's own Einsum ends the process where a batch has no row."""
    equation = node.text("equation").replace(" ", "")
    if "." in equation or "->" not in equation or len(inputs) != 2:
        raise node.refuse(f"its equation is {equation}")
    left, right = (context.dense(one, node) for one in inputs)
    (one, other), target = equation.split("->")[0].split(","), equation.split("->")[1]
    if any(len(set(letters)) != len(letters) for letters in (one, other, target)):
        raise node.refuse(f"its equation is {equation}")
    both = [letter for letter in one if letter in other]
    batch = [letter for letter in both if letter in target]
    summed = [letter for letter in both if letter not in target]
    lefts = [letter for letter in one if letter not in other]
    rights = [letter for letter in other if letter not in one]
    if set(target) != {*batch, *lefts, *rights}:
        raise node.refuse(f"its equation is {equation}")
    sizes: dict[str, Dim] = dict(zip(one, left.shape, strict=True))
    for letter, dim in zip(other, right.shape, strict=True):
        sizes[letter] = dim if isinstance(dim, int) or letter not in sizes else sizes[letter]

    def matrix(value: Tensor, letters: str, rows: list[str], columns: list[str]) -> str:
        order = [letters.index(letter) for letter in (*batch, *rows, *columns)]
        turned = context.builder.one("Transpose", value.name, perm=order)
        shape = [multiply(sizes[letter] for letter in group) for group in (batch, rows, columns)]
        return context.builder.one("Reshape", turned, context.shape_name(shape), allowzero=1)

    def emit() -> str:
        product = context.builder.one("MatMul", matrix(left, one, lefts, summed), matrix(right, other, summed, rights))
        letters = [*batch, *lefts, *rights]
        apart = context.builder.one(
            "Reshape", product, context.shape_name([sizes[letter] for letter in letters]), allowzero=1
        )
        return context.builder.one("Transpose", apart, perm=[letters.index(letter) for letter in target])

    return context.tensor(left.dtype, [sizes[letter] for letter in target], emit)


@lowers("Softmax", "LogSoftmax")
def _softmax(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    emit = _in_wider(context, node, value.dtype, _node(node.op, axis=value.rank - 1))
    return context.tensor(value.dtype, value.shape, lambda: emit(value.name))


# ---- buckets --------------------------------------------------------------------------------------------------------


@lowers("Bucketize")
def _bucketize(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """A number on a boundary goes to the right of it, NaN to the last bucket."""
    boundaries = np.array(node.numbers("boundaries"), np.float32)
    one, int32 = context.builder.one, np.dtype(np.int32)

    def bucket(value: Tensor) -> Tensor:
        wide = value.dtype if value.dtype == np.float64 else np.dtype(np.float32)

        def emit() -> str:
            if not len(boundaries):
                return one("Expand", context.scalar(0, int32), one("Shape", value.name))
            # The axis by its number: from the end, ONNX Runtime gets the shape of an empty sum wrong.
            x = one("Unsqueeze", cast(context, value.name, value.dtype, wide), context.int64(value.rank))
            is_below = one("Less", x, context.builder.constant(boundaries.astype(wide)))
            passed = cast(context, one("Not", is_below), BOOL, int32)
            return one("ReduceSum", passed, context.int64(value.rank), keepdims=0)

        return context.tensor(int32, value.shape, emit, low=0, high=len(boundaries))

    return map_values(context, node, inputs[0], bucket)
