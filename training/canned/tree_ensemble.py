"""A boosted ensemble as tensors: how it is walked, and how one of LightGBM's trees is written into it.

Every tree fills a complete binary tree of `depth` levels: node i has the children 2i+1 (value <= threshold) and 2i+2,
and a leaf that LightGBM places higher up fills everything below it. So a walk is `depth` gathers for all trees at once,
in torch and in the exported graph alike, and the variables have one shape from the first checkpoint to the last. Knows
nothing of losses or of how trees are grown.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.nn import initializers
from estimator_serving.training.nn.variables import get_variable

DEPTH_MAX = 14
"""Deeper trees would reserve more than 2^15 nodes each."""


@dataclass(frozen=True)
class Shape:
    """How much room an ensemble has: trees, logits a tree round gives one tree each, levels of a tree."""

    trees: int
    outputs: int
    depth: int

    @property
    def nodes(self) -> int:
        return 2 ** (self.depth + 1) - 1


@dataclass(frozen=True)
class Ensemble:
    """The ensemble's variables, in the current store.

    features int64, thresholds, values and gains f32, all [trees * outputs, nodes]; bias f32 [outputs]; grown int64 []
    trees so far; is_centered f32 [], 1 once the bias is found.
    """

    shape: Shape
    features: Tensor
    thresholds: Tensor
    values: Tensor
    gains: Tensor
    bias: Tensor
    grown: Tensor
    is_centered: Tensor

    @classmethod
    def in_store(cls, shape: Shape) -> Ensemble:
        """Made on the first call, found again on every later one."""
        nodes = (shape.trees * shape.outputs, shape.nodes)
        return cls(
            shape,
            _variable("split_feature", nodes, torch.int64),
            _variable("split_threshold", nodes),
            _variable("node_value", nodes),
            _variable("split_gain", nodes),
            _variable("bias", (shape.outputs,)),
            _variable("trees_grown", (), torch.int64),
            _variable("is_centered", ()),
        )

    def logits(self, rows: Tensor) -> Tensor:
        """f32 [batch, outputs] of `rows` f32 [batch, features]."""
        leaves = None
        for nodes in self.walk(rows):
            leaves = nodes
        assert leaves is not None, "a tree has at least its root"
        values = self.values.reshape(-1)[leaves].reshape(-1, self.shape.trees, self.shape.outputs)
        return values.sum(dim=1) + self.bias

    def walk(self, rows: Tensor) -> Iterator[Tensor]:
        """The node each row is at in every tree, level after level: indices into the flattened variables,
        int64 [batch, trees * outputs]."""
        first = torch.arange(self.features.shape[0]) * self.shape.nodes
        place = torch.zeros_like(first).expand(rows.shape[0], -1)
        yield place + first
        for _ in range(self.shape.depth):
            at = place + first
            reached = torch.gather(rows, 1, self.features.reshape(-1)[at])
            # Not `>`: NaN is on neither side of a threshold and goes to the right.
            stays_left = reached <= self.thresholds.reshape(-1)[at]
            place = 2 * place + 2 - stays_left.to(torch.int64)
            yield place + first

    def add(self, trees: list[Mapping[str, Any]]) -> None:
        """Write one round, a tree of LightGBM's dump for each output, behind what is there."""
        round_ = int(self.grown)
        for output, tree in enumerate(trees):
            row = round_ * self.shape.outputs + output
            for node, split, value in _nodes(tree, self.shape.nodes):
                self.values[row, node] = value
                if split is not None:
                    self.features[row, node] = split["split_feature"]
                    self.thresholds[row, node] = float32_below(split["threshold"])
                    self.gains[row, node] = split["split_gain"]
        self.grown.add_(1)

    @property
    def is_full(self) -> bool:
        return int(self.grown) >= self.shape.trees


def float32_below(threshold: float) -> float:
    """The largest float32 that is no larger: a float32 is <= it exactly if it is <= `threshold`."""
    rounded = np.float32(threshold)
    return float(rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf)))


def _variable(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return get_variable(name, shape, initializer=initializers.zeros, trainable=False, dtype=dtype)


def _nodes(tree: Mapping[str, Any], count: int) -> Iterator[tuple[int, Mapping[str, Any] | None, float]]:
    """(node, its split or None, its value) for every place of the complete tree that this tree takes."""
    waiting: list[tuple[int, Mapping[str, Any]]] = [(0, tree)]
    while waiting:
        node, part = waiting.pop()
        if "split_feature" in part:
            yield node, part, part["internal_value"]
            waiting += [(2 * node + 1, part["left_child"]), (2 * node + 2, part["right_child"])]
        else:
            yield from ((below, None, part["leaf_value"]) for below in _below(node, count))


def _below(node: int, count: int) -> Iterator[int]:
    """The node and all under it."""
    first, width = node, 1
    while first < count:
        yield from itertools.islice(itertools.count(first), width)
        first, width = 2 * first + 1, 2 * width
