"""Trainings that several processes take part in, and the same training in one process."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.distribute import transfer

torch.set_num_threads(1)
RNG = np.random.default_rng(5)
ROWS = 640
DATA = {
    "age": RNG.normal(size=ROWS).astype(np.float32),
    "id": RNG.integers(0, 50, ROWS),
    "word": RNG.choice(["a", "b", "c", "d"], ROWS).astype(object),
}
LABELS = (DATA["age"] + DATA["id"] / 50 > 0.5).astype(np.int64)


def input_fn(input_context):
    """The global batch is 32; each process reads its share of every batch."""
    count = input_context.num_input_pipelines
    rows = training.Dataset.from_tensor_slices((DATA, LABELS)).repeat()
    return rows.shard(count, input_context.input_pipeline_id).batch(32 // count)


def batch_norm_model_fn(features, labels, mode):
    net = fc.input_layer(features, [fc.numeric_column("age"), _embedding()])
    net = training.layers.dense(net, 8, torch.relu)
    net = training.layers.batch_normalization(net, training=mode == "train", synchronized=True)
    logits = training.layers.dense(net, 2)
    loss = training.losses.sparse_softmax_cross_entropy(labels, logits)
    return training.EstimatorSpec(mode, loss=loss, train_op=training.optimizers.SGD(0.1).minimize(loss))


def _embedding():
    return fc.embedding_column(fc.categorical_column_with_identity("id", 50), 4)


def estimator(kind, model_dir, **given):
    config = training.RunConfig(
        **{
            "tf_random_seed": 3,
            "resume_input": True,
            "save_checkpoints_steps": 10,
            "save_summary_steps": None,
            "train_distribute": training.distribute.MultiWorkerMirroredStrategy(peer_timeout_s=5),
            "session_creation_timeout_secs": 30,
            **given,
        }
    )
    words = fc.categorical_column_with_hash_bucket("word", 10)
    wide = [words, fc.categorical_column_with_identity("id", 50)]
    if kind == "linear":
        return training.LinearClassifier([fc.numeric_column("age"), *wide], str(model_dir), config=config)
    if kind == "summed":
        columns = [fc.numeric_column("age"), *wide]
        return training.LinearClassifier(columns, str(model_dir), config=config, loss_reduction="sum", optimizer="SGD")
    if kind == "wide_and_deep":
        return training.DNNLinearCombinedClassifier(
            str(model_dir), wide, "Ftrl", [fc.numeric_column("age"), _embedding()], "Adagrad", [16, 8], config=config
        )
    return training.Estimator(batch_norm_model_fn, str(model_dir), config=config)


def train(kind, model_dir, steps, *hooks, **given):
    """The global_step that the process reached."""
    made = estimator(kind, model_dir, **given)
    made.train(input_fn, max_steps=steps, hooks=list(hooks))
    return int(made.get_variable_value("global_step"))


class At(training.SessionRunHook):
    """Does something to one process behind a step."""

    def __init__(self, rank, step, what):
        self._rank, self._step, self._what = rank, step, what

    def after_run(self, run_context, run_values):
        session = run_context.session
        if session.config.global_id_in_cluster == self._rank and session.global_step == self._step:
            self._what()


class Slow(training.SessionRunHook):
    """Takes its time, so that a kill at random meets a step."""

    def after_run(self, run_context, run_values):
        time.sleep(0.02)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def fail():
    raise OSError("no such bucket")


def train_until(kind, model_dir, steps, rank, step, what):
    return train(kind, model_dir, steps, At(rank, step, what))


def train_slowly(kind, model_dir, steps):
    return train(kind, model_dir, steps, Slow())


def train_over_the_network(kind, model_dir, steps):
    """As on several machines: the chief has no memory to share."""
    transfer._LARGE_BYTES = 1 << 60
    reached = train(kind, model_dir, steps)
    assert torch.distributed.is_initialized()
    return reached


def train_in_shares(kind, model_dir, steps):
    """As a larger model: each process adds up its share of the means, and the optimizers read them where they are."""
    transfer._SMALL_BYTES = 64
    reached = train(kind, model_dir, steps)
    assert not torch.distributed.is_initialized()
    return reached


def train_until_data_ends(model_dir):
    def shorter(input_context):
        return input_fn(input_context).take(5 if input_context.input_pipeline_id else 9)

    made = estimator("linear", model_dir)
    made.train(shorter)
    return int(made.get_variable_value("global_step"))


def train_on_nan(model_dir):
    def spoiled(input_context):
        def spoil(features, labels):
            if input_context.input_pipeline_id:
                features["age"][0] = np.nan
            return features, labels

        return input_fn(input_context).map(spoil)

    return estimator("linear", model_dir).train(spoiled, steps=3)


def train_other_columns(model_dir):
    """The worker's table is longer."""
    size = 10 if training.RunConfig().is_chief else 11
    column = fc.categorical_column_with_hash_bucket("word", size)
    config = estimator("linear", model_dir).config
    return training.LinearClassifier([column], str(model_dir), config=config).train(input_fn, steps=1)


def initial_weights(model_dir):
    """Without a seed."""
    found = []

    class First(training.SessionRunHook):
        def after_create_session(self, session, coord):
            found.append(session.store.get("dense/kernel").detach().numpy().copy())

    estimator("custom", model_dir, tf_random_seed=None).train(input_fn, steps=1, hooks=[First()])
    return found[0]


def train_and_evaluate(model_dir, steps):
    made = estimator("linear", model_dir)
    spec = training.EvalSpec(input_fn, steps=1, start_delay_secs=0, throttle_secs=0)
    metrics, _ = training.train_and_evaluate(made, training.TrainSpec(input_fn, steps), spec)
    files = sorted(path.name.split(".")[0] for path in Path(model_dir).iterdir())
    return {"task": json.loads(os.environ.get("TF_CONFIG", "{}")).get("task"), "metrics": metrics, "files": files}
