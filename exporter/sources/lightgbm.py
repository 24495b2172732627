"""LightGBM models -> boosted trees.

Owns what LightGBM's dump says, and which of its columns are pandas categories.
Source: LightGBM 4.6: dump_model, and the objectives' ConvertOutput.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.base import CLASSIFY, REGRESS, ModelInput
from estimator_serving.exporter.sources.boosted import (
    EQ,
    LEQ,
    NEAR_ZERO,
    Boosted,
    Branch,
    Leaf,
    Tree,
    answered,
    thresholds_of,
)
from estimator_serving.exporter.sources.columns import BoostedSource, Columns, are_made_up
from estimator_serving.training.arrays import Array
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

# What an objective does with the margins.
_LINKS = {
    "binary": "sigmoid", "cross_entropy": "sigmoid", "multiclass": "softmax", "multiclassova": "sigmoid",
    "poisson": "exp", "gamma": "exp", "tweedie": "exp", "cross_entropy_lambda": "log1p_exp",
    "regression": "identity", "regression_l1": "identity", "huber": "identity", "fair": "identity",
    "quantile": "identity", "mape": "identity", "lambdarank": "identity", "rank_xendcg": "identity",
}  # fmt: skip
_CLASSIFIERS = ("binary", "multiclass", "multiclassova")


class LightGbmSource(BoostedSource):
    """An LGBMModel or a lightgbm.Booster. Raises ValueError for linear trees and objectives of the user's own."""

    packages = ("lightgbm",)

    def __init__(self, model: Any) -> None:
        self._booster = model if hasattr(model, "dump_model") else model.booster_
        self._boosted = lightgbm_trees(model)
        self._near_thresholds: dict[int, list[float]] = {feature: [] for feature in self._boosted.zero_is_missing}
        for feature, threshold in thresholds_of(self._boosted) if self._near_thresholds else ():
            if feature in self._near_thresholds and abs(threshold) < 1e30:
                self._near_thresholds[feature] += [threshold - 1.0, threshold + 1.0]
        self.method = CLASSIFY if self._boosted.is_classifier else REGRESS
        classes = getattr(model, "classes_", None)
        self.labels = None if classes is None or not self._boosted.is_classifier else [str(one) for one in classes]
        self._columns = _columns(self._booster)
        self._features: dict[str, DType] = {}

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        inputs = super().inputs(features)
        self._features = {key: features[key] for one in inputs for key in one.keys}
        return inputs

    def known_values(self) -> dict[str, Sequence[Any]]:
        """The categories by column; where 0 is missing, 0 and numbers on both sides of thresholds."""
        known: dict[str, Sequence[Any]] = {}
        for place, (key, dtype) in enumerate(self._features.items()):
            # A feature may be several columns; which ones, only the receiver knows.
            is_column = len(self._features) == self._boosted.width
            columns = [one for one in self._boosted.zero_is_missing if one == place or not is_column]
            numbers = [number for one in columns for number in self._near_thresholds[one]]
            if dtype.numpy.kind in "iu":
                bounds = np.iinfo(dtype.numpy)
                numbers = [min(max(int(one), int(bounds.min)), int(bounds.max)) for one in numbers]
            if columns:
                known[key] = [0] * max(1, len(numbers) // 2) + numbers
        return {**known, **super().known_values()}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = self._columns.table(inputs)
        return answered(self._booster.predict(rows, validate_features=False), self._boosted.is_classifier)


def lightgbm_trees(model: Any) -> Boosted:
    """The trees that predict takes. Raises ValueError for what they cannot say."""
    booster = model if hasattr(model, "dump_model") else model.booster_
    dumped = booster.dump_model()
    objective, *options = str(dumped.get("objective", "none")).split()
    if callable(getattr(model, "objective", None)) or objective not in _LINKS:
        raise ValueError(
            f"The LightGBM model has the objective {objective!r}, and export_model does not know what "
            f"it does with the sum of the trees; train with one of {', '.join(_LINKS)}."
        )
    trees = dumped["tree_info"]
    nodes = [node for tree in trees for node in _nodes(tree["tree_structure"])]
    if any("leaf_const" in node for node in nodes):
        raise ValueError(
            "The LightGBM model has a linear model in each leaf (linear_tree=True), which an ensemble of ONNX does not "
            "have; train it without."
        )
    named = dict(one.split(":", 1) for one in options if ":" in one)
    slope = float(named.get("sigmoid", 1.0)) if objective in _CLASSIFIERS else 1.0
    targets = int(dumped["num_tree_per_iteration"])
    # The random forest's mode gives the mean of its rounds.
    scale = slope / (len(trees) // targets if dumped["average_output"] else 1)
    return Boosted(
        width=int(dumped["max_feature_idx"]) + 1,
        trees=[
            Tree(tree["tree_structure"], _reader(index % targets, scale)) for index, tree in enumerate(trees)
        ],
        base=[0.0] * targets,
        link="signed_square" if "sqrt" in options else _LINKS[objective],
        is_classifier=objective in _CLASSIFIERS,
        zero_is_missing=_columns_of_missing_zeros(nodes),
    )  # fmt: skip


def _reader(target: int, scale: float) -> Any:
    def read(node: Mapping[str, Any]) -> Branch | Leaf:
        if "split_feature" not in node:
            return {target: float(node["leaf_value"]) * scale}
        feature, below = int(node["split_feature"]), (node["left_child"], node["right_child"])
        missing = str(node["missing_type"])
        if node["decision_type"] == "<=":
            threshold = float(node["threshold"])
            # A model that saw no NaN in a column takes it for 0 there, as LightGBM does. Where 0 is missing, so is NaN.
            missing_left = threshold >= 0 if missing == "None" else bool(node["default_left"])
            # LightGBM takes a number so near to 0 for 0, which is right of this threshold.
            beside = float(np.nextafter(threshold, -np.inf)) if threshold == -NEAR_ZERO else threshold
            return Branch(feature, LEQ, [beside], missing_left, *below)
        values = [float(one) for one in str(node["threshold"]).split("||")]
        return Branch(feature, EQ, values, False, *below)

    return read


def _nodes(root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A node and all below it."""
    waiting, nodes = [root], []
    while waiting:
        one = waiting.pop()
        waiting += [one[side] for side in ("left_child", "right_child") if side in one]
        nodes.append(one)
    return nodes


def _columns_of_missing_zeros(nodes: Iterable[Mapping[str, Any]]) -> list[int]:
    """The columns trained with zero_as_missing.

    Raises ValueError where only some trees were, as when a model goes on from another with other parameters.
    """
    kinds: dict[int, set[bool]] = {}
    for node in nodes:
        # Categories have no missing 0.
        if node.get("decision_type") == "<=":
            kinds.setdefault(int(node["split_feature"]), set()).add(node["missing_type"] == "Zero")
    if mixed := sorted(feature for feature, found in kinds.items() if len(found) > 1):
        raise ValueError(
            f"In some trees of the LightGBM model 0 is missing in column {mixed[0]}, and in others it is a number; "
            "train all of them with the same zero_as_missing."
        )
    return sorted(feature for feature, found in kinds.items() if found == {True})


def _columns(booster: Any) -> Columns:
    names = booster.feature_name()
    known = None if are_made_up(names, "Column_") else names
    words = booster.pandas_categorical
    if not words:
        return Columns("The LightGBM model", known, dtypes.float64)
    found = re.search(r"^\[categorical_feature: ([\d,]*)\]", booster.model_to_string(), re.MULTILINE)
    places = [int(one) for one in found.group(1).split(",") if one] if found else []
    if len(words) != len(places):
        raise ValueError(
            f"The LightGBM model has {len(words)} columns of pandas categories among {len(places)} categorical ones, "
            "and does not say which; train all of them as pandas categories."
        )
    return Columns("The LightGBM model", known, dtypes.float64, dict(zip(places, words, strict=True)))
