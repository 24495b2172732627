"""Predictions as arrays: what `predict` yields, and a trained model as a plain function.

Owns turning a spec's predictions into numpy. Does not know checkpoints or input functions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from estimator_serving.training.arrays import Array, as_array, as_tensors
from estimator_serving.training.columns.features import prepare

if TYPE_CHECKING:
    from estimator_serving.training.loop.trained_model import TrainedModel

logger = logging.getLogger("estimator_serving.training")

SINGLE_OUTPUT = "output"
"""The key of a prediction that model_fn did not name."""


class Predictor:
    """A trained model as a function: `predictor({"age": [22.0, 38.0]})` -> {"probabilities": array of two rows, …}.

    Takes what an input_fn would return as features: a dict of arrays or lists, [batch, …] each (or one array, for a
    model_fn that takes one). Returns numpy arrays [batch, …], text as bytes; a model_fn that predicts one tensor gives
    {"output": array}. The model is the checkpoint's from when the predictor was made, whatever is trained later. Calls
    from several threads are safe: the feature transforms run side by side, the network one call after the other.

    Raises ValueError for features that do not fit the columns (TF 2.15's texts).
    """

    def __init__(self, model: TrainedModel, predict_keys: str | Sequence[str] | None = None) -> None:
        self._model = model
        self._recorder = model.recorder()
        self._keys = as_keys(predict_keys)
        self.checkpoint_path = model.checkpoint_path
        self.global_step = model.global_step

    def __call__(self, features: Any) -> dict[str, Array]:
        is_named = isinstance(features, Mapping)
        given = prepare(features, self._recorder) if is_named else as_tensors(as_array(features, "features"))
        predictions = selected(self._model.call(given).predictions, self._keys)
        named: dict[str, Array] = arrays(
            predictions if isinstance(predictions, Mapping) else {SINGLE_OUTPUT: predictions}
        )
        return named


def as_keys(predict_keys: str | Sequence[str] | None) -> list[str]:
    return [predict_keys] if isinstance(predict_keys, str) else list(predict_keys or ())


def selected(predictions: Any, wanted: Sequence[str]) -> Any:
    """The predictions of those keys, all without keys.

    Raises ValueError with TF 2.15's texts where nothing is left or predictions have no keys. Keys that are not there
    beside others that are get a warning, where TensorFlow says nothing.
    """
    if not wanted:
        return predictions
    if not isinstance(predictions, Mapping):
        raise ValueError(
            "predict_keys argument is not valid in case of non-dict predictions. Leave it out, or let model_fn return "
            "a dict."
        )
    kept = {key: value for key, value in predictions.items() if key in wanted}
    if not kept:
        raise ValueError(
            f"Expected to run at least one output from {predictions.keys()}, provided {list(wanted)}. "
            "Name some of them in predict_keys."
        )
    return kept


def warn_of_unknown(predictions: Any, wanted: Sequence[str]) -> None:
    """Log which of the keys name no prediction."""
    unknown = [key for key in wanted if key not in predictions]
    if unknown:
        logger.warning("predict_keys %s name no prediction and are left out; there are %s.", unknown, list(predictions))


def arrays(predictions: Any) -> Any:
    """numpy arrays for tensors, arrays of bytes for strings; dicts alike."""
    if isinstance(predictions, Mapping):
        return {key: arrays(value) for key, value in predictions.items()}
    # A copy: a prediction may be a variable itself, or one row of it repeated, and the caller may write into it.
    return predictions.detach().numpy().copy() if isinstance(predictions, Tensor) else predictions.numpy()


def examples(predictions: Any) -> Iterator[Any]:
    """One dict of arrays a row (or one array). Raises ValueError with TF's text where lengths differ."""
    if not isinstance(predictions, Mapping):
        yield from predictions
        return
    lengths = {key: value.shape[0] if value.ndim else None for key, value in predictions.items()}
    first = next(iter(lengths.values()))
    for key, length in lengths.items():
        if length is None or length != first:
            raise ValueError(
                f"Batch length of predictions should be same. {key} has different batch length than others. "
                "Pass yield_single_examples=False to get whole batches."
            )
    for row in zip(*predictions.values(), strict=True):
        yield dict(zip(predictions, row, strict=True))
