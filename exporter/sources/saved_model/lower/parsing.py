"""Serialized Examples: TensorFlow's parsing ops become this project's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.choosing import coordinates_of
from estimator_serving.exporter.sources.saved_model.lower.elementwise import apply
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Flat, Symbol, Tensor, Value
from estimator_serving.ops import DOMAIN
from estimator_serving.training.columns.onnx_ops import attributes_of
from estimator_serving.wire import dtypes
from estimator_serving.wire.features import (
    Feature,
    FeatureSpec,
    FixedLenFeature,
    FixedLenSequenceFeature,
    VarLenFeature,
    check_spec,
    tensors_of,
)


@lowers("ParseExample", "ParseExampleV2")
def _parse_example(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    serialized = inputs[0]
    sparse_keys, dense_keys, defaults = _keys(context, node, inputs)
    sparse_types, dense_types = node.dtypes("sparse_types"), node.dtypes("Tdense")
    shapes = node.shapes("dense_shapes")
    spec: dict[str, Feature] = {
        key: VarLenFeature(dtypes.from_numpy(dtype)) for key, dtype in zip(sparse_keys, sparse_types, strict=True)
    }
    for key, dtype, shape, default in zip(dense_keys, dense_types, shapes, defaults, strict=True):
        if key in spec or shape is None:
            raise node.refuse(f"it parses {key} in two ways, or in no shape")
        spec[key] = _dense(dtype, shape, default)
    if len(spec) != len(sparse_keys) + len(dense_keys):
        raise node.refuse("it parses a key twice")
    check_spec(spec)
    tensors = _tensors(context, context.examples(serialized, node, spec), spec)
    triples = [padded_feature(context, tensors[f"{key}/values"], tensors[f"{key}/lengths"]) for key in sparse_keys]
    # All indices, then all values, then all shapes.
    return [*(one for part in zip(*triples, strict=True) for one in part), *(tensors[key] for key in dense_keys)]


def _keys(
    context: Lowering, node: Node, inputs: list[Value]
) -> tuple[list[str], list[str], list[np.ndarray[Any, Any]]]:
    """Sparse keys, dense keys and dense defaults. The first version takes each key apart, the second one vectors."""

    def texts(values: Sequence[Value]) -> list[str]:
        arrays = [context.array(one, node, "key") for one in values]
        return [key.decode() for array in arrays for key in array.ravel().tolist()]

    if node.op == "ParseExampleV2":
        if texts(inputs[4:5]):
            raise node.refuse("it parses ragged features")
        sparse, dense, rest = texts(inputs[2:3]), texts(inputs[3:4]), inputs[5:]
    else:
        many, few = node.integer("Nsparse"), node.integer("Ndense")
        sparse, dense, rest = (
            texts(inputs[2 : 2 + many]),
            texts(inputs[2 + many : 2 + many + few]),
            inputs[2 + many + few :],
        )
    return sparse, dense, [context.array(one, node, "default") for one in rest]


def _dense(dtype: np.dtype[Any], shape: tuple[int, ...], default: np.ndarray[Any, Any]) -> Feature:
    """An empty default makes a feature required; an open first size makes it a sequence, which its default pads."""
    kind = dtypes.from_numpy(dtype)
    value = default.reshape(-1).tolist() if default.size else None
    if shape and shape[0] == -1:
        return FixedLenSequenceFeature(shape[1:], kind, True, None if value is None else value[0])
    if value is not None:
        value = np.broadcast_to(default, shape).tolist() if default.size == 1 else default.reshape(shape).tolist()
    return FixedLenFeature(shape, kind, value)


def _tensors(context: Lowering, examples: tuple[str, str], spec: FeatureSpec) -> dict[str, Tensor]:
    """What our op gives, by the names of wire.features' table."""
    names = sorted(spec)
    described = [(i, tensor) for i, name in enumerate(names) for tensor in tensors_of(name, spec[name])]
    attributes = attributes_of([(name, spec[name], False) for name in names])

    def emit(index: int) -> str:
        made = context.builder.node(
            "ParseExample", list(examples), outputs=len(described), domain=DOMAIN, attributes=attributes
        )
        return made[index]

    rows = Symbol(lambda: context.builder.one("Sub", context.builder.one("Shape", examples[1]), context.int64(1)))
    made = {}
    for place, (_, tensor) in enumerate(described):
        shape = [rows if axis == 0 else dim if isinstance(dim, int) else None for axis, dim in enumerate(tensor.shape)]
        made[tensor.name] = context.tensor(tensor.dtype.numpy, shape, lambda place=place: emit(place))  # type: ignore[misc]
    return made


def padded_feature(context: Lowering, grid: Tensor, lengths: Tensor) -> list[Value]:
    """Padded values [rows, width] and their lengths as TensorFlow's indices, values and dense shape."""
    rows, width = grid.shape
    lengths.low = 0
    one, places = context.builder.one, context.range_of(width)
    mask = apply(context, [lengths, places], BOOL, lambda x, y: one("Less", y, one("Unsqueeze", x, context.int64(1))))
    mask.shape = (lengths.shape[0], places.shape[0])
    cells = context.cells_of(rows, width, mask, lengths)
    return [coordinates_of(context, cells), Flat(cells, grid), context.sizes([rows, width], INT64)]
