"""categorical_column_with_hash_bucket: ids by a hash of the text.

Source of rules and texts: TF 2.15 feature_column_v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estimator_serving.training.columns.base import Arguments, KeyedCategoricalColumn, check_id_dtype, check_key
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.padding import Padded
from estimator_serving.wire import dtypes


@dataclass(frozen=True)
class HashedCategoricalColumn(KeyedCategoricalColumn):
    hash_bucket_size: int

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size

    def define(self) -> Definition:
        return self.define_as("hash_bucket", hash_bucket_size=self.hash_bucket_size)

    def rows(self, arguments: Arguments) -> Padded:
        found = self.read(arguments)
        return Padded(self.hash(found.values, self.hash_bucket_size), found.lengths)


def categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: Any = dtypes.string
) -> HashedCategoricalColumn:
    """Ids by Fingerprint64 of the text (an integer's decimal text) modulo `hash_bucket_size`: TensorFlow's own buckets.

    Raises:
        ValueError: TF 2.15's texts.
    """
    if hash_bucket_size is None:
        raise ValueError(f"hash_bucket_size must be set. key: {key}")
    if hash_bucket_size < 1:
        raise ValueError(f"hash_bucket_size must be at least 1. hash_bucket_size: {hash_bucket_size}, key: {key}")
    checked = check_key(key)
    return HashedCategoricalColumn(checked, check_id_dtype(dtype, f"column_name: {key}"), int(hash_bucket_size))
