"""ProfilerHook: single steps under torch's profiler, written as Chrome traces (chrome://tracing, ui.perfetto.dev).

Owns the trace files. Does not know the loop.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from torch import profiler

from estimator_serving.training.hooks.base import (
    ClosingHook,
    Run,
    SecondOrStepTimer,
    SessionRunContext,
    SessionRunValues,
)


class ProfilerHook(ClosingHook):
    """Profile one step every `save_steps` steps or `save_secs` seconds into `<output_dir>/timeline-<step>.json`.

    The first profiled step is the one that is `save_steps` or `save_secs` after the start, as in TF. A trace holds
    every torch operator of model_fn, gradients and update, with the Python line where it was called; `show_memory` adds
    the bytes that each took. `show_dataflow` changes nothing: there is no graph. Exactly one of save_steps and
    save_secs must be given (ValueError).
    """

    def __init__(
        self,
        save_steps: int | None = None,
        save_secs: float | None = None,
        output_dir: str | os.PathLike[str] = "",
        show_dataflow: bool = True,
        show_memory: bool = False,
    ) -> None:
        self._timer = SecondOrStepTimer(save_secs, save_steps)
        self._directory = Path(output_dir)
        self._show_memory = show_memory
        self._running: Any = None

    def after_create_session(self, session: Run, coord: None) -> None:
        self._timer.reset()
        self._timer.update_last_triggered_step(session.global_step)

    def before_run(self, run_context: SessionRunContext) -> None:
        if not self._timer.should_trigger_for_step(run_context.session.global_step + 1):
            return
        self._running = profiler.profile(
            activities=profiler.supported_activities(), profile_memory=self._show_memory, with_stack=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what this torch's profiler says of itself
            self._running.start()

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if self._running is None:
            return
        step = run_context.session.global_step
        self._stop()
        self._timer.update_last_triggered_step(step)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._running.export_chrome_trace(str(self._directory / f"timeline-{step}.json"))
        self._running = None

    def close(self) -> None:
        """The step that was to be profiled did not end: the input did, or there was an error."""
        if self._running is not None:
            self._stop()
            self._running = None

    def _stop(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._running.stop()
