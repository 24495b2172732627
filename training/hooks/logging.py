"""Hooks that say how a run is going: values in the log, steps per second, values at its end (TF 2.15).

Owns when a line is logged and how it reads. Does not know where log lines go.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from estimator_serving.training.hooks.base import (
    EventHook,
    SecondOrStepTimer,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from estimator_serving.training.hooks.run import Run, refuse_feed
from estimator_serving.training.nn.summaries import EventWriter
from estimator_serving.training.nn.variables import GLOBAL_STEP

logger = logging.getLogger("estimator_serving.training")


class LoggingTensorHook(SessionRunHook):
    """Log values every `every_n_iter` steps or `every_n_secs` seconds, and at the end if `at_end`.

    `tensors` maps tags to what Run.fetch takes, or is a list of such. `formatter` makes the line from the values. As in
    TensorFlow, which reads the values while the step is taken, 'global_step' counts the steps before it, and `at_end`
    all steps.
    """

    def __init__(
        self,
        tensors: Mapping[str, Any] | Sequence[Any],
        every_n_iter: int | None = None,
        every_n_secs: float | None = None,
        at_end: bool = False,
        formatter: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        only_at_end = at_end and every_n_iter is None and every_n_secs is None
        if not only_at_end and (every_n_iter is None) == (every_n_secs is None):
            raise ValueError("either at_end and/or exactly one of every_n_iter and every_n_secs must be provided.")
        if every_n_iter is not None and every_n_iter <= 0:
            raise ValueError(f"invalid every_n_iter={every_n_iter}.")
        self._tensors = dict(tensors) if isinstance(tensors, Mapping) else {str(item): item for item in tensors}
        self._timer = None if only_at_end else SecondOrStepTimer(every_n_secs, every_n_iter)
        self._at_end = at_end
        self._formatter = formatter
        self._iteration = 0

    def begin(self) -> None:
        self._iteration = 0
        if self._timer is not None:
            self._timer.reset()

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if self._timer is not None and self._timer.should_trigger_for_step(self._iteration):
            elapsed_s, _ = self._timer.update_last_triggered_step(self._iteration)
            self._log(run_context.session, elapsed_s, steps_ahead=1)
        self._iteration += 1

    def end(self, session: Run) -> None:
        if self._at_end:
            self._log(session, None, steps_ahead=0)

    def _log(self, session: Run, elapsed_s: float | None, steps_ahead: int) -> None:
        values = session.fetch(self._tensors)
        for tag, what in self._tensors.items():
            if isinstance(what, str) and what == GLOBAL_STEP:
                values[tag] -= steps_ahead
        line = self._formatter(values) if self._formatter else ", ".join(f"{tag} = {v!s}" for tag, v in values.items())
        logger.info("%s", line if elapsed_s is None or self._formatter else f"{line} ({elapsed_s:.3f} sec)")


class StepCounterHook(EventHook):
    """Log and summarise `global_step/sec` every so many steps or seconds."""

    def __init__(
        self,
        every_n_steps: int | None = 100,
        every_n_secs: float | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        summary_writer: EventWriter | None = None,
    ) -> None:
        if (every_n_steps is None) == (every_n_secs is None):
            raise ValueError("exactly one of every_n_steps and every_n_secs should be provided.")
        super().__init__(output_dir, summary_writer)
        self._timer = SecondOrStepTimer(every_n_secs, every_n_steps)

    def begin(self) -> None:
        self._timer.reset()

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        step = run_context.session.global_step
        if not self._timer.should_trigger_for_step(step):
            return
        elapsed_s, elapsed_steps = self._timer.update_last_triggered_step(step)
        if elapsed_s is None or elapsed_steps is None:
            return
        rate = elapsed_steps / elapsed_s if elapsed_s > 0 else math.inf
        logger.info("global_step/sec: %g", rate)
        if self.writer is not None:
            self.writer.add({"global_step/sec": rate}, step)


class FinalOpsHook(SessionRunHook):
    """Keep the values of `final_ops` (what Run.fetch takes) at the end of the run.

    Attributes:
        final_ops_values: in the shape of `final_ops`; None before the end, or if nothing was asked for.
    """

    def __init__(self, final_ops: Any, final_ops_feed_dict: None = None) -> None:
        refuse_feed(final_ops_feed_dict)
        self._final_ops = final_ops
        self.final_ops_values: Any = None

    def end(self, session: Run) -> None:
        if self._final_ops is not None:
            self.final_ops_values = session.fetch(self._final_ops)
