"""What may watch or stop a run: the SessionRunHook life cycle and the training loop's own hooks (TF 2.15).

    begin → after_create_session → (before_run → after_run)* → end

There is no TensorFlow session, no coordinator and nothing to feed. Where TensorFlow hands a hook a session, it gets the
Run: the step, the loss, and any variable or prediction by name (`session.run("loss")`). `end` is not called after an
error. Hooks that need more than the loop itself have modules of their own: profiler_hook, progress_bar_hook,
in_memory_evaluator_hook.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor

from estimator_serving.training.checkpoints.checkpoint import BASENAME, Checkpoints
from estimator_serving.training.errors import NanLossDuringTrainingError
from estimator_serving.training.nn.summaries import EventWriter
from estimator_serving.training.nn.variables import GLOBAL_STEP, VariableStore

if TYPE_CHECKING:
    from estimator_serving.training.columns.features import TransformRecorder
    from estimator_serving.training.estimator import Estimator
    from estimator_serving.training.model_fn import EstimatorSpec
    from estimator_serving.training.run_config import RunConfig

logger = logging.getLogger("estimator_serving.training")

Kind = TypeVar("Kind")


class Run:
    """The train, evaluate or predict call that is going on; what hooks find where TensorFlow had a session.

    `loss` is the last step's, nan before it and in predict. `last_step` is the global_step this run is to end at, None
    where only the end of the input tells.
    """

    def __init__(self, store: VariableStore, recorder: TransformRecorder, config: RunConfig) -> None:
        self.store = store
        self.recorder = recorder
        self.config = config
        self.spec: EstimatorSpec | None = None
        self.first_spec: EstimatorSpec | None = None
        self.loss = math.nan
        self.last_step: int | None = None
        self.stop_requested = False

    @property
    def global_step(self) -> int:
        """Steps taken so far, those of earlier runs included."""
        return self.store.global_step

    @property
    def transform_bytes(self) -> bytes | None:
        transform = self.recorder.transform
        return None if transform is None else transform.model_bytes

    def run(self, fetches: Any, feed_dict: None = None) -> Any:
        """`fetch` under the name a session had. Raises ValueError for a feed_dict: there are no placeholders."""
        _check_nothing_fed(feed_dict)
        return self.fetch(fetches)

    def fetch(self, what: Any) -> Any:
        """The current value of a name, a variable, or a dict, list or tuple of them.

        Names: 'loss', 'global_step', a prediction key, a variable's full name. A tensor must be the loss or a variable:
        model_fn makes new tensors in every step, so others are found by their name among the predictions.
        """
        if isinstance(what, Mapping):
            return {key: self.fetch(value) for key, value in what.items()}
        if isinstance(what, list | tuple):
            return type(what)(self.fetch(value) for value in what)
        return self._fetch_name(what) if isinstance(what, str) else self._fetch_tensor(what)

    def _fetch_name(self, name: str) -> Any:
        if name == "loss":
            return np.float32(self.loss)
        if name == GLOBAL_STEP:
            return self.global_step
        predictions = self.spec.predictions if self.spec is not None else None
        if isinstance(predictions, Mapping) and name in predictions:
            value = predictions[name]
            return value.detach().numpy().copy() if isinstance(value, Tensor) else value.numpy()
        try:
            return self.store.get(name).detach().numpy().copy()
        except KeyError:
            raise ValueError(
                f"{name!r} is neither 'loss', 'global_step', a prediction nor a variable of this model. Return it "
                "among the predictions of model_fn to look at it in a hook."
            ) from None

    def _fetch_tensor(self, tensor: object) -> Any:
        for spec in (self.spec, self.first_spec):
            if spec is not None and tensor is spec.loss:
                return np.float32(self.loss)
        if any(tensor is variable for variable in self.store.trainable_variables.values()):
            assert isinstance(tensor, Tensor)
            return tensor.detach().numpy().copy()
        raise ValueError(
            f"A hook asked for a {type(tensor).__name__} that belongs to one step alone. "
            "Ask by name: 'loss', 'global_step', a prediction key or a variable's full name."
        )


@dataclass(frozen=True)
class SessionRunArgs:
    """What a hook wants to see after the step: see Run.fetch.

    `options` changes nothing. Raises ValueError for a `feed_dict`: there are no placeholders.
    """

    fetches: Any
    feed_dict: None = None
    options: Any = None

    def __post_init__(self) -> None:
        _check_nothing_fed(self.feed_dict)


def _check_nothing_fed(feed_dict: object) -> None:
    if feed_dict:
        raise ValueError(
            f"feed_dict is not supported, given: {feed_dict!r}. There is no graph with placeholders: let input_fn "
            "return the values, or set a variable through run_context.session.store."
        )


@dataclass(frozen=True)
class SessionRunValues:
    """The fetched values in the shape they were asked for, None if nothing was."""

    results: Any = None
    options: None = None
    run_metadata: None = None


class SessionRunContext:
    """What `before_run` and `after_run` are given: the run, and the way to end it."""

    def __init__(self, session: Run) -> None:
        self.session = session
        self.original_args = SessionRunArgs(None)

    @property
    def stop_requested(self) -> bool:
        return self.session.stop_requested

    def request_stop(self) -> None:
        """End the run after this step, cleanly: `end` is called and the last checkpoint written."""
        self.session.stop_requested = True


class SessionRunHook:
    """Base of all hooks. Override what is needed; every method does nothing."""

    def begin(self) -> None:
        """Before the first step, once."""

    def after_create_session(self, session: Run, coord: None) -> None:
        """When every variable exists and holds its first or restored value, before the first step."""

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Before each step. Returned SessionRunArgs name what `after_run` wants to see."""

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """After each step."""

    def end(self, session: Run) -> None:
        """After the last step of a run without error."""


