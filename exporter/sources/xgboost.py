"""XGBoost models -> boosted trees, or a linear model.

Owns what XGBoost's JSON says: trees, dart's weights, gblinear's weights, the base score, categories.
Source: XGBoost 3.2: the JSON model's schema, and the objectives' PredTransform.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.base import CLASS_IDS, CLASSIFY, PROBABILITIES, REGRESS
from estimator_serving.exporter.sources.boosted import EQ, LT, Boosted, Branch, Leaf, Tree, answered
from estimator_serving.exporter.sources.columns import BoostedSource, Columns, are_made_up
from estimator_serving.training.arrays import Array
from estimator_serving.wire import dtypes

# What an objective does with the margins.
_LINKS = {
    "binary:logistic": "sigmoid", "binary:hinge": "step", "multi:softmax": "softmax", "multi:softprob": "softmax",
    "reg:logistic": "sigmoid", "count:poisson": "exp", "reg:gamma": "exp", "reg:tweedie": "exp",
    "survival:cox": "exp", "survival:aft": "exp", "binary:logitraw": "identity", "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity", "reg:pseudohubererror": "identity", "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity", "reg:expectileerror": "identity", "rank:ndcg": "identity", "rank:map": "identity",
    "rank:pairwise": "identity",
}  # fmt: skip
_CLASSIFIERS = ("binary:logistic", "binary:hinge", "multi:softmax", "multi:softprob")
# The base score is an answer, and the margins begin with what the link makes into it.
_INVERSE: Mapping[str, Callable[[Any], Any]] = {"sigmoid": lambda score: np.log(score / (1 - score)), "exp": np.log}


class XgBoostSource(BoostedSource):
    """An XGBModel or an xgboost.Booster. Raises ValueError for objectives of the user's own."""

    packages = ("xgboost",)

    def __init__(self, model: Any) -> None:
        self._booster, self._missing = _booster(model), _missing(model)
        learner = _learner(self._booster)
        self._boosted = _trees(model, learner)
        self.method = CLASSIFY if self._boosted.is_classifier else REGRESS
        classes = getattr(model, "classes_", None) if self._boosted.is_classifier else None
        self.labels = None if classes is None else [str(one) for one in classes]
        names = self._booster.feature_names
        known = None if names is None or are_made_up(names, "f") else names
        self._columns = Columns("The XGBoost model", known, dtypes.float32, _categories(self._booster, learner))

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        import xgboost

        table = self._columns.table(inputs)
        rows = xgboost.DMatrix(table, missing=self._missing, enable_categorical=True)
        values = self._booster.predict(rows, validate_features=False)
        if self._boosted.is_classifier and values.ndim == 1 and len(self._boosted.base) > 1:
            # multi:softmax predicts the class.
            margins = self._booster.predict(rows, validate_features=False, output_margin=True)
            powers = np.exp(margins - margins.max(axis=1, keepdims=True))
            probabilities = np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
            return {PROBABILITIES: probabilities, CLASS_IDS: values.astype(np.int64)[:, None]}
        return answered(values, self._boosted.is_classifier)


def xgboost_trees(model: Any) -> Boosted:
    """The trees, or the linear weights, that predict takes. Raises ValueError for what they cannot say."""
    return _trees(model, _learner(_booster(model)))


def _trees(model: Any, learner: Mapping[str, Any]) -> Boosted:
    objective, parameters = str(learner["objective"]["name"]), learner["learner_model_param"]
    if callable(getattr(model, "objective", None)) or objective not in _LINKS:
        raise ValueError(
            f"The XGBoost model has the objective {objective!r}, and export_model does not know what "
            f"it does with the sum of the trees; train with one of {', '.join(_LINKS)}."
        )
    targets = max(1, int(parameters["num_class"]), int(parameters["num_target"]))
    link = _LINKS[objective]
    # One number, or since XGBoost 3.1 a list of one for each target.
    scores = np.array(json.loads(str(parameters["base_score"]).replace("E", "e")), np.float32).ravel()
    base = np.resize(_INVERSE.get(link, lambda score: score)(scores), targets)
    width, booster = int(parameters["num_feature"]), learner["gradient_booster"]
    trees, weights = [], None
    if booster["name"] == "gblinear":
        flat = np.array(booster["model"]["weights"], np.float64).reshape(width + 1, targets)
        weights, base = flat[:-1], base + flat[-1]
    else:
        scales = booster.get("weight_drop")
        ensemble = booster.get("gbtree", booster)["model"]
        for index, (tree, target) in enumerate(zip(ensemble["trees"], ensemble["tree_info"], strict=True)):
            trees.append(Tree(0, _reader(tree, target, 1.0 if scales is None else scales[index])))
    return Boosted(
        width, trees, base.tolist(), link, objective in _CLASSIFIERS, weights, keeps_float64=False,
        missing=_missing(model),
    )  # fmt: skip


def _reader(tree: Mapping[str, Any], target: int, scale: float) -> Any:
    left, right, conditions = tree["left_children"], tree["right_children"], tree["split_conditions"]
    size = int(tree["tree_param"]["size_leaf_vector"])
    sets = {
        node: tree["categories"][start : start + count]
        for node, start, count in zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        )
    }

    def read(node: int) -> Branch | Leaf:
        if left[node] == -1:
            if size <= 1:
                return {target: conditions[node] * scale}
            # A tree of several targets keeps its leaves' values apart.
            start = right[node] * size
            values = tree["leaf_weights"][start : start + size]
            return {place: value * scale for place, value in enumerate(values)}
        feature, missing_left = int(tree["split_indices"][node]), bool(tree["default_left"][node])
        if node in sets:
            return Branch(feature, EQ, [float(one) for one in sets[node]], not missing_left, right[node], left[node])
        # The JSON has the shortest decimals of a float32.
        return Branch(feature, LT, [float(np.float32(conditions[node]))], missing_left, left[node], right[node])

    return read


def _booster(model: Any) -> Any:
    """The rounds that predict takes: a wrapper's end with its best one, a Booster's are all."""
    is_wrapper = hasattr(model, "get_booster")
    booster = model.get_booster() if is_wrapper else model
    if is_wrapper and booster.attr("best_iteration") is not None:
        booster = booster[: model.best_iteration + 1]
    return booster


def _learner(booster: Any) -> Mapping[str, Any]:
    saved: Mapping[str, Any] = json.loads(booster.save_raw("json"))["learner"]
    return saved


def _missing(model: Any) -> float:
    missing = getattr(model, "missing", None)
    return np.nan if missing is None else float(missing)


def _categories(booster: Any, learner: Mapping[str, Any]) -> dict[int, list[Any]]:
    """The words or numbers of categorical columns, by column."""
    kinds = booster.feature_types or []
    model = learner["gradient_booster"].get("gbtree", learner["gradient_booster"])["model"]
    encoded = model.get("cats", {}).get("enc", [])
    found = {}
    for index, one in enumerate(encoded):
        if index < len(kinds) and kinds[index] == "c" and one["values"]:
            values = one["values"]
            if "offsets" in one:
                # XGBoost 3.2 counts characters and stores as many bytes, so other words than ASCII's are cut.
                if min(values) < 0:
                    raise ValueError(
                        f"Column {index} of the XGBoost model has categories that are not ASCII, which XGBoost stores "
                        "cut short. Rename them to ASCII words, or encode them in front of XGBoost in a scikit-learn "
                        "pipeline."
                    )
                text, bounds = bytes(values), one["offsets"]
                values = [text[start:end].decode() for start, end in itertools.pairwise(bounds)]
            found[index] = values
    return found
