"""Optimizers and learning-rate schedules under Keras's names; `v1` has TensorFlow 1's. Knows variables, no model."""

from estimator_serving.training.optimizers import schedules
from estimator_serving.training.optimizers.base import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    Ftrl,
    Optimizer,
    OptimizerLike,
    RMSProp,
    RMSprop,
    TrainOp,
    get_optimizer,
    group,
)

__all__ = [
    "schedules",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Adamax",
    "Ftrl",
    "Optimizer",
    "OptimizerLike",
    "RMSProp",
    "RMSprop",
    "SGD",
    "TrainOp",
    "get_optimizer",
    "group",
]
