"""scikit-learn's decision trees and forests -> boosted trees whose sum is divided by their number.

Owns what `tree_` says. These trees round their rows to float32, and know where NaN goes.
Source: scikit-learn 1.9, sklearn.tree._tree.
"""

from __future__ import annotations

from typing import Any

from estimator_serving.exporter.sources.boosted import LEQ, Boosted, Branch, Leaf, Tree


def forest_trees(model: Any) -> Boosted:
    """The trees of a DecisionTree, ExtraTree, RandomForest or ExtraTrees model."""
    trees = [one.tree_ for one in getattr(model, "estimators_", [model])]
    is_classifier = hasattr(model, "classes_")
    return Boosted(
        width=int(model.n_features_in_),
        trees=[Tree(0, _reader(tree, is_classifier)) for tree in trees],
        base=[0.0] * (len(model.classes_) if is_classifier else int(model.n_outputs_)),
        link="identity",
        is_classifier=is_classifier,
        keeps_float64=False,
        divisor=len(trees),
    )


def _reader(tree: Any, is_classifier: bool) -> Any:
    # Arrays that are made anew at each look.
    left, right, features, thresholds = tree.children_left, tree.children_right, tree.feature, tree.threshold
    values, missing_left = tree.value, tree.missing_go_to_left

    def read(node: int) -> Branch | Leaf:
        if left[node] == -1:
            weights = values[node, 0] if is_classifier else values[node, :, 0]
            return {target: float(weight) for target, weight in enumerate(weights) if weight}
        threshold, missing = float(thresholds[node]), bool(missing_left[node])
        return Branch(int(features[node]), LEQ, [threshold], missing, int(left[node]), int(right[node]))

    return read
