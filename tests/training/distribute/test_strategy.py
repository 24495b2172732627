"""Who asks a strategy what: gradients once a step, the chief before something is written, everyone before a step."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from strategies import Bystander, Halving, InThread, Replicas, with_strategy

from estimator_serving import training
from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.training import feature_column as fc

ROWS = {"x": np.float32([1, -2, 0.5, 3, -1, 2, 0.25, -3])}, np.int64([1, 0, 1, 1, 0, 0, 1, 0])
COLUMNS = [fc.numeric_column("x"), fc.embedding_column(fc.categorical_column_with_identity("id", 4), 2)]
IDS = np.int64([0, 1, 2, 3, 0, 0, 1, 2])


def input_fn(input_context, rows=ROWS, batch=4, epochs=2):
    """Each process reads its share of the rows."""
    whole = training.Dataset.from_tensor_slices(({**rows[0], "id": IDS}, rows[1])).repeat(epochs)
    count = input_context.num_replicas_in_sync
    return whole.shard(count, input_context.input_pipeline_id).batch(batch // count)


def estimator(model_dir, strategy=None, rate=0.1, **config):
    config = training.RunConfig(**{"log_step_count_steps": 1, "save_summary_steps": 1, **config})
    optimizer = training.optimizers.SGD(rate)
    made = training.DNNClassifier([3], COLUMNS, str(model_dir), config=config, optimizer=optimizer)
    return made if strategy is None else with_strategy(made, strategy)


def weights(made):
    return {name: made.get_variable_value(name) for name in made.get_variable_names() if "training/" not in name}


def in_threads(work):
    """What `work(strategy)` returns in each of two replicas."""
    replicas = Replicas(2)
    with ThreadPoolExecutor(2) as pool:
        return [job.result() for job in [pool.submit(work, InThread(replicas, i)) for i in range(2)]]


def test_gradients_are_reduced_once_a_step(tmp_path):
    halving = Halving()
    halved = estimator(tmp_path / "a", halving, tf_random_seed=1).train(input_fn)
    half_as_fast = estimator(tmp_path / "b", rate=0.05, tf_random_seed=1).train(input_fn)
    assert halving.asked == halved.get_variable_value("global_step") == 4
    for name, value in weights(half_as_fast).items():
        np.testing.assert_allclose(weights(halved)[name], value, rtol=1e-6, err_msg=name)


class Steps(training.SessionRunHook):
    def __init__(self):
        self.losses = []

    def after_run(self, run_context, run_values):
        self.losses.append(run_context.session.loss)


def test_a_process_that_is_not_the_chief_trains_and_writes_nothing(tmp_path):
    steps, given = Steps(), training.CheckpointSaverHook(tmp_path, save_steps=1)
    made = estimator(tmp_path, Bystander()).train(input_fn, hooks=[steps, given])
    assert len(steps.losses) == 4
    assert set(made.evaluate(input_fn)) > {"accuracy", "loss"}
    assert not list(tmp_path.iterdir())
    with_strategy(made, Halving()).train(input_fn, steps=1).evaluate(input_fn)
    names = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert names == {"checkpoint", "eval", "events", "hyperparameters", "model", "training_data"}


def test_a_models_chief_hooks_are_the_chiefs(tmp_path):
    for_all, for_chief = Steps(), Steps()

    def model_fn(features, mode):
        loss = training.get_variable("w", ()).square()
        train_op = training.optimizers.SGD(0.1).minimize(loss)
        hooks = {"training_hooks": [for_all], "training_chief_hooks": [for_chief]}
        return training.EstimatorSpec(mode, loss=loss, train_op=train_op, **hooks)

    made = training.Estimator(model_fn, tmp_path)
    with_strategy(made, Bystander()).train(lambda: np.ones(1, np.float32), steps=2)
    assert (len(for_all.losses), len(for_chief.losses)) == (2, 0)


def test_two_replicas_train_as_one_process_on_their_joined_batches(tmp_path):
    start = estimator(tmp_path / "start").train(input_fn, steps=1).latest_checkpoint()
    steps = [Steps(), Steps()]

    def train(strategy):
        made = training.DNNClassifier(
            [3], COLUMNS, str(tmp_path / "two"), optimizer=training.optimizers.SGD(0.1), warm_start_from=start
        )
        with_strategy(made, strategy).train(input_fn, hooks=[steps[strategy.replica_id]])
        return weights(made)  # the last checkpoint, which the chief has written before either returns

    together, same = in_threads(train)
    one = training.DNNClassifier(
        [3], COLUMNS, str(tmp_path / "one"), optimizer=training.optimizers.SGD(0.1), warm_start_from=start
    ).train(input_fn)
    assert together["global_step"] == same["global_step"] == 4
    assert steps[0].losses == steps[1].losses
    for name, value in weights(one).items():
        np.testing.assert_allclose(together[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_first_weights_are_the_same_without_a_seed(tmp_path):
    first = []

    class First(training.SessionRunHook):
        def after_create_session(self, session, coord):
            first.append(session.store.get("dnn/hiddenlayer_0/kernel").detach().numpy().copy())

    in_threads(lambda strategy: estimator(tmp_path, strategy).train(input_fn, steps=1, hooks=[First()]))
    np.testing.assert_array_equal(*first)


@pytest.mark.parametrize("epochs", [(2, 1), (1, 2), (0, 1)])
def test_the_shortest_input_ends_the_training_for_all(epochs, tmp_path):
    def train(strategy):
        steps = Steps()
        data = partial(input_fn, epochs=epochs[strategy.replica_id])
        estimator(tmp_path, strategy).train(data, hooks=[steps])
        return len(steps.losses)

    assert in_threads(train) == [2 * min(epochs)] * 2


def test_a_hook_that_stops_one_replica_stops_all(tmp_path):
    def train(strategy):
        steps = Steps()
        stop = [training.StopAtStepHook(num_steps=2)] if strategy.replica_id else []
        estimator(tmp_path, strategy).train(input_fn, hooks=[steps, *stop])
        return len(steps.losses)

    assert in_threads(train) == [2, 2]


def test_a_nan_in_one_replica_keeps_all_from_the_step(tmp_path):
    spoiled = {"x": np.where(np.arange(8) == 5, np.nan, ROWS[0]["x"]).astype(np.float32)}, ROWS[1]

    def train(strategy):
        made = estimator(tmp_path, strategy, save_checkpoints_steps=1)
        with pytest.raises(training.NanLossDuringTrainingError):
            made.train(partial(input_fn, rows=spoiled))
        return strategy.replica_id

    assert in_threads(train) == [0, 1]
    assert estimator(tmp_path).latest_checkpoint().endswith("model.ckpt-1")


def test_one_process_exports_and_all_know_where(tmp_path):
    made = estimator(tmp_path / "model").train(input_fn, steps=1)
    receiver_fn = build_parsing_serving_input_receiver_fn(fc.make_parse_example_spec(COLUMNS))

    def export(strategy):
        return with_strategy(estimator(made.model_dir), strategy).export_saved_model(tmp_path / "out", receiver_fn)

    first, second = in_threads(export)
    assert first == second
    assert [str(path) for path in Path(tmp_path / "out").iterdir()] == [first]
