"""ProgressBarHook: how far a run is, as a line in the terminal (rich)."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from estimator_serving.training.hooks.base import ClosingHook, Run, SessionRunContext, SessionRunValues


class ProgressBarHook(ClosingHook):
    """Show steps taken, steps a second, the time left and the loss of the last step.

    Works in train, evaluate and predict. `total_steps` is how many steps this call will take; by default what train's
    `steps` or `max_steps` says, else the bar has no end. `console` is where it is drawn (a rich Console; by default
    standard error), at most ten times a second; what is no terminal gets one line at the end.
    """

    def __init__(self, total_steps: int | None = None, console: Console | None = None) -> None:
        self._total_steps = total_steps
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None

    def after_create_session(self, session: Run, coord: None) -> None:
        self._start = session.global_step
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=self._total_steps, rate="", loss="")
        self._progress.start()

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        assert self._progress is not None
        session = run_context.session
        task = self._progress.tasks[0]
        if task.total is None and session.last_step is not None:
            self._progress.update(self._task, total=session.last_step - self._start)
        rate = "" if task.speed is None else f"{task.speed:.1f}/s"
        loss = "" if session.loss != session.loss else f"loss {session.loss:.4g}"
        self._progress.update(self._task, advance=1, rate=rate, loss=loss)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._progress is not None:
            self._progress.stop()
