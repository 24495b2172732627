"""Growing a tree round from the gradients of a few batches: LightGBM finds the splits.

Owns the window of batches that a round learns from, and which of LightGBM's parameters TensorFlow's arguments become.
LightGBM is an optional part of an installation, imported on first use. Does not know heads and columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.arrays import Array
from estimator_serving.training.canned.tree_ensemble import Ensemble
from estimator_serving.training.optimizers.base import Replicas, TrainOp

# A Newton step of the bias smaller than this ends its search.
_CENTERED = 0.01
_PRUNINGS = ("none", "pre", "post")


@dataclass(frozen=True)
class GrowthRules:
    """The constructor's arguments about trees, with TensorFlow's names (2.8) and checks."""

    n_batches_per_layer: int
    n_trees: int
    max_depth: int
    learning_rate: float
    l1_regularization: float
    l2_regularization: float
    tree_complexity: float
    min_node_weight: float
    center_bias: bool
    pruning_mode: str
    quantile_sketch_epsilon: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("n_trees", "max_depth", "n_batches_per_layer"):
            if getattr(self, name) <= 0:
                raise ValueError(f"Expected {name} > 0; got {getattr(self, name)}.")
        if self.pruning_mode not in _PRUNINGS:
            raise ValueError(f"pruning_mode must be one of {', '.join(_PRUNINGS)}; got {self.pruning_mode!r}.")
        if self.pruning_mode != "none" and self.tree_complexity <= 0:
            raise ValueError(f"For pruning, tree_complexity must be positive. It is {self.tree_complexity}.")

    @property
    def batches_per_tree(self) -> int:
        return self.n_batches_per_layer * self.max_depth

    def for_lightgbm(self) -> dict[str, Any]:
        """LightGBM's parameters. Its own limits are off, because TensorFlow limits a leaf only by its weight."""
        return {
            "objective": "none", "boost_from_average": False, "learning_rate": self.learning_rate,
            "num_leaves": 2**self.max_depth, "max_depth": self.max_depth,
            "lambda_l1": self.l1_regularization, "lambda_l2": self.l2_regularization,
            "min_gain_to_split": self.tree_complexity if self.pruning_mode == "pre" else 0.0,
            "min_sum_hessian_in_leaf": self.min_node_weight, "min_data_in_leaf": 1, "min_data_in_bin": 1,
            "max_bin": max(2, math.ceil(1 / self.quantile_sketch_epsilon)), "feature_pre_filter": False,
            "deterministic": True, "force_row_wise": True, "seed": self.seed,
            "num_threads": torch.get_num_threads(), "verbosity": -1,
        }  # fmt: skip


@dataclass
class Window:
    """The batches since the last tree: rows, and the loss's first and second derivatives by the logits."""

    rows: list[Array] = field(default_factory=list)
    gradients: list[Array] = field(default_factory=list)
    hessians: list[Array] = field(default_factory=list)
    batches: int = 0

    def add(self, rows: Array, gradients: Array, hessians: Array, place: int) -> None:
        """Add a batch, which has the number `place` in its layer.

        Rows that an earlier layer had at the same place (as always if the data is one batch) are kept once.
        """
        self.batches += 1
        if place < len(self.rows) and np.array_equal(self.rows[place], rows, equal_nan=True):
            self.gradients[place] = self.gradients[place] + gradients
            self.hessians[place] = self.hessians[place] + hessians
            return
        self.rows.append(rows)
        self.gradients.append(gradients)
        self.hessians.append(hessians)

    def clear(self) -> None:
        self.rows, self.gradients, self.hessians, self.batches = [], [], [], 0


