"""train_and_evaluate: train, and evaluate and export each new checkpoint on the way (TF 2.15).

The theory. In one process, or in several that train together without a TF_CONFIG cluster, the chief evaluates: it is
told of each checkpoint by a listener, while the training waits. In a cluster of TF_CONFIG the chief and the workers
train, and the task `evaluator` follows the checkpoints in model_dir as they appear; the chief leaves a file there when
the training is over, so that the evaluator ends too, whatever ended it.

Owns the specs, what each task does, and when an evaluation is due. Does not know how a training or an evaluation works.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from estimator_serving.training.checkpoints.checkpoint import Checkpoints, latest_checkpoint, step_of
from estimator_serving.training.distribute.cluster import EVALUATOR, MASTER, PS
from estimator_serving.training.errors import CheckpointError
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.exporters import Exporter
from estimator_serving.training.hooks.base import SecondOrStepTimer, SessionRunHook, check_all
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.hooks.saving import CheckpointSaverHook, CheckpointSaverListener
from estimator_serving.training.hooks.showing import shown
from estimator_serving.training.loop.model import InputFn
from estimator_serving.training.nn.event_files import read_evaluations
from estimator_serving.training.nn.variables import GLOBAL_STEP

logger = logging.getLogger("estimator_serving.training")

ENDED_FILE = "training_ended"
"""Written into model_dir by the chief of a cluster when its training is over; the evaluator looks for it."""
_POLL_S = 1.0
_REMIND_S = 600.0
_EARLIER_END_S = 60.0
_NOT_TRAINED = (
    "Estimator is not trained yet. Will start an evaluation when a checkpoint is ready. It is looked for in %s, where "
    "the chief must write it."
)
_NO_NEW_CHECKPOINT = (
    "No new checkpoint ready for evaluation in %s. Skip the current evaluation pass as evaluation results are expected "
    "to be same for the same checkpoint."
)


@dataclass(frozen=True)
class TrainSpec:
    """What train_and_evaluate trains with: the arguments of Estimator.train.

    Raises TypeError and ValueError with TF's texts.
    """

    input_fn: InputFn
    max_steps: int | None = None
    hooks: Sequence[SessionRunHook] | None = None
    saving_listeners: Sequence[CheckpointSaverListener] | None = None

    def __post_init__(self) -> None:
        _check_input_fn(self.input_fn)
        if self.max_steps is not None and self.max_steps <= 0:
            raise ValueError(f"Must specify max_steps > 0, given: {self.max_steps}")
        object.__setattr__(self, "hooks", _checked_hooks(self.hooks))
        text = "All saving_listeners must be `CheckpointSaverListener` instances, given: {}"
        listeners = tuple(check_all(self.saving_listeners, CheckpointSaverListener, text))
        object.__setattr__(self, "saving_listeners", listeners)


@dataclass(frozen=True)
class EvalSpec:
    """What train_and_evaluate evaluates with, and when.

    Args:
        input_fn, steps, name, hooks: as in Estimator.evaluate.
        exporters: an Exporter, several, or None: they export after each evaluation.
        start_delay_secs: how long the task `evaluator` waits before it looks for checkpoints; no other task waits.
        throttle_secs: how long after the start of an evaluation the next one may start. The last checkpoint is always
            evaluated.
        every_steps: not TF's. Write a checkpoint and evaluate it after every so many steps, whatever throttle_secs and
            the schedule in RunConfig say.
        on_evaluation: not TF's. A function that is called with the metrics of each evaluation, after the exports, in
            the process that evaluates. If it returns True the training ends, as at the request of a hook (not from the
            task `evaluator`, which is no part of the training).

    Raises TypeError and ValueError with TF's texts.
    """

    input_fn: InputFn
    steps: int | None = 100
    name: str | None = None
    hooks: Sequence[SessionRunHook] | None = None
    exporters: Exporter | Iterable[Exporter] | None = None
    start_delay_secs: float = 120
    throttle_secs: float = 600
    every_steps: int | None = None
    on_evaluation: Callable[[Mapping[str, Any]], bool | None] | None = None

    def __post_init__(self) -> None:
        _check_input_fn(self.input_fn)
        if self.steps is not None and self.steps <= 0:
            raise ValueError(f"Must specify steps > 0, given: {self.steps}")
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"`name` must be string, given: {self.name}")
        if self.start_delay_secs < 0:
            raise ValueError(f"Must specify start_delay_secs >= 0, given: {self.start_delay_secs}")
        if self.throttle_secs < 0:
            raise ValueError(f"Must specify throttle_secs >= 0, given: {self.throttle_secs}")
        if self.every_steps is not None and self.every_steps <= 0:
            raise ValueError(f"Must specify every_steps > 0, given: {self.every_steps}")
        object.__setattr__(self, "hooks", _checked_hooks(self.hooks))
        given = [self.exporters] if isinstance(self.exporters, Exporter) else self.exporters
        text = f"`exporters` must be an Exporter, an iterable of Exporter, or `None`, found {self.exporters}."
        found: tuple[Exporter, ...] = tuple(
            check_all(given, cast(Any, Exporter), text.replace("{", "{{").replace("}", "}}"))
        )
        names = [each.name for each in found]
        for each in found:
            if not each.name:
                raise ValueError(f"An Exporter cannot have a name that is `None` or empty. All exporter names: {names}")
            if not isinstance(each.name, str):
                raise ValueError(f"An Exporter must have a string name. Given: {type(each.name)}")
        if len(set(names)) != len(names):
            raise ValueError(
                f"`exporters` must have unique names. Such a name cannot be `None`. All exporter names: {names}"
            )
        object.__setattr__(self, "exporters", found)


def train_and_evaluate(
    estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec
) -> tuple[dict[str, Any] | None, list[str | None] | None]:
    """Train up to `train_spec.max_steps`; evaluate and export each new checkpoint.

    The same command goes on after a kill: from the newest checkpoint, and with the evaluation of the last one if the
    kill came in front of it. What a process does follows from TF_CONFIG: the chief and the workers train, the evaluator
    evaluates, and a parameter server returns at once, because the workers hold the variables. Without a cluster, this
    process trains and evaluates in turns. An exporter that fails is named in the log once; the training goes on.

    Returns:
        The metrics of the last evaluation and what each exporter returned after it; (None, None) if there was none:
        max_steps is reached already, or another task evaluates.

    Raises:
        TypeError: arguments of other types.
        ValueError: what Estimator.train and evaluate raise; a second evaluator.
    """
    given: tuple[tuple[str, object, type], ...] = (
        ("estimator", estimator, Estimator),
        ("train_spec", train_spec, TrainSpec),
        ("eval_spec", eval_spec, EvalSpec),
    )
    for name, one, kind in given:
        if not isinstance(one, kind):
            raise TypeError(f"`{name}` must have type `tf.estimator.{kind.__name__}`. Got: {type(one)}")
    with shown(estimator.config.log):
        return _train_and_evaluate(estimator, train_spec, eval_spec)


def _train_and_evaluate(
    estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec
) -> tuple[dict[str, Any] | None, list[str | None] | None]:
    config = estimator.config
    if config.task_type == EVALUATOR and config.task_id > 0:
        raise ValueError(
            "For distributed training, there can only be one `evaluator` task (with task id 0).  Given task id "
            f"{config.task_id}"
        )
    evaluator = _Evaluator(estimator, eval_spec, train_spec.max_steps)
    if config.task_type == PS:
        logger.info("This parameter server has nothing to do: the chief and the workers hold all variables.")
    elif config.task_type == EVALUATOR:
        evaluator.follow()
    elif config.cluster_spec and config.task_type != MASTER:
        ended = Path(estimator.model_dir) / ENDED_FILE
        if config.is_chief:
            ended.unlink(missing_ok=True)
        _train(estimator, train_spec, eval_spec, [])
        if config.is_chief:
            ended.write_text(f"{estimator.latest_checkpoint()}\n")
    else:
        logger.info("Running training and evaluation locally (non-distributed).")
        logger.info(
            "Start train and evaluate loop. The evaluate will happen after every checkpoint. Checkpoint frequency is "
            "determined based on RunConfig arguments: save_checkpoints_steps %s or save_checkpoints_secs %s.",
            config.save_checkpoints_steps,
            config.save_checkpoints_secs,
        )
        _train(estimator, train_spec, eval_spec, [_EvaluateNewCheckpoints(evaluator, eval_spec)])
        return estimator.on_chief(evaluator.last)
    return evaluator.metrics, evaluator.exports


def _train(
    estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec, listeners: Sequence[CheckpointSaverListener]
) -> None:
    config = estimator.config
    hooks = list(train_spec.hooks or ())
    if eval_spec.every_steps is not None:
        # It takes the place of the config's schedule, and keeps as many checkpoints.
        assert config.model_dir is not None
        saver = Checkpoints(
            config.model_dir,
            keep_max=config.keep_checkpoint_max,
            keep_every_n_hours=config.keep_checkpoint_every_n_hours,
        )
        hooks.append(CheckpointSaverHook(None, save_steps=eval_spec.every_steps, saver=saver))
    every_listener = [*(train_spec.saving_listeners or ()), *listeners]
    estimator.train(train_spec.input_fn, hooks, max_steps=train_spec.max_steps, saving_listeners=every_listener)


class _Evaluator:
    """Evaluates and exports one checkpoint after the other. `metrics` and `exports` are the last ones."""

    def __init__(self, estimator: Estimator, spec: EvalSpec, max_steps: int | None) -> None:
        # It works while the other processes of a training wait, so it asks them nothing.
        self._estimator = estimator.in_this_process()
        self._spec = spec
        self._max_steps = max_steps
        self._failed: set[str] = set()
        self.metrics: dict[str, Any] | None = None
        self.exports: list[str | None] | None = None

    def evaluate(self, checkpoint_path: str) -> bool:
        """Whether the training is to end."""
        spec, estimator = self._spec, self._estimator
        metrics = estimator.evaluate(
            spec.input_fn, spec.steps, hooks=spec.hooks, checkpoint_path=checkpoint_path, name=spec.name
        )
        is_final = self._max_steps is not None and bool(metrics[GLOBAL_STEP] >= self._max_steps)
        assert not isinstance(spec.exporters, Exporter)
        self.metrics = metrics
        self.exports = []
        for exporter in spec.exporters or ():
            path = str(Path(estimator.model_dir) / "export" / exporter.name)
            made: str | None = None
            try:
                made = exporter.export(estimator, path, checkpoint_path, metrics, is_final)
            except Exception as error:
                if exporter.name not in self._failed:
                    logger.exception(
                        "The exporter %r failed at %s (%s). The training goes on and tries again after the next "
                        "evaluation; this is said once.",
                        exporter.name,
                        checkpoint_path,
                        error,
                    )
                self._failed.add(exporter.name)
            self.exports.append(made)
        return spec.on_evaluation is not None and bool(spec.on_evaluation(metrics))

    def last(self) -> tuple[dict[str, Any] | None, list[str | None] | None]:
        """The results after a training; of the last checkpoint too where a kill came in front of its evaluation."""
        newest = self._estimator.latest_checkpoint()
        if self.metrics is None and newest is not None and step_of(newest):
            evaluations = read_evaluations(self._estimator.eval_dir(self._spec.name))
            if step_of(newest) not in evaluations:
                self.evaluate(newest)
        return self.metrics, self.exports

    def follow(self) -> None:
        """Evaluate the checkpoints of another process as they appear, until the last one."""
        spec, model_dir = self._spec, self._estimator.model_dir
        if spec.start_delay_secs:
            logger.info("Waiting %f secs before starting eval.", spec.start_delay_secs)
            time.sleep(spec.start_delay_secs)
        ended = Path(model_dir) / ENDED_FILE
        began_s = time.time()
        reminded_s = -_REMIND_S
        evaluated: str | None = None
        while True:
            started_s = time.monotonic()
            # Looked for before the checkpoint, so that none is missed. A file from before this process may be that of
            # an earlier training, whose chief has not started again yet.
            has_ended = ended.exists() and (ended.stat().st_mtime >= began_s or time.time() > began_s + _EARLIER_END_S)
            newest = self._estimator.latest_checkpoint()
            is_new = newest is not None and newest != evaluated
            if newest is not None and is_new:
                evaluated = newest
                try:
                    self.evaluate(newest)
                except CheckpointError:
                    if self._estimator.latest_checkpoint() == newest:
                        raise
                    logger.info("%s was removed while it was evaluated: newer ones have been written.", newest)
                    continue
                step = (self.metrics or {})[GLOBAL_STEP]
                if self._max_steps and step >= self._max_steps:
                    logger.info("Exiting evaluation, global_step=%s >= train max_steps=%s", step, self._max_steps)
                    return
            elif has_ended:
                logger.info("Exiting evaluation: the training has ended at %s.", newest or "no checkpoint")
                return
            elif started_s - reminded_s >= _REMIND_S:
                reminded_s = started_s
                logger.warning(_NOT_TRAINED if newest is None else _NO_NEW_CHECKPOINT, model_dir)
            throttle_s = 0.0 if spec.every_steps else spec.throttle_secs
            until_s = max(started_s + throttle_s, time.monotonic() + (0.0 if is_new else _POLL_S))
            while (left_s := until_s - time.monotonic()) > 0 and not has_ended:
                time.sleep(min(left_s, _POLL_S))
                has_ended = ended.exists() and ended.stat().st_mtime >= began_s


class _EvaluateNewCheckpoints(CheckpointSaverListener):
    """Evaluates a checkpoint when it is written, unless the last evaluation was too short a time ago."""

    def __init__(self, evaluator: _Evaluator, spec: EvalSpec) -> None:
        self._evaluator = evaluator
        self._throttle_s = 0.0 if spec.every_steps else spec.throttle_secs
        self._timer = SecondOrStepTimer(every_secs=self._throttle_s)
        self._is_first = True

    def begin(self) -> None:
        self._timer.reset()
        self._is_first = True

    def after_save(self, session: Run, global_step_value: int) -> bool:
        if self._is_first:  # the one at the start of this run: not trained, or evaluated before
            self._is_first = False
        elif self._timer.should_trigger_for_step(global_step_value):
            return self._evaluate(session, global_step_value)
        else:
            logger.info("Skip the current checkpoint eval due to throttle secs (%s secs).", self._throttle_s)
        return False

    def end(self, session: Run, global_step_value: int) -> None:
        if global_step_value != self._timer.last_triggered_step():
            self._evaluate(session, global_step_value)

    def _evaluate(self, session: Run, step: int) -> bool:
        self._timer.update_last_triggered_step(step)
        newest = latest_checkpoint(session.config.model_dir or "")
        if newest is None or step_of(newest) != step:
            raise RuntimeError(
                f"There was no new checkpoint after the training: step {step} is to be evaluated, and "
                f"{session.config.model_dir} has {newest}. Does another process write into this model_dir?"
            )
        return self._evaluator.evaluate(newest)


def _check_input_fn(input_fn: Callable[..., Any]) -> None:
    if not callable(input_fn):
        raise TypeError(f"`input_fn` must be callable, given: {input_fn}")


def _checked_hooks(hooks: Any) -> tuple[SessionRunHook, ...]:
    return tuple(check_all(hooks, SessionRunHook, "All hooks must be `SessionRunHook` instances, given: {}"))
