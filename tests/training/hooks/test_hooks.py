import io
import json
import logging
import shutil

import numpy as np
import pytest
import rich.console

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
    assert names == ["checkpoint", *(f"mine-{step}.safetensors" for step in (0, 2, 4, 5)), "training_data.json"]


# -- hooks of their own ------------------------------------------------------------------------------------------------


def test_final_ops(tmp_path):
    hook = training.FinalOpsHook({"step": "global_step", "bias": ["linear/linear_model/bias_weights"]})
    assert hook.final_ops_values is None
    train(tmp_path, hook, steps=3)
    assert hook.final_ops_values["step"] == 3
    assert hook.final_ops_values["bias"][0].shape == (1,)
    nothing = training.FinalOpsHook(None)
    train(tmp_path, nothing, steps=1)
    assert nothing.final_ops_values is None


def test_a_run_answers_like_a_session(tmp_path):
    seen = []

    class Ask(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            seen.append(run_context.session.run(["global_step", "loss"]))

    train(tmp_path, Ask(), steps=2)
    assert [step for step, _ in seen] == [1, 2]
    assert seen[0][1] == pytest.approx(np.log(2))


def test_waiting_for_a_step(tmp_path):
    train(tmp_path, training.GlobalStepWaiterHook(0), steps=2)
    train(tmp_path, training.GlobalStepWaiterHook(2), steps=1)
    with pytest.raises(ValueError, match="^GlobalStepWaiterHook would wait for ever: global_step is 3, it waits for 9"):
        train(tmp_path, training.GlobalStepWaiterHook(9), steps=1)


def test_a_stop_at_a_checkpoints_step(tmp_path):
    estimator = train(tmp_path, steps=2)
    hook = training.experimental.make_stop_at_checkpoint_step_hook(estimator, last_step=4)
    assert train(tmp_path, hook, steps=9).get_variable_value("global_step") == 4


@pytest.mark.parametrize(
    ("arguments", "steps", "expected"), [({"save_steps": 2}, 5, [2, 4]), ({"save_steps": 9}, 3, [])]
)
def test_profiles_are_chrome_traces(arguments, steps, expected, tmp_path):
    train(tmp_path / "model", training.ProfilerHook(output_dir=tmp_path / "traces", **arguments), steps=steps)
    found = sorted((tmp_path / "traces").glob("*")) if expected else []
    assert [path.name for path in found] == [f"timeline-{step}.json" for step in expected]
    for path in found:
        names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
        assert {"aten::add_", "aten::binary_cross_entropy_with_logits"} & names


def test_a_profile_that_the_end_of_the_input_cuts_off(tmp_path):
    profiler = training.ProfilerHook(save_steps=2, output_dir=tmp_path / "traces")
    config = training.RunConfig(log_step_count_steps=None)
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path, config=config)
    one = training.Dataset.from_tensor_slices(({"x": np.arange(4.0)}, np.array([0, 1, 1, 0]))).batch(4)
    estimator.train(lambda: one, hooks=[profiler])
    assert not (tmp_path / "traces").exists()


def test_evaluation_within_training_sees_the_weights_as_they_are(tmp_path):
    train(tmp_path, steps=5)
    config = training.RunConfig(log_step_count_steps=None, save_summary_steps=2, save_checkpoints_steps=100)
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path, config=config)
    steps, losses = [], []

    class Watch(training.SessionRunHook):
        def end(self, session):
            steps.append(session.global_step)

    class Losses(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            losses.append(run_context.session.loss)

    evaluator = training.experimental.InMemoryEvaluatorHook(
        estimator, input_fn, steps=2, hooks=[Watch()], name="live", every_n_iter=2
    )
    estimator.train(input_fn, steps=4, hooks=[Losses(), evaluator])
    assert steps == [5, 7, 9, 9]
    assert evaluator.last_results == estimator.evaluate(input_fn, steps=2)
    assert len(list((tmp_path / "eval_live").iterdir())) == 4
    # It has disturbed neither the training nor its summaries.
    train(tmp_path / "alone", steps=5)
    alone = []

    class Alone(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            alone.append(run_context.session.loss)

    train(tmp_path / "alone", Alone(), steps=4)
    assert losses == alone


@pytest.mark.parametrize("every_n_iter", [None, 0, -1])
def test_an_evaluator_without_a_period(every_n_iter, tmp_path):
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path)
    with pytest.raises(ValueError, match=f"^invalid every_n_iter={every_n_iter}"):
        training.experimental.InMemoryEvaluatorHook(estimator, input_fn, every_n_iter=every_n_iter)
    with pytest.raises(TypeError, match="^Hooks must be a SessionRunHook, given: 3"):
        training.experimental.InMemoryEvaluatorHook(estimator, input_fn, hooks=[3])


@pytest.mark.parametrize(("total", "expected"), [(None, "5/5"), (20, "5/20")])
def test_a_progress_bar_counts_and_shows_the_loss(total, expected, tmp_path):
    text = io.StringIO()
    console = rich.console.Console(file=text, width=200)
    train(tmp_path, training.ProgressBarHook(total, console), steps=5)
    assert expected in text.getvalue()
    assert "loss 0." in text.getvalue()


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


def test_a_progress_bar_in_predict_has_no_loss_and_no_end(tmp_path):
    estimator = train(tmp_path)
    text = io.StringIO()
    hook = training.ProgressBarHook(console=rich.console.Console(file=text, width=200))
    rows = training.Dataset.from_tensor_slices({"x": np.arange(4.0)}).batch(2)
    assert len(list(estimator.predict(lambda: rows, hooks=[hook]))) == 4
    assert "2/?" in text.getvalue()
    assert "loss" not in text.getvalue()


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


def test_public_names_are_there_and_sorted_out():
    assert all(hasattr(training, name) for name in training.__all__)
    assert len(set(training.__all__)) == len(training.__all__)
