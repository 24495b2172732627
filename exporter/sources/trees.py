"""XGBoost and LightGBM models -> ONNX, and thresholds that send every float32 row where float64 sends it.

Owns the rounding of thresholds: a converter writes the nearest float32, and a threshold that was rounded up takes rows
of exactly that value to the other side. Rounded down, x <= t holds for the same float32 x.
Source: ONNX ai.onnx.ml TreeEnsembleRegressor and -Classifier.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from estimator_serving.exporter.sources.base import (
    CLASS_IDS,
    CLASSIFY,
    MATRIX,
    PREDICTIONS,
    PROBABILITIES,
    REGRESS,
    ModelInput,
    as_floats,
    both_classes,
    converting,
    matrix_input,
    reason_of,
    rename_outputs,
)
from estimator_serving.training.arrays import Array
from estimator_serving.training.canned.tree_ensemble import float32_below
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

# The newest opset that onnxmltools writes.
_OPSET = 15


@dataclass(frozen=True)
class Split:
    """A node of a trained tree.

    Attributes:
        threshold: rows with x <= threshold go left; None for a split by categories.
        categories: how many categories go left, 0 for a split by threshold.
        missing_left: whether NaN goes left.
        left, right: the nodes below, None for a leaf.
    """

    threshold: float | None
    categories: int
    missing_left: bool
    left: Split | None
    right: Split | None


def write_splits(model: onnx.ModelProto, trees: Sequence[Split | None]) -> None:
    """Writes the thresholds of trained trees, and where NaN goes, into the ensemble of a graph that has as many trees.

    Raises ValueError where no ensemble of the graph has this form.
    """
    for node in model.graph.node:
        if not node.op_type.startswith("TreeEnsemble"):
            continue
        ensemble = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if len(set(ensemble["nodes_treeids"])) != len(trees):
            continue
        values, tracks = _thresholds(ensemble, trees)
        for name, written in (("nodes_values", values), ("nodes_missing_value_tracks_true", tracks)):
            kept = [one for one in node.attribute if one.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, written)])
        return
    raise ValueError(
        f"The converter gave no ensemble of {len(trees)} trees, so their thresholds cannot be checked; "
        "another release of the converter may write it."
    )


def _thresholds(ensemble: Mapping[str, Any], trees: Sequence[Split | None]) -> tuple[list[float], list[int]]:
    """The thresholds of an ensemble's nodes, and whether NaN takes the true branch of each."""
    values = list(ensemble["nodes_values"])
    tracks = list(ensemble.get("nodes_missing_value_tracks_true") or [0] * len(values))
    places = {
        key: index for index, key in enumerate(zip(ensemble["nodes_treeids"], ensemble["nodes_nodeids"], strict=True))
    }
    for tree_id, tree in zip(sorted(set(ensemble["nodes_treeids"])), trees, strict=True):
        waiting = [(0, tree)]
        while waiting:
            node_id, split = waiting.pop()
            if split is None:
                continue
            place = places[tree_id, node_id]
            if split.threshold is not None:
                values[place] = float32_below(split.threshold)
                tracks[place] = int(split.missing_left)
            # A split by categories is a chain of comparisons, the last of which leads to the right.
            for _ in range(max(1, split.categories)):
                place = places[tree_id, node_id]
                waiting.append((ensemble["nodes_truenodeids"][place], split.left))
                node_id = ensemble["nodes_falsenodeids"][place]
            waiting.append((node_id, split.right))
    return values, tracks


def histogram_split(nodes: Any, index: int) -> Split | None:
    """A node, with those below it, of a tree of scikit-learn's histogram gradient boosting.

    Raises ValueError for a split by categories.
    """
    node = nodes[index]
    if node["is_leaf"]:
        return None
    if node["is_categorical"]:
        raise ValueError("A histogram gradient boosting with categorical features has no ONNX form; encode them first.")
    left, right = (histogram_split(nodes, int(node[side])) for side in ("left", "right"))
    return Split(float(node["num_threshold"]), 0, bool(node["missing_go_to_left"]), left, right)


