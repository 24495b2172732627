"""Hooks watch a run and may stop it. They know the state of the run, never the loop that calls them."""

from estimator_serving.training.hooks.base import (
    FeedFnHook,
    SecondOrStepTimer,
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from estimator_serving.training.hooks.logging import FinalOpsHook, LoggingTensorHook, StepCounterHook
from estimator_serving.training.hooks.profiler import ProfilerHook
from estimator_serving.training.hooks.progress_bar import ProgressBarHook
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.hooks.saving import CheckpointSaverHook, CheckpointSaverListener, SummarySaverHook
from estimator_serving.training.hooks.stopping import (
    GlobalStepWaiterHook,
    NanTensorHook,
    StopAtStepHook,
    make_stop_at_checkpoint_step_hook,
)

__all__ = [
    "CheckpointSaverHook",
    "CheckpointSaverListener",
    "FeedFnHook",
    "FinalOpsHook",
    "GlobalStepWaiterHook",
    "LoggingTensorHook",
    "NanTensorHook",
    "ProfilerHook",
    "ProgressBarHook",
    "Run",
    "SecondOrStepTimer",
    "SessionRunArgs",
    "SessionRunContext",
    "SessionRunHook",
    "SessionRunValues",
    "StepCounterHook",
    "StopAtStepHook",
    "SummarySaverHook",
    "make_stop_at_checkpoint_step_hook",
]
