"""Boosted trees as one ONNX graph: what is common to LightGBM, XGBoost, CatBoost and scikit-learn's histograms.

Owns the form in which a library's trees are handed over, the ensemble node, and the functions from margins to answers.
Knows no library. Rows, thresholds and sums are float64: every number of a client is then on the side of a threshold on
which the library has it, and a sum of many trees loses nothing.
Source: ONNX ai.onnx.ml 3, TreeEnsembleRegressor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import spox
import spox.opset.ai.onnx.ml.v3 as ml
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.exporter.sources.base import (
    CLASS_IDS,
    MATRIX,
    PREDICTIONS,
    PROBABILITIES,
    as_floats,
)
from estimator_serving.training.arrays import Array

LEQ, LT, EQ = "BRANCH_LEQ", "BRANCH_LT", "BRANCH_EQ"
NEAR_ZERO = float(np.float32(1e-35))
_LEAF = "LEAF"
_WIDER = 4 * float(np.finfo(np.float32).eps)


class Branch(NamedTuple):
    """A node that sends rows two ways.

    Attributes:
        feature: the column of the matrix that it looks at.
        mode: LEQ or LT a threshold, or EQ to one of several values.
        values: the threshold, or the values.
        missing: whether NaN takes the true way.
        true, false: the nodes below, as the library calls them.
    """

    feature: int
    mode: str
    values: Sequence[float]
    missing: bool
    true: Any
    false: Any


Leaf = Mapping[int, float]
"""What a leaf adds to each target."""


class Tree(NamedTuple):
    """A tree: its root, as the library calls it, and what reads a node."""

    root: Any
    read: Callable[[Any], Branch | Leaf]


@dataclass(frozen=True)
class Boosted:
    """A trained model: trees whose sum is one margin for each target, and the function from margins to answers.

    Attributes:
        width: the columns of the matrix.
        trees: all that predict takes.
        base: added to the margins, one number for each target.
        link: a key of LINKS.
        is_classifier: whether the answers are probabilities.
        weights: [width, targets] of a linear model instead of trees.
        keeps_float64: whether the library compares numbers in float64; else it rounds them to float32 first.
        missing: the number that stands for a missing one, beside NaN.
        divisor: what the margins are divided by, as a forest's are by the number of its trees.
        zero_is_missing: the columns in which 0, and what is no farther from it than NEAR_ZERO, is missing as NaN is.
    """

    width: int
    trees: Sequence[Tree]
    base: Sequence[float]
    link: str
    is_classifier: bool
    weights: Array | None = None
    keeps_float64: bool = True
    missing: float = np.nan
    divisor: int = 1
    zero_is_missing: Sequence[int] = ()


def _sign_and_square(margins: Var) -> Var:
    return op.mul(margins, op.abs(margins))


def _step(margins: Var) -> Var:
    return op.cast(op.greater(margins, op.const(np.float32(0))), to=np.float32)


LINKS: Mapping[str, Callable[[Var], Var]] = {
    "identity": op.identity,
    "exp": op.exp,
    "sigmoid": op.sigmoid,
    "softmax": lambda margins: op.softmax(margins, axis=1),
    "log1p_exp": op.softplus,
    "signed_square": _sign_and_square,
    "step": _step,
}
"""From margins float32 [batch, targets] to answers of the same shape."""


def answers_of(boosted: Boosted, rows: Var) -> Var:
    """The answers float32 [batch, n] for rows float32 or float64 [batch, width]: of a classifier of one target the
    probabilities of both classes."""
    if not boosted.keeps_float64:
        rows = op.cast(rows, to=np.float32)
    rows = op.cast(rows, to=np.float64)
    if not np.isnan(boosted.missing):
        rows = op.where(op.equal(rows, op.const(np.float64(np.float32(boosted.missing)))), op.const(np.nan), rows)
    if boosted.zero_is_missing:
        read_so = np.isin(np.arange(boosted.width), boosted.zero_is_missing)[None]
        is_zero = op.less_or_equal(op.abs(rows), op.const(np.float64(NEAR_ZERO)))
        rows = op.where(op.and_(is_zero, op.const(read_so)), op.const(np.nan), rows)
    if boosted.weights is None:
        margins = _ensemble(boosted, rows)
    else:
        rows = op.where(op.isnan(rows), op.const(np.float64(0)), rows)
        product = op.matmul(rows, op.const(boosted.weights.astype(np.float64)))
        margins = op.cast(op.add(product, op.const(np.array(boosted.base, np.float64))), to=np.float32)
    if boosted.divisor != 1:
        margins = op.div(margins, op.const(np.float32(boosted.divisor)))
    answers = LINKS[boosted.link](margins)
    if boosted.is_classifier and len(boosted.base) == 1:
        return op.concat([op.sub(op.const(np.float32(1)), answers), answers], axis=1)
    return answers


def graph_of(boosted: Boosted) -> onnx.ModelProto:
    """The model as a graph from MATRIX to `probabilities` and `class_ids`, or `predictions`."""
    element = np.float64 if boosted.keeps_float64 else np.float32
    rows = spox.argument(spox.Tensor(element, ("batch", boosted.width)))
    answers = answers_of(boosted, rows)
    if not boosted.is_classifier:
        return spox.build({MATRIX: rows}, {PREDICTIONS: answers})
    best = op.arg_max(answers, axis=1, keepdims=True)
    return spox.build({MATRIX: rows}, {PROBABILITIES: answers, CLASS_IDS: best})


def widened(boosted: Boosted) -> Boosted:
    """The model with thresholds that are a few rounding errors of float32 wider, for rows that were computed.

    Thresholds may be numbers of the training data. A client rounds such a number to float32, a step in front of the
    trees computes with it, and the result lies a rounding error beside the threshold, perhaps on its other side.
    """

    def wider(read: Callable[[Any], Branch | Leaf]) -> Callable[[Any], Branch | Leaf]:
        def widen(name: Any) -> Branch | Leaf:
            node = read(name)
            if not isinstance(node, Branch) or node.mode == EQ:
                return node
            (threshold,) = node.values
            margin = _WIDER * max(1.0, abs(threshold)) * (1 if node.mode == LEQ else -1)
            return node._replace(values=[threshold + margin])

        return widen

    trees = [Tree(tree.root, wider(tree.read)) for tree in boosted.trees]
    return replace(boosted, trees=trees)


def answered(values: Any, is_classifier: bool) -> dict[str, Array]:
    """What a library predicted, by the names of the graph's outputs."""
    if not is_classifier:
        return {PREDICTIONS: as_floats(values)}
    probabilities = both_classes(values)
    return {PROBABILITIES: probabilities, CLASS_IDS: probabilities.argmax(axis=1)[:, None]}


