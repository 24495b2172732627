"""tune: small searches, and what ends, prunes and frees trials."""

import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from estimator_serving import training
from estimator_serving.training import feature_column as fc

tune_module = importlib.import_module("estimator_serving.training.tune")

X = np.linspace(-1, 1, 40, dtype=np.float32)
ROWS = training.Dataset.from_tensor_slices(({"x": X}, 3 * X + 1))
TRAIN = training.TrainSpec(lambda: ROWS.repeat().batch(20), max_steps=6)
EVALUATE = training.EvalSpec(lambda: ROWS.batch(40), every_steps=2)


@pytest.fixture(autouse=True)
def quiet():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def build(trial, config):
    rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
    return training.LinearRegressor([fc.numeric_column("x")], optimizer=training.optimizers.SGD(rate), config=config)


def tune(directory, build=build, train_spec=TRAIN, eval_spec=EVALUATE, **given):
    settings = {"n_trials": 3, "seed": 1, "directory": directory, "storage": directory / "study.log", **given}
    return training.tune(build, train_spec, eval_spec, **settings)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    directory = tmp_path_factory.mktemp("search")
    return directory, tune(directory, storage=None)


def test_the_best_trial_and_a_table(searched):
    directory, result = searched
    values = [trial.value for trial in result.trials if trial.state == "complete"]
    assert result.best_value == min(values)
    assert result.best_params == result.trials[0].params
    assert [path.name for path in directory.iterdir() if path.is_dir()] == [f"trial_{result.trials[0].number:04d}"]
    assert result.best_model_dir == str(directory / f"trial_{result.trials[0].number:04d}")
    head, *rows = str(result).splitlines()
    assert head.split() == ["trial", "state", "loss", "step", "rate"]
    assert len(rows) == 3


def test_the_same_command_goes_on(searched, capsys):
    directory, result = searched
    assert len(tune(directory, storage=None).trials) == 3
    more = tune(directory, storage=None, n_trials=4)
    assert [trial.params for trial in more.trials[:1]] == [result.best_params] or more.best_value < result.best_value
    assert len(more.trials) == 4
    assert str(more) in capsys.readouterr().out


def test_a_search_of_another_direction_or_metric_is_refused(searched):
    directory, _ = searched
    with pytest.raises(ValueError, match="is to minimize its metric, and tune was called to maximize it. Give"):
        tune(directory, storage=None, direction="maximize")
    with pytest.raises(ValueError, match="searches for the metric 'loss', tune was called with 'average_loss'"):
        tune(directory, storage=None, metric="average_loss")


def test_hyperband_ends_trials_early_and_cleanly(tmp_path):
    def of_rate(trial, config):
        return training.LinearRegressor(
            [fc.numeric_column("x")],
            optimizer=training.optimizers.SGD([0.3, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6][trial.number]),
            config=config,
        )

    result = tune(tmp_path, of_rate, n_trials=6, keep_model_dirs="all")
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert training.latest_checkpoint(trial.model_dir).endswith(f"model.ckpt-{trial.step}")
    assert result.trials[0].number == 0


def test_a_trial_that_raises_is_recorded_and_the_search_goes_on(tmp_path):
    def fails_first(trial, config):
        if trial.number == 0:
            raise OSError("no such table")
        return build(trial, config)

    result = tune(tmp_path, fails_first, n_trials=2)
    assert [trial.state for trial in result.trials] == ["complete", "failed"]
    assert result.trials[1].error == "OSError: no such table"


