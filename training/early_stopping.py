"""Hooks that act on evaluations: they end a training, or lower its learning rate (TF 2.15's early_stopping, and more).

The evaluations are read from the event files in eval_dir, so it does not matter which process wrote them. The chief
decides, and all processes follow. Owns the decisions. Does not know who evaluates or when.
"""

from __future__ import annotations

import logging
import math
import operator
import os
from collections.abc import Callable, Iterator, Mapping

from estimator_serving.training.estimator import Estimator
from estimator_serving.training.hooks.base import (
    SecondOrStepTimer,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.nn.event_files import read_evaluations

logger = logging.getLogger("estimator_serving.training")

PathLike = str | os.PathLike[str]
Evaluations = Mapping[int, Mapping[str, float]]


def make_early_stopping_hook(
    estimator: Estimator,
    should_stop_fn: Callable[[], bool],
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> SessionRunHook:
    """A hook that calls `should_stop_fn` every so many seconds or steps, and ends the training when it returns True.

    In a training of several processes the chief calls it, and all of them end after the same step. To count in steps,
    pass run_every_secs=None. Raises TypeError for another estimator or function, ValueError for both or neither of the
    two intervals.
    """
    _check_estimator(estimator)
    if run_every_secs is not None and run_every_steps is not None:
        raise ValueError(
            "Only one of `run_every_secs` and `run_every_steps` must be set. `run_every_secs` is 60 unless you pass "
            "run_every_secs=None."
        )
    return _StopOnPredicateHook(should_stop_fn, run_every_secs, run_every_steps)


def stop_if_higher_hook(
    estimator: Estimator,
    metric_name: str,
    threshold: float,
    eval_dir: PathLike | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> SessionRunHook:
    """Stop once an evaluation at step `min_steps` or later has a `metric_name` above `threshold`.

    Evaluations are read from `eval_dir`, by default estimator.eval_dir().
    """
    return _threshold_hook(
        estimator, metric_name, threshold, True, eval_dir, min_steps, run_every_secs, run_every_steps
    )


def stop_if_lower_hook(
    estimator: Estimator,
    metric_name: str,
    threshold: float,
    eval_dir: PathLike | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> SessionRunHook:
    """As stop_if_higher_hook, for a metric below `threshold`."""
    return _threshold_hook(
        estimator, metric_name, threshold, False, eval_dir, min_steps, run_every_secs, run_every_steps
    )


def stop_if_no_increase_hook(
    estimator: Estimator,
    metric_name: str,
    max_steps_without_increase: int,
    eval_dir: PathLike | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
    min_delta: float = 0.0,
) -> SessionRunHook:
    """Stop once `metric_name` has not increased by more than `min_delta` for so many steps.

    Evaluations before step `min_steps` do not count. They are read from `eval_dir`, by default estimator.eval_dir().
    `min_delta` is not TF's.
    """
    return _no_improvement_hook(
        estimator,
        metric_name,
        max_steps_without_increase,
        True,
        eval_dir,
        min_steps,
        run_every_secs,
        run_every_steps,
        min_delta,
    )


def stop_if_no_decrease_hook(
    estimator: Estimator,
    metric_name: str,
    max_steps_without_decrease: int,
    eval_dir: PathLike | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
    min_delta: float = 0.0,
) -> SessionRunHook:
    """As stop_if_no_increase_hook, for a metric that is to decrease."""
    return _no_improvement_hook(
        estimator,
        metric_name,
        max_steps_without_decrease,
        False,
        eval_dir,
        min_steps,
        run_every_secs,
        run_every_steps,
        min_delta,
    )


class ReduceRateOnPlateauHook(SessionRunHook):
    """Multiply the learning rate of every optimizer by `factor` each time a metric has stopped improving.

    Not TF's. The metric has stopped when evaluations show no decrease (increase with `higher_is_better`) of more than
    `min_delta` for `max_steps_without_improvement` steps; then the count of steps begins again. The rate never falls
    below `min_scale` times the one that the optimizer was made with. How often it was lowered follows from the
    evaluations in `eval_dir` (estimator.eval_dir() by default) up to the current step, so a training that goes on after
    a kill has the rate that it had.

    The hook looks at the evaluations at the start and every `run_every_steps` steps; in a training of several processes
    the chief does, and all of them follow.

    Raises TypeError for another estimator, ValueError for a factor outside (0, 1).
    """

    def __init__(
        self,
        estimator: Estimator,
        max_steps_without_improvement: int,
        metric_name: str = "loss",
        factor: float = 0.1,
        higher_is_better: bool = False,
        min_delta: float = 0.0,
        min_scale: float = 0.0,
        min_steps: int = 0,
        eval_dir: PathLike | None = None,
        run_every_steps: int = 100,
    ) -> None:
        _check_estimator(estimator)
        if not 0 < factor < 1:
            raise ValueError(f"factor must be between 0 and 1, got {factor}: it multiplies the learning rate.")
        self._patience = max_steps_without_improvement
        self._metric_name = metric_name
        self._factor = factor
        self._higher_is_better = higher_is_better
        self._min_delta = min_delta
        self._min_scale = min_scale
        self._min_steps = min_steps
        self._eval_dir = eval_dir or estimator.eval_dir()
        self._timer = SecondOrStepTimer(every_steps=run_every_steps)

    def after_create_session(self, session: Run, coord: None) -> None:
        self._timer.reset()
        self._timer.update_last_triggered_step(session.global_step)
        self._set_rate(session)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        session = run_context.session
        if self._timer.should_trigger_for_step(session.global_step):
            self._timer.update_last_triggered_step(session.global_step)
            self._set_rate(session)

    def _set_rate(self, session: Run) -> None:
        count = session.on_chief(lambda: self._plateaus(session.global_step))
        scale = max(self._factor**count, self._min_scale)
        if scale != session.store.rate_scale:
            logger.info(
                "Learning rate times %g from step %d on: %r has stopped improving %d times.",
                scale,
                session.global_step,
                self._metric_name,
                count,
            )
            session.store.rate_scale = scale

    def _plateaus(self, global_step: int) -> int:
        seen = {step: metrics for step, metrics in read_evaluations(self._eval_dir).items() if step <= global_step}
        count, since = 0, None
        for step, waited in _waiting(seen, self._metric_name, self._higher_is_better, self._min_steps, self._min_delta):
            since = step - waited if since is None or since < step - waited else since
            if step - since >= self._patience:
                count, since = count + 1, step
        return count


class _StopOnPredicateHook(SessionRunHook):
    is_chief_only = True  # its request ends the run for all

    def __init__(self, should_stop_fn: Callable[[], bool], every_secs: float | None, every_steps: int | None) -> None:
        if not callable(should_stop_fn):
            raise TypeError(f"`should_stop_fn` must be callable, given: {should_stop_fn}.")
        self._should_stop_fn = should_stop_fn
        self._timer = SecondOrStepTimer(every_secs, every_steps)

    def begin(self) -> None:
        self._timer.reset()

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        step = run_context.session.global_step
        if self._timer.should_trigger_for_step(step):
            self._timer.update_last_triggered_step(step)
            if self._should_stop_fn():
                logger.info("Requesting early stopping at global step %d", step)
                run_context.request_stop()


def _threshold_hook(
    estimator: Estimator,
    metric_name: str,
    threshold: float,
    stops_above: bool,
    eval_dir: PathLike | None,
    min_steps: int,
    run_every_secs: float | None,
    run_every_steps: int | None,
) -> SessionRunHook:
    _check_estimator(estimator)
    directory = eval_dir or estimator.eval_dir()
    is_crossed = operator.gt if stops_above else operator.lt

    def should_stop() -> bool:
        for step, value in _values(read_evaluations(directory), metric_name, min_steps):
            if is_crossed(value, threshold):
                logger.info(
                    'At step %s, metric "%s" has value %s which is %s the configured threshold (%s) for early '
                    "stopping.",
                    step,
                    metric_name,
                    value,
                    "greater than" if stops_above else "less than",
                    threshold,
                )
                return True
        return False

    return make_early_stopping_hook(estimator, should_stop, run_every_secs, run_every_steps)


def _no_improvement_hook(
    estimator: Estimator,
    metric_name: str,
    max_steps: int,
    higher_is_better: bool,
    eval_dir: PathLike | None,
    min_steps: int,
    run_every_secs: float | None,
    run_every_steps: int | None,
    min_delta: float,
) -> SessionRunHook:
    _check_estimator(estimator)
    if min_delta < 0:
        raise ValueError(f"Must specify min_delta >= 0, given: {min_delta}")
    directory = eval_dir or estimator.eval_dir()

    def should_stop() -> bool:
        evaluations = read_evaluations(directory)
        for _, waited in _waiting(evaluations, metric_name, higher_is_better, min_steps, min_delta):
            if waited >= max_steps:
                logger.info(
                    'No %s in metric "%s" for %s steps, which is greater than or equal to max steps (%s) configured '
                    "for early stopping.",
                    "increase" if higher_is_better else "decrease",
                    metric_name,
                    waited,
                    max_steps,
                )
                return True
        return False

    return make_early_stopping_hook(estimator, should_stop, run_every_secs, run_every_steps)


def _waiting(
    evaluations: Evaluations, metric_name: str, higher_is_better: bool, min_steps: int, min_delta: float
) -> Iterator[tuple[int, int]]:
    """Each evaluation's step, and the steps since the metric improved by more than min_delta."""
    best, best_step = math.nan, 0
    for step, value in _values(evaluations, metric_name, min_steps):
        gain = value - best if higher_is_better else best - value
        if best != best or gain > min_delta:
            best, best_step = value, step
        yield step, step - best_step


def _values(evaluations: Evaluations, metric_name: str, min_steps: int) -> Iterator[tuple[int, float]]:
    """The metric of each evaluation from `min_steps` on. Raises ValueError where an evaluation lacks it."""
    for step, metrics in evaluations.items():
        if step < min_steps:
            continue
        if metric_name not in metrics:
            raise ValueError(
                f"The evaluation at step {step} has no metric {metric_name!r}. It has {sorted(metrics)}: give the hook "
                "one of these names."
            )
        yield step, metrics[metric_name]


def _check_estimator(estimator: object) -> None:
    if not isinstance(estimator, Estimator):
        raise TypeError(f"`estimator` must have type `tf.estimator.Estimator`. Got: {type(estimator)}")
