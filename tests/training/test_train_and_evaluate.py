"""When train_and_evaluate evaluates and exports, and what a second run of the same command does."""

import json
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from watched import input_fn, lines

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.exporters import BEST_FILE, versions
from estimator_serving.training.nn.event_files import read_evaluations

COLUMNS = [fc.numeric_column("x")]
RECEIVER_FN = training.export.build_parsing_serving_input_receiver_fn(fc.make_parse_example_spec(COLUMNS))


def estimator(model_dir, **config):
    config = training.RunConfig(**{"save_summary_steps": None, "save_checkpoints_steps": 3, **config})
    return training.LinearClassifier(COLUMNS, str(model_dir), config=config)


def eval_spec(**given):
    return training.EvalSpec(**{"input_fn": input_fn, "steps": 2, "throttle_secs": 0, **given})


class Noted(training.Exporter):
    """Notes each call; the path that it returns names the checkpoint."""

    name = "noted"

    def __init__(self):
        self.calls = []

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
        self.calls.append((int(eval_result["global_step"]), is_the_final_export))
        return f"{Path(export_path).name}/{Path(checkpoint_path).name}"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"input_fn": 3}, TypeError, "`input_fn` must be callable, given: 3"),
        ({"max_steps": 0}, ValueError, "Must specify max_steps > 0, given: 0"),
        ({"hooks": [3]}, TypeError, "All hooks must be `SessionRunHook` instances, given: 3"),
        ({"saving_listeners": [3]}, TypeError, "All saving_listeners must be `CheckpointSaverListener` instances"),
    ],
)
def test_a_train_spec_is_checked(arguments, error, text):
    with pytest.raises(error, match=f"^{text}"):
        training.TrainSpec(**{"input_fn": input_fn, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"input_fn": 3}, TypeError, "`input_fn` must be callable, given: 3"),
        ({"steps": 0}, ValueError, "Must specify steps > 0, given: 0"),
        ({"name": 3}, TypeError, "`name` must be string, given: 3"),
        ({"start_delay_secs": -1}, ValueError, "Must specify start_delay_secs >= 0, given: -1"),
        ({"throttle_secs": -1}, ValueError, "Must specify throttle_secs >= 0, given: -1"),
        ({"every_steps": 0}, ValueError, "Must specify every_steps > 0, given: 0"),
        ({"hooks": [3]}, TypeError, "All hooks must be `SessionRunHook` instances, given: 3"),
        ({"exporters": 3}, TypeError, "`exporters` must be an Exporter, an iterable of Exporter, or `None`, found 3"),
        ({"exporters": [None]}, TypeError, "`exporters` must be an Exporter"),
        ({"exporters": [Noted(), Noted()]}, ValueError, "`exporters` must have unique names."),
        ({"exporters": training.LatestExporter("", RECEIVER_FN)}, ValueError, "An Exporter cannot have a name that"),
        ({"exporters": training.LatestExporter(3, RECEIVER_FN)}, ValueError, "An Exporter must have a string name."),
    ],
)
def test_an_eval_spec_is_checked(arguments, error, text):
    with pytest.raises(error, match=f"^{text}"):
        eval_spec(**arguments)


def test_other_arguments_are_refused(tmp_path):
    made, train = estimator(tmp_path), training.TrainSpec(input_fn)
    for given in ((3, train, eval_spec()), (made, 3, eval_spec()), (made, train, None)):
        with pytest.raises(TypeError, match=r"must have type `tf.estimator\.\w+`. Got: <class"):
            training.train_and_evaluate(*given)


def test_each_checkpoint_is_evaluated_and_exported(tmp_path):
    noted = Noted()
    spec = training.TrainSpec(input_fn, max_steps=10)
    metrics, exports = training.train_and_evaluate(estimator(tmp_path), spec, eval_spec(exporters=noted))
    assert noted.calls == [(3, False), (6, False), (9, False), (10, True)]
    assert (metrics["global_step"], exports) == (10, ["noted/model.ckpt-10"])
    assert training.train_and_evaluate(estimator(tmp_path), spec, eval_spec()) == (None, None)


