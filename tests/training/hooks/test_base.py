"""The life cycle of hooks, timers, and arguments that are refused."""

import io
import shutil

import pytest
import rich.console
from watched import train

from estimator_serving import training
from estimator_serving.training import hooks


def test_timer():
    timer = hooks.SecondOrStepTimer(every_steps=3)
    due = [
        step for step in range(1, 9) if timer.should_trigger_for_step(step) and timer.update_last_triggered_step(step)
    ]
    assert due == [1, 4, 7]
    assert timer.last_triggered_step() == 7
    timer = hooks.SecondOrStepTimer(every_secs=0.0)
    assert timer.update_last_triggered_step(1) == (None, None)
    assert not timer.should_trigger_for_step(1)
    assert timer.should_trigger_for_step(2)
    assert timer.update_last_triggered_step(3)[1] == 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: training.StopAtStepHook(), "One of num_steps or last_step must be specified"),
        (lambda: training.StopAtStepHook(1, 2), "Only one of num_steps or last_step can be specified"),
        (lambda: training.LoggingTensorHook({}), "either at_end and/or exactly one of every_n_iter and every_n_secs"),
        (lambda: training.LoggingTensorHook({}, every_n_iter=0), "invalid every_n_iter=0"),
        (lambda: training.StepCounterHook(1, 1.0), "exactly one of every_n_steps and every_n_secs"),
        (lambda: training.SecondOrStepTimer(), "Either every_secs or every_steps should be provided"),
        (lambda: training.CheckpointSaverHook("d", 1, 1), "Can not provide both every_secs and every_steps"),
        (lambda: training.CheckpointSaverHook(None, 1), "CheckpointSaverHook needs checkpoint_dir or saver"),
        (lambda: training.CheckpointSaverHook("d", 1, scaffold=3), "scaffold is not supported"),
        (lambda: training.ProfilerHook(), "Either every_secs or every_steps should be provided"),
        (lambda: training.FeedFnHook(dict), "FeedFnHook\\(.*\\) feeds placeholders of a graph, and there is no graph"),
        (lambda: training.SessionRunArgs("loss", {"x": 1}), "feed_dict is not supported"),
        (lambda: training.FinalOpsHook("loss", {"x": 1}), "feed_dict is not supported"),
        (lambda: training.SummarySaverHook(1, summary_op=3), "scaffold and summary_op are not supported"),
    ],
)
def test_wrong_arguments(call, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        call()


class Fail(training.SessionRunHook):
    """Fails within the second step."""

    def before_run(self, run_context):
        if run_context.session.global_step == 1:
            raise RuntimeError("disk full")


def test_after_an_error_nothing_is_left_open(tmp_path):
    console = rich.console.Console(file=io.StringIO(), force_terminal=True, width=200)
    for _ in range(2):  # torch's profiler runs once at a time
        given = [
            training.ProfilerHook(save_steps=2, output_dir=tmp_path / "traces"),
            training.ProgressBarHook(5, console),
            training.StepCounterHook(1, output_dir=tmp_path / "events"),
            Fail(),
        ]
        with pytest.raises(RuntimeError, match="^disk full$"):
            train(tmp_path / "model", *given)
        shutil.rmtree(tmp_path / "model")
    assert not (tmp_path / "traces").exists()
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is shown again
