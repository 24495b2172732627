"""What the families share: which head a classifier has, whose steps may be replayed, and the checks of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from estimator_serving.training.columns.values import FeatureColumn
from estimator_serving.training.heads import BinaryClassHead, Head, MultiClassHead
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.loop.replay import depends_on_tensors_alone
from estimator_serving.training.model_fn import ModelFn
from estimator_serving.training.optimizers.base import Optimizer, OptimizerLike


def classifier_head(
    n_classes: int, weight_column: WeightColumn, label_vocabulary: Sequence[str] | None, loss_reduction: str
) -> Head:
    """One logit for two classes, n for more. ValueError for fewer than two."""
    if n_classes == 2:
        return BinaryClassHead(weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction)
    return MultiClassHead(n_classes, weight_column, label_vocabulary, loss_reduction)


def replayed(
    model_fn: ModelFn,
    optimizers: Iterable[OptimizerLike | None],
    weight_column: WeightColumn,
    activation_fn: Callable[..., Any] | None = None,
) -> ModelFn:
    """Let the steps of a library's head be replayed, where nothing but tensors tells one from another.

    A function of the user's may do something else in every step: one that makes the optimizer, an activation, the
    normalizer of a weight column. PyTorch's own do not.
    """
    functions = (activation_fn, getattr(weight_column, "normalizer_fn", None))
    is_fixed = all(made is None or isinstance(made, str | Optimizer) for made in optimizers)
    return depends_on_tensors_alone(model_fn) if is_fixed and all(map(_is_pytorchs, functions)) else model_fn


def _is_pytorchs(function: Callable[..., Any] | None) -> bool:
    # PyTorch's compiled functions name no module; Python's name `builtins`.
    return function is None or (getattr(function, "__module__", None) or "torch").startswith("torch")


def check_feature_dict(features: Any) -> None:
    """Canned estimators read columns, so their features have names."""
    if not isinstance(features, Mapping):
        raise ValueError(
            f"features should be a dictionary of `Tensor`s. Given type: {type(features)}. "
            "Let input_fn return ({name: array}, labels)."
        )


def listed(feature_columns: Iterable[FeatureColumn] | FeatureColumn | None) -> tuple[FeatureColumn, ...]:
    """The columns as a tuple: one column alone and generators are taken too, as TF does."""
    if feature_columns is None:
        return ()
    return tuple(feature_columns) if isinstance(feature_columns, Iterable) else (feature_columns,)
