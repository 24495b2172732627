"""TrainedModel: a checkpoint as a function; and which checkpoint of a model_dir is taken.

Owns the choice, reading it into variables and a transform, and keeping the model that was read last. Does not know file
formats, batches or hooks.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from estimator_serving.training.checkpoints.checkpoint import (
    Checkpoint,
    checkpoint_file,
    latest_checkpoint,
    prefix_of,
    read_checkpoint,
)
from estimator_serving.training.checkpoints.warm_start import WarmStart, WarmStartSettings
from estimator_serving.training.columns.features import TransformRecorder
from estimator_serving.training.columns.transform import Transform
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.loop.model import Model
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn
from estimator_serving.training.nn.variables import SLOTS, VariableStore

logger = logging.getLogger("estimator_serving.training")


class TrainedModel:
    """A checkpoint as a function: variables and transform of one step, never changed.

    `store` holds the variables (an nn.Module), `transform` the checkpoint's transform or None, `checkpoint_path` and
    `global_step` say which checkpoint it is (None and 0 for initial values). `model_fn` is the user's function, for
    messages that name it.
    """

    def __init__(
        self, model: Model, store: VariableStore, transform: Transform | None, checkpoint_path: str | None
    ) -> None:
        self._model = model
        self.store = store
        self.transform = transform
        self.checkpoint_path = checkpoint_path
        self.global_step = store.global_step
        self.model_fn: ModelFn = model.model_fn
        self._lock = threading.RLock()

    def recorder(self) -> TransformRecorder:
        """A fresh recorder that knows the checkpoint's transform and refuses columns it does not have."""
        return TransformRecorder(self.transform)

    def call(self, features: Any, mode: str = ModeKeys.PREDICT, labels: Any = None) -> EstimatorSpec:
        """What model_fn returns for a batch, without gradients. Threads take turns.

        Can be traced by torch.export once it has been called eagerly, for that makes the variables: put `store` into
        the traced module and pass Features.traced.
        """
        with self._lock:
            return self._model.call(self.store, features, labels, mode)


class TrainedModels:
    """The models of one estimator: one for each checkpoint, and one with initial values before there is any.

    The model of the last call is kept, so that a second evaluation or prediction reads and builds nothing.
    """

    def __init__(self, model: Model, warm_start: WarmStartSettings | None) -> None:
        self._model = model
        self._warm_start = warm_start
        directory = model.config.model_dir
        assert directory is not None
        self.directory = os.fspath(directory)
        self._kept: tuple[tuple[str, int], TrainedModel] | None = None

    def latest_checkpoint(self) -> str | None:
        """`<model_dir>/model.ckpt-<step>` of the newest checkpoint, None before training."""
        return latest_checkpoint(self.directory)

    def read_newest(self) -> Checkpoint:
        """The newest checkpoint. Raises ValueError before training."""
        path = self.latest_checkpoint()
        if path is None:
            raise ValueError(f"Could not find trained model in model_dir: {self.directory}. Call train first.")
        return read_checkpoint(path)

    def load(self, checkpoint_path: str | None = None) -> TrainedModel:
        """See Estimator.load."""
        path = checkpoint_path or self.latest_checkpoint()
        if path is None and self._warm_start is not None:
            if not self._warm_start.keeps_names_and_rows:
                return self.load_or_initialize(None, "load")
            path = self._warm_start.checkpoint_path
        if path is None:
            raise ValueError(
                f"Couldn't find trained model at {self.directory}. Call train first, or pass checkpoint_path."
            )
        key = _version(path)
        if self._kept is None or self._kept[0] != key:
            logger.info("Restoring parameters from %s", path)
            checkpoint = read_checkpoint(path)
            values = {name: value for name, value in checkpoint.values.items() if not name.startswith(SLOTS)}
            store = VariableStore(seed=self._model.new_seed(), values=values, source=checkpoint.path, frozen=True)
            transform = None if checkpoint.transform is None else Transform.from_bytes(checkpoint.transform)
            self._kept = (key, TrainedModel(self._model, store, transform, checkpoint.path))
        return self._kept[1]

    def load_or_initialize(self, checkpoint_path: str | None, purpose: str) -> TrainedModel:
        """The trained model, or one with initial values if there is none (as TF)."""
        path = checkpoint_path or self.latest_checkpoint()
        if path is not None:
            return self.load(path)
        logger.info(
            "Could not find trained model in model_dir: %s, running initialization to %s.", self.directory, purpose
        )
        key = _UNTRAINED if self._warm_start is None else _version(self._warm_start.checkpoint_path, "warm start from ")
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, TrainedModel(self._model, self._new_store(self._model.new_seed(), True), None, None))
        return self._kept[1]

    def begin_run(self, checkpoint_path: str | None, seed: int) -> Run:
        """A training that goes on from a checkpoint, or with None one that begins.

        Raises CheckpointError where the checkpoint, or warm_start_from, cannot be used.
        """
        if checkpoint_path is None:
            return Run(self._new_store(seed), TransformRecorder(None), self._model.config)
        if self._warm_start is not None:
            logger.info("model_dir has a checkpoint, so warm_start_from is not used.")
        checkpoint = read_checkpoint(checkpoint_path)
        logger.info("Restoring parameters from %s", checkpoint_path)
        store = VariableStore(seed=seed, values=checkpoint.values, source=checkpoint.path)
        transform = None if checkpoint.transform is None else Transform.from_bytes(checkpoint.transform)
        recorder = TransformRecorder(transform)
        return Run(store, recorder, self._model.config, forward_flops=checkpoint.forward_flops)

    def _new_store(self, seed: int, frozen: bool = False) -> VariableStore:
        """The variables of a model without a checkpoint."""
        start = None if self._warm_start is None else WarmStart(self._warm_start)
        return VariableStore(seed=seed, start=start, frozen=frozen)


def _version(path: str, purpose: str = "") -> tuple[str, int]:
    """A key for what is read from a checkpoint: a program that starts over in its directory writes a step again."""
    file = checkpoint_file(prefix_of(path))
    return f"{purpose}{path}", 0 if file is None else file.stat().st_mtime_ns


_UNTRAINED = ("", 0)
"""The key of the model without a checkpoint."""