def test_without_max_steps_no_export_is_the_final_one(tmp_path):
    noted, data = Noted(), training.Dataset.from_tensor_slices(({"x": np.ones(4)}, np.ones(4, int))).batch(1)
    training.train_and_evaluate(estimator(tmp_path), training.TrainSpec(lambda: data), eval_spec(exporters=[noted]))
    assert noted.calls == [(3, False), (4, False)]


def test_evaluations_are_throttled_but_not_the_last(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    noted = Noted()
    spec = eval_spec(throttle_secs=600, exporters=noted)
    training.train_and_evaluate(estimator(tmp_path), training.TrainSpec(input_fn, 10), spec)
    assert noted.calls == [(3, False), (10, True)]
    assert lines(caplog).count("Skip the current checkpoint eval due to throttle secs (600 secs).") == 3


def test_every_so_many_steps_whatever_the_schedule_says(tmp_path):
    noted = Noted()
    made = estimator(tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=600)
    spec = eval_spec(throttle_secs=600, every_steps=4, exporters=noted)
    training.train_and_evaluate(made, training.TrainSpec(input_fn, 10), spec)
    assert [step for step, _ in noted.calls] == [4, 8, 10]


class Kill(training.SessionRunHook):
    def after_run(self, run_context, run_values):
        if run_context.session.global_step == 7:
            raise KeyboardInterrupt


def test_the_same_command_goes_on_after_a_kill(tmp_path):
    noted = Noted()
    with pytest.raises(KeyboardInterrupt):
        training.train_and_evaluate(
            estimator(tmp_path), training.TrainSpec(input_fn, 10, [Kill()]), eval_spec(exporters=noted)
        )
    training.train_and_evaluate(estimator(tmp_path), training.TrainSpec(input_fn, 10), eval_spec(exporters=noted))
    assert noted.calls == [(3, False), (6, False), (9, False), (10, True)]


def test_a_kill_in_front_of_the_last_evaluation(tmp_path):
    estimator(tmp_path).train(input_fn, max_steps=10)
    noted = Noted()
    spec = eval_spec(exporters=noted)
    metrics, _ = training.train_and_evaluate(estimator(tmp_path), training.TrainSpec(input_fn, 10), spec)
    assert (metrics["global_step"], noted.calls) == (10, [(10, True)])


def test_an_exporter_that_fails_is_named_once(tmp_path, caplog):
    def receiver_fn():
        raise OSError("disk full")

    failing = training.LatestExporter("latest", receiver_fn)
    metrics, exports = training.train_and_evaluate(
        estimator(tmp_path), training.TrainSpec(input_fn, 6), eval_spec(exporters=failing)
    )
    assert (metrics["global_step"], exports) == (6, [None])
    assert len([line for line in lines(caplog) if line.startswith("The exporter 'latest' failed")]) == 1


# -- exporters --------------------------------------------------------------------------------------------------------


def test_latest_and_final(tmp_path):
    (tmp_path / "export" / "latest" / "1000000000").mkdir(parents=True)  # the oldest, which is removed
    exporters = [
        training.LatestExporter("latest", RECEIVER_FN, exports_to_keep=1),
        training.FinalExporter("final", RECEIVER_FN),
    ]
    spec = eval_spec(exporters=exporters)
    _, exports = training.train_and_evaluate(estimator(tmp_path), training.TrainSpec(input_fn, 3), spec)
    latest, final = versions(tmp_path / "export" / "latest"), versions(tmp_path / "export" / "final")
    assert (len(latest), len(final)) == (1, 1)
    assert exports == [str(latest[-1]), str(final[0])]


@pytest.mark.parametrize("make", [training.LatestExporter, training.BestExporter])
def test_at_least_one_export_is_kept(make):
    with pytest.raises(ValueError, match=r"^`exports_to_keep`, if provided, must be .*positive number. Got 0"):
        make("a", RECEIVER_FN, exports_to_keep=0)


def test_a_compare_fn_is_checked():
    with pytest.raises(ValueError, match="must include best_eval_result argument"):
        training.BestExporter(compare_fn=lambda current_eval_result: current_eval_result)
    with pytest.raises(ValueError, match=r"has following not expected args: \['foo'\]"):
        training.BestExporter(compare_fn=lambda best_eval_result, current_eval_result, foo: foo)  # noqa: ARG005
    with pytest.raises(ValueError, match="compare_fn` must not be None"):
        training.BestExporter(compare_fn=None)


def exported(exporter, made, losses, start=1):
    """The steps whose loss is exported, when losses follow each other."""
    path = str(Path(made.model_dir) / "export" / exporter.name)
    results = [{"loss": np.float32(loss), "global_step": step} for step, loss in enumerate(losses, start)]
    found = [exporter.export(made, path, made.latest_checkpoint(), result, False) for result in results]
    return [step for step, export in enumerate(found, start) if export]


def test_the_best_survives_a_restart(tmp_path):
    made = estimator(tmp_path).train(input_fn, steps=1)
    assert exported(training.BestExporter("best", RECEIVER_FN), made, [3.0, 4.0]) == [1]
    assert json.loads((tmp_path / "export" / "best" / BEST_FILE).read_text())["loss"] == 3.0
    assert exported(training.BestExporter("best", RECEIVER_FN), made, [3.5, 2.5], 3) == [4]
    assert exported(training.BestExporter("best", RECEIVER_FN, event_file_pattern=None), made, [9.0], 5) == [5]


def test_exports_of_before_are_judged_by_the_event_files(tmp_path):
    made = estimator(tmp_path).train(input_fn, steps=1)
    loss = made.evaluate(input_fn, steps=1)["loss"]
    (tmp_path / "export" / "best" / "1700000000").mkdir(parents=True)
    assert exported(training.BestExporter("best", RECEIVER_FN), made, [loss + 1], 2) == []
    assert exported(training.BestExporter("best", RECEIVER_FN), made, [loss - 0.1], 3) == [3]


def test_the_default_comparison_needs_a_loss(tmp_path):
    made = estimator(tmp_path).train(input_fn, steps=1)
    best = training.BestExporter("best", RECEIVER_FN)
    exported(best, made, [1.0])
    with pytest.raises(ValueError, match=r"^current_eval_result cannot be empty or no loss is found in it\."):
        best.export(made, str(tmp_path / "export" / "best"), made.latest_checkpoint(), {"global_step": 2}, False)


# -- the tasks of a cluster -------------------------------------------------------------------------------------------

CLUSTER = {"chief": ["localhost:1"], "worker": ["localhost:2"], "ps": ["localhost:3"]}


def in_task(monkeypatch, kind, index=0, cluster=CLUSTER):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))


