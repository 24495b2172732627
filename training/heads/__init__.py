"""Heads: what logits mean. Each owns loss, predictions, metrics and export outputs of one kind of target."""

from estimator_serving.training.heads.base import Head, OneTargetHead
from estimator_serving.training.heads.binary_class import BinaryClassHead
from estimator_serving.training.heads.multi_class import MultiClassHead
from estimator_serving.training.heads.multi_head import MultiHead
from estimator_serving.training.heads.multi_label import MultiLabelHead, multi_hot
from estimator_serving.training.heads.regression import LogisticRegressionHead, PoissonRegressionHead, RegressionHead

__all__ = [
    "BinaryClassHead",
    "Head",
    "LogisticRegressionHead",
    "MultiClassHead",
    "MultiHead",
    "MultiLabelHead",
    "OneTargetHead",
    "PoissonRegressionHead",
    "RegressionHead",
    "multi_hot",
]
