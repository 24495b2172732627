"""Boosted trees (TF 2.8), grown by LightGBM.

A step takes one batch. Every `n_batches_per_layer * max_depth` batches become one tree; TensorFlow grows a tree of that
depth from as many. Training ends by itself with `n_trees`. The ensemble is tensors in the variable store, so
checkpoints, predict and export are those of every other estimator. Trees grow in one process.

Owns the estimators, their features, importances and explanations. Does not know how a tree is found or walked.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.canned.common import check_feature_dict, classifier_head
from estimator_serving.training.canned.tree_ensemble import DEPTH_MAX, Ensemble, Shape
from estimator_serving.training.canned.tree_growth import GrowthRules, GrowthStep, Window, grow, import_lightgbm
from estimator_serving.training.columns.base import Dense, FeatureColumn, Ids
from estimator_serving.training.columns.bucketized import BucketizedColumn
from estimator_serving.training.columns.indicator import IndicatorColumn
from estimator_serving.training.columns.layers import normalize_columns
from estimator_serving.training.columns.numeric import NumericColumn
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.heads import BinaryClassHead, Head, RegressionHead
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.hooks.base import SessionRunHook
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.variables import current_store, variable_scope
from estimator_serving.training.optimizers.base import TrainOp
from estimator_serving.training.run_config import RunConfig

logger = logging.getLogger(__name__)

_WINDOW = "boosted_trees/window"
"""Where the store keeps the batches since the last tree, from step to step."""


class _BoostedTrees(Estimator):
    """What the classifier and the regressor share: the model_fn, the importances and the explanations."""

    def __init__(
        self,
        head: Head,
        feature_columns: Sequence[FeatureColumn],
        rules: GrowthRules,
        model_dir: str | os.PathLike[str] | None,
        config: RunConfig | None,
    ) -> None:
        import_lightgbm()
        if rules.max_depth > DEPTH_MAX:
            raise ValueError(f"max_depth must be at most {DEPTH_MAX}; got {rules.max_depth}. Grow more trees instead.")
        self._head = head
        self._columns: list[Any] = normalize_columns(feature_columns)
        if not self._columns:
            raise ValueError("feature_columns must not be empty. Pass at least one column.")
        for column in self._columns:
            if not isinstance(column, NumericColumn | BucketizedColumn | IndicatorColumn):
                raise ValueError(
                    "For now, only bucketized_column, indicator_column and numeric_column are supported by boosted "
                    f"trees. Given: {column}. Wrap a categorical column with indicator_column."
                )
        self._rules = rules
        super().__init__(self._make_model_fn(explains=False), model_dir, config)

    def experimental_feature_importances(self, normalize: bool = False) -> OrderedDict[str, float]:
        """The gain of all splits on each feature, the largest first.

        A column of several numbers counts each: `class_indicator:First`, `point_0`.

        Args:
            normalize: whether the importances add up to 1.

        Raises ValueError if nothing has been trained.
        """
        features = self.get_variable_value("boosted_trees/split_feature")
        gains = self.get_variable_value("boosted_trees/split_gain")
        totals = np.zeros(len(self._feature_names()))
        np.add.at(totals, features.ravel(), gains.ravel())
        scale = totals.sum() or 1.0 if normalize else 1.0
        pairs = zip(self._feature_names(), (totals / scale).tolist(), strict=True)
        return OrderedDict(sorted(pairs, key=lambda pair: -pair[1]))

    def experimental_predict_with_explanations(
        self,
        input_fn: Any,
        predict_keys: Sequence[str] | None = None,
        hooks: Sequence[SessionRunHook] | None = None,
        checkpoint_path: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Predictions with `dfc`, each feature's contribution (an OrderedDict, the largest first), and `bias`.

        The contributions and the bias of an example add up to its prediction, a classifier's probability of class 1.

        Raises:
            ValueError: trees grown without center_bias, or for more than one logit (TF 2.8).
        """
        if not self._rules.center_bias:
            raise ValueError(
                "center_bias must be enabled during estimator instantiation when using "
                "experimental_predict_with_explanations. Train with center_bias=True."
            )
        if self._head.logits_dimension > 1:
            raise ValueError(
                "experimental_predict_with_explanations explains one logit: binary classification, or regression with "
                f"label_dimension=1. This model has {self._head.logits_dimension}."
            )
        keys = None if predict_keys is None else [*predict_keys, "bias", "dfc"]
        explaining = Estimator(self._make_model_fn(explains=True), self.model_dir, self.config)
        for prediction in explaining.predict(input_fn, keys, hooks, checkpoint_path):
            contributions = zip(self._feature_names(), prediction["dfc"].tolist(), strict=True)
            prediction["dfc"] = OrderedDict(sorted(contributions, key=lambda pair: -abs(pair[1])))
            prediction["bias"] = float(prediction["bias"][0])
            yield prediction

    def _make_model_fn(self, *, explains: bool) -> Any:
        head, rules = self._head, self._rules
        # A bucket is a number to split at, not one of several columns of 0 and 1.
        outputs = [Ids(column) if isinstance(column, BucketizedColumn) else Dense(column) for column in self._columns]
        shape = Shape(rules.n_trees, head.logits_dimension, rules.max_depth)

        def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
            check_feature_dict(features)
            with variable_scope("boosted_trees"):
                ensemble = Ensemble.in_store(shape)
            made = features.transformed(outputs)
            rows = torch.cat([made[output.output_name].to(torch.float32) for output in outputs], dim=1)
            logits = ensemble.logits(rows)
            if mode == ModeKeys.TRAIN:
                logits = logits.detach().requires_grad_()
                window = current_store().plans.setdefault(_WINDOW, Window())

                def train_op(loss: Tensor) -> TrainOp:
                    return GrowthStep(current_store(), loss, (), ensemble, rules, window, rows, logits)

                spec = head.create_estimator_spec(features, mode, logits, labels, train_op_fn=train_op)
                hooks = [*(spec.training_hooks or ()), _StopWithLastTree(ensemble, rules, window)]
                return replace(spec, training_hooks=hooks)
            spec = head.create_estimator_spec(features, mode, logits, labels, train_op_fn=None)
            if not explains:
                return spec
            assert isinstance(spec.predictions, Mapping)
            return replace(spec, predictions={**spec.predictions, **_explained(ensemble, rows, head)})

        return model_fn

    def _feature_names(self) -> list[str]:
        """A name for each number of each column."""
        names: list[str] = []
        for column in self._columns:
            if isinstance(column, IndicatorColumn):
                inner = column.categorical_column
                words = list(getattr(inner, "vocabulary_list", ()))
                names += [f"{column.name}:{words[i] if i < len(words) else i}" for i in range(inner.num_buckets)]
                continue
            source = column.source_column if isinstance(column, BucketizedColumn) else column
            count = source.num_elements
            names += [column.name] if count == 1 else [f"{column.name}_{i}" for i in range(count)]
        return names


