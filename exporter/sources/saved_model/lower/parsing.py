"""Serialized Examples and SequenceExamples: TensorFlow's parsing ops become this project's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.choosing import coordinates_of
from estimator_serving.exporter.sources.saved_model.lower.elementwise import apply
from estimator_serving.exporter.sources.saved_model.lower.segments import splits_of
from estimator_serving.exporter.sources.saved_model.lowering import (
    BOOL,
    INT64,
    Lowered,
    Lowering,
    SequenceSpec,
    lowers,
)
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
    list_tensors_of,
    tensors_of,
)


@lowers("ParseExample", "ParseExampleV2")
def _parse_example(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    # The first version takes each key apart, the second one vectors. Behind the keys are the dense defaults.
    if node.op == "ParseExampleV2":
        sparse, dense, ragged = (_texts(context, node, [one]) for one in inputs[2:5])
        rest = inputs[5:]
    else:
        many, few = node.integer("Nsparse"), node.integer("Ndense")
        sparse = _texts(context, node, inputs[2 : 2 + many])
        dense, ragged = _texts(context, node, inputs[2 + many : 2 + many + few]), []
        rest = inputs[2 + many + few :]
    keys, defaults = _Keys(sparse, dense, ragged), [context.array(one, node, "default") for one in rest]
    spec = _spec(node, "", keys, defaults)
    tensors = _tensors(context, "ParseExample", context.examples(inputs[0], node, spec), spec, {})
    return _outputs(context, node, "", keys, tensors)


@dataclass(frozen=True)
class _Keys:
    """The features that an op parses, by what it makes of them."""

    sparse: list[str]
    dense: list[str]
    ragged: list[str]


def _texts(context: Lowering, node: Node, values: Sequence[Value]) -> list[str]:
    arrays = [context.array(one, node, "key") for one in values]
    return [key.decode() for array in arrays for key in array.ravel().tolist()]


def _spec(node: Node, prefix: str, keys: _Keys, defaults: Sequence[np.ndarray[Any, Any]]) -> dict[str, Feature]:
    """What an op parses; `prefix` stands before the names of its attributes. Ragged features are VarLen ones, too."""
    sparse = dict(zip(keys.sparse, node.dtypes(f"{prefix}sparse_types"), strict=True))
    ragged = dict(zip(keys.ragged, node.dtypes(f"{prefix}ragged_value_types"), strict=True))
    spec: dict[str, Feature] = {
        key: VarLenFeature(dtypes.from_numpy(dtype)) for key, dtype in (*sparse.items(), *ragged.items())
    }
    types = node.dtypes(f"T{prefix}dense")
    for key, dtype, shape, default in zip(
        keys.dense, types, node.shapes(f"{prefix}dense_shapes"), defaults, strict=True
    ):
        if key in spec or shape is None:
            raise node.refuse(f"it parses {key} in two ways, or in no shape")
        kind = dtypes.from_numpy(dtype)
        # An empty default makes a feature required; an open first size makes it a sequence, which its default pads.
        value = default.reshape(-1).tolist() if default.size else None
        if shape and shape[0] == -1:
            spec[key] = FixedLenSequenceFeature(shape[1:], kind, True, None if value is None else value[0])
            continue
        if value is not None:
            value = np.broadcast_to(default, shape).tolist() if default.size == 1 else default.reshape(shape).tolist()
        spec[key] = FixedLenFeature(shape, kind, value)
    if len(spec) != len(keys.sparse) + len(keys.dense) + len(keys.ragged):
        raise node.refuse("it parses a key twice")
    check_spec(spec)
    return spec


def _outputs(context: Lowering, node: Node, prefix: str, keys: _Keys, tensors: dict[str, Tensor]) -> list[Value]:
    """All indices, then all values, then all shapes; the dense ones; all ragged values, then their splits."""
    triples = [padded_feature(context, tensors[f"{key}/values"], tensors[f"{key}/lengths"]) for key in keys.sparse]
    ragged, splits = list[Value](), list[Value]()
    for key, dtype in zip(keys.ragged, node.dtypes(f"{prefix}ragged_split_types"), strict=True):
        flat = padded_feature(context, tensors[f"{key}/values"], tensors[f"{key}/lengths"])[1]
        assert isinstance(flat, Flat)
        ragged.append(flat)
        splits.append(splits_of(context, flat.cells, dtype))
    return [
        *(one for part in zip(*triples, strict=True) for one in part),
        *(tensors[key] for key in keys.dense),
        *ragged,
        *splits,
    ]


# ---- sequences ------------------------------------------------------------------------------------------------------


@lowers("ParseSequenceExample", "ParseSequenceExampleV2")
def _parse_sequence_example(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """The context's features, then those of the feature lists."""
    if node.op == "ParseSequenceExampleV2":
        parts = [_texts(context, node, [one]) for one in inputs[2:8]]
        flags = context.array(inputs[8], node, "flags").ravel()
        missing = {key for key, flag in zip(parts[4], flags, strict=True) if flag}
        rest = inputs[9:]
    else:
        names = ("context_sparse", "context_dense", "feature_list_sparse", "feature_list_dense")
        first, second, third, fourth = (node.texts(f"{name}_keys") for name in names)
        parts = [first, second, [], third, fourth, []]
        missing = set(node.texts("feature_list_dense_missing_assumed_empty"))
        rest = inputs[2:]
    keys, lists = _Keys(*parts[:3]), _Keys(*parts[3:])
    defaults = [context.array(one, node, "default") for one in rest]
    if lists.ragged:
        raise node.refuse("it parses ragged feature lists")
    spec = _spec(node, "context_", keys, defaults)
    list_spec: dict[str, Feature] = {
        key: VarLenFeature(dtypes.from_numpy(dtype))
        for key, dtype in zip(lists.sparse, node.dtypes("feature_list_sparse_types"), strict=True)
    }
    types, shapes = node.dtypes("feature_list_dense_types"), node.shapes("feature_list_dense_shapes")
    for key, dtype, shape in zip(lists.dense, types, shapes, strict=True):
        if shape is None:
            raise node.refuse(f"it parses {key} in no shape")
        list_spec[key] = FixedLenSequenceFeature(shape, dtypes.from_numpy(dtype), key in missing)
    if len(list_spec) != len(lists.sparse) + len(lists.dense):
        raise node.refuse("it parses a key twice")
    examples = context.examples(inputs[0], node, SequenceSpec(spec, list_spec))
    tensors = _tensors(context, "ParseSequenceExample", examples, spec, list_spec)
    triples = [_steps(context, tensors[f"lists/{key}/values"], tensors[f"lists/{key}/lengths"]) for key in lists.sparse]
    return [
        *_outputs(context, node, "context_", keys, tensors),
        *(one for part in zip(*triples, strict=True) for one in part),
        *(tensors[f"lists/{key}"] for key in lists.dense),
        *(tensors[f"lists/{key}/lengths"] for key in lists.dense),
    ]