class ClosingHook(SessionRunHook):
    """A hook that holds something open during a run. `close` is called when the run is over, after an error too."""

    def close(self) -> None:
        """Let go of it. May be called of a hook that has not begun."""


@contextmanager
def closing_hooks(hooks: Iterable[SessionRunHook]) -> Iterator[None]:
    """Close those that need it on the way out."""
    with ExitStack() as stack:
        for hook in hooks:
            if isinstance(hook, ClosingHook):
                stack.callback(hook.close)
        yield


class SecondOrStepTimer:
    """Says when something is due again: every so many seconds or steps, and at once the first time."""

    def __init__(self, every_secs: float | None = None, every_steps: int | None = None) -> None:
        if every_secs is None and every_steps is None:
            raise ValueError("Either every_secs or every_steps should be provided.")
        if every_secs is not None and every_steps is not None:
            raise ValueError("Can not provide both every_secs and every_steps.")
        self._every_secs = every_secs
        self._every_steps = every_steps
        self.reset()

    def reset(self) -> None:
        self._last_step: int | None = None
        self._last_time_s = 0.0

    def should_trigger_for_step(self, step: int) -> bool:
        if self._last_step is None:
            return True
        if step == self._last_step:
            return False
        if self._every_steps is not None:
            return step >= self._last_step + self._every_steps
        assert self._every_secs is not None
        return time.monotonic() >= self._last_time_s + self._every_secs

    def update_last_triggered_step(self, step: int) -> tuple[float | None, int | None]:
        """Seconds and steps since the last time, (None, None) the first time."""
        now_s = time.monotonic()
        elapsed = (None, None) if self._last_step is None else (now_s - self._last_time_s, step - self._last_step)
        self._last_step, self._last_time_s = step, now_s
        return elapsed

    def last_triggered_step(self) -> int | None:
        return self._last_step


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


