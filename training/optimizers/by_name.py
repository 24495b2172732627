"""The optimizers that the arguments of canned estimators name, and what else such an argument may be.

Owns TensorFlow's names for them. A new optimizer needs no name here.
"""

from __future__ import annotations

from collections.abc import Callable

from estimator_serving.training.optimizers.adagrad import Adagrad
from estimator_serving.training.optimizers.adam import Adam
from estimator_serving.training.optimizers.base import Optimizer
from estimator_serving.training.optimizers.ftrl import Ftrl
from estimator_serving.training.optimizers.rmsprop import RMSProp
from estimator_serving.training.optimizers.sgd import SGD

OptimizerLike = str | Optimizer | Callable[[], Optimizer]

BY_NAME: dict[str, type[Optimizer]] = {
    "Adagrad": Adagrad,
    "Adam": Adam,
    "Ftrl": Ftrl,
    "RMSProp": RMSProp,
    "SGD": SGD,
}


def get_optimizer(optimizer: OptimizerLike, learning_rate: float | None = None) -> Optimizer:
    """An optimizer from its name, itself, or a callable without arguments that makes one.

    `learning_rate` is used only with a name; None means the default of the class. Raises ValueError for anything else.
    """
    if isinstance(optimizer, str):
        if optimizer not in BY_NAME:
            raise ValueError(f"Unsupported optimizer name: {optimizer}. Supported names are: {tuple(BY_NAME)}")
        make: Callable[..., Optimizer] = BY_NAME[optimizer]
        return make() if learning_rate is None else make(learning_rate=learning_rate)
    # A class of another package, such as torch.optim.Adam, is not called: it would ask for arguments of its own.
    is_other_class = isinstance(optimizer, type) and not issubclass(optimizer, Optimizer)
    made = optimizer() if callable(optimizer) and not is_other_class else optimizer
    if not isinstance(made, Optimizer):
        raise ValueError(
            f"The given object is not an Optimizer instance. Given: {made!r}. "
            "Pass one of training.optimizers, its name, or a function without arguments that returns one."
        )
    return made