def _steps(context: Lowering, values: Tensor, lengths: Tensor) -> list[Value]:
    """Values [rows, steps, width] and lengths [rows, steps] as TensorFlow's indices, values and dense shape."""
    one, places = context.builder.one, context.range_of(values.shape[2])

    def mask() -> str:
        return one("Less", places.name, one("Unsqueeze", lengths.name, context.int64(2)))

    kept = context.tensor(BOOL, values.shape, mask)
    indices = context.tensor(INT64, [None, 3], lambda: one("Transpose", one("NonZero", kept.name), perm=[1, 0]), low=0)
    flat = context.tensor(values.dtype, [indices.shape[0]], lambda: one("GatherND", values.name, indices.name))
    return [indices, flat, context.sizes(values.shape, INT64)]


def _tensors(
    context: Lowering, op_type: str, examples: tuple[str, str], spec: FeatureSpec, lists: FeatureSpec
) -> dict[str, Tensor]:
    """What our op gives, by the names of wire.features' tables; `lists/` stands before those of feature lists."""
    placed = [
        *((name, spec[name], False) for name in sorted(spec)),
        *((name, lists[name], True) for name in sorted(lists)),
    ]
    described = [
        (f"lists/{tensor.name}" if in_lists else tensor.name, tensor)
        for name, feature, in_lists in placed
        for tensor in (list_tensors_of if in_lists else tensors_of)(name, feature)
    ]
    attributes = attributes_of(placed)

    def emit(index: int) -> str:
        made = context.builder.node(
            op_type, list(examples), outputs=len(described), domain=DOMAIN, attributes=attributes
        )
        return made[index]

    rows = Symbol(lambda: context.builder.one("Sub", context.builder.one("Shape", examples[1]), context.int64(1)))
    made = {}
    for place, (name, tensor) in enumerate(described):
        shape = [rows if axis == 0 else dim if isinstance(dim, int) else None for axis, dim in enumerate(tensor.shape)]
        made[name] = context.tensor(tensor.dtype.numpy, shape, lambda place=place: emit(place))  # type: ignore[misc]
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