class LoggingTensorHook(SessionRunHook):
    """Log values every `every_n_iter` steps or `every_n_secs` seconds, and at the end if `at_end`.

    `tensors` maps tags to what Run.fetch takes, or is a list of such. `formatter` makes the line from the values.
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
            self._log(run_context.session, elapsed_s)
        self._iteration += 1

    def end(self, session: Run) -> None:
        if self._at_end:
            self._log(session, None)

    def _log(self, session: Run, elapsed_s: float | None) -> None:
        values = session.fetch(self._tensors)
        line = self._formatter(values) if self._formatter else ", ".join(f"{tag} = {v}" for tag, v in values.items())
        logger.info("%s", line if elapsed_s is None or self._formatter else f"{line} ({elapsed_s:.3f} sec)")


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
        step = session.global_step
        for listener in self._listeners:
            listener.before_save(session, step)
        assert self._saver is not None
        store = session.store
        path = self._saver.save(store.values(), step, session.transform_bytes, store.trainable_variables)
        logger.info("Saving checkpoints for %d into %s.", step, path)
        stopping = [listener for listener in self._listeners if listener.after_save(session, step)]
        for listener in stopping:
            logger.info("A CheckpointSaverListener requested that training be stopped. listener: %s", listener)
        return bool(stopping)


class StepCounterHook(ClosingHook):
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
        self._timer = SecondOrStepTimer(every_n_secs, every_n_steps)
        self._writer, self._owned = _writer(summary_writer, output_dir)

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
        if self._writer is not None:
            self._writer.add({"global_step/sec": rate}, step)

    def close(self) -> None:
        _finish(self._writer, self._owned)


class SummarySaverHook(ClosingHook):
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
        self._timer = SecondOrStepTimer(save_secs, save_steps)
        self._writer, self._owned = _writer(summary_writer, output_dir)

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
        if self._writer is not None and found:
            self._writer.add(found, run.global_step)

    def close(self) -> None:
        _finish(self._writer, self._owned)


class FinalOpsHook(SessionRunHook):
    """Keep the values of `final_ops` (what Run.fetch takes) at the end of the run in `final_ops_values`."""

    def __init__(self, final_ops: Any, final_ops_feed_dict: None = None) -> None:
        _check_nothing_fed(final_ops_feed_dict)
        self._final_ops = final_ops
        self._values: Any = None

    @property
    def final_ops_values(self) -> Any:
        """The values in the shape of `final_ops`; None before the end, or if nothing was asked for."""
        return self._values

    def end(self, session: Run) -> None:
        if self._final_ops is not None:
            self._values = session.fetch(self._final_ops)


class GlobalStepWaiterHook(SessionRunHook):
    """Start only at a global_step, which in TensorFlow other workers raise meanwhile.

    Here every worker takes every step together with the others, so nobody would raise it: a run that begins below
    `wait_until_step` raises ValueError where TensorFlow would wait, and any other begins at once.
    """

    def __init__(self, wait_until_step: int) -> None:
        self._wait_until_step = wait_until_step

    def after_create_session(self, session: Run, coord: None) -> None:
        if session.global_step < self._wait_until_step:
            raise ValueError(
                f"GlobalStepWaiterHook would wait for ever: global_step is {session.global_step}, it waits for "
                f"{self._wait_until_step}, and no other worker takes steps meanwhile. Remove the hook."
            )


class FeedFnHook(SessionRunHook):
    """TensorFlow's hook that feeds placeholders before each step. There are none, so making one raises ValueError."""

    def __init__(self, feed_fn: Callable[[], Mapping[Any, Any]]) -> None:
        raise ValueError(
            f"FeedFnHook({feed_fn!r}) feeds placeholders of a graph, and there is no graph. Let input_fn return the "
            "values: a generator may call feed_fn for each batch and yield (features, labels)."
        )


def make_stop_at_checkpoint_step_hook(
    estimator: Estimator, last_step: int, wait_after_file_check_secs: float = 30
) -> SessionRunHook:
    """A hook that stops once `last_step` has been reached (tf.estimator.experimental's).

    The chief stops by its own count. In TensorFlow the others look for the chief's checkpoint every
    `wait_after_file_check_secs` seconds; here all workers count alike and stop at the same step.
    """
    del estimator, wait_after_file_check_secs
    return StopAtStepHook(last_step=last_step)


def check_hooks(hooks: Any) -> list[SessionRunHook]:
    """The hooks as a list. Raises TypeError with TF's text for anything that is none."""
    return check_all(hooks, SessionRunHook, "Hooks must be a SessionRunHook, given: {}")


def check_all(items: Any, kind: type[Kind], text: str) -> list[Kind]:
    """The items as a list, [] for None. Raises TypeError(text) for the first that is not of the kind."""
    if items is None:
        return []
    if not isinstance(items, Iterable):
        raise TypeError(text.format(items))
    found = list(items)
    for item in found:
        if not isinstance(item, kind):
            raise TypeError(text.format(item))
    return found


def _writer(given: EventWriter | None, directory: str | os.PathLike[str] | None) -> tuple[EventWriter | None, bool]:
    """The writer to use, and whether it is the hook's own to close."""
    if given is not None or directory is None:
        return given, False
    return EventWriter(directory), True


def _finish(writer: EventWriter | None, owned: bool) -> None:
    if writer is None:
        return
    writer.flush()
    if owned:
        writer.close()
