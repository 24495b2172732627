"""Optimizers and learning-rate schedules under Keras's names; `v1` has TensorFlow 1's. Knows variables, no model.

A new optimizer is a file with its class, and a line here.
"""

from estimator_serving.training.optimizers import schedules as schedules
from estimator_serving.training.optimizers.adadelta import Adadelta as Adadelta
from estimator_serving.training.optimizers.adagrad import Adagrad as Adagrad
from estimator_serving.training.optimizers.adam import Adam as Adam
from estimator_serving.training.optimizers.adamax import Adamax as Adamax
from estimator_serving.training.optimizers.base import Optimizer as Optimizer
from estimator_serving.training.optimizers.base import TrainOp as TrainOp
from estimator_serving.training.optimizers.base import group as group
from estimator_serving.training.optimizers.by_name import OptimizerLike as OptimizerLike
from estimator_serving.training.optimizers.by_name import get_optimizer as get_optimizer
from estimator_serving.training.optimizers.ftrl import Ftrl as Ftrl
from estimator_serving.training.optimizers.rmsprop import RMSProp as RMSProp
from estimator_serving.training.optimizers.rmsprop import RMSprop as RMSprop
from estimator_serving.training.optimizers.sgd import SGD as SGD
