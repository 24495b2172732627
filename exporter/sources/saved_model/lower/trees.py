"""Boosted trees of TensorFlow 1.x: an ensemble becomes ONNX's TreeEnsembleRegressor over the buckets of all features.

Owns the reading of the ensemble and of the quantiles that numbers are put into buckets by. Nothing in the file is
trusted: a node that does not exist, or that two others lead to, is refused.
Source: TensorFlow's boosted_trees.proto and its prediction_ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from estimator_serving.exporter.sources.builder import ML_DOMAIN
from estimator_serving.exporter.sources.saved_model.errors import SavedModelError
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import apply, cast
from estimator_serving.exporter.sources.saved_model.lowering import FLOAT, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Handle, Value
from estimator_serving.wire.pb import boosted_trees_pb

_INT32 = np.dtype(np.int32)
# Buckets go through float32, which holds every integer up to here.
_BUCKET_MAX = 1 << 24


@lowers("BoostedTreesEnsembleResourceHandleOp", "BoostedTreesQuantileStreamResourceHandleOp")
def _handle(_: Lowering, node: Node, __: list[Value]) -> Lowered:
    return Handle(node.name)


def _parts(context: Lowering, node: Node, handle: Value) -> list[np.ndarray[Any, Any]]:
    if not isinstance(handle, Handle):
        raise node.refuse("it reads what is no resource of boosted trees")
    return context.resources.parts(handle.node)


@lowers("BoostedTreesQuantileStreamResourceGetBucketBoundaries")
def _boundaries(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    return [context.constant(one.ravel()) for one in _parts(context, node, inputs[0])]


@lowers("BoostedTreesBucketize")
def _bucketize(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """How many boundaries are below a number, the last one left out."""
    count = node.integer("num_features")
    made: list[Value] = []
    for value, bounds in zip(inputs[:count], inputs[count:], strict=True):
        numbers = context.dense(value, node)
        limits = context.array(bounds, node, "boundaries").ravel()[:-1].astype(np.float32)
        if numbers.rank != 1:
            raise node.refuse("its numbers are no vector")
        made.append(apply(context, [numbers], _INT32, lambda x, limits=limits: _below(context, x, limits)))
    return made


def _below(context: Lowering, numbers: str, limits: np.ndarray[Any, Any]) -> str:
    one = context.builder.one
    column = one("Unsqueeze", numbers, context.int64(1))
    is_above = one("Less", context.builder.constant(limits), column)
    return one("ReduceSum", one("Cast", is_above, to=6), context.int64(1), keepdims=0)


@lowers("BoostedTreesPredict")
def _predict(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    content = _parts(context, node, inputs[0])[-1].ravel()
    ensemble = boosted_trees_pb.TreeEnsemble()
    try:
        ensemble.ParseFromString(bytes(content[0]))
    except (DecodeError, IndexError, TypeError) as error:
        raise SavedModelError(f"The trees of {node.name} cannot be read ({error}); copy variables/ again.") from None
    features = [context.dense(one, node) for one in inputs[1:]]
    widths = [one.shape[1] if one.rank == 2 else 1 for one in features]
    if any(one.rank not in (1, 2) for one in features) or not all(isinstance(width, int) for width in widths):
        raise node.refuse("its features are no vectors or matrices of known width")
    columns = np.cumsum([0, *widths])
    outputs, rows = node.integer("logits_dimension"), features[0].shape[0]
    if not ensemble.trees:
        zero = context.constant(np.zeros((1, 1), np.float32))
        return context.tensor(FLOAT, [rows, outputs], lambda: context.spread(zero, (rows, outputs)))
    attributes = _attributes(node, ensemble, [int(one) for one in columns], outputs)

    def emit() -> str:
        one = context.builder.one
        numbers = [(cast(context, feature.name, feature.dtype, FLOAT), feature.rank) for feature in features]
        matrices = [name if rank == 2 else one("Unsqueeze", name, context.int64(1)) for name, rank in numbers]
        joined = one("Concat", *matrices, axis=1)
        return context.builder.node("TreeEnsembleRegressor", [joined], domain=ML_DOMAIN, **attributes)[0]

    return context.tensor(FLOAT, [rows, outputs], emit)


def _attributes(node: Node, ensemble: Any, columns: Sequence[int], outputs: int) -> dict[str, Any]:
    """ONNX's form of an ensemble: parallel lists of all nodes, and of the outputs of leaves."""
    weights = np.array(ensemble.tree_weights, np.float32)
    if len(weights) != len(ensemble.trees):
        raise SavedModelError(f"{node.name} has {len(ensemble.trees)} trees and {len(weights)} weights.")
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    nodes: dict[str, list[Any]] = {f"nodes_{name}": [] for name in names}
    targets: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for number, (tree, weight) in enumerate(zip(ensemble.trees, weights, strict=True)):
        _check_shape(node, tree)
        for place, one in enumerate(tree.nodes):
            kind = one.WhichOneof("node")
            row: tuple[Any, ...] = (number, place, 0, 0.0, "LEAF", 0, 0)
            if kind == "leaf":
                values = one.leaf.vector.value if one.leaf.HasField("vector") else [one.leaf.scalar]
                if len(values) != outputs:
                    raise node.refuse(f"a leaf has {len(values)} values for {outputs} logits")
                for output, value in enumerate(np.array(values, np.float32)):
                    for name, entry in zip(targets, (number, place, output, float(value * weight)), strict=True):
                        targets[name].append(entry)
            else:
                split = getattr(one, kind)
                bucket = split.threshold if kind == "bucketized_split" else split.value
                column = _column(node, split, columns)
                mode = "BRANCH_LEQ" if kind == "bucketized_split" else "BRANCH_EQ"
                if abs(bucket) > _BUCKET_MAX:
                    raise node.refuse(f"its trees split at bucket {bucket}")
                row = (number, place, column, float(bucket), mode, split.left_id, split.right_id)
            for name, entry in zip(nodes, row, strict=True):
                nodes[name].append(entry)
    return {**nodes, **targets, "n_targets": outputs, "post_transform": "NONE", "aggregate_function": "SUM"}


def _check_shape(node: Node, tree: Any) -> None:
    """Raises SavedModelError where the nodes are no tree from the first one on."""
    reached, waiting = set[int](), [0]
    while waiting:
        place = waiting.pop()
        if not 0 <= place < len(tree.nodes) or place in reached:
            raise SavedModelError(f"The trees of {node.name} are damaged; copy variables/ again.")
        reached.add(place)
        kind = tree.nodes[place].WhichOneof("node")
        if kind is None:
            raise node.refuse("its trees have splits of a kind that is not converted")
        if kind != "leaf":
            split = getattr(tree.nodes[place], kind)
            waiting += [split.left_id, split.right_id]
    if len(reached) != len(tree.nodes):
        raise SavedModelError(f"The trees of {node.name} are damaged; copy variables/ again.")


def _column(node: Node, split: Any, columns: Sequence[int]) -> int:
    feature, dimension = split.feature_id, split.dimension_id
    if not (0 <= feature < len(columns) - 1 and 0 <= dimension < columns[feature + 1] - columns[feature]):
        raise SavedModelError(f"The trees of {node.name} split by a feature that they do not get; export again.")
    return int(columns[feature] + dimension)
