"""Several real processes train together: with the numbers of one process, and with an end when one of them is gone."""

import os
import random
import time

import numpy as np
import pytest
import trained_together
from processes import Processes, tf_configs, torchrun_environments

from estimator_serving import training
from estimator_serving.training.distribute.cluster import cluster_of
from estimator_serving.training.distribute.processes import connect


def weights(kind, model_dir):
    made = trained_together.estimator(kind, model_dir)
    return {name: made.get_variable_value(name) for name in made.get_variable_names()}


def check_equal(kind, first, second, tolerance):
    expected = weights(kind, second)
    for name, value in weights(kind, first).items():
        np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("kind", ["linear", "summed", "wide_and_deep", "custom"])
def test_two_processes_with_half_a_batch_train_as_one_with_all_of_it(kind, tmp_path):
    together = Processes(tf_configs(), trained_together.train, kind, tmp_path / "two", 20)
    trained_together.train(kind, tmp_path / "one", 20)
    assert together.results() == [20, 20]
    check_equal(kind, tmp_path / "two", tmp_path / "one", 1e-5)


@pytest.mark.parametrize("kind", ["wide_and_deep", "custom"])
def test_without_shared_memory_they_train_alike(kind, tmp_path):
    over_network = Processes(tf_configs(), trained_together.train_over_the_network, kind, tmp_path / "network", 10)
    assert over_network.results() == [10, 10]
    in_memory = Processes(tf_configs(), trained_together.train_in_shares, kind, tmp_path / "memory", 10)
    assert in_memory.results() == [10, 10]
    check_equal(kind, tmp_path / "network", tmp_path / "memory", 1e-6)


def test_torchrun_starts_them_too(tmp_path):
    assert Processes(torchrun_environments(), trained_together.train, "linear", tmp_path, 3).results() == [3, 3]


def test_the_first_weights_are_the_chiefs(tmp_path):
    first, second = Processes(tf_configs(), trained_together.initial_weights, tmp_path).results()
    np.testing.assert_array_equal(first, second)


def test_a_kill_changes_nothing_in_the_end(tmp_path):
    """Both are killed at step 10 and started again."""
    undisturbed = Processes(tf_configs(), trained_together.train, "wide_and_deep", tmp_path / "a", 20)
    assert undisturbed.results() == [20, 20]
    given = "wide_and_deep", tmp_path / "b", 20
    killed = Processes(tf_configs(), trained_together.train_until, *given, 0, 10, trained_together.kill)
    assert killed.results()[0] is None
    assert Processes(tf_configs(), trained_together.train, *given).results() == [20, 20]
    check_equal("wide_and_deep", tmp_path / "a", tmp_path / "b", 0)


@pytest.mark.parametrize(
    ("rank", "what", "text"),
    [
        (1, trained_together.kill, "PeerLostError: Rank 1 (worker 0, 127.0.0.1:40000) has ended"),
        (1, trained_together.stop, "PeerLostError: Rank 1 (worker 0, 127.0.0.1:40000) has not been heard of for"),
        (
            1,
            trained_together.fail,
            "PeerLostError: Rank 1 (worker 0, 127.0.0.1:40000) ended with OSError: no such buck",
        ),
        (0, trained_together.kill, "PeerLostError: Rank 0 (chief 0, 127.0.0.1:"),
        (0, trained_together.stop, "PeerLostError: Rank 0 (chief 0, 127.0.0.1:"),
    ],
)
def test_the_others_name_a_process_that_is_gone(rank, what, text, tmp_path):
    began_s = time.monotonic()
    together = Processes(tf_configs(), trained_together.train_until, "linear", tmp_path, 50, rank, 3, what)
    _, receiving = together.started[1 - rank]
    assert receiving.poll(60)
    assert receiving.recv().startswith(text)
    together.kill()
    assert time.monotonic() - began_s < 60