@dataclass(eq=False)
class _StopWithLastTree(SessionRunHook):
    """Ends training with the last tree. If the data ends before the first tree, makes one of the batches so far."""

    ensemble: Ensemble
    rules: GrowthRules
    window: Window

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self.ensemble.is_full:
            run_context.request_stop()

    def end(self, session: Any) -> None:
        if self.ensemble.grown:
            return
        if self.window.batches >= self.rules.n_batches_per_layer:
            grow(self.ensemble, self.rules, self.window)
        else:
            logger.warning(
                "Training ended before the first tree, which takes %d batches. Let input_fn repeat, or set "
                "n_batches_per_layer to the batches of one pass over the data.",
                self.rules.batches_per_tree,
            )


class BoostedTreesClassifier(_BoostedTrees):
    """A classifier of boosted trees (TF 2.8).

    Args:
        feature_columns: numeric, bucketized (split by bucket) and indicator columns.
        n_batches_per_layer: batches whose gradients grow a layer; a whole pass over the data is usual.
        model_dir, n_classes, weight_column, label_vocabulary, config: as for every canned classifier.
        n_trees: trees to grow; training then ends by itself.
        max_depth: layers of a tree, 14 at most.
        learning_rate: how much of a tree's step is taken.
        l1_regularization, l2_regularization, min_node_weight: of a leaf, on the scale of the loss's derivatives.
        tree_complexity: the gain a split must have if `pruning_mode` is 'pre' (while growing) or 'post' (after it).
        center_bias: find the bias first; explanations need it.
        quantile_sketch_epsilon: 1 / the number of buckets that a numeric column is cut into.
        train_in_memory: changes nothing; batches are kept until their tree is grown in any case.

    Raises:
        ValueError: TF 2.8's texts; a column of another kind; max_depth above 14.
        ImportError: LightGBM is not installed.
    """

    def __init__(
        self,
        feature_columns: Sequence[FeatureColumn],
        n_batches_per_layer: int,
        model_dir: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        n_trees: int = 100,
        max_depth: int = 6,
        learning_rate: float = 0.1,
        l1_regularization: float = 0.0,
        l2_regularization: float = 0.0,
        tree_complexity: float = 0.0,
        min_node_weight: float = 0.0,
        config: RunConfig | None = None,
        center_bias: bool = False,
        pruning_mode: str = "none",
        quantile_sketch_epsilon: float = 0.01,
        train_in_memory: bool = False,
    ) -> None:
        del train_in_memory
        if center_bias and n_classes > 2:
            raise ValueError("center_bias not yet support with n_classes > 2. Leave it out.")
        head = classifier_head(n_classes, weight_column, label_vocabulary, Reduction.SUM_OVER_BATCH_SIZE)
        rules = GrowthRules(
            n_batches_per_layer, n_trees, max_depth, learning_rate, l1_regularization, l2_regularization,
            tree_complexity, min_node_weight, center_bias, pruning_mode, quantile_sketch_epsilon, _seed(config),
        )  # fmt: skip
        super().__init__(head, feature_columns, rules, model_dir, config)


