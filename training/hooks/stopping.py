"""Hooks that end a run or keep it from starting: at a step, at a value that is not a number (TF 2.15).

Owns when they do. Does not know what happens after the last step.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from estimator_serving.training.errors import NanLossDuringTrainingError
from estimator_serving.training.hooks.base import SessionRunArgs, SessionRunContext, SessionRunHook, SessionRunValues
from estimator_serving.training.hooks.run import Run

if TYPE_CHECKING:
    from estimator_serving.training.estimator import Estimator

logger = logging.getLogger("estimator_serving.training")


class StopAtStepHook(SessionRunHook):
    """Stop after `num_steps` more steps, or once global_step is `last_step`. Exactly one of the two."""

    def __init__(self, num_steps: int | None = None, last_step: int | None = None) -> None:
        if num_steps is None and last_step is None:
            raise ValueError("One of num_steps or last_step must be specified.")
        if num_steps is not None and last_step is not None:
            raise ValueError("Only one of num_steps or last_step can be specified.")
        self._num_steps = num_steps
        self._last_step = last_step

    def after_create_session(self, session: Run, coord: None) -> None:
        if self._num_steps is not None:
            self._last_step = session.global_step + self._num_steps
        session.last_step = self._last_step

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        assert self._last_step is not None
        if run_context.session.global_step >= self._last_step:
            run_context.request_stop()


def make_stop_at_checkpoint_step_hook(
    estimator: Estimator, last_step: int, wait_after_file_check_secs: float = 30
) -> SessionRunHook:
    """A hook that stops once `last_step` has been reached (tf.estimator.experimental's).

    The chief stops by its own count. In TensorFlow the others look for the chief's checkpoint every
    `wait_after_file_check_secs` seconds; here all workers count alike and stop at the same step.
    """
    del estimator, wait_after_file_check_secs
    return StopAtStepHook(last_step=last_step)


@dataclass(eq=False)
class GlobalStepWaiterHook(SessionRunHook):
    """Start only at a global_step, which in TensorFlow other workers raise meanwhile.

    Here every worker takes every step together with the others, so waiting would never end: a run that begins below
    `wait_until_step` raises ValueError where TensorFlow would wait, and any other begins at once.
    """

    wait_until_step: int

    def after_create_session(self, session: Run, coord: None) -> None:
        if session.global_step < self.wait_until_step:
            raise ValueError(
                f"GlobalStepWaiterHook would wait for ever: global_step is {session.global_step}, it waits for "
                f"{self.wait_until_step}, and no other worker takes steps meanwhile. Remove the hook."
            )


class NanTensorHook(SessionRunHook):
    """Raise NanLossDuringTrainingError, or stop, when a value is NaN after a step.

    Training checks its loss by itself, before the step changes a weight; this hook is for other values.
    `loss_tensor` is what Run.fetch takes.
    """

    def __init__(self, loss_tensor: Any = "loss", fail_on_nan_loss: bool = True) -> None:
        self._fetches = SessionRunArgs(loss_tensor)
        self._fail_on_nan_loss = fail_on_nan_loss

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        return self._fetches

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if not np.isnan(run_values.results).any():
            return
        logger.error("Model diverged with loss = NaN.")
        if self._fail_on_nan_loss:
            raise NanLossDuringTrainingError
        run_context.request_stop()
