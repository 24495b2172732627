"""Convolutions, pooling and normalization.

Owns the two layouts: TensorFlow's channels stand last, ONNX's behind the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import apply, cast, wider
from estimator_serving.exporter.sources.saved_model.lowering import FLOAT, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Dim, Tensor, Value, divide, multiply

_One = TypeVar("_One")


def _is_last(node: Node) -> bool:
    return not node.text("data_format", "NHWC").startswith("NC")


def _spatial(numbers: list[_One], is_last: bool) -> list[_One]:
    """The entries of the axes that are neither the batch nor the channels."""
    return numbers[1:-1] if is_last else numbers[2:]


def _channels_first(
    context: Lowering, value: Tensor, shape: Sequence[Dim | None], is_last: bool, emit: Callable[[str], str]
) -> Tensor:
    """What `emit` gives; it takes and gives channels behind the batch, halves as floats."""
    dtype, wide = value.dtype, wider(value.dtype) if value.dtype.kind not in "iu" else value.dtype

    def turned() -> str:
        x = cast(context, value.name, dtype, wide)
        if not is_last:
            return cast(context, emit(x), wide, dtype)
        x = context.builder.one("Transpose", x, perm=[0, value.rank - 1, *range(1, value.rank - 1)])
        return cast(context, context.builder.one("Transpose", emit(x), perm=[0, *range(2, value.rank), 1]), wide, dtype)

    return context.tensor(dtype, shape, turned)


def _window(
    node: Node, sizes: Sequence[Dim], taps: list[int], strides: list[int], dilations: list[int]
) -> tuple[dict[str, Any], list[Dim | None]]:
    """ONNX's attributes of the padding around a sliding window, and the sizes behind it."""
    padding = node.text("padding")
    axes = list(zip(sizes, taps, strides, dilations, strict=True))
    pairs = [(0, 0)] * len(axes)
    if padding == "SAME":
        if any(not isinstance(size, int) and stride != 1 for size, _, stride, _ in axes):
            # ONNX Runtime refuses the word with dilations.
            if any(dilation > 1 for dilation in dilations):
                raise node.refuse("it pads an open size")
            after = [-(-size // stride) if isinstance(size, int) else None for size, _, stride, _ in axes]
            return {"auto_pad": "SAME_UPPER"}, list(after)
        totals = [
            max((-(-size // stride) - 1) * stride + (tap - 1) * dilation + 1 - size, 0)
            if isinstance(size, int)
            else (tap - 1) * dilation
            for size, tap, stride, dilation in axes
        ]
        pairs = [(total // 2, total - total // 2) for total in totals]
    elif padding == "EXPLICIT":
        given = node.integers("explicit_paddings", [])
        pairs = _spatial(list(zip(given[::2], given[1::2], strict=True)), _is_last(node))
    sizes_after: list[Dim | None] = []
    for (size, tap, stride, dilation), pair in zip(axes, pairs, strict=True):
        lost = (tap - 1) * dilation - sum(pair)
        if isinstance(size, int):
            sizes_after.append((size - lost - 1) // stride + 1)
        else:
            sizes_after.append(size if stride == 1 and lost == 0 else None)
    return {"pads": [begin for begin, _ in pairs] + [end for _, end in pairs]}, sizes_after


def _all_sizes(value: Tensor, after: Sequence[Dim | None], channels: Dim, is_last: bool) -> list[Dim | None]:
    return [value.shape[0], *after, channels] if is_last else [value.shape[0], channels, *after]


@lowers("Conv2D", "Conv3D", "DepthwiseConv2dNative")
def _convolution(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, kernel = (context.dense(one, node) for one in inputs)
    is_last = _is_last(node)
    if kernel.constant is None:
        raise node.refuse("its kernel is computed by the graph")
    if value.dtype == np.float64:
        raise node.refuse("it computes with float64")
    # The kernel as ONNX has it, [out, in, …], and in how many groups.
    if node.op == "DepthwiseConv2dNative":
        height, width, groups, each = kernel.constant.shape
        weights = kernel.constant.transpose(2, 3, 0, 1).reshape(groups * each, 1, height, width)
    else:
        channels = value.shape[-1 if is_last else 1]
        if not isinstance(channels, int):
            raise node.refuse("its number of channels is open")
        spatial = range(kernel.rank - 2)
        weights = kernel.constant.transpose(kernel.rank - 1, kernel.rank - 2, *spatial)
        groups = channels // int(kernel.constant.shape[-2])
    strides = _spatial(node.integers("strides"), is_last)
    dilations = _spatial(node.integers("dilations", [1] * value.rank), is_last)
    taps = [int(one) for one in weights.shape[2:]]
    padding, after = _window(node, value.shape[1:-1] if is_last else value.shape[2:], taps, strides, dilations)
    weight = context.constant(np.ascontiguousarray(weights), wider(value.dtype))
    return _channels_first(
        context,
        value,
        _all_sizes(value, after, int(weights.shape[0]), is_last),
        is_last,
        lambda x: context.builder.one(
            "Conv", x, weight.name, strides=strides, dilations=dilations, group=groups, **padding
        ),
    )


@lowers("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "MaxPoolV2")
def _pool(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    is_last = _is_last(node)
    if node.op == "MaxPoolV2":
        kernel = [int(one) for one in context.array(inputs[1], node, "kernel")]
        strides = [int(one) for one in context.array(inputs[2], node, "strides")]
    else:
        kernel, strides = node.integers("ksize"), node.integers("strides")
    outer = [one for numbers in (kernel, strides) for one in ((numbers[0], numbers[-1]) if is_last else numbers[:2])]
    if any(one != 1 for one in outer):
        raise node.refuse("it pools over rows or channels")
    taps, steps = _spatial(kernel, is_last), _spatial(strides, is_last)
    padding, after = _window(node, value.shape[1:-1] if is_last else value.shape[2:], taps, steps, [1] * len(taps))
    op_type = "MaxPool" if node.op.startswith("Max") else "AveragePool"
    return _channels_first(
        context,
        value,
        _all_sizes(value, after, value.shape[-1 if is_last else 1], is_last),
        is_last,
        lambda x: context.builder.one(op_type, x, kernel_shape=taps, strides=steps, **padding),
    )


@lowers("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def _batch_norm(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """By the moving values, or by the batch's own: Keras writes LayerNormalization with the latter."""
    value, *others = (context.dense(one, node) for one in inputs)
    is_last, epsilon = _is_last(node), node.number("epsilon", 1e-4)
    training = node.flag("is_training", True)
    one, dtype = context.builder.one, value.dtype
    channels = value.shape[-1 if is_last else 1]

    def by_its_own_statistics() -> str:
        wide = wider(dtype)
        x = cast(context, value.name, dtype, wide)
        channel_axis = value.rank - 1 if is_last else 1
        axes = context.int64(*(axis for axis in range(value.rank) if axis != channel_axis))
        mean = one("ReduceMean", x, axes, keepdims=1)
        centred = one("Sub", x, mean)
        variance = one("ReduceMean", one("Mul", centred, centred), axes, keepdims=1)
        scaled = one("Div", centred, one("Sqrt", one("Add", variance, context.scalar(epsilon, wide))))
        shape = [channels if axis == channel_axis else 1 for axis in range(value.rank)]
        scale, offset = (one("Reshape", one_of.name, context.shape_name(shape), allowzero=1) for one_of in others[:2])
        return cast(context, one("Add", one("Mul", scaled, scale), offset), wide, dtype)

    if training:
        made = context.tensor(dtype, value.shape, by_its_own_statistics)
    else:
        made = _channels_first(
            context,
            value,
            value.shape,
            is_last,
            lambda x: one("BatchNormalization", x, *(tensor.name for tensor in others), epsilon=epsilon),
        )

    def refuse() -> str:
        raise node.refuse("its statistics are used")

    rest = [Tensor(np.dtype(np.float32), (channels,), refuse) for _ in range(5)]
    return [made, *rest]


@lowers("ResizeBilinear", "ResizeNearestNeighbor")
def _resize(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    height, width = (int(one) for one in context.array(inputs[1], node, "size").ravel())
    half, corners = node.flag("half_pixel_centers", False), node.flag("align_corners", False)
    is_linear = node.op == "ResizeBilinear"
    if not half or corners:
        raise node.refuse("it resizes by a rule of TensorFlow 1 that ONNX lacks")
    rule = {"mode": "linear"} if is_linear else {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
    target = (value.shape[0], value.shape[3], height, width)
    as_float = apply(context, [value], FLOAT, lambda x: cast(context, x, value.dtype, FLOAT))
    made = _channels_first(
        context,
        as_float,
        [value.shape[0], height, width, value.shape[3]],
        True,
        lambda x: context.builder.one(
            "Resize", x, "", "", context.shape_name(target), coordinate_transformation_mode="half_pixel", **rule
        ),
    )
    return made if is_linear else apply(context, [made], value.dtype, lambda x: cast(context, x, FLOAT, value.dtype))


@lowers("SpaceToBatchND")
def _space_to_batch(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """What TensorFlow puts around a dilated convolution: [n, h, w, c] as blocks of every block-th row and column."""
    value = context.dense(inputs[0], node)
    block = [int(one) for one in context.array(inputs[1], node, "block").ravel()]
    pads = context.array(inputs[2], node, "paddings").astype(np.int64)
    count, one = len(block), context.builder.one
    sizes = value.shape[1 : 1 + count]
    if any(not isinstance(size, int) for size in sizes):
        raise node.refuse("it takes apart an open size")
    padded = [int(size) + int(sum(pair)) for size, pair in zip(sizes, pads, strict=True)]  # type: ignore[arg-type]
    after = [size // step for size, step in zip(padded, block, strict=True)]
    rest = list(value.shape[1 + count :])
    rows = multiply([value.shape[0], *block])

    def emit() -> str:
        name = value.name
        if pads.any():
            begins, ends = ([0, *pads[:, side].tolist(), *([0] * len(rest))] for side in (0, 1))
            name = one("Pad", name, context.int64(*begins, *ends), context.scalar(0, value.dtype))
        split = [dim for pair in zip(after, block, strict=True) for dim in pair]
        name = one("Reshape", name, context.shape_name([value.shape[0], *split, *rest]), allowzero=1)
        outer = [2 + 2 * axis for axis in range(count)]
        inner = [1 + 2 * axis for axis in range(count)]
        name = one("Transpose", name, perm=[*outer, 0, *inner, *range(1 + 2 * count, 1 + 2 * count + len(rest))])
        return one("Reshape", name, context.shape_name([rows, *after, *rest]), allowzero=1)

    return context.tensor(value.dtype, [rows, *after, *rest], emit)


@lowers("BatchToSpaceND")
def _batch_to_space(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    block = [int(one) for one in context.array(inputs[1], node, "block").ravel()]
    crops = context.array(inputs[2], node, "crops").astype(np.int64)
    count, one = len(block), context.builder.one
    rows = divide(value.shape[0], multiply(block))
    sizes = value.shape[1 : 1 + count]
    if rows is None or any(not isinstance(size, int) for size in sizes):
        raise node.refuse("it puts together an open size")
    batch, spatial, rest = rows, [int(size) for size in sizes], list(value.shape[1 + count :])  # type: ignore[arg-type]
    whole = [size * step for size, step in zip(spatial, block, strict=True)]
    after = [size - int(sum(pair)) for size, pair in zip(whole, crops, strict=True)]

    def emit() -> str:
        name = one("Reshape", value.name, context.shape_name([*block, batch, *spatial, *rest]), allowzero=1)
        order = [axis for place in range(count) for axis in (count + 1 + place, place)]
        name = one("Transpose", name, perm=[count, *order, *range(2 * count + 1, 2 * count + 1 + len(rest))])
        name = one("Reshape", name, context.shape_name([batch, *whole, *rest]), allowzero=1)
        begins = crops[:, 0].tolist()
        ends = [begin + size for begin, size in zip(begins, after, strict=True)]
        return one("Slice", name, context.int64(*begins), context.int64(*ends), context.int64(*range(1, 1 + count)))

    return context.tensor(value.dtype, [batch, *after, *rest], emit)


@lowers("Conv2DBackpropInput")
def _transposed_convolution(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Conv2DTranspose: the output's sizes say how much of it padding takes away."""
    target = context.dims(inputs[0], node, "output shape")
    kernel, value = (context.dense(one, node) for one in inputs[1:3])
    if not _is_last(node) or kernel.constant is None or node.text("padding") == "EXPLICIT":
        raise node.refuse("its channels stand first, its padding is explicit or its kernel is computed by the graph")
    if any(one != 1 for one in node.integers("dilations", [1, 1, 1, 1])):
        raise node.refuse("it is dilated")
    if value.dtype == np.float64:
        raise node.refuse("it computes with float64")
    strides = _spatial(node.integers("strides"), True)
    height, width, outputs, _ = kernel.constant.shape
    pads: list[tuple[int, int]] = []
    extra = []
    for size, wanted, tap, stride in zip(value.shape[1:3], target[1:3], (height, width), strides, strict=True):
        if not (isinstance(size, int) and isinstance(wanted, int)):
            raise node.refuse("its sizes are open")
        # As many as the convolution of the wanted size would have padded.
        total = max((size - 1) * stride + tap - wanted, 0) if node.text("padding") == "SAME" else 0
        pads.append((total // 2, total - total // 2))
        extra.append(wanted - ((size - 1) * stride + tap - total))
    weight = context.constant(np.ascontiguousarray(kernel.constant.transpose(3, 2, 0, 1)), wider(value.dtype))
    return _channels_first(
        context,
        value,
        [value.shape[0], *target[1:3], int(outputs)],
        True,
        lambda x: context.builder.one(
            "ConvTranspose",
            x,
            weight.name,
            strides=strides,
            pads=[begin for begin, _ in pads] + [end for _, end in pads],
            output_padding=extra,
        ),
    )
