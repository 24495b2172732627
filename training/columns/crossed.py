"""crossed_column: ids of every combination of several features' values.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import spox.opset.ai.onnx.v21 as op

from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.base import Arguments, CategoricalColumn, FeatureColumn, ParseSpec
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.hash_bucket import HashedCategoricalColumn
from estimator_serving.training.columns.inputs import TextInput
from estimator_serving.training.columns.padding import Padded
from estimator_serving.training.columns.weighted import WeightedCategoricalColumn
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import VarLenFeature

HASH_KEY = 0xDECAFCAFFE
"""TensorFlow's default start of a cross's hash."""


@dataclass(frozen=True)
class CrossedColumn(CategoricalColumn):
    """Ids by a hash of every combination of its keys' values. A string among the keys is a text feature as it is."""

    keys: tuple[str | CategoricalColumn, ...]
    hash_bucket_size: int
    hash_key: int
    marks_nothing: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "_X_".join(sorted(key if isinstance(key, str) else key.name for key in self.leaves))

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size

    @property
    def leaves(self) -> tuple[str | CategoricalColumn, ...]:
        """The keys in the order they are hashed, crosses among them replaced by their own keys."""
        return tuple(leaf for key in self.keys for leaf in (key.leaves if isinstance(key, CrossedColumn) else (key,)))

    @property
    def parts(self) -> tuple[FeatureColumn, ...]:
        return tuple(key for key in self.keys if not isinstance(key, str))

    @property
    def parse_example_spec(self) -> ParseSpec:
        spec: ParseSpec = {}
        for key in self.keys:
            spec |= {key: VarLenFeature(dtypes.string)} if isinstance(key, str) else key.parse_example_spec
        return spec

    def define(self) -> Definition:
        for leaf in self.leaves:
            if isinstance(leaf, WeightedCategoricalColumn):
                raise ValueError(
                    "crossed_column does not support weight_tensor, but the given column populates weight_tensor. "
                    f"Given column: {leaf.name}. Cross the column without its weights."
                )
        return {
            "kind": "crossed",
            "keys": [{"kind": "text", "key": leaf} if isinstance(leaf, str) else leaf.define() for leaf in self.leaves],
            "hash_bucket_size": self.hash_bucket_size,
            "hash_key": self.hash_key,
        }

    def rows(self, arguments: Arguments) -> Padded:
        keys = [
            arguments.padded(TextInput(leaf, dtypes.string)) if isinstance(leaf, str) else arguments.rows(leaf)
            for leaf in self.leaves
        ]
        pairs = [(key.values, key.lengths) for key in keys]
        found = onnx_ops.cross_hash(pairs, self.hash_bucket_size, self.hash_key)
        is_id = op.cast(op.greater_or_equal(found, op.const(np.int64(0))), to=np.int64)
        return Padded(found, op.reduce_sum(is_id, op.const([1]), keepdims=0))


def crossed_column(
    keys: Sequence[str | CategoricalColumn], hash_bucket_size: int, hash_key: int | None = None
) -> CrossedColumn:
    """Ids of every combination of several features' values, by TensorFlow's hash.

    Args:
        keys: names of features, text or integers (hashed as the number; Examples must then carry int64, not the string
            of make_parse_example_spec), and categorical columns (all but hashed ones). A cross among them counts as
            its own keys. They are hashed in this order, in training and in serving: what a model of TF 2.15 computes
            for Examples. (When TF is fed dense text in training, it hashes such keys last, so that serving finds other
            ids.)
        hash_bucket_size: the number of ids.
        hash_key: what the hash starts from; None and 0 mean TensorFlow's own.

    Raises:
        ValueError: TF 2.15's texts. A weighted column among the keys is refused when the column is first used.
    """
    if not hash_bucket_size or hash_bucket_size < 1:
        # The text is TensorFlow's; 1 is taken, there and here.
        raise ValueError(f"hash_bucket_size must be > 1. hash_bucket_size: {hash_bucket_size}")
    if not keys or len(keys) < 2:
        raise ValueError(f"keys must be a list with length > 1. Given: {keys}")
    for key in keys:
        if not isinstance(key, str | CategoricalColumn):
            raise ValueError(
                "Unsupported key type. All keys must be either string, or categorical column except "
                f"HashedCategoricalColumn. Given: {key}"
            )
        if isinstance(key, HashedCategoricalColumn):
            raise ValueError(
                "categorical_column_with_hash_bucket is not supported for crossing. Hashing before crossing will "
                f"increase probability of collision. Instead, use the feature name as a string. Given: {key}"
            )
    return CrossedColumn(tuple(keys), int(hash_bucket_size), int(hash_key or HASH_KEY))
