"""Values in the log, steps per second, values at the end."""

import logging

import pytest
from watched import lines, train

from estimator_serving import training


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"every_n_iter": 2}, ["step = 0", "step = 2", "step = 4"]),
        ({"at_end": True}, ["step = 5"]),
        ({"every_n_iter": 4, "formatter": lambda values: f"<{values['step']}>"}, ["<0>", "<4>"]),
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


def test_final_ops(tmp_path):
    hook = training.FinalOpsHook({"step": "global_step", "bias": ["linear/linear_model/bias_weights"]})
    assert hook.final_ops_values is None
    train(tmp_path, hook, steps=3)
    assert hook.final_ops_values["step"] == 3
    assert hook.final_ops_values["bias"][0].shape == (1,)
    nothing = training.FinalOpsHook(None)
    train(tmp_path, nothing, steps=1)
    assert nothing.final_ops_values is None