@dataclass(frozen=True, slots=True)
class GrowthStep(TrainOp):
    """A batch's step: its derivatives join the window, and a window that is full becomes a tree."""

    ensemble: Ensemble
    rules: GrowthRules
    window: Window
    rows: Tensor
    logits: Tensor

    def run(self, strategy: Replicas | None = None) -> None:
        """Raise global_step by 1; when the window is full, move the bias or grow a tree. A full ensemble stays.

        Raises ValueError for several replicas: each would grow a tree from its own rows.
        """
        if strategy is not None and strategy.num_replicas > 1:
            raise ValueError(
                f"Boosted trees grow in one process, and {strategy.num_replicas} replicas train together. Train them "
                "with a cluster of one."
            )
        self.store.global_step += 1
        if self.ensemble.is_full:
            return
        place = self.window.batches % self.rules.n_batches_per_layer
        assert self.loss is not None
        gradients, hessians = derivatives(self.loss, self.logits)
        self.window.add(self.rows.numpy(), gradients, hessians, place)
        if self.rules.center_bias and not self.ensemble.is_centered:
            if self.window.batches == self.rules.n_batches_per_layer:
                # One Newton step of the bias. The bias is found when the step is small.
                window = self.window
                first, second = (np.concatenate(parts).sum(axis=0) for parts in (window.gradients, window.hessians))
                step = -first / np.maximum(second, np.finfo(np.float32).tiny)
                self.ensemble.bias.add_(torch.from_numpy(step))
                self.ensemble.is_centered.fill_(float(np.abs(step).max() < _CENTERED))
                window.clear()
        elif self.window.batches == self.rules.batches_per_tree:
            grow(self.ensemble, self.rules, self.window)


def derivatives(loss: Tensor, logits: Tensor) -> tuple[Array, Array]:
    """First and second derivative of `loss` by each logit, f32 [batch, outputs].

    An example's loss depends only on its own logits, so the diagonal takes one backward pass for each output.
    """
    (first,) = torch.autograd.grad(loss, logits, create_graph=True)
    second = [
        torch.autograd.grad(first[:, output].sum(), logits, retain_graph=True)[0][:, output]
        for output in range(logits.shape[1])
    ]
    return first.detach().numpy(), torch.stack(second, dim=1).numpy()


def grow(ensemble: Ensemble, rules: GrowthRules, window: Window) -> None:
    """Grow one tree for each output from the window's batches, and empty the window."""
    lightgbm = import_lightgbm()
    layers = window.batches / rules.n_batches_per_layer
    # Each layer saw its own batches in TensorFlow; here a tree sees all of them, at the weight of one layer.
    gradients, hessians = (np.concatenate(parts) / layers for parts in (window.gradients, window.hessians))
    outputs = gradients.shape[1]
    parameters = rules.for_lightgbm() | {"num_class": outputs}
    rows = np.nan_to_num(np.concatenate(window.rows), nan=float(np.finfo(np.float32).max))
    data = lightgbm.Dataset(rows, np.zeros(len(rows)), params=parameters)
    booster = lightgbm.Booster(parameters, data)
    # LightGBM takes one output without an axis for it.
    found = (gradients[:, 0], hessians[:, 0]) if outputs == 1 else (gradients, hessians)
    booster.update(fobj=lambda _scores, _data: found)
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    if rules.pruning_mode == "post":
        trees = [pruned(tree, rules.tree_complexity) for tree in trees]
    ensemble.add(trees)
    window.clear()


def pruned(tree: Mapping[str, Any], complexity: float) -> Mapping[str, Any]:
    """The tree without the splits, from the leaves up, that gain less than `complexity`."""
    if "split_feature" not in tree:
        return tree
    left, right = pruned(tree["left_child"], complexity), pruned(tree["right_child"], complexity)
    if tree["split_gain"] < complexity and "split_feature" not in left and "split_feature" not in right:
        return {"leaf_value": tree["internal_value"]}
    return {**tree, "left_child": left, "right_child": right}


@functools.cache
def import_lightgbm() -> ModuleType:
    """LightGBM, or an ImportError that says how to get it."""
    try:
        import lightgbm
    except ImportError as error:
        raise ImportError("Boosted trees need LightGBM; run `pip install 'estimator-serving[trees]'`.") from error
    return lightgbm