class LightGbmSource:
    """An LGBMModel or a lightgbm.Booster."""

    packages = ("lightgbm", "onnxmltools")

    def __init__(self, model: Any) -> None:
        self._model = model
        self._booster = getattr(model, "booster_", model)
        objective = str(self._booster.dump_model(num_iteration=1)["objective"])
        self._is_classifier = objective.startswith(("binary", "multiclass"))
        self.method = CLASSIFY if self._is_classifier else REGRESS
        classes = getattr(model, "classes_", None)
        self.labels = None if classes is None else [str(one) for one in classes]

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        names = self._booster.feature_name()
        known = None if _are_made_up(names, "Column_") else names
        return [matrix_input(features, known, dtypes.float32, "The LightGBM model")]

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        from onnxmltools.convert import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        width = sample[MATRIX].shape[1]
        types = [(MATRIX, FloatTensorType([None, width]))]
        options = {"zipmap": False} if self._is_classifier else {}
        with converting(_refusal):
            model = convert_lightgbm(self._booster, initial_types=types, target_opset=_OPSET, **options)
        dumped = self._booster.dump_model()["tree_info"]
        write_splits(model, [_lightgbm_split(tree["tree_structure"]) for tree in dumped])
        return _named(model, self._is_classifier)

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        values = self._booster.predict(inputs[MATRIX].astype(np.float64))
        return _answer(values, self._is_classifier)


class XgBoostSource:
    """An XGBModel or an xgboost.Booster. XGBoost's own thresholds are float32 already."""

    packages = ("xgboost", "onnxmltools")

    def __init__(self, model: Any) -> None:
        self._model = model
        # The rounds that predict takes: a wrapper's end with its best one, a Booster's are all. The converter would end
        # a Booster's with the best one, too, by an attribute that a slice does not have.
        is_wrapper = hasattr(model, "get_booster")
        booster = model.get_booster() if is_wrapper else model
        if booster.attr("best_iteration") is not None:
            booster = booster[: model.best_iteration + 1 if is_wrapper else booster.num_boosted_rounds()]
        self._booster = booster
        missing = getattr(model, "missing", None)
        if missing is not None and not np.isnan(missing):
            raise ValueError(
                f"The XGBoost model takes {missing} for a missing value, and a graph knows only NaN. Train it with "
                "missing=np.nan on data in which NaN stands for what is missing, and let clients send NaN."
            )
        objective = str(json.loads(self._booster.save_config())["learner"]["objective"]["name"])
        self._is_classifier = objective.startswith(("binary:logistic", "multi:"))
        self.method = CLASSIFY if self._is_classifier else REGRESS
        classes = getattr(model, "classes_", None) if self._is_classifier else None
        self.labels = None if classes is None else [str(one) for one in classes]

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        names = self._booster.feature_names
        known = None if names is None or _are_made_up(names, "f") else names
        return [matrix_input(features, known, dtypes.float32, "The XGBoost model")]

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        from onnxmltools.convert import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        width = sample[MATRIX].shape[1]
        unnamed, booster = copy.deepcopy(self._model), copy.deepcopy(self._booster)
        # The converter reads the column's number out of its name.
        booster.feature_names = None
        if hasattr(unnamed, "get_booster"):
            unnamed._Booster = booster
        else:
            unnamed = booster
        types = [(MATRIX, FloatTensorType([None, width]))]
        with converting(_refusal):
            model = convert_xgboost(unnamed, initial_types=types, target_opset=_OPSET)
        return _named(model, self._is_classifier)

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return _answer(self._booster.inplace_predict(inputs[MATRIX], validate_features=False), self._is_classifier)


def _refusal(error: Exception) -> str:
    return (
        f"onnxmltools cannot convert the model ({reason_of(error)}). Fit it first, and use a booster of trees "
        "and an objective that onnxmltools knows."
    )


def _answer(values: Any, is_classifier: bool) -> dict[str, Array]:
    if not is_classifier:
        return {PREDICTIONS: as_floats(values)}
    probabilities = both_classes(values)
    return {PROBABILITIES: probabilities, CLASS_IDS: probabilities.argmax(axis=1)[:, None]}


def _named(model: onnx.ModelProto, is_classifier: bool) -> onnx.ModelProto:
    names = [value.name for value in model.graph.output]
    return rename_outputs(model, {names[1]: PROBABILITIES} if is_classifier else {names[0]: PREDICTIONS})


def _lightgbm_split(node: Mapping[str, Any]) -> Split | None:
    if "split_feature" not in node:
        return None
    threshold, categories, missing_left = None, 0, False
    if node["decision_type"] == "<=":
        threshold = float(node["threshold"])
        # A model that saw no NaN in a column takes it for 0 there, as LightGBM does.
        missing_left = threshold >= 0.0 if node["missing_type"] == "None" else bool(node["default_left"])
    else:
        categories = len(str(node["threshold"]).split("||"))
    left, right = (_lightgbm_split(node[side]) for side in ("left_child", "right_child"))
    return Split(threshold, categories, missing_left, left, right)


def _are_made_up(names: Iterable[str], prefix: str) -> bool:
    """Whether a library named the columns by their numbers, for lack of names."""
    return all(name == f"{prefix}{index}" for index, name in enumerate(names))