class BoostedTreesRegressor(_BoostedTrees):
    """A regressor of boosted trees (TF 2.8): `label_dimension` numbers an example.

    Other arguments and errors as for BoostedTreesClassifier.
    """

    def __init__(
        self,
        feature_columns: Sequence[FeatureColumn],
        n_batches_per_layer: int,
        model_dir: str | os.PathLike[str] | None = None,
        label_dimension: int = 1,
        weight_column: WeightColumn = None,
        n_trees: int = 100,
        max_depth: int = 6,
        learning_rate: float = 0.1,
        l1_regularization: float = 0.0,
        l2_regularization: float = 0.0,
        tree_complexity: float = 0.0,
        min_node_weight: float = 0.0,
        config: RunConfig | None = None,
        center_bias: bool = False,
        pruning_mode: str = "none",
        quantile_sketch_epsilon: float = 0.01,
        train_in_memory: bool = False,
    ) -> None:
        del train_in_memory
        rules = GrowthRules(
            n_batches_per_layer, n_trees, max_depth, learning_rate, l1_regularization, l2_regularization,
            tree_complexity, min_node_weight, center_bias, pruning_mode, quantile_sketch_epsilon, _seed(config),
        )  # fmt: skip
        super().__init__(RegressionHead(label_dimension, weight_column), feature_columns, rules, model_dir, config)


class BoostedTreesEstimator(_BoostedTrees):
    """Boosted trees under a head of your choice (TF 2.8), whose loss has a second derivative.

    `weight_column` changes nothing: the head's weights count. Other arguments and errors as for BoostedTreesClassifier.
    """

    def __init__(
        self,
        feature_columns: Sequence[FeatureColumn],
        n_batches_per_layer: int,
        head: Head,
        model_dir: str | os.PathLike[str] | None = None,
        weight_column: WeightColumn = None,
        n_trees: int = 100,
        max_depth: int = 6,
        learning_rate: float = 0.1,
        l1_regularization: float = 0.0,
        l2_regularization: float = 0.0,
        tree_complexity: float = 0.0,
        min_node_weight: float = 0.0,
        config: RunConfig | None = None,
        center_bias: bool = False,
        pruning_mode: str = "none",
        quantile_sketch_epsilon: float = 0.01,
    ) -> None:
        del weight_column
        rules = GrowthRules(
            n_batches_per_layer, n_trees, max_depth, learning_rate, l1_regularization, l2_regularization,
            tree_complexity, min_node_weight, center_bias, pruning_mode, quantile_sketch_epsilon, _seed(config),
        )  # fmt: skip
        super().__init__(head, feature_columns, rules, model_dir, config)


def _seed(config: RunConfig | None) -> int:
    return (config.tf_random_seed if config else None) or 0


def _explained(ensemble: Ensemble, rows: Tensor, head: Head) -> dict[str, Tensor]:
    """`bias` f32 [batch, 1] and `dfc` f32 [batch, features], each feature's contribution to the prediction.

    An example goes through all trees, one after the other. Each split on its way changes the prediction; the changes
    are added up by the feature that is split on.
    """
    link = torch.sigmoid if isinstance(head, BinaryClassHead) else lambda logits: logits
    levels = list(ensemble.walk(rows))
    values = torch.stack([ensemble.values.reshape(-1)[nodes] for nodes in levels[1:]], dim=2)
    leaves = values[:, :, -1]
    before = ensemble.bias + leaves.cumsum(dim=1) - leaves
    path = (before[:, :, None] + values).reshape(len(rows), -1)
    bias = ensemble.bias.expand(len(rows), 1)
    steps = torch.diff(link(torch.cat([bias, path], dim=1)), dim=1)
    split_on = torch.stack([ensemble.features.reshape(-1)[nodes] for nodes in levels[:-1]], dim=2)
    contributions = torch.zeros_like(rows).scatter_add(1, split_on.reshape(len(rows), -1), steps)
    return {"bias": link(bias), "dfc": contributions}
