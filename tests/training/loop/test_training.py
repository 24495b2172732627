"""The training loop: steps, hooks and listeners, random numbers, and what an error leaves behind."""

import itertools

import numpy as np
import pytest
import torch
from xor import XOR, XOR_LABELS, Watch, dnn, endless, events, no_rows, rows

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import layers, losses, optimizers


@pytest.mark.parametrize(
    ("calls", "step"),
    [
        ([{"steps": 3}], 3),
        ([{"steps": 3}, {"steps": 2}], 5),
        ([{"steps": 3}, {"max_steps": 4}], 4),
        ([{"max_steps": 4}, {"max_steps": 3}], 4),
    ],
)
def test_steps_are_relative_and_max_steps_absolute(calls, step, tmp_path):
    estimator = dnn(tmp_path)
    for arguments in calls:
        estimator.train(endless, **arguments)
    assert estimator.get_variable_value("global_step") == step
    assert estimator.latest_checkpoint() == str(tmp_path / f"model.ckpt-{step}")


def test_training_that_is_done_calls_nothing(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=3)
    assert estimator.train(lambda: pytest.fail("input_fn was called"), max_steps=3) is estimator


def test_the_end_of_the_data_ends_training(tmp_path):
    assert dnn(tmp_path).train(rows(3), steps=10).latest_checkpoint().endswith("model.ckpt-4")


def test_no_data_is_a_warning_and_leaves_the_first_checkpoint(tmp_path, caplog):
    estimator = dnn(tmp_path)
    assert estimator.train(no_rows, steps=3) is estimator
    assert "made no steps" in caplog.text
    assert estimator.latest_checkpoint().endswith("model.ckpt-0")
    assert estimator.get_variable_value("dnn/hiddenlayer_0/kernel").shape == (2, 4)
    assert set(estimator.load().transform.definitions) == {"a/dense", "b/dense"}
    assert estimator.train(endless, steps=1).get_variable_value("global_step") == 1


def test_no_data_of_which_nothing_is_known(tmp_path, caplog):
    estimator = dnn(tmp_path).train(lambda: iter(()), steps=3)
    assert "No checkpoint was written either" in caplog.text
    assert estimator.latest_checkpoint() is None
    assert dict(estimator.evaluate(lambda: iter(()))) == {"loss": 0.0, "global_step": 0}


def test_one_seed_gives_one_curve_and_a_resumed_run_goes_on_with_it(tmp_path):
    def curve(name, *runs):
        watch = Watch()
        for start, steps in runs:
            # The input goes on where it ended: only the estimator is under test.
            data = rows(100)
            dnn(tmp_path / name, hidden_units=[16], dropout=0.5, batch_norm=True).train(
                lambda start=start, data=data: itertools.islice(data(), start, None), steps=steps, hooks=[watch]
            )
        return watch.losses

    unbroken = curve("a", (0, 8))
    assert curve("b", (0, 8)) == unbroken
    assert curve("c", (0, 5), (5, 3)) == unbroken
    assert len(set(unbroken)) == 8


def noisy_model_fn(features, labels, mode):
    """Every kind of randomness: first weights, dropout here and torch's, batch norm, and shuffled input."""
    net = torch.stack([features["a"], features["b"]], 1)
    net = layers.dropout(layers.dense(net, 8, torch.tanh), 0.3, training=mode == training.ModeKeys.TRAIN)
    net = training.module("block", lambda: torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.3)))(net)
    net = torch.nn.functional.dropout(net, 0.1)
    loss = losses.sparse_softmax_cross_entropy(labels, layers.dense(net, 2))
    return training.EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.05).minimize(loss))


def shuffled():
    return training.Dataset.from_tensor_slices((XOR, XOR_LABELS)).shuffle().repeat().batch(3)


def shuffled_loader():
    rows = [({"a": XOR["a"][i], "b": XOR["b"][i]}, XOR_LABELS[i]) for i in range(4)] * 6
    return torch.utils.data.DataLoader(rows, batch_size=3, shuffle=True)


def noisy_curve(model_dir, *runs, input_fn=shuffled, **config):
    """The losses of one training after the other, each with a new estimator."""
    watch = Watch()
    for steps in runs:
        given = training.RunConfig(**{"tf_random_seed": 11, "save_checkpoints_steps": 3, **config})
        training.Estimator(noisy_model_fn, model_dir, given).train(input_fn, steps=steps, hooks=[watch])
    return watch.losses


@pytest.mark.parametrize("input_fn", [shuffled, shuffled_loader])
def test_one_seed_fixes_weights_dropout_and_shuffling(input_fn, tmp_path):
    before = torch.random.get_rng_state()
    first = noisy_curve(tmp_path / "a", 8, input_fn=input_fn)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    assert noisy_curve(tmp_path / "b", 8, input_fn=input_fn) == first
    assert noisy_curve(tmp_path / "c", 8, input_fn=input_fn, tf_random_seed=12) != first
    assert len(set(first)) == 8


def averaging_model_fn(features, labels, mode):
    net = torch.stack([features["a"], features["b"]], 1)
    net = training.module("norm", lambda: torch.nn.BatchNorm1d(2, momentum=0.5))(net)
    loss = losses.sparse_softmax_cross_entropy(labels, layers.dense(net, 2))
    return training.EstimatorSpec(mode, loss=loss, train_op=optimizers.SGD(0.1).minimize(loss))


