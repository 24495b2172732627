import logging

import numpy as np
import pytest

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import hooks


def input_fn():
    return training.Dataset.from_tensor_slices(({"x": np.arange(4.0)}, np.array([0, 1, 1, 0]))).repeat().batch(2)


def train(tmp_path, *given, steps=5):
    config = training.RunConfig(log_step_count_steps=None, save_summary_steps=None, save_checkpoints_steps=100)
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path, config=config)
    return estimator.train(input_fn, steps=steps, hooks=given)


def lines(caplog):
    return [record.message for record in caplog.records if record.name == "estimator_serving.training"]


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
    ("arguments", "expected"),
    [
        ({"every_n_iter": 2}, ["step = 1", "step = 3", "step = 5"]),
        ({"at_end": True}, ["step = 5"]),
        ({"every_n_iter": 4, "formatter": lambda values: f"<{values['step']}>"}, ["<1>", "<5>"]),
    ],
)
def test_logging(arguments, expected, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tmp_path, training.LoggingTensorHook({"step": "global_step"}, **arguments))
    found = [line.partition(" (")[0] for line in lines(caplog) if line.startswith(("step", "<"))]
    assert found == expected


def test_logging_names_values_itself(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tmp_path, training.LoggingTensorHook(["loss", "linear/linear_model/bias_weights"], every_n_iter=10))
    assert any(line.startswith("loss = 0.69") and "bias_weights = [" in line for line in lines(caplog))


@pytest.mark.parametrize("what", ["zz", np.zeros(2)])
def test_what_cannot_be_fetched(what, tmp_path):
    with pytest.raises(ValueError, match="'loss', 'global_step'"):
        train(tmp_path, training.LoggingTensorHook({"zz": what}, every_n_iter=1))


def test_step_counter_and_summaries_into_their_own_directory(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    given = [
        training.StepCounterHook(every_n_steps=2, output_dir=tmp_path / "events"),
        training.SummarySaverHook(save_steps=2, output_dir=tmp_path / "events"),
    ]
    train(tmp_path / "model", *given)
    assert sum(line.startswith("global_step/sec: ") for line in lines(caplog)) == 2
    assert list((tmp_path / "events").iterdir())
    assert not list((tmp_path / "model").glob("events*"))


def test_nan_hook_watches_other_values(tmp_path):
    class Spoil(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            run_context.session.store.get("linear/linear_model/bias_weights").data.fill_(np.nan)

    watch = "linear/linear_model/bias_weights"
    stopped = train(tmp_path / "a", Spoil(), training.NanTensorHook(watch, fail_on_nan_loss=False))
    assert stopped.get_variable_value("global_step") == 1
    with pytest.raises(training.NanLossDuringTrainingError):
        train(tmp_path / "b", Spoil(), training.NanTensorHook(watch))


def test_a_saver_hook_takes_the_place_of_the_default_one(tmp_path):
    train(tmp_path, training.CheckpointSaverHook(tmp_path, save_steps=2, checkpoint_basename="mine"))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint", *(f"mine-{step}.safetensors" for step in (0, 2, 4, 5))]


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
        (lambda: training.SummarySaverHook(1, summary_op=3), "scaffold and summary_op are not supported"),
    ],
)
def test_wrong_arguments(call, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        call()


def test_public_names_are_there_and_sorted_out():
    assert all(hasattr(training, name) for name in training.__all__)
    assert len(set(training.__all__)) == len(training.__all__)
