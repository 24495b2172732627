"""The heads' lowercase names of TensorFlow 1.x (tf.contrib.estimator), with its order of arguments."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from estimator_serving.training.heads.base import LossFn, WeightColumn
from estimator_serving.training.heads.binary_class import BinaryClassHead
from estimator_serving.training.heads.multi_class import MultiClassHead
from estimator_serving.training.heads.multi_head import MultiHead
from estimator_serving.training.heads.multi_label import MultiLabelHead
from estimator_serving.training.heads.regression import LogisticRegressionHead, PoissonRegressionHead, RegressionHead
from estimator_serving.training.nn.losses import Reduction

binary_classification_head = BinaryClassHead
multi_class_head = MultiClassHead
multi_label_head = MultiLabelHead
logistic_regression_head = LogisticRegressionHead
multi_head = MultiHead


def regression_head(
    weight_column: WeightColumn = None,
    label_dimension: int = 1,
    loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
    loss_fn: LossFn | None = None,
    inverse_link_fn: Callable[[Tensor], Tensor] | None = None,
    name: str | None = None,
) -> RegressionHead:
    """A RegressionHead; weight_column comes first here."""
    return RegressionHead(label_dimension, weight_column, loss_reduction, loss_fn, inverse_link_fn, name)


def poisson_regression_head(
    weight_column: WeightColumn = None,
    label_dimension: int = 1,
    loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
    compute_full_loss: bool = True,
    name: str | None = None,
) -> PoissonRegressionHead:
    """A PoissonRegressionHead; weight_column comes first here."""
    return PoissonRegressionHead(label_dimension, weight_column, loss_reduction, compute_full_loss, name)
