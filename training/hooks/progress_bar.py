"""How far a run is, as a line in the terminal (rich): the bar, and the hook that moves it.

Owns how the bar looks and how often it is drawn. Does not know when there is one.
"""

from __future__ import annotations

import time
from typing import ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from estimator_serving.training.hooks.base import ClosingHook, SessionRunContext, SessionRunValues

_PERIOD_S = 0.1


class ProgressBar:
    """A line with steps taken, steps a second, the time left and the last loss, drawn at most ten times a second.

    `total` is the number of steps, None where it is not known. What is no terminal gets one line at the end. There is
    one bar at a time: one that starts inside another (an evaluation inside a training) shows nothing.
    """

    _shown: ClassVar[ProgressBar | None] = None

    def __init__(self, what: str, total: int | None, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=self._console,
            expand=True,
            auto_refresh=False,  # no thread that takes the interpreter from the steps
        )
        self._task = self._progress.add_task(what, total=total, rate="", loss="")
        self._waiting = 0
        self._loss = float("nan")
        self._drawn_s = 0.0
        self._is_shown = ProgressBar._shown is None
        if self._is_shown:
            ProgressBar._shown = self
            self._progress.start()

    def advance(self, loss: float) -> None:
        """One step more, whose loss is NaN where there is none."""
        self._waiting += 1
        self._loss = loss
        if self._is_shown and (now_s := time.monotonic()) - self._drawn_s >= _PERIOD_S:
            self._drawn_s = now_s
            self._draw()

    def stop(self) -> None:
        """Draw it once more and leave the terminal as it was found."""
        if self._is_shown:
            self._is_shown, ProgressBar._shown = False, None
            self._draw()
            self._progress.stop()

    def _draw(self) -> None:
        speed = self._progress.tasks[0].speed
        rate = "" if speed is None else f"{speed:.1f} steps/s"
        loss = "" if self._loss != self._loss else f"loss {self._loss:.4g}"
        self._progress.update(self._task, advance=self._waiting, rate=rate, loss=loss, refresh=True)
        self._waiting = 0


class ProgressBarHook(ClosingHook):
    """Show steps taken, steps a second, the time left and the loss of the last step.

    Works in train, evaluate and predict. `total_steps` is how many steps this call will take; by default what train's
    `steps` or `max_steps` says, else the bar has no end. `console` is where it is drawn (a rich Console; by default
    standard error), at most ten times a second; what is no terminal gets one line at the end.
    """

    is_chief_only = True

    def __init__(self, total_steps: int | None = None, console: Console | None = None) -> None:
        self._total_steps = total_steps
        self._console = console
        self._bar: ProgressBar | None = None

    def before_run(self, run_context: SessionRunContext) -> None:
        if self._bar is None:  # the first step: the hook that knows the last one has begun
            session, total = run_context.session, self._total_steps
            if total is None and session.last_step is not None:
                total = max(session.last_step - session.global_step, 0)
            self._bar = ProgressBar("steps", total, self._console)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        assert self._bar is not None
        self._bar.advance(run_context.session.loss)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
