"""Batches a second of a compute-bound DNN (4 × 1024, batch 256 in each process) in one process and in two.

Each process has one torch thread, so the two need two idle cores. Runs take turns, and the best of each counts:

    .venv/bin/python benchmarks/two_processes.py
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time

import numpy as np
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc

WIDTH, ROWS = 1024, 256


def train(environment, steps, sending):
    """Seconds a step, without the first ones."""
    os.environ.pop("TF_CONFIG", None)
    os.environ.update(environment)
    torch.set_num_threads(1)
    data = {"x": np.random.default_rng(1).normal(size=(ROWS, 64)).astype(np.float32)}, np.arange(ROWS) % 10

    def input_fn():
        return training.Dataset.from_tensor_slices(data).repeat().batch(ROWS)

    times = []

    class Times(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            times.append(time.perf_counter())

    strategy = training.distribute.MultiWorkerMirroredStrategy()
    config = training.RunConfig(train_distribute=strategy, save_checkpoints_secs=None, save_summary_steps=None)
    columns = [fc.numeric_column("x", shape=(64,))]
    made = training.DNNClassifier(
        [WIDTH] * 4, columns, tempfile.mkdtemp(), n_classes=10, optimizer=training.optimizers.SGD(0.01), config=config
    )
    made.train(input_fn, steps=steps + 5, hooks=[Times()])
    sending.send(statistics.median(np.diff(times[5:])))


def seconds_a_step(environments, steps):
    receiving, sending = multiprocessing.Pipe(duplex=False)
    started = [multiprocessing.Process(target=train, args=(env, steps, sending)) for env in environments]
    for process in started:
        process.start()
    times = [receiving.recv() for _ in started]
    for process in started:
        process.join()
    return max(times)


def environments_of_two():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cluster = {"chief": [f"127.0.0.1:{free.getsockname()[1]}"], "worker": ["127.0.0.1:1"]}
    tasks = [{"type": "chief", "index": 0}, {"type": "worker", "index": 0}]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    one = two = float("inf")
    for _ in range(given.runs):
        one = min(one, seconds_a_step([{}], given.steps))
        two = min(two, seconds_a_step(environments_of_two(), given.steps))
        print(
            f"one process {one * 1e3:.0f} ms a step, two {two * 1e3:.0f} ms: {2 * one / two:.2f} x the batches a second"
        )
    return 0 if 2 * one / two >= 1.6 else 1


if __name__ == "__main__":
    sys.exit(main())
