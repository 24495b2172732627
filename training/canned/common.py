"""What the families of canned estimators share: a classifier's head, checks of features and columns, and the replay.

Owns the rule whether a model_fn's steps may be replayed. Does not know networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from estimator_serving.training.columns.base import FeatureColumn
from estimator_serving.training.heads import BinaryClassHead, Head, MultiClassHead
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.loop.replay import depends_only_on_tensors
from estimator_serving.training.model_fn import ModelFn
from estimator_serving.training.optimizers import Optimizer, OptimizerLike


def classifier_head(
    n_classes: int, weight_column: WeightColumn, label_vocabulary: Sequence[str] | None, loss_reduction: str
) -> Head:
    """The head of a classifier: one logit for two classes, n for more. Raises ValueError for fewer than two."""
    if n_classes == 2:
        return BinaryClassHead(weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction)
    return MultiClassHead(n_classes, weight_column, label_vocabulary, loss_reduction)


def replayed(
    model_fn: ModelFn,
    optimizers: Iterable[OptimizerLike | None],
    weight_column: WeightColumn,
    activation_fn: Callable[..., Any] | None = None,
) -> ModelFn:
    """Mark the model_fn of a library's head for replay, unless a function of the user's takes part in its steps.

    Such a function may do something else in every step: one that makes the optimizer, an activation, or the normalizer
    of a weight column. PyTorch's own functions do not.
    """
    is_fixed = all(made is None or isinstance(made, str | Optimizer) for made in optimizers)
    functions = (activation_fn, getattr(weight_column, "normalizer_fn", None))
    # PyTorch's compiled functions name no module; Python's name `builtins`.
    modules = [getattr(function, "__module__", None) or "torch" for function in functions if function is not None]
    is_pytorchs = all(module.startswith("torch") for module in modules)
    return depends_only_on_tensors(model_fn) if is_fixed and is_pytorchs else model_fn


def check_feature_dict(features: Any) -> None:
    """Raise ValueError unless the features have names, which columns read them by."""
    if not isinstance(features, Mapping):
        raise ValueError(
            f"features should be a dictionary of `Tensor`s. Given type: {type(features)}. "
            "Let input_fn return ({name: array}, labels)."
        )


def listed(feature_columns: Iterable[FeatureColumn] | FeatureColumn | None) -> tuple[FeatureColumn, ...]:
    """The columns as a tuple. A single column and a generator are taken too, as in TF; None gives no columns."""
    if feature_columns is None:
        return ()
    return tuple(feature_columns) if isinstance(feature_columns, Iterable) else (feature_columns,)
