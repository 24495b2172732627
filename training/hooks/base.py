"""The life cycle of a hook: what may watch or stop a run (TF 2.15's SessionRunHook).

The theory. The training loop calls all hooks of a run in their order, on the thread that called train, evaluate or
predict:

    begin → after_create_session → (before_run → step → after_run)* → end → close

`begin` comes before the variables may be looked at, `after_create_session` when all of them hold their first or
restored values. `before_run` says what `after_run` wants to see. An error or the end of the input cuts a step short:
its after_run is not called. `end` is called after the last step, but not after an error; `close`, which only
ClosingHooks have, is called in both cases. A hook stops the run with `run_context.request_stop()`: the step ends as
usual, then the run does.

There is no TensorFlow session, no coordinator and nothing to feed. Where TensorFlow hands a hook a session, it gets the
Run: the step, the loss, and any variable or prediction by name (`session.run("loss")`). This hook stops once the loss
is small enough:

    class StopAtLoss(SessionRunHook):
        def __init__(self, loss):
            self._loss = loss

        def before_run(self, run_context):
            return SessionRunArgs("loss")

        def after_run(self, run_context, run_values):
            if run_values.results < self._loss:
                run_context.request_stop()

In a training of several processes every process runs the hooks, except those that are `is_chief_only`: they write where
all of them would write the same, and only the chief runs them.

Owns the life cycle. Does not know the loop that calls it, nor what any hook does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from estimator_serving.training.hooks.run import Run, refuse_feed
from estimator_serving.training.nn.summaries import EventWriter

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class SessionRunArgs:
    """What a hook wants to see after the step: see Run.fetch.

    `options` changes nothing. Raises ValueError for a `feed_dict`: there are no placeholders.
    """

    fetches: Any
    feed_dict: None = None
    options: Any = None

    def __post_init__(self) -> None:
        refuse_feed(self.feed_dict)


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
    """Base of all hooks. Override what is needed; every method does nothing.

    Attributes:
        is_chief_only: whether only the chief runs it in a training of several processes.
    """

    is_chief_only: ClassVar[bool] = False

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


class EventHook(ClosingHook):
    """A hook that writes events: with `summary_writer`, or into a file in `output_dir`, which it closes itself.

    `writer` is None where neither was given.
    """

    is_chief_only = True

    def __init__(self, output_dir: str | os.PathLike[str] | None, summary_writer: EventWriter | None) -> None:
        self._owns_writer = summary_writer is None and output_dir is not None
        self.writer = summary_writer if output_dir is None or summary_writer is not None else EventWriter(output_dir)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.flush()
            if self._owns_writer:
                self.writer.close()


class FeedFnHook(SessionRunHook):
    """TensorFlow's hook that feeds placeholders before each step. There are none, so making one raises ValueError."""

    def __init__(self, feed_fn: Callable[[], Mapping[Any, Any]]) -> None:
        raise ValueError(
            f"FeedFnHook({feed_fn!r}) feeds placeholders of a graph, and there is no graph. Let input_fn return the "
            "values: a generator may call feed_fn for each batch and yield (features, labels)."
        )


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


class RunHooks:
    """The hooks of one run, called together in their order. As a context it closes those that need it."""

    def __init__(self, hooks: Iterable[SessionRunHook], session: Run) -> None:
        self._hooks = tuple(hooks)
        self._session = session
        self._context = SessionRunContext(session)
        self._requests: Sequence[SessionRunArgs | None] = ()

    def __enter__(self) -> RunHooks:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:  # so that one that fails keeps none from being closed
            for hook in self._hooks:
                if isinstance(hook, ClosingHook):
                    stack.callback(hook.close)

    def begin(self) -> None:
        for hook in self._hooks:
            hook.begin()
        for hook in self._hooks:
            hook.after_create_session(self._session, None)

    def before_run(self) -> None:
        self._requests = [hook.before_run(self._context) for hook in self._hooks]

    def after_run(self) -> None:
        for hook, request in zip(self._hooks, self._requests, strict=True):
            values = _NOTHING if request is None else SessionRunValues(self._session.fetch(request.fetches))
            hook.after_run(self._context, values)

    def end(self) -> None:
        for hook in self._hooks:
            hook.end(self._session)


_NOTHING = SessionRunValues()
