"""Rules for layers whose `call` leaves keras.ops: preprocessing layers, and layers that look at shapes.

Layers that are not here are taken apart (graph.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from estimator_serving.exporter.sources.keras_graph.neural import batch_norm, convolve, resize_images
from estimator_serving.exporter.sources.keras_graph.operations import resize
from estimator_serving.exporter.sources.keras_graph.rules import LAYERS, lowers
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError, Value

if TYPE_CHECKING:
    from estimator_serving.exporter.sources.keras_graph.graph import KerasGraph

# Layers that change nothing outside training.
_IDLE = [
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "AugMix",
    "CutMix",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
]


@lowers(*_IDLE, rules=LAYERS)
def _as_it_is(g: KerasGraph, layer: Any, x: Any, *_: Any, **__: Any) -> Any:
    return x


def _floats(g: KerasGraph, layer: Any, x: Value) -> str:
    return g.use(x, layer.compute_dtype)


@lowers("Rescaling", rules=LAYERS)
def _rescaling(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Value:
    dtype = layer.compute_dtype
    scaled = g.one("Mul", _floats(g, layer, x), g.use(layer.scale, dtype))
    return Value(g.one("Add", scaled, g.use(layer.offset, dtype)), x.shape, dtype)


@lowers("Normalization", rules=LAYERS)
def _normalization(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Value:
    import keras

    dtype = layer.compute_dtype
    mean, variance = g.array(layer.mean, dtype), g.array(layer.variance, dtype)
    name = _floats(g, layer, x)
    if layer.invert:
        deviation = np.sqrt(variance)
        made = g.one("Add", g.one("Mul", name, g.constant(deviation)), g.constant(mean))
    else:
        deviation = np.maximum(np.sqrt(variance), np.float32(keras.backend.epsilon())).astype(mean.dtype)
        made = g.one("Div", g.one("Sub", name, g.constant(mean)), g.constant(deviation))
    return Value(made, x.shape, dtype)


@lowers("BatchNormalization", rules=LAYERS)
def _batch_normalization(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Value:
    offset, scale = (layer.beta if layer.center else None), (layer.gamma if layer.scale else None)
    made = batch_norm(g, layer, x, x, layer.moving_mean, layer.moving_variance, offset, scale)
    return Value(made, x.shape, x.dtype)


@lowers("Flatten", rules=LAYERS)
def _flatten(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Value:
    sizes = x.shape[1:]
    name = x.name
    if layer.data_format == "channels_first" and x.rank > 2:
        name = g.transpose(name, [0, *range(2, x.rank), 1])
        sizes = (*sizes[1:], sizes[0])
    total = None if None in sizes else int(np.prod([size for size in sizes if size is not None], dtype=np.int64))
    return Value(resize(g, name, x.shape, (x.shape[0], total)), (x.shape[0], total), x.dtype)


@lowers("Embedding", rules=LAYERS)
def _embedding(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Value:
    ids = x.name if x.dtype in ("int32", "int64") else g.cast(x.name, "int32")
    table = g.trace(lambda: layer.embeddings)
    made = g.one("Gather", g.use(table, layer.compute_dtype), ids, axis=0)
    return Value(made, (*x.shape, layer.output_dim), layer.compute_dtype)


@lowers("Activation", rules=LAYERS)
def _activation(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Any:
    return g.trace(layer.activation, x)


@lowers("BaseConv", "Conv1D", rules=LAYERS)
def _grouped_conv(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Any:
    """A convolution; Keras's own record of one in groups refuses its number of channels."""
    if layer.groups == 1 or layer.padding == "causal":
        return g.trace(layer.call, x)
    (shape,) = {tuple(layer.compute_output_shape(x.shape))}
    made = convolve(g, layer, x, g.array(layer.kernel, layer.compute_dtype))
    value = Value(made, shape, layer.compute_dtype)
    if layer.use_bias:
        bias = g.array(layer.bias, layer.compute_dtype)
        sides = (1, -1, *[1] * layer.rank) if layer.data_format == "channels_first" else (-1,)
        value = Value(g.one("Add", made, g.constant(bias.reshape(sides))), shape, value.dtype)
    return value if layer.activation is None else g.trace(layer.activation, value)


@lowers("Resizing", rules=LAYERS)
def _resizing(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Value:
    odd = layer.antialias or layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or x.rank != 4
    if odd or x.dtype != "float32":
        raise NotLoweredError(f"the layer {layer.name} (Resizing with antialias, cropping or padding)")
    first, size = layer.data_format == "channels_first", (layer.height, layer.width)
    made = resize_images(g, x.name, size, layer.interpolation, first)
    return Value(made, (*x.shape[:2], *size) if first else (x.shape[0], *size, x.shape[3]), x.dtype)


@lowers("CategoryEncoding", rules=LAYERS)
def _category_encoding(g: KerasGraph, layer: Any, x: Value, count_weights: Any = None) -> Value:
    mode, tokens, dtype = layer.output_mode, layer.num_tokens, layer.compute_dtype
    if mode not in ("one_hot", "multi_hot") or layer.sparse or x.rank > 2:
        raise NotLoweredError(f"the layer {layer.name} (CategoryEncoding with output_mode={mode!r})")
    ids = g.one("Unsqueeze", g.use(x, "int64"), g.int64(x.rank))
    hot = g.cast(g.one("Equal", ids, g.constant(np.arange(tokens))), dtype)
    shape: tuple[int | None, ...] = (*x.shape, tokens)
    if x.rank == 2 and (mode == "multi_hot" or x.shape[-1] == 1):
        hot, shape = g.one("ReduceMax", hot, g.int64(1), keepdims=0), (x.shape[0], tokens)
    return Value(hot, shape, dtype)


@lowers("Discretization", rules=LAYERS)
def _discretization(g: KerasGraph, layer: Any, x: Value, **_: Any) -> Value:
    if layer.output_mode != "int" or layer.bin_boundaries is None:
        raise NotLoweredError(f"the layer {layer.name} (Discretization with output_mode={layer.output_mode!r})")
    name = g.one("Unsqueeze", g.use(x, "float32"), g.int64(x.rank))
    below = g.one("GreaterOrEqual", name, g.constant(np.float32(layer.bin_boundaries)))
    counted = g.one("ReduceSum", g.cast(below, "int64"), g.int64(x.rank), keepdims=0)
    return Value(g.cast(counted, layer.output_dtype), x.shape, layer.output_dtype)
