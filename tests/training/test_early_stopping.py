"""Evaluations end a training, or lower its learning rate."""

from contextlib import closing

import numpy as np
import pytest
from watched import input_fn, train

from estimator_serving import training
from estimator_serving.training import experimental
from estimator_serving.training import feature_column as fc
from estimator_serving.training.nn.event_files import read_evaluations
from estimator_serving.training.nn.summaries import EventWriter


def write(made, values, metric="loss"):
    """Evaluations by step."""
    with closing(EventWriter(made.eval_dir())) as writer:
        for step, value in values.items():
            writer.add({metric: value}, step)


def estimator(tmp_path):
    return training.LinearClassifier([fc.numeric_column("x")], str(tmp_path))


def stops(made, hook):
    """Whether the hook ends a training after its first step."""
    return int(train(made.model_dir, hook, steps=3).get_variable_value("global_step")) == 1


NOW = {"run_every_secs": None, "run_every_steps": 1}
RISING = {10: 1.0, 20: 2.0, 30: 2.0, 40: 1.5}


@pytest.mark.parametrize(
    ("make", "given", "expected"),
    [
        (experimental.stop_if_higher_hook, {"threshold": 1.9}, True),
        (experimental.stop_if_higher_hook, {"threshold": 2.0}, False),
        (experimental.stop_if_higher_hook, {"threshold": 1.9, "min_steps": 40}, False),
        (experimental.stop_if_lower_hook, {"threshold": 1.1}, True),
        (experimental.stop_if_lower_hook, {"threshold": 1.0}, False),
        (experimental.stop_if_no_increase_hook, {"max_steps_without_increase": 20}, True),
        (experimental.stop_if_no_increase_hook, {"max_steps_without_increase": 21}, False),
        (experimental.stop_if_no_increase_hook, {"max_steps_without_increase": 30, "min_delta": 1.0}, True),
        (experimental.stop_if_no_increase_hook, {"max_steps_without_increase": 30, "min_delta": 0.9}, False),
        (experimental.stop_if_no_decrease_hook, {"max_steps_without_decrease": 30}, True),
        (experimental.stop_if_no_decrease_hook, {"max_steps_without_decrease": 30, "min_steps": 20}, False),
    ],
)
def test_what_stops(make, given, expected, tmp_path):
    made = estimator(tmp_path)
    write(made, RISING, "gain")
    assert stops(made, make(made, metric_name="gain", **given, **NOW)) is expected


def test_nothing_stops_before_an_evaluation(tmp_path):
    made = estimator(tmp_path)
    assert not stops(made, experimental.stop_if_higher_hook(made, "loss", 0.0, **NOW))


def test_a_metric_that_is_not_there_is_named(tmp_path):
    made = estimator(tmp_path)
    write(made, RISING)
    with pytest.raises(ValueError, match="^The evaluation at step 10 has no metric 'zz'. It has \\['loss'\\]"):
        stops(made, experimental.stop_if_higher_hook(made, "zz", 0.0, **NOW))


def test_a_function_of_ones_own(tmp_path):
    made = estimator(tmp_path)
    assert stops(made, experimental.make_early_stopping_hook(made, lambda: True, **NOW))


def test_arguments_are_checked(tmp_path):
    made = estimator(tmp_path)
    with pytest.raises(TypeError, match="^`estimator` must have type `tf.estimator.Estimator`. Got: <class 'int'>"):
        experimental.make_early_stopping_hook(3, lambda: True)
    with pytest.raises(ValueError, match="^Only one of `run_every_secs` and `run_every_steps` must be set."):
        experimental.make_early_stopping_hook(made, lambda: True, run_every_steps=1)
    with pytest.raises(TypeError, match="^`should_stop_fn` must be callable"):
        experimental.make_early_stopping_hook(made, 3)
    with pytest.raises(ValueError, match="^Must specify min_delta >= 0, given: -1"):
        experimental.stop_if_no_increase_hook(made, "loss", 3, min_delta=-1)
    with pytest.raises(ValueError, match="^factor must be between 0 and 1, got 1"):
        experimental.ReduceRateOnPlateauHook(made, 3, factor=1)


def test_a_stop_within_train_and_evaluate(tmp_path):
    config = training.RunConfig(save_checkpoints_steps=5)
    made = training.LinearClassifier([fc.numeric_column("x")], str(tmp_path), config=config)
    hook = experimental.stop_if_higher_hook(made, "global_step/never", 0.0, **NOW, min_steps=10**9)
    reached = experimental.make_early_stopping_hook(made, lambda: 10 in read_evaluations(made.eval_dir()), **NOW)
    spec = training.EvalSpec(input_fn, steps=1, throttle_secs=0)
    metrics, _ = training.train_and_evaluate(made, training.TrainSpec(input_fn, 100, [hook, reached]), spec)
    assert metrics["global_step"] in (10, 11)


class Rates(training.SessionRunHook):
    def __init__(self):
        self.scales = []

    def after_run(self, run_context, run_values):
        self.scales.append(run_context.session.store.rate_scale)


def scales(made, steps, **given):
    rates = Rates()
    hook = experimental.ReduceRateOnPlateauHook(made, factor=0.5, run_every_steps=1, **given)
    train(made.model_dir, hook, rates, steps=steps)
    return rates.scales


def test_the_rate_falls_on_a_plateau_and_stays_lowered_after_a_restart(tmp_path):
    made = estimator(tmp_path)
    write(made, {1: 1.0, 2: 0.5, 3: 0.5, 4: 0.5, 5: 0.5, 99: 9.0})
    assert scales(made, 5, max_steps_without_improvement=2) == [1, 1, 1, 0.5, 0.5]
    assert scales(made, 2, max_steps_without_improvement=2) == [0.5, 0.5]
    assert scales(made, 2, max_steps_without_improvement=2, min_scale=0.6) == [0.6, 0.6]


def test_a_lowered_rate_takes_smaller_steps(tmp_path):
    def weight_after(name, values):
        made = estimator(tmp_path / name)
        write(made, values)
        scales(made, 2, max_steps_without_improvement=1)
        return np.abs(made.get_variable_value("linear/linear_model/x/weights")).item()

    assert weight_after("a", {0: 0.1, 1: 0.2}) < weight_after("b", {0: 0.2, 1: 0.1})