def test_a_parameter_server_has_nothing_to_do(tmp_path, monkeypatch):
    in_task(monkeypatch, "ps")
    spec = training.TrainSpec(input_fn, 3)
    assert training.train_and_evaluate(estimator(tmp_path), spec, eval_spec()) == (None, None)
    assert not list(tmp_path.iterdir())


def test_there_is_one_evaluator(tmp_path, monkeypatch):
    in_task(monkeypatch, "evaluator", 1)
    with pytest.raises(ValueError, match=r"^For distributed training, there can only be one `evaluator` task"):
        training.train_and_evaluate(estimator(tmp_path), training.TrainSpec(input_fn), eval_spec())


@pytest.mark.parametrize("max_steps", [6, None])
def test_the_evaluator_follows_until_the_training_ends(max_steps, tmp_path, monkeypatch, caplog):
    """It starts before there is a checkpoint, and ends at max_steps or with the training."""
    in_task(monkeypatch, "evaluator")
    noted, results = Noted(), []
    spec = eval_spec(start_delay_secs=0.1, exporters=noted)
    given = estimator(tmp_path / "m"), training.TrainSpec(input_fn, max_steps), spec
    thread = threading.Thread(target=lambda: results.append(training.train_and_evaluate(*given)))
    thread.start()
    time.sleep(0.3)
    in_task(monkeypatch, "chief", cluster={"chief": ["localhost:1"]})
    few = training.Dataset.from_tensor_slices(({"x": np.ones(6)}, np.ones(6, int))).batch(1)
    training.train_and_evaluate(estimator(tmp_path / "m"), training.TrainSpec(lambda: few), eval_spec())
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert noted.calls[-1] == (6, max_steps is not None)
    assert max(read_evaluations(tmp_path / "m" / "eval")) == results[0][0]["global_step"] == 6
    assert "Estimator is not trained yet. Will start an evaluation when a checkpoint is ready." in caplog.text