def test_a_modules_own_averages_count_each_step_once(tmp_path):
    """Also the first one, before which model_fn is called to make the variables; and a resumed training's first."""
    rows = training.Dataset.from_tensor_slices(({key: values + 1 for key, values in XOR.items()}, XOR_LABELS))
    mean = float(XOR["a"].mean()) + 1
    for steps, expected in ((1, mean / 2), (2, mean / 2 + mean / 4)):
        estimator = training.Estimator(averaging_model_fn, tmp_path)
        estimator.train(lambda: rows.repeat().batch(4), steps=1)
        assert estimator.get_variable_value("norm/num_batches_tracked") == steps
        assert estimator.get_variable_value("norm/running_mean")[0] == pytest.approx(expected)


def test_a_resumed_training_repeats_itself_and_goes_on_with_its_input_if_asked(tmp_path):
    unbroken = noisy_curve(tmp_path / "a", 9)
    again = noisy_curve(tmp_path / "b", 4, 5)
    # The input starts again: the curve is another one, and always the same.
    assert again[:4] == unbroken[:4]
    assert again != unbroken
    assert noisy_curve(tmp_path / "c", 4, 5) == again
    assert noisy_curve(tmp_path / "d", 4, 3, 2, resume_input=True) == unbroken


def test_a_crash_resumes_on_the_same_curve(tmp_path):
    class Crash(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            if run_context.session.global_step == 5:
                raise KeyboardInterrupt

    config = training.RunConfig(tf_random_seed=11, save_checkpoints_steps=3, resume_input=True)
    estimator = training.Estimator(noisy_model_fn, tmp_path / "a", config)
    with pytest.raises(KeyboardInterrupt):
        estimator.train(shuffled, steps=9, hooks=[Crash()])
    assert noisy_curve(tmp_path / "a", 6, resume_input=True) == noisy_curve(tmp_path / "b", 9)[3:]


class Listener(training.CheckpointSaverListener):
    def __init__(self, stop_at=None):
        self.log = []
        self.stop_at = stop_at

    def begin(self):
        self.log.append("begin")

    def before_save(self, session, global_step_value):
        self.log.append(f"before {global_step_value}")

    def after_save(self, session, global_step_value):
        self.log.append(f"after {global_step_value}")
        return global_step_value == self.stop_at

    def end(self, session, global_step_value):
        self.log.append(f"end {global_step_value}")


def test_the_life_cycle_of_hooks(tmp_path):
    log = []
    dnn(tmp_path).train(endless, steps=1, hooks=[Watch("a", log), Watch("b", log)])
    cycle = ["begin", "after_create_session", "before_run", "after_run", "end"]
    assert log == [f"{name}.{step}" for step in cycle for name in "ab"]


def test_listeners_hear_of_every_checkpoint_and_may_stop(tmp_path):
    listener = Listener(stop_at=4)
    dnn(tmp_path).train(endless, steps=100, saving_listeners=[listener])
    saves = [f"{when} {step}" for step in (0, 2, 4) for when in ("before", "after")]
    assert listener.log == ["begin", *saves, "end 4"]


def test_listeners_need_checkpoints(tmp_path):
    config = training.RunConfig(save_checkpoints_secs=None)
    estimator = training.LinearClassifier([fc.numeric_column("a")], tmp_path, config=config)
    with pytest.raises(ValueError, match="^There should be a CheckpointSaverHook to use saving_listeners"):
        estimator.train(endless, steps=1, saving_listeners=[Listener()])
    estimator.train(endless, steps=1)
    assert estimator.latest_checkpoint() is None


def test_an_error_leaves_the_last_periodic_checkpoint_and_skips_end(tmp_path):
    class Fail(Watch):
        def after_run(self, run_context, run_values):
            super().after_run(run_context, run_values)
            if run_context.session.global_step == 3:
                raise RuntimeError("disk full")

    hook = Fail()
    estimator = dnn(tmp_path)
    with pytest.raises(RuntimeError, match="^disk full$"):
        estimator.train(endless, steps=9, hooks=[hook])
    assert "hook.end" not in hook.log
    assert estimator.latest_checkpoint().endswith("model.ckpt-2")
    assert estimator.train(endless, max_steps=4).get_variable_value("global_step") == 4


def test_a_nan_loss_is_found_before_a_weight_changes(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    before = {name: estimator.get_variable_value(name) for name in estimator.get_variable_names()}
    spoiled = {**XOR, "a": np.full(4, np.nan, np.float32)}
    with pytest.raises(training.NanLossDuringTrainingError, match="^NaN loss during training"):
        estimator.train(rows(2, spoiled), steps=1)
    for name, value in before.items():
        np.testing.assert_array_equal(estimator.get_variable_value(name), value)


def test_summaries_are_written_at_the_first_step_and_every_so_many(tmp_path):
    config = training.RunConfig(save_summary_steps=3, log_step_count_steps=2)
    columns = [fc.numeric_column("a")]
    training.DNNClassifier([4], columns, tmp_path / "dnn", config=config).train(endless, steps=8)
    found = events(tmp_path / "dnn")
    assert found["loss"] == [1, 4, 7]
    assert found["global_step/sec"] == [3, 5, 7]
    assert found["dnn/hiddenlayer_0/fraction_of_zero_values"] == found["dnn/hiddenlayer_0/activation"] == [1, 4, 7]
    training.LinearClassifier(columns, tmp_path / "linear", config=config).train(endless, steps=1)
    assert {"bias", "fraction_of_zero_weights"} <= set(events(tmp_path / "linear"))
