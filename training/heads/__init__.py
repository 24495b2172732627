"""Heads: what logits mean. Loss, predictions, metrics and export outputs of one kind of target each."""

from estimator_serving.training.heads.base import Head
from estimator_serving.training.heads.binary_class import BinaryClassHead
from estimator_serving.training.heads.multi_class import MultiClassHead

__all__ = ["BinaryClassHead", "Head", "MultiClassHead"]
