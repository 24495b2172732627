"""Hooks that keep what a run has reached: checkpoints and their listeners, summaries for TensorBoard (TF 2.15).

Owns when they are written. Does not know file formats.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from estimator_serving.training.checkpoints.checkpoint import BASENAME, Checkpoints
from estimator_serving.training.hooks.base import (
    EventHook,
    SecondOrStepTimer,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.nn.summaries import EventWriter

logger = logging.getLogger("estimator_serving.training")


class CheckpointSaverListener:
    """Is told about every checkpoint. `after_save` may return True to stop the training."""

    def begin(self) -> None:
        """Before the first step, once."""

    def before_save(self, session: Run, global_step_value: int) -> None:
        """Before each checkpoint is written."""

    def after_save(self, session: Run, global_step_value: int) -> bool | None:
        """After each checkpoint has been written."""

    def end(self, session: Run, global_step_value: int) -> None:
        """After the last one."""


class CheckpointSaverHook(SessionRunHook):
    """Write a checkpoint before the first step, every `save_secs` seconds or `save_steps` steps, and at the end.

    `saver` (a Checkpoints) takes the place of `checkpoint_dir` and `checkpoint_basename`. `scaffold` must be None and
    `save_graph_def` changes nothing: there is no graph.
    """

    is_chief_only = True

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str] | None,
        save_secs: float | None = None,
        save_steps: int | None = None,
        saver: Checkpoints | None = None,
        checkpoint_basename: str = BASENAME,
        scaffold: None = None,
        listeners: Iterable[CheckpointSaverListener] | None = None,
        save_graph_def: bool = True,
    ) -> None:
        if scaffold is not None:
            raise ValueError("scaffold is not supported: pass a Checkpoints as saver to choose what is kept.")
        if saver is None and checkpoint_dir is None:
            raise ValueError("CheckpointSaverHook needs checkpoint_dir or saver.")
        self._saver = saver
        self._directory = checkpoint_dir
        self._basename = checkpoint_basename
        self._timer = SecondOrStepTimer(save_secs, save_steps)
        self._listeners = tuple(listeners or ())
        logger.info("Create CheckpointSaverHook.")

    def add_listeners(self, listeners: Iterable[CheckpointSaverListener]) -> None:
        """Tell these too."""
        self._listeners = (*self._listeners, *listeners)

    def begin(self) -> None:
        self._timer.reset()
        for listener in self._listeners:
            listener.begin()

    def after_create_session(self, session: Run, coord: None) -> None:
        if self._saver is None:
            assert self._directory is not None
            self._saver = Checkpoints(self._directory, basename=self._basename)
        self._save(session)
        self._timer.update_last_triggered_step(session.global_step)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        session = run_context.session
        step = session.global_step
        if self._timer.should_trigger_for_step(step):
            self._timer.update_last_triggered_step(step)
            if self._save(session):
                run_context.request_stop()

    def end(self, session: Run) -> None:
        if session.global_step != self._timer.last_triggered_step():
            self._save(session)
        for listener in self._listeners:
            listener.end(session, session.global_step)

    def _save(self, session: Run) -> bool:
        """Whether a listener wants the training to stop."""
        step = session.global_step
        logger.info("Calling checkpoint listeners before saving checkpoint %d...", step)
        for listener in self._listeners:
            listener.before_save(session, step)
        assert self._saver is not None
        store = session.store
        logger.info("Saving checkpoints for %d into %s.", step, self._saver.directory / self._saver.basename)
        self._saver.save(
            store.values(), step, session.transform_bytes, store.trainable_variables, session.forward_flops
        )
        logger.info("Calling checkpoint listeners after saving checkpoint %d...", step)
        stopping = [listener for listener in self._listeners if listener.after_save(session, step)]
        for listener in stopping:
            logger.info("A CheckpointSaverListener requested that training be stopped. listener: %s", listener)
        return bool(stopping)


class SummarySaverHook(EventHook):
    """Write what model_fn reported with `summaries`: in the first step and every `save_steps` or `save_secs`.

    `scaffold` and `summary_op` must be None: summaries are what `summaries.scalar` and `.histogram` report.
    """

    def __init__(
        self,
        save_steps: int | None = None,
        save_secs: float | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        summary_writer: EventWriter | None = None,
        scaffold: None = None,
        summary_op: None = None,
    ) -> None:
        if scaffold is not None or summary_op is not None:
            raise ValueError("scaffold and summary_op are not supported: report values with training.summaries.scalar.")
        super().__init__(output_dir, summary_writer)
        self._timer = SecondOrStepTimer(save_secs, save_steps)

    def begin(self) -> None:
        self._timer.reset()

    def before_run(self, run_context: SessionRunContext) -> None:
        run = run_context.session
        if self._timer.should_trigger_for_step(run.global_step + 1):
            run.store.summaries = {}

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        run = run_context.session
        found = run.store.summaries
        if found is None:
            return
        self._timer.update_last_triggered_step(run.global_step)
        run.store.summaries = None
        if self.writer is not None and found:
            self.writer.add(found, run.global_step)
