"""Convolutions, pooling and normalization.

Owns the two layouts: TensorFlow's channels stand last, ONNX's behind the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import cast, wider
from estimator_serving.exporter.sources.saved_model.lowering import Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Dim, Tensor, Value, divide, multiply


def _is_last(node: Node) -> bool:
    return not node.text("data_format", "NHWC").startswith("NC")


def _first(context: Lowering, value: Tensor, is_last: bool) -> str:
    """The ONNX value with channels behind the batch."""
    if not is_last:
        return value.name
    return context.builder.one("Transpose", value.name, perm=[0, value.rank - 1, *range(1, value.rank - 1)])


def _back(context: Lowering, name: str, rank: int, is_last: bool) -> str:
    return context.builder.one("Transpose", name, perm=[0, *range(2, rank), 1]) if is_last else name


def _spatial(numbers: list[int], is_last: bool) -> list[int]:
    return numbers[1:-1] if is_last else numbers[2:]


def _output(size: Dim, kernel: int, stride: int, dilation: int, padding: str, pads: tuple[int, int]) -> Dim | None:
    if not isinstance(size, int):
        return size if padding == "SAME" and stride == 1 else None
    if padding == "SAME":
        return -(-size // stride)
    return (size + sum(pads) - (kernel - 1) * dilation - 1) // stride + 1


def _padding(node: Node, axes: int, is_last: bool) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """ONNX's attributes, and the pads of each axis where they are given."""
    padding = node.text("padding")
    if padding == "SAME":
        return {"auto_pad": "SAME_UPPER"}, [(0, 0)] * axes
    if padding == "VALID":
        return {"auto_pad": "VALID"}, [(0, 0)] * axes
    given = node.integers("explicit_paddings", [])
    pairs = [(given[2 * i], given[2 * i + 1]) for i in range(len(given) // 2)]
    spatial = pairs[1:-1] if is_last else pairs[2:]
    return {"pads": [one for one, _ in spatial] + [other for _, other in spatial]}, spatial


@lowers("Conv2D", "Conv3D", "DepthwiseConv2dNative")
def _convolution(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value, kernel = (context.dense(one, node) for one in inputs)
    is_last, axes = _is_last(node), value.rank - 2
    if kernel.constant is None:
        raise node.refuse("its kernel is computed by the graph")
    if wider(value.dtype) != value.dtype:
        raise node.refuse(f"it computes with {value.dtype}")
    weights, groups = _kernel(node, kernel, value.shape[-1 if is_last else 1])
    strides = _spatial(node.integers("strides"), is_last)
    dilations = _spatial(node.integers("dilations", [1] * value.rank), is_last)
    padding, pads = _padding(node, axes, is_last)
    sizes = list(value.shape[1:-1] if is_last else value.shape[2:])
    taps = [int(one) for one in weights.shape[2:]]
    after = [
        _output(size, tap, stride, dilation, node.text("padding"), pad)
        for size, tap, stride, dilation, pad in zip(sizes, taps, strides, dilations, pads, strict=True)
    ]
    channels = int(weights.shape[0])
    shape = [value.shape[0], *after, channels] if is_last else [value.shape[0], channels, *after]
    weight = context.constant(np.ascontiguousarray(weights))

    def emit() -> str:
        x = _first(context, value, is_last)
        if "auto_pad" in padding and padding["auto_pad"] == "SAME_UPPER" and any(d > 1 for d in dilations):
            attributes = _pads_of_same(node, sizes, taps, strides, dilations)
        else:
            attributes = padding
        made = context.builder.one(
            "Conv", x, weight.name, strides=strides, dilations=dilations, group=groups, **attributes
        )
        return _back(context, made, value.rank, is_last)

    return context.tensor(value.dtype, shape, emit)


def _pads_of_same(
    node: Node, sizes: list[Dim], taps: list[int], strides: list[int], dilations: list[int]
) -> dict[str, Any]:
    """SAME of a dilated kernel, in numbers: ONNX Runtime refuses the word with dilations."""
    pads = []
    for size, tap, stride, dilation in zip(sizes, taps, strides, dilations, strict=True):
        if not isinstance(size, int):
            if stride != 1:
                raise node.refuse("it pads an open size")
            total = (tap - 1) * dilation
        else:
            total = max((-(-size // stride) - 1) * stride + (tap - 1) * dilation + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    return {"pads": [one for one, _ in pads] + [other for _, other in pads]}


def _kernel(node: Node, kernel: Tensor, channels: Dim) -> tuple[np.ndarray[Any, Any], int]:
    """The kernel as ONNX has it, [out, in, …], and in how many groups."""
    array = kernel.constant
    assert array is not None
    if node.op == "DepthwiseConv2dNative":
        height, width, inputs, each = array.shape
        return array.transpose(2, 3, 0, 1).reshape(inputs * each, 1, height, width), inputs
    if not isinstance(channels, int):
        raise node.refuse("its number of channels is open")
    spatial = range(array.ndim - 2)
    return array.transpose(array.ndim - 1, array.ndim - 2, *spatial), channels // int(array.shape[-2])


@lowers("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "MaxPoolV2")
def _pool(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    value = context.dense(inputs[0], node)
    is_last, axes = _is_last(node), value.rank - 2
    if node.op == "MaxPoolV2":
        kernel = [int(one) for one in context.array(inputs[1], node, "kernel")]
        strides = [int(one) for one in context.array(inputs[2], node, "strides")]
    else:
        kernel, strides = node.integers("ksize"), node.integers("strides")
    outer = [one for numbers in (kernel, strides) for one in ((numbers[0], numbers[-1]) if is_last else numbers[:2])]
    if any(one != 1 for one in outer):
        raise node.refuse("it pools over rows or channels")
    taps, steps = _spatial(kernel, is_last), _spatial(strides, is_last)
    padding, pads = _padding(node, axes, is_last)
    sizes = value.shape[1:-1] if is_last else value.shape[2:]
    after = [
        _output(size, tap, step, 1, node.text("padding"), pad)
        for size, tap, step, pad in zip(sizes, taps, steps, pads, strict=True)
    ]
    shape = [value.shape[0], *after, value.shape[-1]] if is_last else [*value.shape[:2], *after]
    op_type = "MaxPool" if node.op.startswith("Max") else "AveragePool"

    def emit() -> str:
        x = _first(context, value, is_last)
        made = context.builder.one(op_type, x, kernel_shape=taps, strides=steps, **padding)
        return _back(context, made, value.rank, is_last)

    return context.tensor(value.dtype, shape, emit)


@lowers("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def _batch_norm(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """By the moving values, or by the batch's own: Keras writes LayerNormalization with the latter."""
    value, *others = (context.dense(one, node) for one in inputs)
    is_last, epsilon = _is_last(node), node.number("epsilon", 1e-4)
    training = node.flag("is_training", True)
    one, dtype = context.builder.one, value.dtype
    channels = value.shape[-1 if is_last else 1]

    def emit() -> str:
        wide = wider(dtype)
        x = cast(context, value.name, dtype, wide)
        channel_axis = value.rank - 1 if is_last else 1
        names = [tensor.name for tensor in others]
        if not training:
            x = _first(context, value, is_last)
            return _back(context, one("BatchNormalization", x, *names, epsilon=epsilon), value.rank, is_last)
        axes = context.int64(*(axis for axis in range(value.rank) if axis != channel_axis))
        mean = one("ReduceMean", x, axes, keepdims=1)
        centred = one("Sub", x, mean)
        variance = one("ReduceMean", one("Mul", centred, centred), axes, keepdims=1)
        scaled = one("Div", centred, one("Sqrt", one("Add", variance, context.scalar(epsilon, wide))))
        shape = [channels if axis == channel_axis else 1 for axis in range(value.rank)]
        scale, offset = (one("Reshape", name, context.shape_name(shape), allowzero=1) for name in names[:2])
        return cast(context, one("Add", one("Mul", scaled, scale), offset), wide, dtype)

    made = context.tensor(dtype, value.shape, emit)

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
    shape = [value.shape[0], height, width, value.shape[3]]
    dtype = np.dtype(np.float32) if is_linear else value.dtype

    def emit() -> str:
        x = cast(context, _first(context, value, True), value.dtype, np.dtype(np.float32))
        target = context.shape_name([value.shape[0], value.shape[3], height, width])
        rule = {"mode": "linear"} if is_linear else {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
        made = context.builder.one("Resize", x, "", "", target, coordinate_transformation_mode="half_pixel", **rule)
        return _back(context, cast(context, made, np.dtype(np.float32), dtype), 4, True)

    return context.tensor(dtype, shape, emit)


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
    weight = context.constant(np.ascontiguousarray(kernel.constant.transpose(3, 2, 0, 1)))

    def emit() -> str:
        x = _first(context, value, True)
        made = context.builder.one(
            "ConvTranspose",
            x,
            weight.name,
            strides=strides,
            pads=[begin for begin, _ in pads] + [end for _, end in pads],
            output_padding=extra,
        )
        return _back(context, made, 4, True)

    return context.tensor(value.dtype, [value.shape[0], *target[1:3], int(outputs)], emit)
