import copy
import json

import pytest

from estimator_serving.training import RunConfig


def test_defaults():
    config = RunConfig()
    assert (config.save_checkpoints_secs, config.save_checkpoints_steps) == (600, None)
    assert (config.save_summary_steps, config.log_step_count_steps, config.keep_checkpoint_max) == (100, 100, 5)
    assert (config.task_type, config.task_id, config.is_chief, config.num_worker_replicas) == ("worker", 0, True, 1)
    assert copy.deepcopy(config).tf_random_seed is None


def test_one_schedule_clears_the_other():
    assert RunConfig(save_checkpoints_steps=3).save_checkpoints_secs is None
    assert RunConfig(save_checkpoints_secs=3).replace(save_checkpoints_steps=7).save_checkpoints_secs is None
    off = RunConfig(save_checkpoints_secs=None)
    assert (off.save_checkpoints_steps, off.replace(tf_random_seed=1).save_checkpoints_secs) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"model_dir": ""}, "model_dir should be non-empty."),
        ({"tf_random_seed": 1.0}, "tf_random_seed must be integer."),
        ({"save_summary_steps": -1}, "save_summary_steps should be >= 0"),
        ({"save_checkpoints_steps": -1}, "save_checkpoints_steps should be >= 0"),
        ({"keep_checkpoint_max": -1}, "keep_checkpoint_max should be >= 0"),
        ({"keep_checkpoint_every_n_hours": 0}, "keep_checkpoint_every_n_hours should be > 0"),
        ({"log_step_count_steps": 0}, "log_step_count_steps should be > 0"),
        ({"session_creation_timeout_secs": 0}, "session_creation_timeout_secs should be > 0"),
        ({"device_fn": 3}, "device_fn must be callable"),
        ({"protocol": "http"}, "protocol should be grpc or grpc\\+verbs"),
        ({"train_distribute": object()}, "train_distribute must be a strategy of training.distribute"),
        ({"experimental_distribute": object()}, "experimental_distribute is not supported"),
        (
            {"save_checkpoints_steps": 1, "save_checkpoints_secs": 1},
            "`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set.",
        ),
    ],
)
def test_values_out_of_range(arguments, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        RunConfig(**arguments)


def test_replace_knows_its_fields():
    with pytest.raises(ValueError, match=r"^Replacing foo is not supported. Allowed properties are \["):
        RunConfig().replace(foo=1)


@pytest.mark.parametrize(
    ("tf_config", "text"),
    [
        ("{", "TF_CONFIG is not JSON"),
        ("3", "TF_CONFIG holds '3', and must be a JSON object"),
        (json.dumps({"model_dir": "/other"}), "`model_dir` provided in RunConfig construct"),
    ],
)
def test_tf_config_that_cannot_be_followed(tf_config, text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(ValueError, match=f"^{text}"):
        RunConfig(model_dir="/mine")


def test_tf_config_may_name_the_model_dir(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"model_dir": "/from/environment"}))
    assert RunConfig().model_dir == "/from/environment"