def both_classes(values: Any) -> Array:
    """Probabilities float32 [batch, n] of all classes; a vector is that of the second of two."""
    array = np.asarray(values, np.float32)
    return np.stack([1 - array, array], axis=1) if array.ndim == 1 else array


def _ensemble(boosted: Boosted, rows: Var) -> Var:
    nodes, leaves = _rows_of_nodes(boosted.trees)
    attributes: dict[str, Any] = {
        f"nodes_{name}": [node[index] for node in nodes] for index, name in enumerate(_NODE_FIELDS)
    }
    values = np.array(attributes.pop("nodes_values"), np.float64)
    return ml.tree_ensemble_regressor(
        rows,
        n_targets=len(boosted.base),
        base_values_as_tensor=np.array(boosted.base, np.float64),
        nodes_values_as_tensor=values,
        target_treeids=[leaf[0] for leaf in leaves],
        target_nodeids=[leaf[1] for leaf in leaves],
        target_ids=[leaf[2] for leaf in leaves],
        target_weights_as_tensor=np.array([leaf[3] for leaf in leaves], np.float64),
        **attributes,
    )


_NODE_FIELDS = (
    "treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true",
)  # fmt: skip


def thresholds_of(boosted: Boosted) -> list[tuple[int, float]]:
    """The column and the number of each comparison with a threshold."""
    nodes, _ = _rows_of_nodes(boosted.trees)
    return [(node[2], node[4]) for node in nodes if node[3] in (LEQ, LT)]


def _rows_of_nodes(trees: Iterable[Tree]) -> tuple[list[tuple[Any, ...]], list[tuple[int, int, int, float]]]:
    """The nodes as _NODE_FIELDS, and the leaves as (tree, node, target, weight)."""
    nodes: list[tuple[Any, ...]] = []
    leaves: list[tuple[int, int, int, float]] = []
    for tree_id, tree in enumerate(trees):
        waiting, count = [(0, tree.root)], 1
        while waiting:
            node_id, name = waiting.pop()
            node = tree.read(name)
            if not isinstance(node, Branch):
                nodes.append((tree_id, node_id, 0, _LEAF, 0.0, 0, 0, 0))
                # A leaf without a target is no leaf to ONNX Runtime.
                leaves += [(tree_id, node_id, target, weight) for target, weight in (node or {0: 0.0}).items()]
                continue
            true, count = count, count + 1
            # Several values are a chain of comparisons with one true way.
            for index, value in enumerate(node.values):
                false, count = count, count + 1
                nodes.append(
                    (tree_id, node_id, node.feature, node.mode, value, true, false, int(node.missing and not index))
                )
                node_id = false
            waiting += [(true, node.true), (false, node.false)]
    return nodes, leaves
