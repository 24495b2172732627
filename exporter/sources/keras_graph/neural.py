"""Rules for the operations of keras.ops.nn: activations with parameters, convolutions, pooling, normalization.

Keras keeps channels last by default, and ONNX wants them first. Between two operations that have rules here the
channels stay first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.keras_graph.operations import axes_of, centred, reduce
from estimator_serving.exporter.sources.keras_graph.rules import lowers
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError, Value, Writer
from estimator_serving.training.arrays import Array

Pads = list[tuple[int, int]]

_ELEMENTWISE = {"Relu": "Relu", "Add": "Add", "Multiply": "Mul"}
# The attribute that holds an activation's slope.
_SLOPES = {"Elu": "alpha", "Celu": "alpha", "LeakyRelu": "negative_slope"}
_BOUNDS = {"Relu6": (0, 6), "HardTanh": (-1, 1)}


def _on_channels_first(rule: Callable[..., str]) -> Callable[..., str]:
    """A rule for values of one shape, which leaves channels first where they are."""

    def apply(g: Writer, op: Any, out: Any, *values: Any) -> str:
        rank = len(out.shape)
        is_alike = rank > 2 and all(
            isinstance(one, Value) and one.rank == rank and one.dtype == out.dtype and g.is_channels_last(one.name)
            for one in values
        )
        if not is_alike:
            return rule(g, op, out, *values)
        moved = [Value(g.channels_first(one.name, rank), one.shape, one.dtype) for one in values]
        return g.channels_last(rule(g, op, out, *moved), rank)

    return apply


@lowers(*_ELEMENTWISE)
@_on_channels_first
def _elementwise(g: Writer, op: Any, out: Any, *xs: Any) -> str:
    return g.one(_ELEMENTWISE[type(op).__name__], *(g.use(one, out.dtype) for one in xs))


@lowers(*_SLOPES)
@_on_channels_first
def _with_slope(g: Writer, op: Any, out: Any, x: Any) -> str:
    """An activation whose one parameter ONNX calls alpha."""
    name = type(op).__name__
    return g.one(name, g.use(x, out.dtype), alpha=float(getattr(op, _SLOPES[name])))


@lowers(*_BOUNDS)
@_on_channels_first
def _bounded(g: Writer, op: Any, out: Any, x: Any) -> str:
    low, high = (g.use(one, out.dtype) for one in _BOUNDS[type(op).__name__])
    return g.one("Clip", g.use(x, out.dtype), low, high)


@lowers("Silu")
@_on_channels_first
def _silu(g: Writer, op: Any, out: Any, x: Any) -> str:
    name = g.use(x, out.dtype)
    return g.one("Mul", name, g.one("Sigmoid", name))


@lowers("LogSigmoid")
def _log_sigmoid(g: Writer, op: Any, out: Any, x: Any) -> str:
    return g.one("Neg", g.one("Softplus", g.one("Neg", g.use(x, out.dtype))))


@lowers("HardSigmoid")
@_on_channels_first
def _hard_sigmoid(g: Writer, op: Any, out: Any, x: Any) -> str:
    return g.one("HardSigmoid", g.use(x, out.dtype), alpha=1 / 6, beta=0.5)


@lowers("Gelu")
@_on_channels_first
def _gelu(g: Writer, op: Any, out: Any, x: Any) -> str:
    return g.one("Gelu", g.use(x, out.dtype), approximate="tanh" if op.approximate else "none")


@lowers("Softmax", "LogSoftmax")
def _softmax(g: Writer, op: Any, out: Any, x: Any) -> str:
    kind = "LogSoftmax" if type(op).__name__ == "LogSoftmax" else "Softmax"
    if not isinstance(op.axis, int):
        raise NotLoweredError(f"the operation {kind} over several axes")
    return g.one(kind, g.use(x, out.dtype), axis=op.axis % len(out.shape))


@lowers("ReLU")
@_on_channels_first
def _relu(g: Writer, op: Any, out: Any, x: Any) -> str:
    """The activation of layers: max(x, 0), with a slope below a threshold and a largest value."""
    name, dtype = g.use(x, out.dtype), out.dtype
    above = g.one("Relu", name)
    if op.threshold:
        beyond = g.one("Greater", name, g.use(op.threshold, dtype))
        above = g.one("Where", beyond, name, g.use(0, dtype))
    if op.max_value is not None:
        above = g.one("Min", above, g.use(op.max_value, dtype))
    if not op.negative_slope:
        return above
    below = g.one("Relu", g.one("Sub", g.use(op.threshold, dtype), name))
    return g.one("Sub", above, g.one("Mul", below, g.use(op.negative_slope, dtype)))


@lowers("Glu")
def _glu(g: Writer, op: Any, out: Any, x: Value) -> str:
    a, b = g.many("Split", [g.use(x, out.dtype)], 2, axis=op.axis % x.rank, num_outputs=2)
    return g.one("Mul", a, g.one("Sigmoid", b))


@lowers("Mish")
def _mish(g: Writer, op: Any, out: Any, x: Any) -> str:
    name = g.use(x, out.dtype)
    return g.one("Mul", name, g.one("Tanh", g.one("Softplus", name)))


# -- convolutions and pooling ------------------------------------------------------------------------------------------


def each(number: Any, count: int) -> list[int]:
    """One number for each spatial axis."""
    return [int(number)] * count if isinstance(number, int | np.integer) else [int(one) for one in number]


def is_first(op: Any) -> bool:
    """Whether an operation has its channels first."""
    import keras

    return bool((op.data_format or keras.config.image_data_format()) == "channels_first")


def spatial(x: Value, first: bool) -> Sequence[int | None]:
    """The sizes of the axes that a window moves over."""
    return x.shape[2:] if first else x.shape[1:-1]


def same_pads(
    sizes: Sequence[int | None], window: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads | None:
    """What "same" adds before and behind each axis; None where it depends on a size that a request decides."""
    pads: Pads = []
    for size, length, stride, dilation in zip(sizes, window, strides, dilations, strict=True):
        reach = (length - 1) * dilation + 1
        if stride == 1:
            total = reach - 1
        elif size is None:
            return None
        else:
            total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        pads.append((total // 2, total - total // 2))
    return pads


def _pads_of(pads: Pads) -> list[int]:
    return [before for before, _ in pads] + [after for _, after in pads]


def convolve(g: Writer, op: Any, x: Value, kernel: Array) -> str:
    """A convolution with a kernel of Keras [window…, in / groups, out]; `op` has strides, padding, dilation_rate."""
    channels = x.shape[1] if is_first(op) else x.shape[-1]
    if channels is None:
        raise NotLoweredError("a convolution of any number of channels")
    weights = np.moveaxis(kernel, (-1, -2), (0, 1))
    return _convolve(g, op, x, weights, kernel.shape[:-2], channels // kernel.shape[-2])


def _convolve(g: Writer, op: Any, x: Value, weights: Array, window: Sequence[int], groups: int) -> str:
    """A convolution with weights [out, in / groups, window…]."""
    count, first = len(window), is_first(op)
    strides, dilations = each(op.strides, count), each(op.dilation_rate, count)
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    if op.padding == "same":
        pads = same_pads(spatial(x, first), window, strides, dilations)
        # ONNX adds the same numbers where it has to look at the sizes.
        attributes |= {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": _pads_of(pads)}
    name = g.use(x, str(weights.dtype))
    name = name if first else g.channels_first(name, x.rank)
    made = g.one("Conv", name, _kept(g, weights), kernel_shape=list(window), **attributes)
    return made if first else g.channels_last(made, x.rank)


def _kept(g: Writer, weights: Array) -> str:
    return g.constant(np.ascontiguousarray(weights))


@lowers("Conv")
def _conv(g: Writer, op: Any, out: Any, x: Value, kernel: Any) -> str:
    return convolve(g, op, x, g.array(kernel, out.dtype))


@lowers("DepthwiseConv")
def _depthwise_conv(g: Writer, op: Any, out: Any, x: Value, kernel: Any) -> str:
    array = g.array(kernel, out.dtype)
    *window, channels, multiplier = array.shape
    weights = np.moveaxis(array, (-2, -1), (0, 1)).reshape(channels * multiplier, 1, *window)
    return _convolve(g, op, x, weights, window, channels)


@lowers("SeparableConv")
def _separable_conv(g: Writer, op: Any, out: Any, x: Value, depthwise: Any, pointwise: Any) -> str:
    middle = Value(_depthwise_conv(g, op, out, x, depthwise), x.shape, out.dtype)
    array = g.array(pointwise, out.dtype)
    first = is_first(op)
    name = middle.name if first else g.channels_first(middle.name, x.rank)
    made = g.one("Conv", name, _kept(g, np.moveaxis(array, (-1, -2), (0, 1))))
    return made if first else g.channels_last(made, x.rank)


@lowers("ConvTranspose")
def _conv_transpose(g: Writer, op: Any, out: Any, x: Value, kernel: Any) -> str:
    from keras.src.backend.common.backend_utils import compute_conv_transpose_output_crops_for_torch

    array = g.array(kernel, out.dtype)
    window, first = array.shape[:-2], is_first(op)
    strides, dilations = each(op.strides, len(window)), each(op.dilation_rate, len(window))
    crops = compute_conv_transpose_output_crops_for_torch(
        x.shape, array.shape, tuple(strides), op.padding, op.output_padding, tuple(dilations)
    )
    name = g.use(x, out.dtype)
    name = name if first else g.channels_first(name, x.rank)
    cut = [(max(before, 0), max(after, 0)) for before, after in crops]
    weights = _kept(g, np.moveaxis(array, (-1, -2), (0, 1)))
    made = g.one("ConvTranspose", name, weights, strides=strides, dilations=dilations, pads=_pads_of(cut))
    added = [0, 0, *(max(-one, 0) for one, _ in crops), 0, 0, *(max(-one, 0) for _, one in crops)]
    made = g.one("Pad", made, g.int64(*added), g.use(0, out.dtype)) if any(added) else made
    return made if first else g.channels_last(made, x.rank)


@lowers("MaxPool", "AveragePool")
def _pool(g: Writer, op: Any, out: Any, x: Value) -> str:
    first, count = is_first(op), x.rank - 2
    window = each(op.pool_size, count)
    strides = window if op.strides is None else each(op.strides, count)
    name = g.use(x, out.dtype)
    name = name if first else g.channels_first(name, x.rank)
    attributes: dict[str, Any] = {"kernel_shape": window, "strides": strides}
    if op.padding == "same":
        pads = same_pads(spatial(x, first), window, strides, [1] * count)
        if pads is None:
            raise NotLoweredError("pooling with padding of axes of any size")
        if all(before == after for before, after in pads):
            attributes["pads"] = _pads_of(pads)
        else:
            # Keras on torch repeats the border where the sides differ.
            added = [0, 0, *(before for before, _ in pads), 0, 0, *(after for _, after in pads)]
            name = g.one("Pad", name, g.int64(*added), mode="edge")
    kind = "MaxPool" if type(op).__name__ == "MaxPool" else "AveragePool"
    made = g.one(kind, name, **attributes)
    return made if first else g.channels_last(made, x.rank)


@lowers("Mean")
def _mean(g: Writer, op: Any, out: Any, x: Value, **_: Any) -> str:
    """A mean; over all spatial axes of channels first where they are."""
    axes = axes_of(op.axis, x.rank)
    name = g.use(x, out.dtype)
    if axes == list(range(1, x.rank - 1)) and g.is_channels_last(name) and not op.keepdims:
        return reduce(g, "ReduceMean", g.channels_first(name, x.rank), list(range(2, x.rank)), False)
    return reduce(g, "ReduceMean", name, axes, op.keepdims)


@lowers("BatchNorm")
def batch_norm(
    g: Writer, op: Any, out: Any, x: Value, mean: Any, variance: Any, offset: Any = None, scale: Any = None
) -> str:
    """Batch normalization by moving statistics; `op` has axis and epsilon."""
    mean, variance = g.array(mean, out.dtype), g.array(variance, out.dtype)
    scale = np.ones_like(mean) if scale is None else g.array(scale, out.dtype)
    offset = np.zeros_like(mean) if offset is None else g.array(offset, out.dtype)
    name, axis = g.use(x, out.dtype), op.axis % x.rank
    if axis == x.rank - 1 and g.is_channels_last(name):
        parts = [g.constant(one) for one in (scale, offset, mean, variance)]
        made = g.one("BatchNormalization", g.channels_first(name, x.rank), *parts, epsilon=float(op.epsilon))
        return g.channels_last(made, x.rank)
    shape = [-1 if one == axis else 1 for one in range(x.rank)]
    factor = (scale / np.sqrt(variance + np.float32(op.epsilon))).astype(mean.dtype)
    off = g.one("Sub", name, g.constant(mean.reshape(shape)))
    return g.one("Add", g.one("Mul", off, g.constant(factor.reshape(shape))), g.constant(offset.reshape(shape)))


@lowers("LayerNorm")
def _layer_norm(g: Writer, op: Any, out: Any, x: Value, gamma: Any = None, beta: Any = None, **_: Any) -> str:
    if getattr(op, "rms_scaling", False):
        raise NotLoweredError("the operation LayerNorm with rms_scaling")
    axes = sorted(axes_of(op.axis, x.rank))
    name = g.use(x, out.dtype)
    off = centred(g, name, axes)
    variance = reduce(g, "ReduceMean", g.one("Mul", off, off), axes, True)
    epsilon = 1e-7 if op.epsilon is None else op.epsilon
    made = g.one("Div", off, g.one("Sqrt", g.one("Add", variance, g.use(epsilon, out.dtype))))
    shape = [x.shape[one] if one in axes else 1 for one in range(x.rank)]
    if gamma is not None:
        made = g.one("Mul", made, g.constant(g.array(gamma, out.dtype).reshape(shape)))
    if beta is not None:
        made = g.one("Add", made, g.constant(g.array(beta, out.dtype).reshape(shape)))
    return made


@lowers("Moments")
def _moments(g: Writer, op: Any, out: Any, x: Value) -> list[str]:
    axes = axes_of(op.axes, x.rank)
    name = g.use(x, out[0].dtype)
    off = centred(g, name, axes)
    return [
        reduce(g, "ReduceMean", name, axes, op.keepdims),
        reduce(g, "ReduceMean", g.one("Mul", off, off), axes, op.keepdims),
    ]


@lowers("RMSNorm")
def _rms_norm(g: Writer, op: Any, out: Any, x: Value, scale: Any = None) -> str:
    axes = axes_of(op.axis, x.rank)
    name = g.use(x, out.dtype)
    square = reduce(g, "ReduceMean", g.one("Mul", name, name), axes, True)
    epsilon = g.use(1e-7 if op.epsilon is None else op.epsilon, out.dtype)
    made = g.one("Div", name, g.one("Sqrt", g.one("Add", square, epsilon)))
    if scale is None:
        return made
    shape = [x.shape[one] if one in axes else 1 for one in range(x.rank)]
    return g.one("Mul", made, g.constant(g.array(scale, out.dtype).reshape(shape)))


@lowers("Normalize")
def _normalize(g: Writer, op: Any, out: Any, x: Value) -> str:
    if op.order != 2 or op.axis is None:
        raise NotLoweredError(f"the operation Normalize of order {op.order}")
    axes = axes_of(op.axis, x.rank)
    name = g.use(x, out.dtype)
    length = g.one("Sqrt", reduce(g, "ReduceSum", g.one("Mul", name, name), axes, True))
    return g.one("Div", name, g.one("Max", length, g.use(1e-7 if op.epsilon is None else op.epsilon, out.dtype)))


@lowers("DotProductAttention")
def _attention(
    g: Writer,
    op: Any,
    out: Any,
    query: Value,
    key: Value,
    value: Value,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
) -> str:
    """softmax(query · key · scale) · value of tensors [batch, steps, heads, size]."""
    if bias is not None or op.attn_logits_soft_cap is not None or query.shape[2] != key.shape[2]:
        raise NotLoweredError("the operation DotProductAttention with a bias, a cap or grouped heads")
    dtype = out.dtype
    size = query.shape[-1]
    if size is None:
        raise NotLoweredError("the operation DotProductAttention of heads of any size")
    q, k, v = (g.transpose(g.use(one, dtype), [0, 2, 1, 3]) for one in (query, key, value))
    scores = g.one("MatMul", q, g.transpose(k, [0, 1, 3, 2]))
    scores = g.one("Mul", scores, g.use(1 / np.sqrt(size) if scale is None else scale, dtype))
    kept = [] if mask is None else [g.use(mask, "bool")]
    if op.is_causal:
        counts = [g.one("Squeeze", g.one("Shape", one, start=2, end=3), g.int64(0)) for one in (q, k)]
        zero, step = g.constant(np.int64(0)), g.constant(np.int64(1))
        rows, columns = (g.one("Range", zero, one, step) for one in counts)
        kept.append(g.one("GreaterOrEqual", g.one("Unsqueeze", rows, g.int64(1)), columns))
    if kept:
        allowed = kept[0] if len(kept) == 1 else g.one("And", *kept)
        # Keras adds this to what a mask leaves out: a row without any step becomes a mean of all.
        low = g.use(np.finfo(np.float32).max * -0.7, dtype)
        scores = g.one("Add", scores, g.one("Where", allowed, g.use(0, dtype), low))
    return g.transpose(g.one("MatMul", g.one("Softmax", scores, axis=-1), v), [0, 2, 1, 3])


def resize_images(g: Writer, name: str, size: Sequence[int], interpolation: str, first: bool) -> str:
    """Images [batch, height, width, channels], or channels first, in another size. Raises NotLoweredError for ways that
    ONNX lacks."""
    modes = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
    if interpolation not in modes:
        raise NotLoweredError(f"resizing by {interpolation}")
    name = name if first else g.channels_first(name, 4)
    sizes = g.one("Concat", g.one("Shape", name, start=0, end=2), g.int64(*size), axis=0)
    how: dict[str, Any] = {"coordinate_transformation_mode": "half_pixel"}
    if interpolation == "nearest":
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    made = g.one("Resize", name, "", "", sizes, mode=modes[interpolation], cubic_coeff_a=-0.75, **how)
    return made if first else g.channels_last(made, 4)


@lowers("Resize")
def _resize(g: Writer, op: Any, out: Any, x: Value) -> str:
    if op.antialias or op.crop_to_aspect_ratio or op.pad_to_aspect_ratio or x.rank != 4 or out.dtype != "float32":
        raise NotLoweredError("the operation Resize with antialias, cropping or padding, or of whole numbers")
    return resize_images(g, g.use(x, out.dtype), op.size, op.interpolation, op.data_format == "channels_first")
