"""InMemoryEvaluatorHook: evaluation within a training, on the weights as they are, without a checkpoint (TF 2.15).

Owns when it evaluates. How is the Estimator's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator_serving.training.estimator import Estimator, TrainedModel
from estimator_serving.training.hooks.base import (
    Run,
    SecondOrStepTimer,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    check_hooks,
)


class InMemoryEvaluatorHook(SessionRunHook):
    """Evaluate `estimator` at the start of its training, every `every_n_iter` steps, and at the end.

    `input_fn`, `steps`, `hooks` and `name` are evaluate's; results go to `estimator.eval_dir(name)` and `last_results`.
    Raises ValueError for every_n_iter below 1 and for a training of several workers, TypeError for wrong hooks.
    """

    def __init__(
        self,
        estimator: Estimator,
        input_fn: Callable[..., Any],
        steps: int | None = None,
        hooks: Sequence[SessionRunHook] | None = None,
        name: str | None = None,
        every_n_iter: int = 100,
    ) -> None:
        if every_n_iter is None or every_n_iter <= 0:
            raise ValueError(f"invalid every_n_iter={every_n_iter}.")
        config = estimator.config
        if config.num_ps_replicas > 0 or config.num_worker_replicas > 1:
            raise ValueError("InMemoryEvaluator supports only single machine (aka Local) setting.")
        self.last_results: dict[str, Any] = {}
        self._estimator = estimator
        self._input_fn = input_fn
        self._steps = steps
        self._hooks = check_hooks(hooks)
        self._name = name
        self._timer = SecondOrStepTimer(every_steps=every_n_iter)
        self._iteration = 0

    def begin(self) -> None:
        self._timer.reset()
        self._iteration = 0

    def after_create_session(self, session: Run, coord: None) -> None:
        self._evaluate(session)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        self._iteration += 1
        if self._timer.should_trigger_for_step(self._iteration):
            self._evaluate(run_context.session)

    def end(self, session: Run) -> None:
        self._evaluate(session)

    def _evaluate(self, session: Run) -> None:
        self._timer.update_last_triggered_step(self._iteration)
        store = session.store
        # What the step has reported is not written yet.
        reported, store.summaries = store.summaries, None
        model = TrainedModel(self._estimator, store, session.recorder.transform, None)
        self.last_results = self._estimator.evaluate_model(model, self._input_fn, self._steps, self._hooks, self._name)
        store.summaries = reported