def test_the_same_command_resumes_after_kills_at_random_moments(tmp_path):
    """KILLS in the environment sets how many."""
    moments = random.Random(int(os.environ.get("SEED", "3")))
    for _ in range(int(os.environ.get("KILLS", "3"))):
        together = Processes(tf_configs(), trained_together.train_slowly, "linear", tmp_path, 10**6)
        time.sleep(moments.uniform(0.2, 3.0))
        victim = moments.randrange(2)
        together.process(victim).kill()
        _, receiving = together.started[1 - victim]
        if moments.random() < 0.5:  # the other one notices
            assert receiving.poll(60)
            # One that has not met the other yet waits for it.
            assert receiving.recv().startswith(("PeerLostError: Rank ", "TimeoutError"))
        together.kill()
    reached = weights("linear", tmp_path).get("global_step", 0) if list(tmp_path.glob("checkpoint")) else 0
    goal = int(reached) + 10
    assert Processes(tf_configs(), trained_together.train, "linear", tmp_path, goal).results() == [goal, goal]


def test_the_shortest_data_end_the_training(tmp_path):
    assert Processes(tf_configs(), trained_together.train_until_data_ends, tmp_path).results() == [5, 5]


def test_a_nan_in_one_process_ends_all(tmp_path):
    results = Processes(tf_configs(), trained_together.train_on_nan, tmp_path).results()
    assert [text.partition(":")[0] for text in results] == ["NanLossDuringTrainingError"] * 2


def test_other_columns_are_named(tmp_path):
    for text in Processes(tf_configs(), trained_together.train_other_columns, tmp_path).results():
        assert text.startswith(
            "ValueError: Rank 1 (worker 0, 127.0.0.1:40000) trains another model than the chief: the transform of the "
            "feature columns"
        )


def test_a_cluster_with_a_parameter_server_and_an_evaluator(tmp_path):
    environments = tf_configs(ps=1, evaluator=True)
    chief, worker, ps, evaluator = Processes(environments, trained_together.train_and_evaluate, tmp_path, 12).results()
    assert chief["metrics"] is worker["metrics"] is ps["metrics"] is None
    assert evaluator["metrics"]["global_step"] == 12
    assert "eval" in evaluator["files"]


def test_under_torchrun_the_chief_evaluates_and_all_know_the_result(tmp_path):
    first, second = Processes(torchrun_environments(), trained_together.train_and_evaluate, tmp_path, 12).results()
    assert first["metrics"] == second["metrics"]
    assert first["metrics"]["global_step"] == 12


# -- settings ---------------------------------------------------------------------------------------------------------


def test_a_parameter_server_strategy_is_refused():
    for make in (
        training.distribute.ParameterServerStrategy,
        training.distribute.experimental.ParameterServerStrategy,
    ):
        with pytest.raises(ValueError, match=r"Use MultiWorkerMirroredStrategy\(\) with the same TF_CONFIG"):
            make()


def test_strategies_know_the_number_of_processes(monkeypatch):
    assert training.distribute.MirroredStrategy().num_replicas_in_sync == 1
    for name, value in torchrun_environments(3)[1].items():
        monkeypatch.setenv(name, value)
    strategy = training.distribute.CentralStorageStrategy()
    config = training.RunConfig(train_distribute=strategy)
    assert (strategy.num_replicas_in_sync, config.num_worker_replicas) == (3, 3)
    assert (config.is_chief, config.task_type, config.task_id, config.global_id_in_cluster) == (False, "worker", 0, 1)
    with strategy.scope() as inside:
        assert inside is strategy


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"backend": "mpi"}, "^backend must be 'gloo' or 'nccl', got 'mpi'"),
        ({"peer_timeout_s": 1}, "^peer_timeout_s must be at least 5, got 1"),
    ],
)
def test_settings_are_checked(arguments, text):
    with pytest.raises(ValueError, match=text):
        training.distribute.MultiWorkerMirroredStrategy(**arguments)


def test_more_devices_than_processes(tmp_path):
    strategy = training.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    with pytest.raises(ValueError, match="torchrun --nproc_per_node=2"):
        trained_together.train("linear", tmp_path, 1, train_distribute=strategy)


def test_a_chief_whose_worker_does_not_come_names_it():
    config = trained_together.json.loads(tf_configs()[0]["TF_CONFIG"])
    with pytest.raises(TimeoutError, match=r"^Rank 1 \(worker 0, 127.0.0.1:40000\) did not come within 1 s"):
        connect(cluster_of(config), None, 1.0)


def test_an_address_without_a_port():
    tf_config = {"cluster": {"chief": ["here"], "worker": ["there:1"]}, "task": {"type": "chief", "index": 0}}
    with pytest.raises(ValueError, match="^TF_CONFIG gives the chief the address 'here'; it must be host:port"):
        connect(cluster_of(tf_config), None, 1.0)
