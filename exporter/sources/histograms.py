"""scikit-learn's histogram gradient boosting -> boosted trees.

Owns its nodes, its order of columns, and the rounding of its thresholds. These are often numbers of the training data
themselves, which clients send as float32: a threshold is rounded as such a number is, and the number stays on its side.
Source: scikit-learn 1.9, sklearn.ensemble._hist_gradient_boosting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.boosted import EQ, LEQ, Boosted, Branch, Leaf, Tree
from estimator_serving.training.canned.tree_ensemble import float32_below

_LINKS = {"IdentityLink": "identity", "LogLink": "exp", "LogitLink": "sigmoid", "MultinomialLogit": "softmax"}


def histogram_trees(model: Any, rounds: bool) -> Boosted:
    """The trees that predict takes, over the columns in `column_order`.

    `rounds` says whether clients' numbers were rounded to float32. Raises ValueError for a loss that has no known link.
    """
    link = type(model._loss.link).__name__
    if link not in _LINKS:
        raise ValueError(
            f"The loss {model.loss!r} of a histogram gradient boosting has no ONNX form; train with another."
        )
    return Boosted(
        width=int(model.n_features_in_),
        trees=[
            Tree(0, _reader(tree, target, rounds))
            for trees in model._predictors
            for target, tree in enumerate(trees)
        ],
        base=np.ravel(model._baseline_prediction).astype(float).tolist(),
        link=_LINKS[link],
        is_classifier=hasattr(model, "classes_"),
    )  # fmt: skip


def column_order(model: Any) -> list[int]:
    """The columns in the order in which the trees count them: those of categories first."""
    is_category = model.is_categorical_
    if is_category is None:
        return list(range(model.n_features_in_))
    return [*np.flatnonzero(is_category).tolist(), *np.flatnonzero(~is_category).tolist()]


def categories_of(model: Any) -> Sequence[Any]:
    """The categories of the first columns of that order; the trees compare with their places."""
    return () if model.is_categorical_ is None else model._preprocessor.named_transformers_["encoder"].categories_


def float32_of_training(threshold: float) -> float:
    """The float32 that clients send for a number of the training data.

    A number halfway between two float32 is no such number, but the middle of two that are: it goes down, and each of
    the two stays on its side.
    """
    below = float32_below(threshold) if np.isfinite(threshold) else threshold
    above = float(np.nextafter(np.float32(below), np.float32(np.inf))) if np.isfinite(threshold) else threshold
    return below if threshold - below <= above - threshold else above


def _reader(tree: Any, target: int, rounds: bool) -> Any:
    nodes, bits = tree.nodes, tree.raw_left_cat_bitsets

    def read(index: int) -> Branch | Leaf:
        node = nodes[index]
        if node["is_leaf"]:
            return {target: float(node["value"])}
        feature, missing_left = int(node["feature_idx"]), bool(node["missing_go_to_left"])
        below = (int(node["left"]), int(node["right"]))
        if node["is_categorical"]:
            words = bits[node["bitset_idx"]]
            members = [float(code) for code in range(256) if words[code // 32] >> (code % 32) & 1]
            return Branch(feature, EQ, members or [-1.0], missing_left, *below)
        threshold = float(node["num_threshold"])
        return Branch(feature, LEQ, [float32_of_training(threshold) if rounds else threshold], missing_left, *below)

    return read
