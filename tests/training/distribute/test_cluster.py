"""TF_CONFIG: what TF 2.15's RunConfig makes of it."""

import json
import re

import numpy as np
import pytest

from estimator_serving.training import LinearRegressor, RunConfig, feature_column, numpy_input_fn

CLUSTER = {"chief": ["a:1"], "ps": ["b:1", "b:2"], "worker": ["c:1", "c:2"]}
ONE = {"chief": ["a:1"]}
MASTERS = {"master": ["b:1"], "worker": ["c:1"]}


def config(monkeypatch, cluster=None, kind=None, index=None, **others):
    task = {key: value for key, value in (("type", kind), ("index", index)) if value is not None}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster or {}, "task": task, **others}))
    return RunConfig()


@pytest.mark.parametrize(
    ("given", "task", "is_chief", "workers", "servers", "master", "place"),
    [
        ((), ("worker", 0), True, 1, 0, "", 0),
        ((CLUSTER, "chief", 0), ("chief", 0), True, 3, 2, "grpc://a:1", 0),
        ((CLUSTER, "worker", 0), ("worker", 0), False, 3, 2, "grpc://c:1", 1),
        ((CLUSTER, "worker", 1), ("worker", 1), False, 3, 2, "grpc://c:2", 2),
        ((CLUSTER, "ps", 1), ("ps", 1), False, 3, 2, "grpc://b:2", 4),
        ((CLUSTER, "evaluator", 1), ("evaluator", 1), False, 0, 0, "", None),
        ((ONE, "chief", 0), ("chief", 0), True, 1, 0, "", 0),
        ((MASTERS, "master", 0), ("master", 0), True, 2, 0, "grpc://b:1", 0),
    ],
)
def test_places(monkeypatch, given, task, is_chief, workers, servers, master, place):
    made = config(monkeypatch, *given)
    monkeypatch.delenv("TF_CONFIG")
    made = made.replace(save_summary_steps=1)
    assert (made.task_type, made.task_id) == task
    assert (made.is_chief, made.num_worker_replicas, made.num_ps_replicas) == (is_chief, workers, servers)
    assert (made.master, made.evaluation_master, made.global_id_in_cluster) == (master, "", place)
    assert made.cluster_spec == (given[0] if given and task[0] != "evaluator" else {})


def test_what_else_tf_config_says(monkeypatch):
    made = config(monkeypatch, service={"a": 1}, session_master="x", eval_session_master="y")
    assert (made.service, made.master, made.evaluation_master) == ({"a": 1}, "x", "y")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (({"worker": ["a"]},), 'If "cluster" is set in TF_CONFIG, it must have one "chief" node.'),
        (({"chief": ["a", "b"]}, "chief", 0), 'The "cluster" in TF_CONFIG must have only one "chief" node.'),
        (({"master": ["a", "b"]}, "master", 0), 'The "cluster" in TF_CONFIG must have only one "master" node.'),
        ((MASTERS | ONE, "chief", 0), "If `master` node exists in `cluster`, job `chief` is not supported."),
        ((MASTERS, "evaluator", 0), "If `master` node exists in `cluster`, task_type `evaluator` is not supported."),
        ((CLUSTER,), 'If "cluster" is set in TF_CONFIG, task type must be set.'),
        ((CLUSTER, "worker"), 'If "cluster" is set in TF_CONFIG, task index must be set.'),
        ((CLUSTER, "worker", -1), "Task index must be non-negative number."),
        ((CLUSTER, "worker", 9), "9 is not a valid task_id for task_type worker in the cluster_spec:"),
        ((CLUSTER, "foo", 0), "foo is not a valid task_type in the cluster_spec:"),
        ((None, "evaluator", 0), 'If "cluster" is not set in TF_CONFIG, task type must be WORKER.'),
        ((None, "worker", 1), 'If "cluster" is not set in TF_CONFIG, task index must be 0.'),
    ],
)
def test_refusals(monkeypatch, given, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        config(monkeypatch, *given)


def test_a_service_is_a_dict(monkeypatch):
    with pytest.raises(TypeError, match='If "service" is set in TF_CONFIG, it must be a dict. Given'):
        config(monkeypatch, service=3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((CLUSTER, "ps", 0), "Train has been called wrong configuration. Please use"),
        ((CLUSTER, "evaluator", 0), "Train has been called wrong configuration. Please use"),
        ((ONE, "chief", 0), None),
    ],
)
def test_who_trains(monkeypatch, tmp_path, given, text):
    column = feature_column.numeric_column("x")
    estimator = LinearRegressor([column], model_dir=tmp_path, config=config(monkeypatch, *given))
    inputs = numpy_input_fn({"x": np.ones(2)}, np.ones(2), shuffle=False)
    if text is None:
        assert estimator.train(inputs).get_variable_value("global_step") == 1
        return
    with pytest.raises(ValueError, match=f"^{text}"):
        estimator.train(inputs)
    assert set(estimator.evaluate(inputs)) > {"loss"}
