"""CatBoost models -> boosted trees.

Owns what CatBoost's JSON says: symmetric trees and others, borders, where NaN goes.
Source: CatBoost 1.2: the JSON model, and its prediction types.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.exporter.sources.base import CLASSIFY, REGRESS
from estimator_serving.exporter.sources.boosted import LEQ, Boosted, Branch, Leaf, Tree, answered
from estimator_serving.exporter.sources.columns import BoostedSource, Columns, are_made_up
from estimator_serving.training.arrays import Array
from estimator_serving.wire import dtypes

_CLASSIFIERS = {
    "Logloss": "sigmoid", "CrossEntropy": "sigmoid", "MultiClass": "softmax", "MultiClassOneVsAll": "sigmoid",
}  # fmt: skip
_LINKS = {"RawFormulaVal": "identity", "Exponent": "exp"}


class CatBoostSource(BoostedSource):
    """A CatBoostClassifier, -Regressor, -Ranker or catboost.CatBoost of numeric features.

    Raises ValueError for categorical, text and embedding features: of them a model keeps hashes only.
    """

    packages = ("catboost",)

    def __init__(self, model: Any) -> None:
        self._model = model
        self._boosted = catboost_trees(model)
        self.method = CLASSIFY if self._boosted.is_classifier else REGRESS
        self.labels = [str(one) for one in model.classes_] if self._boosted.is_classifier else None
        names = model.feature_names_
        self._columns = Columns("The CatBoost model", None if are_made_up(names, "") else names, dtypes.float32)

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        is_classifier = self._boosted.is_classifier
        kind = {"prediction_type": "Probability"} if is_classifier else {}
        values = self._model.predict(self._columns.table(inputs), thread_count=1, **kind)
        return answered(values, is_classifier)


def catboost_trees(model: Any) -> Boosted:
    """The trees that predict takes. Raises ValueError for what they cannot say."""
    if not model.is_fitted():
        raise ValueError(f"The {type(model).__name__} is not fitted; fit it first.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        saved = json.loads(path.read_text())
    known = saved["features_info"]
    if others := [kind for kind in ("categorical_features", "text_features", "embedding_features") if known.get(kind)]:
        names = [str(one.get("feature_id", one["flat_feature_index"])) for kind in others for one in known[kind]]
        raise ValueError(
            f"The CatBoost model reads {', '.join(names)} as {others[0].replace('_', ' ')}, of which it keeps hashes "
            "and no words, so no graph can be made of it. Encode them in front of CatBoost in a scikit-learn pipeline "
            "(OneHotEncoder, OrdinalEncoder or TargetEncoder), which export_model takes."
        )
    loss = str(model.get_all_params()["loss_function"]).partition(":")[0]
    is_classifier = loss in _CLASSIFIERS
    # A plain CatBoost predicts the sum of the trees, whatever it was trained for.
    default: Any = getattr(model, "_get_default_prediction_type", None)
    has_default = default is not None and not is_classifier and type(model).__name__ != "CatBoost"
    predicts = str(default()) if has_default else "RawFormulaVal"
    if predicts not in _LINKS or loss.startswith("MultiLogloss") or loss == "MultiCrossEntropy":
        raise ValueError(
            f"The CatBoost model was trained with the loss {loss}, whose predictions are neither classes nor numbers "
            "of a sum of trees; train one model for each label or number."
        )
    scale, base = saved["scale_and_bias"]
    features = [_Feature.of(one) for one in known["float_features"]]
    if "trees" in saved:
        trees = [Tree(tree, _free_reader(features, scale)) for tree in saved["trees"]]
    else:
        trees = [Tree((0, 0), _symmetric_reader(tree, features, scale)) for tree in saved["oblivious_trees"]]
    return Boosted(
        width=len(model.feature_names_),
        trees=trees,
        base=[float(one) for one in (base or [0.0])],
        link=_CLASSIFIERS[loss] if is_classifier else _LINKS[predicts],
        is_classifier=is_classifier,
        keeps_float64=False,
    )


class _Feature:
    """A feature of numbers: its column, and whether NaN is above every border."""

    def __init__(self, column: int, missing_is_above: bool) -> None:
        self.column = column
        self.missing_is_above = missing_is_above

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> _Feature:
        return cls(int(saved["flat_feature_index"]), saved["nan_value_treatment"] == "AsTrue")

    def branch(self, split: Mapping[str, Any], below: Any, above: Any) -> Branch:
        """The numbers up to the border go below."""
        return Branch(self.column, LEQ, [float(np.float32(split["border"]))], not self.missing_is_above, below, above)


def _symmetric_reader(tree: Mapping[str, Any], features: Sequence[_Feature], scale: float) -> Any:
    """Every node of a level has the same split, and bit i of a leaf's number says whether split i was passed."""
    splits, values = tree.get("splits") or [], tree["leaf_values"]
    size = len(values) >> len(splits)

    def read(node: tuple[int, int]) -> Branch | Leaf:
        level, leaf = node
        if level == len(splits):
            return {place: float(values[leaf * size + place]) * scale for place in range(size)}
        split = splits[level]
        feature = features[int(split["float_feature_index"])]
        branch: Branch = feature.branch(split, (level + 1, leaf), (level + 1, leaf | 1 << level))
        return branch

    return read


def _free_reader(features: Sequence[_Feature], scale: float) -> Any:
    def read(node: Mapping[str, Any]) -> Branch | Leaf:
        if "split" not in node:
            value = node["value"]
            return {
                place: float(one) * scale for place, one in enumerate(value if isinstance(value, list) else [value])
            }
        split = node["split"]
        feature = features[int(split["float_feature_index"])]
        return feature.branch(split, node["left"], node["right"])

    return read
