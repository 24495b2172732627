"""Compares a checkpoint with a model, without training: calls model_fn on a store that only records.

Owns which batch model_fn is called with. Does not know checkpoint formats.
"""

from __future__ import annotations

import os
import warnings

import torch

from estimator_serving.training.checkpoints.checkpoint import read_checkpoint
from estimator_serving.training.checkpoints.fit import CheckpointFit, TryingStore
from estimator_serving.training.columns.features import RowlessFeatures, TransformRecorder
from estimator_serving.training.loop.model import InputFn, Model, batches_of
from estimator_serving.training.model_fn import ModeKeys


def compare_checkpoint(
    model: Model, checkpoint_path: str | os.PathLike[str], input_fn: InputFn | None = None
) -> CheckpointFit:
    """What the model takes of a checkpoint, what it lacks and what it leaves. See Estimator.checkpoint_fit."""
    values = read_checkpoint(checkpoint_path).values
    if input_fn is not None:
        store = TryingStore(values)
        given = model.call_input_fn(input_fn, ModeKeys.TRAIN)
        with batches_of(given, ModeKeys.TRAIN, TransformRecorder()) as batches:
            model.call(store, *next(batches), ModeKeys.TRAIN)
        return store.fit(has_slots=True)
    for mode, labels in ((ModeKeys.TRAIN, torch.zeros(0, 1, dtype=torch.int64)), (ModeKeys.PREDICT, None)):
        store = TryingStore(values)
        try:
            with warnings.catch_warnings():  # torch warns about means of no values
                warnings.simplefilter("ignore")
                model.call(store, RowlessFeatures(TransformRecorder()), labels, mode)
        except Exception as error:
            failed = error
        else:
            return store.fit(has_slots=mode == ModeKeys.TRAIN)
    raise ValueError(
        f"model_fn creates its variables only with data ({failed}). Give an input_fn; its first batch is used."
    ) from failed
