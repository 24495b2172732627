"""What a model_fn takes and returns: modes, the EstimatorSpec with TensorFlow's checks, export outputs, strings.

Owns the checks of TF 2.15. Does not know training, checkpoints or columns.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.arrays import Array
from estimator_serving.training.hooks.base import SessionRunHook
from estimator_serving.training.nn.metrics import Metric
from estimator_serving.training.optimizers.base import TrainOp

logger = logging.getLogger(__name__)


class ModeKeys:
    """Why model_fn is called."""

    TRAIN = "train"
    EVAL = "eval"
    PREDICT = "infer"


@dataclass(frozen=True, slots=True)
class StringPrediction:
    """Strings as a network can give them: `ids` int64 of any shape into `vocabulary`.

    `predict` yields the words as bytes (as TF does); the exported graph gathers them.
    """

    ids: Tensor
    vocabulary: tuple[str, ...]

    def numpy(self) -> Array:
        """The words as an object array of bytes, in the shape of `ids`."""
        words: Array = np.array([word.encode(errors="surrogateescape") for word in self.vocabulary], dtype=object)
        picked: Array = words[self.ids.numpy()]
        return picked

    @property
    def shape(self) -> torch.Size:
        return self.ids.shape


Prediction = Tensor | StringPrediction
Predictions = Prediction | Mapping[Any, Prediction]

DEFAULT_SERVING_KEY = "serving_default"


class ExportOutput:
    """One signature of an exported model."""


@dataclass(frozen=True)
class PredictOutput(ExportOutput):
    """Named outputs of a `predict` signature; a single tensor is called `output`."""

    outputs: Predictions

    def __post_init__(self) -> None:
        outputs = dict(self.outputs) if isinstance(self.outputs, Mapping) else {"output": self.outputs}
        for key, value in outputs.items():
            if not isinstance(key, str | tuple):
                raise ValueError(f"Prediction output key must be a string or a tuple of strings; got {key}.")
            if not isinstance(value, Tensor | StringPrediction):
                raise ValueError(f"Prediction output value must be a Tensor or a StringPrediction; got {value!r}.")
        joined = {"/".join(key) if isinstance(key, tuple) else key: value for key, value in outputs.items()}
        object.__setattr__(self, "outputs", joined)


@dataclass(frozen=True)
class ClassificationOutput(ExportOutput):
    """`scores` f32 [B, n] and `classes` strings [B, n] of a `classify` signature; one of the two may be missing."""

    scores: Tensor | None = None
    classes: StringPrediction | None = None

    def __post_init__(self) -> None:
        if self.scores is None and self.classes is None:
            raise ValueError("Cannot create a ClassificationOutput with empty scores and classes: give at least one.")
        if self.scores is not None and not (isinstance(self.scores, Tensor) and self.scores.is_floating_point()):
            raise ValueError(f"Classification scores must be a float32 Tensor; got {self.scores!r}.")
        if self.classes is not None and not isinstance(self.classes, StringPrediction):
            raise ValueError(
                f"Classification classes must be strings; got {self.classes!r}. Wrap the ids with their names: "
                "StringPrediction(ids, vocabulary)."
            )


@dataclass(frozen=True)
class RegressionOutput(ExportOutput):
    """`value` f32 [B] or [B, 1] of a `regress` signature."""

    value: Tensor

    def __post_init__(self) -> None:
        if not (isinstance(self.value, Tensor) and self.value.is_floating_point()):
            raise ValueError(f"Regression output value must be a float32 Tensor; got {self.value!r}.")


@dataclass(frozen=True)
class EstimatorSpec:
    """What model_fn returns. It is checked for its mode when it is made (TF 2.15).

    TRAIN needs `loss` (f32, one element) and `train_op`, EVAL `loss`, PREDICT `predictions` (a tensor, a
    StringPrediction, or a dict of them). `eval_metric_ops` maps names to metrics of this batch. `export_outputs` maps
    signature names to outputs; without them the predictions become `serving_default`. Raises ValueError for what is
    missing and TypeError for what has the wrong type.
    """

    mode: str
    predictions: Predictions | None = None
    loss: Tensor | None = None
    train_op: TrainOp | None = None
    eval_metric_ops: Mapping[str, Metric] | None = None
    export_outputs: Mapping[str, ExportOutput] | None = None
    training_chief_hooks: Iterable[SessionRunHook] | None = None
    training_hooks: Iterable[SessionRunHook] | None = None
    scaffold: None = None
    evaluation_hooks: Iterable[SessionRunHook] | None = None
    prediction_hooks: Iterable[SessionRunHook] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        if self.train_op is None and self.mode == ModeKeys.TRAIN:
            raise ValueError("Missing train_op. Return optimizers.X(...).minimize(loss) as train_op in TRAIN mode.")
        if self.train_op is not None and not isinstance(self.train_op, TrainOp):
            raise TypeError(
                f"train_op must be Operation or Tensor, given: {self.train_op!r}. Here it is what an optimizer's "
                "minimize(loss) returns."
            )
        put(self, "loss", _checked_loss(self.loss, self.mode))
        put(self, "predictions", _checked_predictions(self.predictions, self.mode))
        put(self, "eval_metric_ops", _checked_metrics(self.eval_metric_ops))
        if self.mode == ModeKeys.PREDICT:
            put(self, "export_outputs", _checked_export_outputs(self.export_outputs, self.predictions))
        for field in ("training_hooks", "training_chief_hooks", "evaluation_hooks", "prediction_hooks"):
            hooks = tuple(getattr(self, field) or ())
            for hook in hooks:
                if not isinstance(hook, SessionRunHook):
                    raise TypeError(f"All hooks must be SessionRunHook instances, given: {hook!r}")
            put(self, field, hooks)
        if self.scaffold is not None:
            raise TypeError(
                f"scaffold must be tf.train.Scaffold. Given: {self.scaffold!r}. There is none here: "
                "leave it None, and do with hooks what a Scaffold did."
            )

    def of_step(self, loss: Tensor, train_op: TrainOp) -> EstimatorSpec:
        """The same spec in another step. Nothing is checked again, because only numbers differ."""
        made = object.__new__(EstimatorSpec)  # copy.copy takes ten times as long, in every step
        vars(made).update(vars(self), loss=loss, train_op=train_op)
        return made

    def _replace(self, **changes: Any) -> EstimatorSpec:
        """A copy with `changes`, checked again. TF's EstimatorSpec is a namedtuple, and programs call its _replace.

        As there, `export_outputs` stay as they are unless they are among the changes.
        """
        return replace(self, **changes)


def _checked_loss(loss: object, mode: str) -> Tensor | None:
    if loss is None:
        if mode in (ModeKeys.TRAIN, ModeKeys.EVAL):
            raise ValueError(f"Missing loss. Return it in the EstimatorSpec of mode {mode!r}.")
        return None
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss must be Tensor, given: {loss!r}")
    if loss.ndim == 0:
        return loss
    if loss.numel() != 1:
        raise ValueError(f"Loss must be scalar, given: a tensor of shape {tuple(loss.shape)}. Take its mean or sum.")
    return loss.reshape(())


def _checked_predictions(predictions: Predictions | None, mode: str) -> Predictions:
    if predictions is None:
        if mode == ModeKeys.PREDICT:
            raise ValueError("Missing predictions. Return them in the EstimatorSpec of mode 'infer'.")
        return {}
    named: list[tuple[str, object]] = [("predictions", predictions)]
    if isinstance(predictions, dict):
        named = [(f"predictions[{key}]", value) for key, value in predictions.items()]
    for name, value in named:
        if not isinstance(value, Tensor | StringPrediction):
            raise TypeError(f"{name} must be Tensor (or a StringPrediction for strings), given: {value!r}")
    return predictions


def _checked_metrics(metrics: Mapping[str, Metric] | None) -> Mapping[str, Metric]:
    if metrics is None:
        return {}
    if not isinstance(metrics, dict):
        raise TypeError(f"eval_metric_ops must be a dict, given: {metrics!r}")
    # A pair that a program has unpacked and put together again.
    pairs = {key: value for key, value in metrics.items() if isinstance(value, tuple)}
    metrics = metrics | {key: pair[0] for key, pair in pairs.items() if len(pair) == 2 and pair[0] is pair[1]}
    for key, value in metrics.items():
        if not isinstance(value, Metric):
            raise TypeError(
                f"Values of eval_metric_ops must be (metric_value, update_op) tuples, given: {value!r} for key: {key}. "
                "What training.metrics gives stands for both, for example metrics.accuracy(labels, predictions)."
            )
    return metrics


def _checked_export_outputs(
    outputs: Mapping[str, ExportOutput] | None, predictions: Predictions | None
) -> Mapping[str, ExportOutput]:
    if outputs is None:
        assert predictions is not None
        return {DEFAULT_SERVING_KEY: PredictOutput(predictions)}
    if not isinstance(outputs, dict):
        raise TypeError(f"`export_outputs` must be dict, received: {outputs!r}")
    for value in outputs.values():
        if not isinstance(value, ExportOutput):
            raise TypeError(f"Values in `export_outputs` must be ExportOutput objects, received: {value!r}")
    if len(outputs) == 1:
        (only,) = outputs.values()
        return {**outputs, DEFAULT_SERVING_KEY: only}
    if len(outputs) > 1 and DEFAULT_SERVING_KEY not in outputs:
        raise ValueError(
            "Multiple `export_outputs` were provided, but none of them are specified as the default. Do this by "
            f'naming one of them with "{DEFAULT_SERVING_KEY}".'
        )
    return outputs


# -- calling a model_fn -----------------------------------------------------------------------------------------------

ModelFn = Callable[..., EstimatorSpec]

_ARGUMENTS = frozenset({"features", "labels", "mode", "params", "config"})


def argument_names(function: Callable[..., Any]) -> frozenset[str]:
    """The names a function can be called with (bound `self` and partially applied arguments left out)."""
    parameters = inspect.signature(function).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(p.name for p in parameters if p.kind in plain)


def check_model_fn(model_fn: ModelFn, params: Any) -> frozenset[str]:
    """The arguments `model_fn` takes. Raises ValueError as TF does for those it lacks or has too many."""
    if model_fn is None:
        raise ValueError("model_fn must be provided to Estimator.")
    names = argument_names(model_fn)
    if "features" not in names:
        raise ValueError(f"model_fn ({model_fn}) must include features argument.")
    if params is not None and "params" not in names:
        raise ValueError(
            f"model_fn ({model_fn}) does not include params argument, but params ({params}) is passed to Estimator."
        )
    if params is None and "params" in names:
        logger.warning("model_fn (%s) includes params argument, but params are not passed to Estimator.", model_fn)
    unexpected = sorted(names - _ARGUMENTS)
    if unexpected:
        raise ValueError(
            f"model_fn ({model_fn}) has following not expected args: {unexpected}. It may take features, labels, "
            "mode, params and config."
        )
    return names
