"""Rules for the operations of keras.ops on arrays: arithmetic, comparisons, reductions, shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.keras_graph.rules import lowers
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError, Value, Writer

_SAME = {
    "Sigmoid": "Sigmoid",
    "Tanh": "Tanh",
    "Softplus": "Softplus",
    "Softsign": "Softsign",
    "HardSilu": "HardSwish",
    "Exp": "Exp",
    "Log": "Log",
    "Sqrt": "Sqrt",
    "Absolute": "Abs",
    "Abs": "Abs",
    "Fabs": "Abs",
    "Negative": "Neg",
    "Ceil": "Ceil",
    "Floor": "Floor",
    "Sign": "Sign",
    "Sin": "Sin",
    "Cos": "Cos",
    "Tan": "Tan",
    "Sinh": "Sinh",
    "Cosh": "Cosh",
    "Arcsin": "Asin",
    "Arccos": "Acos",
    "Arctan": "Atan",
    "Arcsinh": "Asinh",
    "Arccosh": "Acosh",
    "Arctanh": "Atanh",
    "Erf": "Erf",
    "Reciprocal": "Reciprocal",
    "StopGradient": "Identity",
    "Copy": "Identity",
    "ConvertToTensor": "Identity",
    "Cast": "Identity",
    "Selu": "Selu",
}
_SAME_OF_ANY = {"Isnan": "IsNaN", "Isinf": "IsInf", "LogicalNot": "Not"}
_BINARY = {
    "Subtract": "Sub",
    "Divide": "Div",
    "TrueDivide": "Div",
    "Power": "Pow",
    "Maximum": "Max",
    "Minimum": "Min",
    "LogicalAnd": "And",
    "LogicalOr": "Or",
    "LogicalXor": "Xor",
    "Matmul": "MatMul",
}
_COMPARISONS = {
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
}
_REDUCTIONS = {
    "Sum": "ReduceSum",
    "Max": "ReduceMax",
    "Amax": "ReduceMax",
    "Min": "ReduceMin",
    "Amin": "ReduceMin",
    "Prod": "ReduceProd",
    "Logsumexp": "ReduceLogSumExp",
}


@lowers(*_SAME)
def _same(g: Writer, op: Any, out: Any, x: Any, **attributes: Any) -> str:
    """One node of the same meaning, in the element type of the output."""
    name = type(op).__name__
    return g.one(_SAME[name], g.use(x, out.dtype), **attributes)


@lowers(*_SAME_OF_ANY)
def _same_of_any(g: Writer, op: Any, out: Any, x: Any) -> str:
    dtype = "bool" if type(op).__name__ == "LogicalNot" else x.dtype
    return g.one(_SAME_OF_ANY[type(op).__name__], g.use(x, dtype))


@lowers(*_BINARY)
def _binary(g: Writer, op: Any, out: Any, a: Any, b: Any) -> str:
    return g.one(_BINARY[type(op).__name__], g.use(a, out.dtype), g.use(b, out.dtype))


def common_dtype(*arguments: Any) -> str:
    """The element type in which Keras compares values."""
    import keras

    known = [one.dtype if hasattr(one, "dtype") else type(one) for one in arguments]
    return str(keras.backend.result_type(*known))


@lowers(*_COMPARISONS)
def _comparison(g: Writer, op: Any, out: Any, a: Any, b: Any) -> str:
    dtype = common_dtype(a, b)
    return g.one(_COMPARISONS[type(op).__name__], g.use(a, dtype), g.use(b, dtype))


@lowers("NotEqual")
def _not_equal(g: Writer, op: Any, out: Any, a: Any, b: Any) -> str:
    dtype = common_dtype(a, b)
    return g.one("Not", g.one("Equal", g.use(a, dtype), g.use(b, dtype)))


def axes_of(axis: int | Sequence[int] | None, rank: int) -> list[int]:
    """The axes that Keras means by a number, several or None, counted from the first."""
    axes = list(range(rank)) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    return [one % rank for one in axes]


def reduce(g: Writer, op_type: str, name: str, axes: Sequence[int], keepdims: bool) -> str:
    """A reduction over these axes."""
    return g.one(op_type, name, g.int64(*axes), keepdims=int(keepdims))


def centred(g: Writer, name: str, axes: Sequence[int]) -> str:
    """Values less their mean over these axes."""
    return g.one("Sub", name, reduce(g, "ReduceMean", name, axes, True))


@lowers(*_REDUCTIONS)
def _reduction(g: Writer, op: Any, out: Any, x: Value, **_: Any) -> str:
    return reduce(g, _REDUCTIONS[type(op).__name__], g.use(x, out.dtype), axes_of(op.axis, x.rank), op.keepdims)


@lowers("All", "Any")
def _all_or_any(g: Writer, op: Any, out: Any, x: Value) -> str:
    kind = "ReduceMin" if type(op).__name__ == "All" else "ReduceMax"
    found = reduce(g, kind, g.cast(g.use(x, "bool"), "int32"), axes_of(op.axis, x.rank), op.keepdims)
    return g.cast(found, "bool")


@lowers("Var", "Std")
def _variance(g: Writer, op: Any, out: Any, x: Value) -> str:
    axes = axes_of(op.axis, x.rank)
    off = centred(g, g.use(x, out.dtype), axes)
    variance = reduce(g, "ReduceMean", g.one("Mul", off, off), axes, op.keepdims)
    return g.one("Sqrt", variance) if type(op).__name__ == "Std" else variance


@lowers("Argmax", "Argmin")
def _arg(g: Writer, op: Any, out: Any, x: Value) -> str:
    if op.axis is None:
        raise NotLoweredError(f"the operation {type(op).__name__} over all axes")
    kind = "ArgMax" if type(op).__name__ == "Argmax" else "ArgMin"
    return g.cast(g.one(kind, x.name, axis=op.axis % x.rank, keepdims=int(op.keepdims)), out.dtype)


def resize(g: Writer, x: str, before: Sequence[int | None], after: Sequence[int | None]) -> str:
    """Values in another shape. Of the sizes that a request decides, one may change; others stay at their places."""
    sizes = [
        size if size is not None else 0 if axis < len(before) and before[axis] is None and axis == 0 else -1
        for axis, size in enumerate(after)
    ]
    if sizes.count(-1) > 1:
        # A size that is not known stays that of the same axis.
        parts = []
        for axis, size in enumerate(after):
            if size is not None:
                parts.append(g.int64(size))
            elif axis < len(before) and before[axis] is None and (axis < len(after) - 1):
                parts.append(g.one("Shape", x, start=axis, end=axis + 1))
            else:
                parts.append(g.int64(-1))
        return g.one("Reshape", x, g.one("Concat", *parts, axis=0))
    return g.one("Reshape", x, g.int64(*sizes))


@lowers("Reshape", "Ravel")
def _reshape(g: Writer, op: Any, out: Any, x: Value, *_: Any, **__: Any) -> str:
    return resize(g, x.name, x.shape, out.shape)


@lowers("Transpose")
def _transpose(g: Writer, op: Any, out: Any, x: Value) -> str:
    return g.transpose(x.name, [one % x.rank for one in op.axes] if op.axes else list(range(x.rank))[::-1])


@lowers("Swapaxes")
def _swapaxes(g: Writer, op: Any, out: Any, x: Value) -> str:
    axes = list(range(x.rank))
    a, b = op.axis1 % x.rank, op.axis2 % x.rank
    axes[a], axes[b] = axes[b], axes[a]
    return g.transpose(x.name, axes)


@lowers("Moveaxis")
def _moveaxis(g: Writer, op: Any, out: Any, x: Value) -> str:
    source, target = (axes_of(one, x.rank) for one in (op.source, op.destination))
    axes = [axis for axis in range(x.rank) if axis not in source]
    for to, axis in sorted(zip(target, source, strict=True)):
        axes.insert(to, axis)
    return g.transpose(x.name, axes)


@lowers("ExpandDims")
def _expand_dims(g: Writer, op: Any, out: Any, x: Value) -> str:
    return g.one("Unsqueeze", x.name, g.int64(*axes_of(op.axis, len(out.shape))))


@lowers("Squeeze")
def _squeeze(g: Writer, op: Any, out: Any, x: Value) -> str:
    axes = axes_of(op.axis, x.rank) if op.axis is not None else [axis for axis, size in enumerate(x.shape) if size == 1]
    return g.one("Squeeze", x.name, g.int64(*axes))


@lowers("Concatenate")
def _concatenate(g: Writer, op: Any, out: Any, xs: Sequence[Any]) -> str:
    rank = len(out.shape)
    return g.one("Concat", *(g.use(one, out.dtype) for one in xs), axis=op.axis % rank)


@lowers("Stack")
def _stack(g: Writer, op: Any, out: Any, xs: Sequence[Any]) -> str:
    axis = op.axis % len(out.shape)
    parts = [g.one("Unsqueeze", g.use(one, out.dtype), g.int64(axis)) for one in xs]
    return g.one("Concat", *parts, axis=axis)


@lowers("Split")
def _split(g: Writer, op: Any, out: Any, x: Value, *_: Any) -> list[str]:
    outs = out if isinstance(out, list) else [out]
    sizes = [one.shape[op.axis] for one in outs]
    if None in sizes:
        raise NotLoweredError("the operation Split of an axis of any size")
    return g.many("Split", [x.name, g.int64(*sizes)], len(outs), axis=op.axis % x.rank)


@lowers("Unstack")
def _unstack(g: Writer, op: Any, out: Any, x: Value) -> list[str]:
    outs = out if isinstance(out, list) else [out]
    return [g.one("Gather", x.name, g.constant(np.int64(index)), axis=op.axis % x.rank) for index in range(len(outs))]


@lowers("GetItem")
def _get_item(g: Writer, op: Any, out: Any, x: Value, key: Any) -> str:
    """x[key] for numbers, slices of numbers, None and Ellipsis."""
    keys = list(key) if isinstance(key, tuple | list) else [key]
    if not all(one is None or one is Ellipsis or isinstance(one, int | slice) for one in keys):
        raise NotLoweredError("the operation GetItem by computed places")
    taken = sum(isinstance(one, int | slice) for one in keys)
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        keys[place : place + 1] = [slice(None)] * (x.rank - taken)
    starts: list[int] = []
    ends: list[int] = []
    axes: list[int] = []
    steps: list[int] = []
    dropped: list[int] = []
    added: list[int] = []
    axis = made = 0
    for one in keys:
        if one is None:
            added.append(made)
            made += 1
            continue
        if isinstance(one, int):
            starts.append(one)
            ends.append(one + 1 if one != -1 else np.iinfo(np.int64).max)
            steps.append(1)
            axes.append(axis)
            dropped.append(axis)
        elif one != slice(None):
            step = 1 if one.step is None else one.step
            limits = np.iinfo(np.int64)
            starts.append(one.start if one.start is not None else 0 if step > 0 else limits.max)
            ends.append(one.stop if one.stop is not None else limits.max if step > 0 else limits.min)
            steps.append(step)
            axes.append(axis)
            made += 1
        else:
            made += 1
        axis += 1
    name = x.name
    if axes:
        name = g.one("Slice", name, g.int64(*starts), g.int64(*ends), g.int64(*axes), g.int64(*steps))
    name = g.one("Squeeze", name, g.int64(*dropped)) if dropped else name
    return g.one("Unsqueeze", name, g.int64(*added)) if added else name


@lowers("Flip")
def _flip(g: Writer, op: Any, out: Any, x: Value) -> str:
    axes, limit = axes_of(op.axis, x.rank), np.iinfo(np.int64).min
    ends = g.int64(*[limit] * len(axes))
    return g.one("Slice", x.name, g.int64(*[-1] * len(axes)), ends, g.int64(*axes), g.int64(*[-1] * len(axes)))


@lowers("Tile")
def _tile(g: Writer, op: Any, out: Any, x: Value, *_: Any) -> str:
    repeats = [op.repeats] if isinstance(op.repeats, int) else list(op.repeats)
    rank = max(x.rank, len(repeats))
    name = g.one("Unsqueeze", x.name, g.int64(*range(rank - x.rank))) if rank > x.rank else x.name
    return g.one("Tile", name, g.int64(*[1] * (rank - len(repeats)), *repeats))


@lowers("Repeat")
def _repeat(g: Writer, op: Any, out: Any, x: Value) -> str:
    if not isinstance(op.repeats, int) or op.axis is None:
        raise NotLoweredError("the operation Repeat with several counts")
    axis = op.axis % x.rank
    apart = g.one("Unsqueeze", x.name, g.int64(axis + 1))
    tiled = g.one("Tile", apart, g.int64(*[op.repeats if one == axis + 1 else 1 for one in range(x.rank + 1)]))
    # 0 keeps a size that is not known.
    sizes = [0 if one < axis else -1 if one == axis else None for one in range(x.rank)]
    parts = [
        g.int64(size) if size is not None else g.one("Shape", x.name, start=one, end=one + 1)
        for one, size in enumerate(sizes)
    ]
    return g.one("Reshape", tiled, g.one("Concat", *parts, axis=0))


@lowers("Pad")
def _pad(g: Writer, op: Any, out: Any, x: Value, constant_values: Any = None) -> str:
    before, after = zip(*op.pad_width, strict=True)
    value = [g.use(constant_values or 0, x.dtype)] if op.mode == "constant" else []
    mode = {"constant": "constant", "reflect": "reflect", "edge": "edge"}.get(op.mode)
    if mode is None:
        raise NotLoweredError(f"the operation Pad in mode {op.mode}")
    return g.one("Pad", x.name, g.int64(*before, *after), *value, mode=mode)


@lowers("Take")
def _take(g: Writer, op: Any, out: Any, x: Any, indices: Any) -> str:
    ids = g.use(indices, "int64" if not isinstance(indices, Value) or indices.dtype != "int32" else "int32")
    rank = x.rank if isinstance(x, Value) else len(x.shape)
    axis = op.axis
    if axis is None:
        raise NotLoweredError("the operation Take of flat values")
    return g.one("Gather", g.use(x, out.dtype), ids, axis=axis % rank)


@lowers("TakeAlongAxis")
def _take_along_axis(g: Writer, op: Any, out: Any, x: Value, indices: Any) -> str:
    if op.axis is None:
        raise NotLoweredError("the operation TakeAlongAxis of flat values")
    return g.one("GatherElements", x.name, g.use(indices, "int64"), axis=op.axis % x.rank)


@lowers("Where")
def _where(g: Writer, op: Any, out: Any, condition: Any, a: Any = None, b: Any = None) -> str:
    return g.one("Where", g.use(condition, "bool"), g.use(a, out.dtype), g.use(b, out.dtype))


@lowers("Clip")
def _clip(g: Writer, op: Any, out: Any, x: Value) -> str:
    low, high = g.use(op.x_min, out.dtype), g.use(op.x_max, out.dtype)
    return g.one("Min", g.one("Max", g.use(x, out.dtype), low), high)


@lowers("ZerosLike", "OnesLike", "FullLike")
def _like(g: Writer, op: Any, out: Any, x: Value, *fill: Any, **_: Any) -> str:
    name = type(op).__name__
    value = fill[0] if name == "FullLike" else int(name == "OnesLike")
    return g.one("Expand", g.use(value, out.dtype), g.one("Shape", x.name))


@lowers("BroadcastTo")
def _broadcast_to(g: Writer, op: Any, out: Any, x: Value) -> str:
    if None in out.shape[1:]:
        raise NotLoweredError("the operation BroadcastTo to sizes that a request decides")
    return g.one("Expand", x.name, g.int64(*(1 if size is None else size for size in out.shape)))


@lowers("Cumsum")
def _cumsum(g: Writer, op: Any, out: Any, x: Value) -> str:
    if op.axis is None:
        raise NotLoweredError("the operation Cumsum of flat values")
    return g.one("CumSum", g.use(x, out.dtype), g.constant(np.int64(op.axis % x.rank)))


@lowers("Einsum")
def _einsum(g: Writer, op: Any, out: Any, *xs: Any) -> str:
    return g.one("Einsum", *(g.use(one, out.dtype) for one in xs), equation=op.subscripts)


@lowers("Square")
def _square(g: Writer, op: Any, out: Any, x: Any) -> str:
    name = g.use(x, out.dtype)
    return g.one("Mul", name, name)


@lowers("Rsqrt")
def _rsqrt(g: Writer, op: Any, out: Any, x: Any) -> str:
    return g.one("Reciprocal", g.one("Sqrt", g.use(x, out.dtype)))


@lowers("Log2", "Log10")
def _log_of_base(g: Writer, op: Any, out: Any, x: Any) -> str:
    base = 2 if type(op).__name__ == "Log2" else 10
    return g.one("Mul", g.one("Log", g.use(x, out.dtype)), g.use(1 / math.log(base), out.dtype))


@lowers("Log1p")
def _log1p(g: Writer, op: Any, out: Any, x: Any) -> str:
    return g.one("Log", g.one("Add", g.use(x, out.dtype), g.use(1, out.dtype)))


@lowers("Expm1")
def _expm1(g: Writer, op: Any, out: Any, x: Any) -> str:
    return g.one("Sub", g.one("Exp", g.use(x, out.dtype)), g.use(1, out.dtype))


@lowers("FloorDivide")
def _floor_divide(g: Writer, op: Any, out: Any, a: Any, b: Any) -> str:
    if not out.dtype.startswith("float"):
        raise NotLoweredError("the operation FloorDivide of whole numbers")
    return g.one("Floor", g.one("Div", g.use(a, out.dtype), g.use(b, out.dtype)))


@lowers("Mod")
def _modulo(g: Writer, op: Any, out: Any, a: Any, b: Any) -> str:
    a, b = g.use(a, out.dtype), g.use(b, out.dtype)
    if not out.dtype.startswith("float"):
        return g.one("Mod", a, b)
    return g.one("Sub", a, g.one("Mul", g.one("Floor", g.one("Div", a, b)), b))


@lowers("Round")
def _round(g: Writer, op: Any, out: Any, x: Any) -> str:
    if op.decimals:
        raise NotLoweredError("the operation Round to decimals")
    return g.one("Round", g.use(x, out.dtype))


@lowers("TopK")
def _top_k(g: Writer, op: Any, out: Any, x: Value) -> list[str]:
    values, indices = g.many("TopK", [x.name, g.int64(op.k)], 2, axis=-1, sorted=1)
    return [values, g.cast(indices, out[1].dtype)]


@lowers("OneHot")
def _one_hot(g: Writer, op: Any, out: Any, x: Value, *_: Any) -> str:
    ids = g.one("Unsqueeze", g.use(x, "int64"), g.int64(op.axis))
    shape = [1] * len(out.shape)
    shape[op.axis] = op.num_classes
    classes = g.constant(np.arange(op.num_classes, dtype=np.int64).reshape(shape))
    return g.cast(g.one("Equal", ids, classes), out.dtype)
