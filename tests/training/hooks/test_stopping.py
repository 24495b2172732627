"""Hooks that end a run, or keep it from starting."""

import numpy as np
import pytest
from watched import train

from estimator_serving import training


def test_nan_hook_watches_other_values(tmp_path):
    class Spoil(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            run_context.session.store.get("linear/linear_model/bias_weights").data.fill_(np.nan)

    watch = "linear/linear_model/bias_weights"
    stopped = train(tmp_path / "a", Spoil(), training.NanTensorHook(watch, fail_on_nan_loss=False))
    assert stopped.get_variable_value("global_step") == 1
    with pytest.raises(training.NanLossDuringTrainingError):
        train(tmp_path / "b", Spoil(), training.NanTensorHook(watch))


def test_waiting_for_a_step(tmp_path):
    train(tmp_path, training.GlobalStepWaiterHook(0), steps=2)
    train(tmp_path, training.GlobalStepWaiterHook(2), steps=1)
    with pytest.raises(ValueError, match="^GlobalStepWaiterHook would wait for ever: global_step is 3, it waits for 9"):
        train(tmp_path, training.GlobalStepWaiterHook(9), steps=1)


def test_a_stop_at_a_checkpoints_step(tmp_path):
    estimator = train(tmp_path, steps=2)
    hook = training.experimental.make_stop_at_checkpoint_step_hook(estimator, last_step=4)
    assert train(tmp_path, hook, steps=9).get_variable_value("global_step") == 4