def test_all_trials_fail(tmp_path):
    with pytest.raises(RuntimeError, match=r"None of the 2 trials .* 2 failed. The last error: KeyError: 'rate'"):
        tune(tmp_path, lambda *_: {}["rate"], n_trials=2)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"metric": "auc"}, r"The evaluation has no metric 'auc'. It has \['average_loss', 'global_step', .*give tune"),
        ({"build": lambda *_: 3}, "build must return an Estimator. It returned int"),
        ({"direction": "up"}, "direction must be"),
        ({"keep_model_dirs": "some"}, "keep_model_dirs must be"),
        ({"n_trials": 0}, "n_trials must be at least 1"),
        ({"config": training.RunConfig(model_dir="here")}, "must have no model_dir"),
        ({"storage": "study.txt"}, "is neither the URL of a database"),
    ],
)
def test_what_ends_a_search_at_once(given, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        tune(tmp_path, **given)


def test_the_trial_of_a_killed_process_is_freed(tmp_path):
    import optuna

    # What a process leaves that is killed in its second step.
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log")))
    trial = optuna.create_study(storage=storage, study_name="tune").ask()
    trial.set_user_attr("model_dir", "trial_0000")
    build(trial, training.RunConfig(model_dir=str(tmp_path / "trial_0000"))).train(TRAIN.input_fn, steps=1)
    (tmp_path / "trial_0000" / ".trial.lock").touch()

    result = tune(tmp_path, n_trials=1, keep_model_dirs="all")
    complete, failed = result.trials
    assert (complete.state, failed.state, failed.error) == ("complete", "failed", "its process died")
    assert complete.params == failed.params
    assert complete.model_dir == failed.model_dir == str(tmp_path / "trial_0000")


def test_a_trial_draws_from_the_seed_and_its_number(tmp_path):
    def params(directory, *n_trials):
        for number in n_trials:
            result = tune(directory, n_trials=number, train_spec=training.TrainSpec(TRAIN.input_fn, max_steps=1))
        return [trial.params["rate"] for trial in sorted(result.trials, key=lambda trial: trial.number)]

    at_once = params(tmp_path / "at_once", 3)
    assert len(set(at_once)) == 3
    assert params(tmp_path / "in_parts", 1, 3) == at_once


def test_searches_that_start_together_keep_the_bound(tmp_path, monkeypatch):
    together = threading.Barrier(2)
    count = tune_module.counted_trials

    def count_together(study):
        counted = count(study)
        with suppress(threading.BrokenBarrierError):  # only one of them may count
            together.wait(0.3)
        return counted

    monkeypatch.setattr(tune_module, "counted_trials", count_together)
    with ThreadPoolExecutor(2) as pool:
        outcomes = [pool.submit(tune, tmp_path, n_trials=1) for _ in range(2)]
    errors = [str(outcome.exception()) for outcome in outcomes if outcome.exception()]
    assert all("other processes are at work on the last" in error for error in errors)
    assert len(tune(tmp_path, n_trials=1).trials) == 1


def test_a_study_is_made_under_the_lock_of_the_directory(tmp_path, monkeypatch):
    """Processes that made SQLite's tables at the same time would fail."""
    make = tune_module.storage_of

    def storage_of(*given):
        assert not tune_module._is_dead(tmp_path)
        return make(*given)

    monkeypatch.setattr(tune_module, "storage_of", storage_of)
    tune(tmp_path, n_trials=1)
    assert tune_module._is_dead(tmp_path)


def test_the_trial_of_a_process_that_dies_during_the_search_is_freed(tmp_path):
    def leaves_a_dead_one(trial, config):
        if trial.number == 0:
            dead = trial.study.ask()
            dead.set_user_attr("model_dir", "trial_0001")
            with tune_module.held(tmp_path / "trial_0001"):
                pass
        return build(trial, config)

    result = tune(tmp_path, leaves_a_dead_one, n_trials=2)
    assert sorted(trial.state for trial in result.trials) == ["complete", "complete", "failed"]


def test_a_trial_is_at_work_until_its_result_is_in_the_study(tmp_path, monkeypatch):
    import optuna

    sampler, seen = optuna.samplers.RandomSampler(), []
    # What Optuna calls right before it stores the result.
    monkeypatch.setattr(sampler, "after_trial", lambda *_: seen.append(tune_module._is_dead(tmp_path / "trial_0000")))
    tune(tmp_path, n_trials=1, sampler=sampler)
    assert seen == [False]
    assert tune_module._is_dead(tmp_path / "trial_0000")


def test_the_trial_of_a_process_at_work_is_left_alone(tmp_path):
    with tune_module.held(tmp_path / "trial_0000"):
        assert not tune_module._is_dead(tmp_path / "trial_0000")
    assert tune_module._is_dead(tmp_path / "trial_0000")


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'estimator-serving\[tune\]'"):
        tune(tmp_path)
